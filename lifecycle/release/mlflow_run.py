"""The MLflow run of a model: numbers, datasets, plots, reports and the model itself."""

import re
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from lifecycle.project import Project
from lifecycle.records import Bundle, CheckReport, DatasetVersion, Estimate, Gap, Trained, Trial
from lifecycle.settings import Settings

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run
    from mlflow.types import Schema

    from lifecycle.training.tuning.study import Course


PLOTS = "plots"
CHECKS = "checks"
"""Artifact folder of the check reports."""
BATCH = 1000
"""Metrics of one request, at most: MLflow refuses more."""
MEASURED_ON = {"holdout": "holdout", "baseline": "holdout", "gap": "holdout"}
"""Group of metrics → context of the dataset; other metrics end with it, or are of none."""
DATASET_DIGEST = 36
"""MLflow keeps this many characters of a dataset's digest; the whole one is a tag beside it."""


def log_numbers(
    client: "MlflowClient", run_id: str, model_id: str, bundle: Bundle, trained: Trained
) -> None:
    """The trainer's parameters, metrics and the learning curve in batches: one at a time they cost
    5 ms each. MLflow's pages group metrics by what stands before the `/`.

    Each is logged for the model too, and for the dataset that it was measured on, if on one.
    """
    from mlflow.entities import Metric, Param

    now = time.time_ns() // 1_000_000
    split = trained.split
    parts = {"holdout": split.holdout, "validation": split.validation, "training": split.train}
    numbers = [(name, value, 0) for name, value in numbers_of(bundle, trained).items()]
    numbers += [
        (f"curve/{part}", value, step)
        for part, values in bundle.curve.items()
        for step, value in enumerate(values, start=1)
    ]
    metrics = []
    for name, value, step in numbers:
        context = MEASURED_ON.get(name.partition("/")[0], name.rpartition("/")[2])
        dataset = (context, parts[context].digest[:DATASET_DIGEST]) if context in parts else ()
        model = None if name.startswith("baseline/") else model_id
        metrics.append(Metric(name, value, now, step, model, *dataset))
    params = [Param(name, str(value)) for name, value in trained.tuned.parameters.items()]
    for start in range(0, len(metrics), BATCH):
        client.log_batch(run_id, metrics[start : start + BATCH], [] if start else params)


def numbers_of(bundle: Bundle, trained: Trained) -> dict[str, float]:
    """Metrics of a training by name; what stands before the `/` is their group."""
    tuned, evaluation = trained.tuned, trained.evaluation
    numbers: dict[str, float] = {"rounds": bundle.rounds, "tuning/trials": tuned.trials}
    if tuned.value is not None:
        numbers["tuning/validation"] = tuned.value
    if evaluation.calibration_error is not None:
        numbers["holdout/calibration_error"] = evaluation.calibration_error
    if evaluation.threshold is not None:
        numbers["threshold"] = evaluation.threshold
    for name, estimate in evaluation.at_threshold.items():
        numbers[f"holdout/at_threshold.{name.replace(' ', '_')}"] = estimate.value
    for gap in evaluation.gaps:
        numbers[gap_name(gap)] = gap.value
    if trained.noise:
        numbers["noise/deviation"] = trained.noise.deviation
    for part, measured in (("holdout", trained.evaluation), ("baseline", trained.baseline)):
        for name, estimate in measured.metrics.items():
            numbers[f"{part}/{name}"] = estimate.value
            numbers[f"{part}/{name}.low"] = estimate.low
            numbers[f"{part}/{name}.high"] = estimate.high
    return numbers


def gap_name(gap: Gap) -> str:
    """The metric of a run that has a gap; MLflow takes no brackets in a name."""
    return "gap/" + re.sub(r"\W+", "_", f"{gap.attribute}_{gap.measure}").strip("_")


def logged_estimates(run: "Run", group: str) -> dict[str, Estimate]:
    """The metrics of a run that have an interval.

    Args:
        group: `holdout` or `baseline`.
    """
    numbers, start = run.data.metrics, f"{group}/"
    names = [
        name.removeprefix(start).removesuffix(".low")
        for name in numbers
        if name.startswith(start) and name.endswith(".low")
    ]
    return {
        name: Estimate(
            value=numbers[f"{start}{name}"],
            low=numbers[f"{start}{name}.low"],
            high=numbers[f"{start}{name}.high"],
        )
        for name in names
    }


def log_datasets(
    client: "MlflowClient", run_id: str, parts: Mapping[str, DatasetVersion], schema: "Schema"
) -> None:
    """Parts by their contexts, as references: table, version, digest and columns, no rows."""
    from mlflow.data.delta_dataset_source import DeltaDatasetSource
    from mlflow.data.meta_dataset import MetaDataset
    from mlflow.entities import Dataset, DatasetInput, InputTag

    inputs = []
    for context, part in parts.items():
        source = DeltaDatasetSource(path=part.uri, delta_table_version=part.version)
        # mlflow makes it so itself, although it has no `profile`
        described = MetaDataset(source, context, part.digest[:DATASET_DIGEST], schema)  # type: ignore[abstract]
        tags = {
            "mlflow.data.context": context,
            "lifecycle.digest": part.digest,
            "lifecycle.rows": str(part.rows),
        }
        inputs.append(
            DatasetInput(Dataset(**described.to_dict()), [InputTag(k, v) for k, v in tags.items()])
        )
    client.log_inputs(run_id, inputs)


def log_files(
    client: "MlflowClient",
    run_id: str,
    checks: CheckReport,
    plots: Sequence[Path],
    report: Path | None,
) -> None:
    for plot in plots:
        client.log_artifact(run_id, str(plot), PLOTS)
    if report:
        client.log_artifact(run_id, str(report))
    for report in checks.reports:
        client.log_artifact(run_id, str(report), CHECKS)


# The trials of a search as child runs of the model's MLflow run, and the plots of the search.

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
    children = _children(client, experiment, run_id)
    for trial in tuned.history:
        child = children.get(str(trial.number))
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
    runs: dict[str, Run] = {}
    token = None
    while True:
        page = client.search_runs(
            [experiment], f"tags.`{PARENT}` = '{parent}'", max_results=PAGE, page_token=token
        )
        runs |= {run.data.tags[NUMBER]: run for run in page if NUMBER in run.data.tags}
        token = page.token
        if not token:
            return runs
