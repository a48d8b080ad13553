"""The stages on frames of one's own, for notebooks: no server, no Ray, and nothing is registered.

Frames are typed as the data contract says, as `open_dataset` returns them. All of it runs in this
process, so that a breakpoint in a features hook or a trainer holds.

Example:
    import lifecycle

    rows = lifecycle.open_dataset("project.yaml")
    model = lifecycle.train("project.yaml", rows)
    model.evaluate(model.parts["holdout"])
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pandas as pd

from lifecycle.data.sources import read_source
from lifecycle.data.split import split_version
from lifecycle.errors import DataError, ProjectError, RegistryError
from lifecycle.features.encode import labels
from lifecycle.lake.read import read_version
from lifecycle.lake.table import history, numbered_version, table_uri
from lifecycle.lake.write import write_version
from lifecycle.monitoring.drift import drift_report
from lifecycle.monitoring.scored import categorical_features, window_of
from lifecycle.project import Project, Scalar
from lifecycle.project.loader import load_project
from lifecycle.records import ModelVersion, Tuned, Window
from lifecycle.release.registry import CHAMPION, by_alias, versions
from lifecycle.runtime.identity import identity_of
from lifecycle.runtime.plugins import plugs_digest
from lifecycle.serving.node_bundle import local_bundle
from lifecycle.settings import Settings
from lifecycle.training.bundle import load_bundle
from lifecycle.training.evaluation.evaluate import Measurement
from lifecycle.training.evaluation.evaluate import evaluate as measure
from lifecycle.training.fit import fit
from lifecycle.training.own_metrics import own_metrics
from lifecycle.training.parameters import threads_of
from lifecycle.training.predictor import Predictor, open_predictor

SMALLEST = 1e-15
"""A probability below it counts as this one in a loss, as scikit-learn's `log_loss` has it."""


@dataclass(frozen=True)
class FrameModel:
    """A model that answers frames.

    Attributes:
        version: the registered version; None for one that was trained here.
        parts: train, validation and holdout rows of a model that was trained here.
    """

    project: Project
    predictor: Predictor
    version: ModelVersion | None
    parts: Mapping[str, pd.DataFrame]

    def predict(self, frame: pd.DataFrame) -> pd.DataFrame:
        """One row per row of the frame, with its index.

        Returns:
            `prediction`: the probability of the positive class, or the value; for several classes
            a column of probabilities for each.

        Raises:
            FeatureError: an input column is missing, or the features hook fails.
        """
        predicted = self.predictor.predict(frame[self._inputs(frame)])
        columns = [str(name) for name in self.project.classes] or ["prediction"]
        return pd.DataFrame(predicted.reshape(len(frame), -1), index=frame.index, columns=columns)

    def evaluate(self, frame: pd.DataFrame) -> pd.DataFrame:
        """Every metric of the project on rows with a target: `value`, `low` and `high` (95 %).

        Whole entities are resampled for the interval.

        Raises:
            TargetError: the rows cannot be measured, such as those of one class only.
        """
        frame = frame[frame[self.project.target].notna()]
        entity = self.project.entity
        by = Measurement(
            self.project.task,
            self.project.split.seed,
            groups=frame[entity].to_numpy() if entity in frame.columns else None,
            own=own_metrics(self.project),
            threshold=self.predictor.loaded.schema.threshold,
        )
        truth = labels(frame, self.project)
        evaluation = measure(truth, self.answer(frame), by, "", "model")
        table = {name: value.model_dump() for name, value in evaluation.metrics.items()}
        return pd.DataFrame.from_dict(table, orient="index")

    def errors(self, frame: pd.DataFrame, rows: int = 20) -> pd.DataFrame:
        """The rows that the model answers worst, the worst first.

        Returns:
            Their columns, the prediction's, and `loss`: −ln of the probability that the true class
            was given, or the absolute error.
        """
        frame = frame[frame[self.project.target].notna()]
        truth, predicted = labels(frame, self.project), self.answer(frame)
        if self.project.task in ("regression", "count"):
            loss = np.abs(predicted - truth)
        else:
            if predicted.ndim == 1:
                predicted = np.column_stack([1 - predicted, predicted])
            probability = predicted[np.arange(len(truth)), truth.astype(int)]
            loss = -np.log(np.clip(probability, SMALLEST, 1))
        table = pd.concat([frame, self.predict(frame)], axis=1).assign(loss=loss)
        return table.sort_values("loss", ascending=False, kind="stable").head(rows)

    def answer(self, frame: pd.DataFrame) -> Any:
        """The predictions as an array, (n,), or (n, k) for several classes.

        Raises:
            DataError: an input column is missing.
            FeatureError: the features hook fails.
        """
        return self.predictor.predict(frame[self._inputs(frame)])

    def _inputs(self, frame: pd.DataFrame) -> list[str]:
        names = list(self.project.input_columns)
        if missing := [name for name in names if name not in frame.columns]:
            raise DataError(f"the frame has no column {', '.join(missing)}, an input of the model")
        return names


def open_dataset(
    project: str | Path | Project, part: str = "accepted", version: int | None = None
) -> pd.DataFrame:
    """The rows of a dataset version.

    Args:
        part: a table of the project: `accepted`, or `train`, `validation`, `holdout`.
        version: by default the newest; of `accepted` the source, if nothing was ingested yet.

    Raises:
        DataError: there is no such version.
        SourceError: the source cannot be read.
    """
    project = _project(project)
    uri = table_uri(Settings.load(), project.name, part)
    if version is None and part == "accepted" and history(uri).empty:
        return read_source(project)
    return read_version(numbered_version(uri, version))


def train(
    project: str | Path | Project,
    frame: pd.DataFrame,
    parameters: Mapping[str, Scalar] | None = None,
) -> FrameModel:
    """Fit a model to rows, which are split as the project says.

    Args:
        parameters: of the trainer, over those that the project file has; nothing is searched.

    Raises:
        ProjectError: the frame lacks an input, such as those of feature views; or a parameter is
            none of the trainer's.
        SplitError, TargetError: as for `lifecycle run train`.
    """
    project = _project(project)
    if missing := [name for name in project.input_columns if name not in frame.columns]:
        views = "; those of feature views are in the parts, such as open_dataset(project, 'train')"
        raise ProjectError(
            f"the frame has no column {', '.join(missing)}, an input of {project.name}"
            + (views if project.feature_views else "")
        )
    chosen = {**project.training.parameters, **(parameters or {})}
    training = project.training.model_copy(update={"num_workers": 1, "parameters": chosen})
    project = project.model_copy(update={"training": training})
    with TemporaryDirectory() as folder:
        settings = Settings(home=Path(folder), lake_uri="", ray_address="local")
        place = table_uri(settings, project.name, "accepted")
        split = split_version(project, settings, write_version(frame, place, note={}))
        tuned = Tuned(parameters=chosen, value=None, trials=0)
        threads = threads_of(project, settings)
        identity = identity_of(project, split, plugs_digest(project), threads)
        bundle = fit(project, split, tuned, settings, identity)
        loaded = load_bundle(bundle.path, bundle.digest)
        parts = {
            name: read_version(part)
            for name, part in (
                ("train", split.train),
                ("validation", split.validation),
                ("holdout", split.holdout),
            )
        }
    return FrameModel(project, open_predictor(loaded, project), None, parts)


def open_model(
    project: str | Path | Project, version: int | str = CHAMPION, env: str | None = None
) -> FrameModel:
    """A registered version, by its number or alias.

    Raises:
        RegistryError: there is no such version.
        BackendError: the registry cannot be reached.
        BundleError: the project's features hook is not the one it was trained with.
    """
    project, settings = _project(project), Settings.load(env)
    if isinstance(version, str):
        model = by_alias(project.name, version, settings)
    else:
        registered = versions(project.name, settings)
        model = next((each for each in registered if each.version == version), None)
    if model is None:
        which = f"version {version}" if isinstance(version, int) else f"{version!r}"
        raise RegistryError(f"{project.name} has no {which}; `lifecycle versions` lists them")
    folder = settings.folder("bundles", project.name) / model.digest
    loaded = load_bundle(local_bundle(folder, model, settings), model.digest)
    return FrameModel(project, open_predictor(loaded, project), model, {})


def monitor(model: FrameModel, reference: pd.DataFrame, current: pd.DataFrame) -> pd.DataFrame:
    """Compare rows with others, as `lifecycle run monitor` compares windows.

    Returns:
        One row per feature, then `prediction` and the target if both frames have it, the furthest
        first: `distance`, its name, the `limit` from where it alarms, `chance` (what chance hardly
        exceeds), `visible` (the shift in standard deviations that would have alarmed), `alarm`.

    Raises:
        DataError: a frame has no rows.
    """
    project = model.project
    before, after = (
        window_of(frame, model.answer(frame), project) for frame in (reference, current)
    )
    spec = project.monitoring.drift
    report = drift_report(
        before, after, spec, Window(), categorical_features(before.features, project)
    )
    drifts = [*report.features, report.predictions, *([report.labels] if report.labels else [])]
    table = pd.DataFrame(
        {
            "column": [drift.column for drift in drifts],
            "metric": [drift.test for drift in drifts],
            "distance": [drift.statistic for drift in drifts],
            "limit": [drift.alarm_limit for drift in drifts],
            "chance": [drift.chance for drift in drifts],
            "visible": [drift.visible for drift in drifts],
            "alarm": [drift.alarms for drift in drifts],
        }
    )
    order = (table["distance"] / table["limit"]).sort_values(ascending=False).index
    return table.loc[order].reset_index(drop=True)


def _project(project: str | Path | Project) -> Project:
    return project if isinstance(project, Project) else load_project(project)
