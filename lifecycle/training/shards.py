"""Shards: a part divided by Ray Data into ranges of rows, so that no process holds it all.

A part's rows are numbered (`lake.table.ROW`). A first pass of Ray Data over all rows finds what
must be known of them: the feature schema, the class counts, and ranges of row numbers with equally
many rows whose target is known. Each worker then reads its own range, in order; so which rows a
worker has depends on the data and the number of workers alone, and one that starts anew finds the
same.
"""

from collections.abc import Iterator
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray

from lifecycle.errors import BackendError, LifecycleError, TargetError, TrainingError
from lifecycle.features.encode import (
    FeatureSchema,
    build_features,
    encode,
    fit_schema,
    labels,
    load_hook,
)
from lifecycle.lake.read import batch_frame, numbers_end, open_rows
from lifecycle.project import Project
from lifecycle.records import DatasetVersion
from lifecycle.runtime.cluster import ray_data, rows_of
from lifecycle.runtime.traces import below
from lifecycle.training.matrix import class_counts

STRETCH = 500_000
"""Row numbers that one task of the first pass looks at."""
BINS = 1000
"""How finely a part is divided: shards differ by about one bin of its rows."""


class Shards(NamedTuple):
    """A part divided among the workers."""

    bounds: tuple[int, ...]
    """Worker r has the row numbers from `bounds[r]` up to, not including, `bounds[r + 1]`."""
    rows: tuple[int, ...]
    """Rows with a target that each worker has; they add up to those of the part."""


class Plan(NamedTuple):
    """Facts about all rows that every worker needs, though it reads only its shard."""

    schema: FeatureSchema
    train: Shards
    validation: Shards
    counts: NDArray[np.float64] | None
    """(classes,): rows of each class in the train part; None if nothing is classified."""


class Shard(NamedTuple):
    """One worker's rows of a part."""

    matrix: NDArray[np.float32]
    """(rows, features)."""
    labels: NDArray[np.float64]


class _Survey(NamedTuple):
    """Survey of a stretch of rows."""

    rows: int
    bins: NDArray[np.int64]
    """(bins,): rows with a target, by row number."""
    counts: NDArray[np.float64] | None
    examples: pd.DataFrame | None
    """Rows of features in which every level occurs; the train part's only."""


def plan(project: Project, train: DatasetVersion, validation: DatasetVersion, workers: int) -> Plan:
    """Look at every row of both parts once; Ray is connected already.

    Raises:
        BackendError: a part cannot be read, or does not hold its rows.
        FeatureError: the hook cannot be loaded or fails, or a feature cannot be learned from.
        TargetError: no row of a part has a target.
        TrainingError: there are fewer rows than workers.
    """
    load_hook(project)  # a mistake in it is told here, not by every worker
    surveys = _look(project, {"train": train, "validation": validation})
    examples = [survey.examples for survey in surveys["train"] if survey.examples is not None]
    counts = [survey.counts for survey in surveys["train"] if survey.counts is not None]
    shards = {
        "train": _divide(surveys["train"], train, "train", workers),
        "validation": _divide(surveys["validation"], validation, "validation", workers),
    }
    return Plan(
        schema=fit_schema(pd.concat(examples), project.columns),
        **shards,
        counts=np.sum(counts, axis=0) if counts else None,
    )


def read_shard(
    project: Project, part: DatasetVersion, shards: Shards, rank: int, schema: FeatureSchema
) -> Shard:
    """One worker's rows, in the order of the part; those without a target are left out.

    Raises:
        BackendError: the part cannot be read, or a row of the shard is missing.
        FeatureError: the hook fails, or its features are not those of the schema.
    """
    rows = shards.rows[rank]
    hook = load_hook(project)
    matrix = np.empty((rows, len(schema.names)), dtype=np.float32)
    truth, numbers = np.empty(rows), np.empty(rows, dtype=np.int64)
    at = 0
    for batch in _scan(project, part, shards.bounds[rank], shards.bounds[rank + 1]):
        frame, has_truth, place = _labelled(batch, project)
        to = at + len(frame)
        if to > rows:
            break
        matrix[at:to] = encode(build_features(frame, project, hook), schema)
        truth[at:to], numbers[at:to] = has_truth, place
        at = to
    if at != rows:
        raise BackendError(
            f"{part.uri}: version {part.version} gave worker {rank} unexpected rows; run again"
        )
    if (np.diff(numbers) < 0).any():  # Delta's files need not be in the order of the rows
        order = np.argsort(numbers)
        matrix, truth = matrix[order], truth[order]
    return Shard(matrix, truth)


def _look(project: Project, parts: dict[str, DatasetVersion]) -> dict[str, list[_Survey]]:
    """Every row of the parts, stretch by stretch where Ray Data has room."""
    stretches = [
        {"name": name, "first": first, "end": min(first + STRETCH, end)}
        for name, end in ((name, numbers_end(part)) for name, part in parts.items())
        for first in range(0, end, STRETCH)
    ]
    surveys: dict[str, list[_Survey]] = {name: [] for name in parts}
    survey = below(partial(_see, project=project, parts=parts), "survey rows")
    table = ray_data().from_items(stretches, override_num_blocks=len(stretches)).map(survey)
    for row in rows_of(table, "training"):
        if isinstance(row["seen"], LifecycleError):
            raise row["seen"]
        surveys[row["name"]].append(row["seen"])
    return surveys


def _see(
    stretch: dict[str, Any], project: Project, parts: dict[str, DatasetVersion]
) -> dict[str, Any]:
    """An error of ours is returned: raised, Ray would wrap it in its own and print it."""
    name = stretch["name"]
    try:
        survey: object = _survey_of(project, parts[name], name, stretch["first"], stretch["end"])
    except LifecycleError as error:
        survey = error
    return {"name": name, "seen": survey}


def _survey_of(project: Project, part: DatasetVersion, name: str, first: int, end: int) -> _Survey:
    width = _width(part)
    classified = project.task in ("binary", "multiclass")
    hook = load_hook(project)
    rows = 0
    examples: pd.DataFrame | None = None
    bins = np.zeros(-(-numbers_end(part) // width), dtype=np.int64)
    counts = class_counts(project, np.empty(0)) if classified else None
    for batch in _scan(project, part, first, end):
        rows += batch.num_rows
        frame, truth, numbers = _labelled(batch, project)
        if frame.empty:
            continue
        bins += np.bincount(numbers // width, minlength=len(bins))
        if counts is not None:
            counts += class_counts(project, truth)
        if name == "train":
            features = build_features(frame, project, hook)
            examples = _examples(features if examples is None else pd.concat([examples, features]))
    return _Survey(rows, bins, counts, examples)


def _examples(features: pd.DataFrame) -> pd.DataFrame:
    """Rows in which every value occurs that could be a category's, and at least one row."""
    mask = np.zeros(len(features), dtype=bool)
    mask[0] = True
    for name in features.columns:
        if not pd.api.types.is_numeric_dtype(features[name].dtype):
            mask |= ~features[name].duplicated().to_numpy()
    return features[mask]


def _divide(surveys: list[_Survey], part: DatasetVersion, name: str, workers: int) -> Shards:
    """Ranges with about equally many rows that have a target."""
    if (rows := sum(survey.rows for survey in surveys)) != part.rows:
        raise BackendError(
            f"{part.uri}: version {part.version} has {rows} rows, not the {part.rows} of the "
            "reference; the table has been made again since, so prepare the data again"
        )
    bins = np.sum([survey.bins for survey in surveys], axis=0)
    upto = np.concatenate([[0], np.cumsum(bins)])
    total = int(upto[-1])
    if total == 0:
        raise TargetError(f"the {name} part: no row has a target; check the source")
    edges = np.searchsorted(upto, np.arange(workers) * total / workers, side="left")
    edges = np.append(edges, len(bins))
    shares = np.diff(upto[edges])
    if (shares == 0).any():
        raise TrainingError(
            f"training.num_workers: {workers} workers for {total} rows of the {name} part; "
            "ask for fewer"
        )
    width = _width(part)
    return Shards(tuple(int(edge) * width for edge in edges), tuple(map(int, shares)))


def _labelled(
    batch: pa.RecordBatch, project: Project
) -> tuple[pd.DataFrame, NDArray[np.float64], NDArray[np.int64]]:
    """Rows with a target, typed as `read_version` types them; labels; row numbers."""
    frame, numbers = batch_frame(batch, project.columns)
    truth = labels(frame, project)
    has_truth = np.isfinite(truth)
    return frame[has_truth].reset_index(drop=True), truth[has_truth], numbers[has_truth]


def _scan(project: Project, part: DatasetVersion, first: int, end: int) -> Iterator[pa.RecordBatch]:
    """The rows with these numbers, of the columns that training needs, in the files' order.

    Parquet's statistics spare the row groups that have none of them.
    """
    columns = list(dict.fromkeys([*project.input_columns, project.target]))
    yield from open_rows(part, columns, first, end)


def _width(part: DatasetVersion) -> int:
    """Rows a bin."""
    return max(1, numbers_end(part) // BINS)
