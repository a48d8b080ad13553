"""Scored windows as frames: what the model saw, what it answered, what came true."""

import logging
from collections.abc import Generator, Iterator, Mapping
from contextlib import closing, suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray

from lifecycle.errors import DataError, TargetError
from lifecycle.features.encode import (
    build_features,
    labels,
    load_hook,
    most_probable,
    probability_columns,
)
from lifecycle.lake.column_types import to_frame
from lifecycle.lake.read import (
    is_nullable,
    open_rows,
    read_numbers,
    read_version,
    stored_schema,
)
from lifecycle.lake.stretches import is_for_ray, on_ray
from lifecycle.lake.table import ROW
from lifecycle.project import Project, Scalar, TaskKind
from lifecycle.project.expression import holds
from lifecycle.records import DatasetVersion, Evaluation, Scored
from lifecycle.settings import Settings
from lifecycle.training.evaluation.evaluate import Measurement, evaluate
from lifecycle.training.own_metrics import own_metrics

logger = logging.getLogger(__name__)

PREDICTION_ID = "prediction_id"
"""Column of a window of the prediction log: the id that each row was answered under."""
SAMPLE_ROWS = 64
MAX_ROWS = 1_000_000
"""Rows of a window that are compared, at most."""
NEARLY = 1.01
"""What is sampled already has some rows more, by chance."""
HASHES = float(2**64 - 2**12)
"""The greatest of 64 bits, nearly: as a number with 53 it must not be rounded up."""


@dataclass(frozen=True)
class OpenWindow:
    """One scored window, opened; rows in the order of its dataset version."""

    features: pd.DataFrame
    """(n, k): as the model sees them, categories not encoded."""
    prediction: NDArray[np.float64]
    """(n,): probability of the positive class, or the value; multiclass (n, k)."""
    truth: NDArray[np.float64]
    """(n,): NaN where no label has arrived."""
    entity: NDArray[np.object_] | None
    """(n,): who or what each row is about, if the project has an entity."""
    task: TaskKind
    target: str
    """Name of the target column."""
    classes: tuple[Scalar, ...] = ()
    """Multiclass: what the columns of `prediction` are."""
    time: NDArray[Any] | None = None
    """(n,): the time of each row, if the project has one."""
    attributes: Mapping[str, NDArray[np.object_]] = field(default_factory=dict)
    """Protected attribute or column to slice by → each row's level, as text (n,)."""
    segments: Mapping[str, NDArray[np.bool_]] = field(default_factory=dict)
    """Segment of `evaluation.segments` → which rows are in it (n,)."""
    ids: NDArray[np.object_] | None = None
    """(n,): ids of the predictions, of a window of the prediction log."""
    sample: pd.DataFrame | None = None
    """Some rows of the data, before features are made of them."""

    @property
    def answer(self) -> "pd.Series[Any]":
        """Prediction for each row: the most probable class, or the number."""
        answers = most_probable(self.prediction, self.classes) if self.classes else self.prediction
        return pd.Series(answers)

    @property
    def label(self) -> "pd.Series[Any]":
        """True value of each row: 1 or 0 (binary), the class, or the number; missing if unknown."""
        if not self.classes:
            return pd.Series(self.truth)
        present = ~np.isnan(self.truth)
        codes = np.where(present, self.truth, 0).astype(np.intp)
        return (
            pd.Series([*self.classes], dtype=object)
            .take(codes)
            .reset_index(drop=True)
            .where(present)
        )


def open_window(scored: Scored, project: Project, settings: Settings | None = None) -> OpenWindow:
    """Open a window's rows and the predictions made for them.

    Of a window with more than `MAX_ROWS` rows an even sample is opened, always the same one, and
    the others are read past: memory has a bound.

    Args:
        settings: of the environment whose Ray Data may read a large window; by default this
            process does.

    Raises:
        BackendError: a table cannot be read.
        DataError: the window has no rows, or the predictions are not those of its rows.
        FeatureError: the features hook fails.
        RayError: Ray cannot be joined, or is gone.
    """
    dataset, predictions = scored.dataset, scored.predictions
    numbers = list(probability_columns(project.classes)) or ["prediction"]
    if dataset.rows <= NEARLY * MAX_ROWS:
        frame, rows = read_version(dataset), read_numbers(dataset)
        answers = read_version(predictions, columns=["row", *numbers]).sort_values("row")
    else:
        engine = (project, settings) if settings else None
        share = MAX_ROWS / dataset.rows
        frame, rows = _sample(dataset, stored_schema(dataset).names, ROW, share, engine)
        answers, _ = _sample(predictions, ["row", *numbers], "row", share, engine)
    if not len(frame):
        raise DataError(f"window {scored.window}: {dataset.uri} has no rows to monitor")
    if not np.array_equal(answers["row"].to_numpy(), rows):
        raise DataError(
            f"window {scored.window}: {predictions.uri} version {predictions.version} has "
            f"{len(answers)} predictions, which are not those of the {len(frame)} rows of "
            f"{dataset.uri} version {dataset.version}: score the window again"
        )
    prediction = answers[numbers if project.classes else "prediction"].to_numpy(dtype=np.float64)
    return window_of(frame, prediction, project)


def _sample(
    version: DatasetVersion,
    columns: list[str],
    number: str,
    share: float,
    engine: tuple[Project, Settings] | None,
) -> tuple[pd.DataFrame, NDArray[np.int64]]:
    """Rows of a version that a sample has, by their numbers, and these (rows,)."""
    read = partial(_sampled_rows, version=version, columns=columns, number=number, share=share)
    if engine and is_for_ray(version.rows, *engine):
        parts = on_ray(version, read, engine[1], "monitoring")
    else:
        parts = read(0, None)
    with closing(parts):
        table = pa.concat_tables(parts).sort_by(number)
    frame = to_frame(table.select(columns), is_nullable)
    return frame, table[number].to_numpy()


def _sampled_rows(
    first: int,
    end: int | None,
    version: DatasetVersion,
    columns: list[str],
    number: str,
    share: float,
) -> Generator[pa.Table]:
    """Yield the rows with numbers from `first` up to `end` that a sample has."""
    for batch in open_rows(version, columns, first, end):
        chosen = sampled(batch[number], share)
        yield pa.Table.from_batches([batch.filter(pa.array(chosen))])


def sampled(keys: pa.Array | pa.ChunkedArray, share: float) -> NDArray[np.bool_]:
    """Tell which rows an even sample has (n,): the same ones of the same keys.

    Args:
        keys: (n,): what each row is known by, such as its number.
        share: of all rows, below 1.
    """
    return pd.util.hash_array(keys.to_numpy(zero_copy_only=False)) < np.uint64(share * HASHES)


def window_of(frame: pd.DataFrame, prediction: NDArray[np.float64], project: Project) -> OpenWindow:
    """Rows with the predictions made for them, as a window.

    Args:
        frame: typed as the contract says; the target may be missing.
        prediction: (n,), or (n, k) for several classes.

    Raises:
        FeatureError: the features hook fails.
    """
    arrived = project.target in frame.columns
    time = project.time.column if project.time else ""
    return OpenWindow(
        features=build_features(frame, project, load_hook(project)),
        prediction=prediction,
        truth=labels(frame, project) if arrived else np.full(len(frame), np.nan),
        entity=_entity(frame, project),
        task=project.task,
        target=project.target,
        classes=project.classes,
        time=frame[time].to_numpy() if time in frame.columns else None,
        attributes={
            name: frame[name].astype(object).map(_level).to_numpy(dtype=object)
            for name in dict.fromkeys((*project.protected, *project.evaluation.slices))
            if name in frame.columns
        },
        segments=dict(_segments(frame, project)),
        ids=frame[PREDICTION_ID].to_numpy(dtype=object) if _is_logged(frame, project) else None,
        sample=frame.head(SAMPLE_ROWS),
    )


def _segments(frame: pd.DataFrame, project: Project) -> Iterator[tuple[str, NDArray[np.bool_]]]:
    """Segments whose columns the rows have; logged requests may lack some."""
    for name, condition in project.evaluation.segments.items():
        with suppress(ValueError):
            yield name, holds(condition, frame)


def _is_logged(frame: pd.DataFrame, project: Project) -> bool:
    return PREDICTION_ID in frame.columns and PREDICTION_ID not in project.columns


def _entity(frame: pd.DataFrame, project: Project) -> NDArray[np.object_] | None:
    """What each row is about; None where a logged request did not say it, since all must."""
    if not project.entity:
        return None
    if _is_logged(frame, project) and frame[project.entity].isna().any():
        return None
    return frame[project.entity].to_numpy(dtype=object)


def _level(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def categorical_features(features: pd.DataFrame, project: Project) -> tuple[str, ...]:
    """Features that are categories: by the contract where it names them, else by their type."""
    columns = project.columns
    return tuple(
        name
        for name in features.columns
        if (
            columns[name].type in ("category", "string", "boolean")
            if name in columns
            else not pd.api.types.is_numeric_dtype(features[name].dtype)
            and not pd.api.types.is_datetime64_any_dtype(features[name].dtype)
        )
    )


def feature_sources(rows: pd.DataFrame, project: Project) -> dict[str, frozenset[str]]:
    """Find which columns of the data each feature is made of, by mixing one column after another.

    Args:
        rows: some rows of the data; 64 are enough.

    Returns:
        Feature → columns; a feature that does not follow from any of them is left out.

    Raises:
        FeatureError: the features hook fails.
    """
    hook = load_hook(project)
    plain = build_features(rows, project, hook).reset_index(drop=True)
    if hook is None:
        return {str(name): frozenset([str(name)]) for name in plain.columns}
    inputs: dict[str, set[str]] = {str(name): set() for name in plain.columns}
    for column in rows.columns:
        mixed = rows.copy()
        mixed[column] = np.roll(rows[column].to_numpy(), 1)
        for name, values in build_features(mixed, project, hook).reset_index(drop=True).items():
            if not values.equals(plain[name]):
                inputs[str(name)].add(str(column))
    return {name: frozenset(columns) for name, columns in inputs.items() if columns}


# Quality of a window's predictions, once labels have arrived.


def quality(
    window: OpenWindow, scored: Scored, project: Project, threshold: float | None = None
) -> Evaluation | None:
    """Every metric that the labelled rows define; None where there are none.

    Labels of one class define a log loss and no area under a curve, which is left out then. Whole
    entities are resampled for the intervals, as they are at release.

    Args:
        threshold: binary: the model's, `Evaluation.threshold` at its release.
    """
    labelled = ~np.isnan(window.truth)
    if not labelled.any():
        return None
    model = scored.model
    try:
        return evaluate(
            window.truth[labelled],
            window.prediction[labelled],
            Measurement(
                project.task,
                project.split.seed,
                groups=None if window.entity is None else window.entity[labelled],
                own=own_metrics(project),
                threshold=threshold,
            ),
            scored.dataset.digest,
            f"{model.name} v{model.version} in window {scored.window}",
            partial=True,
        )
    except TargetError as error:
        logger.warning("Window %s: quality is not measured: %s", scored.window, error)
        return None
