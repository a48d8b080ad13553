"""Truth of predictions: the labels of the ledger, joined to rows.

The rule: of the labels about a row that were known, the one known last counts. If several were
known last and differ, they contradict each other, and the row has no label until another one
arrives.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from lifecycle.data.privacy import plain_text
from lifecycle.features.encode import labels
from lifecycle.lake.column_types import is_text
from lifecycle.project import ColumnType, Project

NEVER = np.iinfo(np.int64).min
"""Microseconds that stand for a missing time."""
NUMPY_TYPES: dict[ColumnType, str] = {"integer": "Int64", "number": "float64", "boolean": "boolean"}


class Truth(NamedTuple):
    """Knowledge of the ledger about rows."""

    values: NDArray[np.float64]
    """(rows,): as `features.encode.labels` gives them; NaN where no label is known."""
    contradicted: NDArray[np.bool_]
    """(rows,): whose labels contradict each other."""
    ambiguous: int = 0
    """Rows of one entity and time that have labels: nothing tells which of them each is about."""

    @property
    def touched(self) -> NDArray[np.bool_]:
        """(rows,): about which the ledger says anything."""
        return ~np.isnan(self.values) | self.contradicted


def truth_by_id(rows: pa.Table, project: Project, ids: pa.Array | pa.ChunkedArray) -> Truth:
    """The truth of predictions.

    Args:
        rows: of the ledger.
        ids: (predictions,), texts, each once, as those of one version in one role are.
    """
    about = rows.filter(rows["id"].is_valid()) if rows["id"].null_count else rows
    codes = pc.index_in(_array(about["id"]), value_set=_array(ids), skip_nulls=True)
    return _resolved(about, project, _numbers(codes), len(ids))


def truth_by_row(
    rows: pa.Table,
    project: Project,
    entities: Sequence[object] | NDArray[np.object_] | None,
    times: "pd.Series | None",
) -> Truth:
    """The truth of rows by their entity and time, or by the one that the project has.

    Rows that share both cannot be told apart, so they get no label: a wrong one is worse than none.

    Args:
        rows: of the ledger.
        entities: (rows,), as tables of the lake have them, pseudonyms where they are hashed; None
            without an entity.
        times: (rows,); None without a time.
    """
    keys = entities if entities is not None else times
    assert keys is not None  # noqa: S101 - the caller has looked
    count = len(keys)
    about = rows.filter(pc.invert(rows["id"].is_valid()))
    own = np.zeros(count, dtype=np.int64)
    label_rows = np.zeros(about.num_rows, dtype=np.int64)
    if entities is not None:
        texts = pa.array([plain_text(value) for value in entities], pa.string())
        distinct = pc.unique(texts)
        own = _numbers(pc.index_in(texts, value_set=distinct, skip_nulls=True))
        label_rows = _numbers(
            pc.index_in(_array(about["entity"]), value_set=distinct, skip_nulls=True)
        )
    if times is not None:
        own_codes, distinct_times = pd.factorize(microseconds(times))
        codes = pd.Index(distinct_times).get_indexer(pd.Index(_moments(about["time"])))
        size = len(distinct_times)
        own = np.where(own < 0, -1, own * size + own_codes)
        label_rows = np.where((label_rows < 0) | (codes < 0), -1, label_rows * size + codes)
    at, distinct_rows = pd.factorize(own)
    positions = pd.Index(distinct_rows).get_indexer(pd.Index(label_rows))
    truth = _resolved(about, project, np.where(label_rows < 0, -1, positions), len(distinct_rows))
    shared = np.bincount(at, minlength=len(distinct_rows))[at] > 1
    excluded = (own < 0) | shared
    return Truth(
        np.where(excluded, np.nan, truth.values[at]),
        ~excluded & truth.contradicted[at],
        int((shared & (own >= 0) & truth.touched[at]).sum()),
    )


def entity_is_stored(project: Project) -> bool:
    """Tell whether the project has an entity, and tables keep it."""
    return bool(project.entity) and project.columns[project.entity or ""].pii != "drop"


def microseconds(times: "pd.Series") -> NDArray[np.int64]:
    """Times as microseconds since 1970 in UTC; a missing one is `NEVER`."""
    naive = times.dt.tz_convert(None) if times.dt.tz is not None else times
    numbers = naive.astype("datetime64[us]").astype("int64").to_numpy()
    return np.where(times.isna().to_numpy(dtype=bool), np.int64(NEVER), numbers)


def _moments(times: pa.ChunkedArray) -> NDArray[np.int64]:
    numbers: NDArray[np.int64] = times.cast(pa.int64()).fill_null(NEVER).to_numpy()
    return numbers


def _resolved(rows: pa.Table, project: Project, at: NDArray[np.int64], size: int) -> Truth:
    """The label known last about each of several rows.

    Args:
        rows: of the ledger (n,).
        at: which row each label is about (n,); -1 for none.
        size: how many rows there are.
    """
    about = at >= 0
    if not about.all():
        rows, at = rows.filter(pa.array(about)), at[about]
    values = label_values(rows, project)
    times = rows["known_at"].cast(pa.int64()).to_numpy()
    latest = np.full(size, NEVER)
    np.maximum.at(latest, at, times)
    last = times == latest[at]
    if not last.all():
        values, at = values[last], at[last]
    truth = np.full(size, np.nan)
    truth[at] = values
    contradicted = np.zeros(size, dtype=bool)
    contradicted[at[(truth[at] != values) & ~np.isnan(values)]] = True
    truth[contradicted] = np.nan
    return Truth(truth, contradicted)


def label_values(rows: pa.Table, project: Project) -> NDArray[np.float64]:
    """Labels of the ledger (n,) as the model's targets (n,); a class there is no more is NaN."""
    spec = project.columns[project.target]
    kind = spec.value_type
    if project.task in ("regression", "count"):
        values: NDArray[np.float64] = rows["number"].to_numpy().astype(np.float64, copy=False)
        return values
    column = _array(rows["number" if kind in NUMPY_TYPES else "value"]).dictionary_encode()
    distinct = column.dictionary.to_pandas()
    frame = pd.DataFrame({project.target: distinct.astype(NUMPY_TYPES.get(kind, "object"))})
    targets = np.append(labels(frame, project), np.nan)
    codes = column.indices.fill_null(len(distinct)).to_numpy(zero_copy_only=False)
    values = targets[codes]
    return values


def _array(column: pa.Array | pa.ChunkedArray) -> pa.Array:
    array = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    if isinstance(array, pa.ChunkedArray):  # no chunk at all, or more than an array can hold
        array = pa.concat_arrays(array.chunks) if array.num_chunks else pa.array([], array.type)
    return array.cast(pa.string()) if is_text(array.type) else array


def _numbers(codes: pa.Array) -> NDArray[np.int64]:
    """Positions, -1 for none."""
    positions: NDArray[np.int64] = codes.fill_null(-1).to_numpy(zero_copy_only=False)
    return positions.astype(np.int64)
