"""The MLflow run of a model: numbers, datasets, plots, reports and the model itself."""

import re
import shutil
import time
from collections.abc import Mapping, Sequence
from importlib.metadata import version as installed
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from lifecycle.lake.read import read_head
from lifecycle.project import ColumnType, Project
from lifecycle.records import Bundle, CheckReport, DatasetVersion, Split, Trained, Trial
from lifecycle.settings import Settings

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run
    from mlflow.models import ModelSignature

    from lifecycle.training.tuning.study import Course


LOADER = "lifecycle.training.pyfunc"
REQUIREMENTS = ("lifecycle-flows", "xgboost", "pandas", "numpy")
EXAMPLE_ROWS = 3
PLOTS = "plots"
CHECKS = "checks"
"""Artifact folder of the check reports."""
BATCH = 1000
"""Metrics of one request, at most: MLflow refuses more."""
DATASET_DIGEST = 36
"""MLflow keeps this many characters of a dataset's digest; the whole one is a tag beside it."""


def log_numbers(client: "MlflowClient", run_id: str, bundle: Bundle, trained: Trained) -> None:
    """The trainer's parameters, metrics and the learning curve in batches: one at a time they cost
    5 ms each. MLflow's pages group metrics by what stands before the `/`."""
    from mlflow.entities import Metric, Param

    now = time.time_ns() // 1_000_000
    numbers = _numbers(bundle, trained)
    metrics = [Metric(name, value, now, 0) for name, value in numbers.items()]
    metrics += [
        Metric(f"curve/{part}", value, now, step)
        for part, values in bundle.curve.items()
        for step, value in enumerate(values, start=1)
    ]
    params = [Param(name, str(value)) for name, value in trained.tuned.parameters.items()]
    for start in range(0, len(metrics), BATCH):
        client.log_batch(run_id, metrics[start : start + BATCH], [] if start else params)


def _numbers(bundle: Bundle, trained: Trained) -> dict[str, float]:
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
        name = re.sub(r"\W+", "_", f"{gap.attribute}_{gap.measure}").strip("_")
        numbers[f"gap/{name}"] = gap.value  # MLflow takes no brackets in a name
    if trained.noise:
        numbers["noise/deviation"] = trained.noise.deviation
    for part, measured in (("holdout", trained.evaluation), ("baseline", trained.baseline)):
        for name, estimate in measured.metrics.items():
            numbers[f"{part}/{name}"] = estimate.value
            numbers[f"{part}/{name}.low"] = estimate.low
            numbers[f"{part}/{name}.high"] = estimate.high
    return numbers


def log_datasets(client: "MlflowClient", run_id: str, parts: Mapping[str, DatasetVersion]) -> None:
    """Parts by their contexts, as references: table, version and digest, no rows."""
    from mlflow.data.delta_dataset_source import DeltaDatasetSource
    from mlflow.data.meta_dataset import MetaDataset
    from mlflow.entities import Dataset, DatasetInput, InputTag

    inputs = []
    for context, part in parts.items():
        source = DeltaDatasetSource(path=part.uri, delta_table_version=part.version)
        # mlflow makes it so itself, although it has no `profile`
        described = MetaDataset(source, context, part.digest[:DATASET_DIGEST])  # type: ignore[abstract]
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
    card: str,
) -> None:
    for plot in plots:
        client.log_artifact(run_id, str(plot), PLOTS)
    if report:
        client.log_artifact(run_id, str(report))
    for report in checks.reports:
        client.log_artifact(run_id, str(report), CHECKS)
    client.log_text(run_id, card, "model_card.md")


def log_model(
    client: "MlflowClient", run_id: str, project: Project, bundle: Bundle, split: Split
) -> tuple[str, str]:
    """Log the bundle as a pyfunc model without pickle; its URI and its id."""
    import mlflow.pyfunc
    from mlflow.models import Model

    columns = list(project.input_columns)
    example = as_signed(read_head(split.holdout, EXAMPLE_ROWS, columns))
    experiment = client.get_run(run_id).info.experiment_id
    # Model.log is what mlflow.pyfunc.log_model calls; that one needs a run of the fluent API, which
    # would end too early for us, and without one both take the default experiment and ./mlruns
    entry = client.create_logged_model(experiment, name="model", source_run_id=run_id)
    with TemporaryDirectory() as folder:
        logged = Model.log(
            artifact_path=None,
            flavor=mlflow.pyfunc,
            run_id=run_id,
            name="model",
            model_id=entry.model_id,
            loader_module=LOADER,
            data_path=str(bundle.path),
            code_paths=_hook_code(project, Path(folder)),
            signature=_signature(project),
            input_example=example,
            pip_requirements=[f"{name}=={installed(name)}" for name in REQUIREMENTS],
        )
    return str(logged.model_uri), str(entry.model_id)


def as_signed(frame: pd.DataFrame) -> pd.DataFrame:
    """Nullable whole numbers as doubles, as `_signature` has them; MLflow does not convert them."""
    names = [name for name, dtype in frame.dtypes.items() if str(dtype) == "Int64"]
    return frame.astype(dict.fromkeys(names, "float64"))


def _hook_code(project: Project, folder: Path) -> list[str] | None:
    """The features hook that stands beside the project file, under its module's path.

    The loader checks its digest before any of it runs; a hook of an installed module stays there.
    """
    if project.features is None:
        return None
    parts = project.features.partition(":")[0].split(".")
    hook = project.folder.joinpath(*parts).with_suffix(".py")
    if not hook.is_file():
        return None
    copy = folder.joinpath(*parts).with_suffix(".py")
    copy.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(hook, copy)
    return [str(path) for path in folder.iterdir()]


def _signature(project: Project) -> "ModelSignature":
    """Columns a model takes, with the contract's types and which of them may be missing; and what
    it gives: a number a row, or for multiclass the probability of each class, (n, k).

    MLflow converts to these types before predicting; its whole numbers and booleans cannot be
    missing, so a nullable whole number is a double there, and a nullable boolean is left alone.
    """
    from mlflow.models import ModelSignature
    from mlflow.types import ColSpec, DataType, Schema
    from mlflow.types.schema import AnyType, TensorSpec

    kinds: dict[ColumnType, DataType | AnyType] = {
        "integer": DataType.long,
        "number": DataType.double,
        "boolean": DataType.boolean,
        "string": DataType.string,
        "datetime": DataType.datetime,
    }
    missing_apart: dict[ColumnType, DataType | AnyType] = {
        "integer": DataType.double,
        "boolean": AnyType(),  # type: ignore[no-untyped-call]  # mlflow gives it no types
    }
    columns: list[ColSpec | TensorSpec] = []
    for name in project.input_columns:
        spec = project.columns[name]
        stored = spec.value_type
        kind = missing_apart.get(stored, kinds[stored]) if spec.nullable else kinds[stored]
        columns.append(ColSpec(kind, name, required=not spec.nullable))
    answers: ColSpec | TensorSpec = ColSpec(DataType.double)
    if project.classes:
        answers = TensorSpec(np.dtype(np.float64), (-1, len(project.classes)), "probabilities")
    return ModelSignature(Schema(columns), Schema([answers]))


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
