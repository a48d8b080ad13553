"""The trials of a search as MLflow runs below the model's run, and the search's plots beside it."""

import time
from typing import TYPE_CHECKING

from lifecycle.project import Project
from lifecycle.records import Trained, Trial
from lifecycle.settings import Settings

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

    from lifecycle.training.tuning.study import Course

PARENT = "mlflow.parentRunId"
NUMBER = "lifecycle.trial"
STATE = "lifecycle.trial.state"
METRIC = "lifecycle.trial.metric"
"""Names what `validation` is: the metric that ranks trials, which need not be the gate's."""
CURVE_POINTS = 25
"""Rounds of a trial that are logged, at most: evenly thinned, since each costs a row."""
PAGE = 1000


def log_search(
    client: "MlflowClient", run_id: str, project: Project, settings: Settings, trained: Trained
) -> None:
    """Log what a search did. Done again after a kill, it adds only what is missing.

    The score after each round and the time of each trial are known on the machine that searched;
    elsewhere the first is left out, and each seems to have ended now.
    """
    tuned = trained.tuned
    if not tuned.history:
        return
    from lifecycle.training.parameters import key_of
    from lifecycle.training.tuning.search_plots import search_plots
    from lifecycle.training.tuning.study import read_courses, study_folder

    courses = read_courses(study_folder(settings, project, trained.identity))
    experiment = client.get_run(run_id).info.experiment_id
    there = _children(client, experiment, run_id)
    for trial in tuned.history:
        child = there.get(str(trial.number))
        if child is None or child.info.status != "FINISHED":
            course = courses.get(key_of(trial.parameters))
            _log_trial(client, experiment, run_id, child, trial, course, project.training_metric)
    for name, figure in search_plots(project, tuned).items():
        client.log_figure(run_id, figure, f"plots/{name}.png")


def _log_trial(
    client: "MlflowClient",
    experiment: str,
    parent: str,
    child: "Run | None",
    trial: Trial,
    course: "Course | None",
    metric: str,
) -> None:
    """One run in three calls; `child` is one that was cut short.

    It has the trial's own times where those are known.
    """
    from mlflow.entities import Metric, Param

    curve, ended = (course.scores, course.ended) if course else ((), time.time())
    if child is None:
        child = client.create_run(
            experiment,
            start_time=int((ended - trial.seconds) * 1000),
            tags={PARENT: parent, NUMBER: str(trial.number), STATE: trial.state, METRIC: metric},
            run_name=f"trial {trial.number}",
        )
    when = child.info.start_time  # the same when it is done again, so that nothing is there twice
    metrics = [Metric("rounds", trial.rounds, when, 0), Metric("seconds", trial.seconds, when, 0)]
    if trial.value is not None:
        metrics.append(Metric("tuning/validation", trial.value, when, 0))
    step = -(-len(curve) // CURVE_POINTS) or 1
    for at in range(len(curve) - 1, -1, -step):  # from the last round back
        metrics.append(Metric("curve/validation", curve[at], when, at + 1))
    params = [Param(name, str(value)) for name, value in trial.parameters.items()]
    client.log_batch(child.info.run_id, metrics=metrics, params=params)
    end = when + int(trial.seconds * 1000)
    client.set_terminated(child.info.run_id, "FINISHED", end_time=end)


def _children(client: "MlflowClient", experiment: str, parent: str) -> "dict[str, Run]":
    """Trial number → its run."""
    found: dict[str, Run] = {}
    token = None
    while True:
        page = client.search_runs(
            [experiment], f"tags.`{PARENT}` = '{parent}'", max_results=PAGE, page_token=token
        )
        found |= {run.data.tags[NUMBER]: run for run in page if NUMBER in run.data.tags}
        token = page.token
        if not token:
            return found
