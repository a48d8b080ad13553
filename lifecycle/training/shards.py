"""Shards: a part read by Ray Data range by range, so that no process holds the whole of it.

A part's rows are numbered (`lake.ROW`). A first pass over the files finds what must be known of
all rows: the feature schema, the class counts, and ranges of row numbers with equally many rows
whose target is known. Each worker then reads its own range, in order; so which rows a worker has
depends on the data and the number of workers alone, and a worker that starts anew finds the same.
"""

import logging
from collections.abc import Iterator
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pyarrow as pa
from deltalake import DeltaTable
from deltalake.exceptions import DeltaError
from numpy.typing import NDArray

from lifecycle.data.coerce import narrow
from lifecycle.data.features import (
    FeatureSchema,
    build_features,
    encode,
    fit_schema,
    labels,
    load_hook,
)
from lifecycle.data.lake import INTEGERS, ROW
from lifecycle.errors import BackendError, LifecycleError, TargetError, TrainingError
from lifecycle.project import Project
from lifecycle.records import DatasetVersion
from lifecycle.training.weights import class_counts

BATCH = 50_000
"""Rows turned into features at a time."""
BINS = 1000
"""How finely a part is divided: shards differ by about one bin of its rows."""


class Shards(NamedTuple):
    """A part divided among the workers."""

    bounds: tuple[int, ...]
    """Worker r has the row numbers from `bounds[r]` up to, not including, `bounds[r + 1]`."""
    rows: tuple[int, ...]
    """Rows with a target that each worker has; they add up to those of the part."""


class Plan(NamedTuple):
    """What every worker must know of the rows it does not see."""

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


class _Seen(NamedTuple):
    """What one batch shows."""

    rows: int
    bins: NDArray[np.int64]
    """(bins,): rows with a target, by row number."""
    counts: NDArray[np.float64] | None
    examples: pd.DataFrame | None
    """Rows of features in which every level of the batch occurs."""


def plan(project: Project, train: DatasetVersion, validation: DatasetVersion, workers: int) -> Plan:
    """Look at every row of both parts once, batch by batch; Ray is connected already.

    Raises:
        BackendError: a part cannot be read, or does not hold its rows.
        FeatureError: the hook cannot be loaded or fails, or a feature cannot be learned from.
        TargetError: no row of a part has a target.
        TrainingError: there are fewer rows than workers.
    """
    load_hook(project)  # a mistake in it is told here, not by every worker
    learned = list(_look(project, train, "train"))
    checked = list(_look(project, validation, "validation"))
    examples = pd.concat([one.examples for one in learned if one.examples is not None])
    counts = [one.counts for one in learned if one.counts is not None]
    return Plan(
        schema=fit_schema(examples, project.contract),
        train=_divide(learned, train, "train", workers),
        validation=_divide(checked, validation, "validation", workers),
        counts=np.sum(counts, axis=0) if counts else None,
    )


def read_shard(
    project: Project, part: DatasetVersion, shards: Shards, rank: int, schema: FeatureSchema
) -> Shard:
    """One worker's rows, in the order of the part; those without a target are left out.

    The reading tasks ask for no CPU: the workers that wait for them may hold every one there is.

    Raises:
        BackendError: the part cannot be read, or a row of the shard is missing.
        FeatureError: the hook fails, or its features are not those of the schema.
    """
    from ray.data.expressions import col

    first, end = shards.bounds[rank], shards.bounds[rank + 1]
    rows = shards.rows[rank]
    table = _open(part, columns=_columns(project), num_cpus=0)
    table = table.filter(expr=(col(ROW) >= first) & (col(ROW) < end), num_cpus=0)
    hook = load_hook(project)
    matrix = np.empty((rows, len(schema.names)), dtype=np.float32)
    truth, numbers = np.empty(rows), np.empty(rows, dtype=np.int64)
    at = 0
    for batch in table.iter_batches(batch_format="pyarrow", batch_size=BATCH):
        frame, known, place = _labelled(batch, project)
        to = at + len(frame)
        if to > rows:
            break
        matrix[at:to] = encode(build_features(frame, project, hook), schema)
        truth[at:to], numbers[at:to] = known, place
        at = to
    if at != rows:
        raise BackendError(
            f"{part.uri}: version {part.version} gave worker {rank} other rows than it has; "
            "run again"
        )
    if (np.diff(numbers) < 0).any():  # Delta's files need not be in the order of the rows
        order = np.argsort(numbers)
        matrix, truth = matrix[order], truth[order]
    return Shard(matrix, truth)


def _look(project: Project, part: DatasetVersion, name: str) -> Iterator[_Seen]:
    width = max(1, part.rows // BINS)
    table = _open(part, columns=_columns(project))
    one = partial(_see, project=project, width=width, features=name == "train")
    for row in table.map_batches(one, batch_format="pyarrow", batch_size=BATCH).iter_rows():
        seen = row["seen"]
        if isinstance(seen, LifecycleError):
            raise seen
        yield seen


def _see(batch: pa.Table, project: Project, width: int, features: bool) -> dict[str, Any]:
    """An error of ours is returned: raised, Ray would wrap it in its own and print it."""
    out = np.empty(1, dtype=object)
    try:
        out[0] = _seen(batch, project, width, features)
    except LifecycleError as error:
        out[0] = error
    return {"seen": out}


def _seen(batch: pa.Table, project: Project, width: int, features: bool) -> _Seen:
    frame, truth, numbers = _labelled(batch, project)
    classified = project.task in ("binary", "multiclass")
    examples = None
    if features and len(frame):
        built = build_features(frame, project, load_hook(project))
        shown = np.zeros(len(built), dtype=bool)
        shown[0] = True
        for column in built.columns:
            if not pd.api.types.is_numeric_dtype(built[column].dtype):
                shown |= ~built[column].duplicated().to_numpy()
        examples = built[shown]
    return _Seen(
        rows=batch.num_rows,
        bins=np.bincount(numbers // width),
        counts=class_counts(project, truth) if classified else None,
        examples=examples,
    )


def _divide(seen: list[_Seen], part: DatasetVersion, name: str, workers: int) -> Shards:
    """Ranges with about equally many rows that have a target."""
    if (rows := sum(one.rows for one in seen)) != part.rows:
        raise BackendError(
            f"{part.uri}: version {part.version} has {rows} rows, not the {part.rows} of the "
            "reference; the table was made anew since, so prepare the data again"
        )
    bins = np.zeros(max(len(one.bins) for one in seen), dtype=np.int64)
    for one in seen:
        bins[: len(one.bins)] += one.bins
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
    width = max(1, part.rows // BINS)
    return Shards(tuple(int(edge) * width for edge in edges), tuple(map(int, shares)))


def _labelled(
    batch: pa.Table, project: Project
) -> tuple[pd.DataFrame, NDArray[np.float64], NDArray[np.int64]]:
    """Rows with a target, typed as `read_version` types them; labels; row numbers."""
    raw = batch.to_pandas(types_mapper=INTEGERS.get)
    specs = project.contract.columns
    frame = pd.DataFrame({name: narrow(raw[name], specs[name]) for name in raw if name != ROW})
    truth = labels(frame, project)
    known = np.isfinite(truth)
    numbers = raw[ROW].to_numpy(dtype=np.int64)
    return frame[known].reset_index(drop=True), truth[known], numbers[known]


def _columns(project: Project) -> list[str]:
    return [*dict.fromkeys([*project.input_columns, project.target]), ROW]


def _open(part: DatasetVersion, columns: list[str], **options: Any) -> Any:
    """A part as a Ray dataset, in the order of its files."""
    import ray.data

    logging.getLogger("ray.data").setLevel(logging.ERROR)  # it tells each step on stderr
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    context.execution_options.preserve_order = True
    context.execution_options.verbose_progress = False
    try:
        files = DeltaTable(part.uri, version=part.version).file_uris()
    except (DeltaError, OSError) as error:
        line = str(error).strip().split("\n", 1)[0]
        raise BackendError(f"{part.uri}: version {part.version} cannot be read: {line}") from None
    return ray.data.read_parquet(sorted(files), columns=columns, **options)
