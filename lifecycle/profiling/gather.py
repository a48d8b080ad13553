"""One pass over batches: exact counts, and a seeded sample for what counts cannot say.

What is held does not grow with the rows, but for eight bytes a row, which tell duplicates.
"""

from collections import Counter
from collections.abc import Iterable
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from lifecycle.data.contract.statistics import RunningMoments, Smallest
from lifecycle.lake.column_types import MICROSECONDS_PER_DAY, is_number
from lifecycle.lake.row_hash import Hashes, fold, hashes_of

# Conversion of any Arrow type to the few types of a profile.


def plain(column: pa.Array) -> pa.Array:
    """Convert a column to integers, floats, booleans, times in UTC µs, or text; NaN is missing."""
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    kind = column.type
    if pa.types.is_boolean(kind) or pa.types.is_integer(kind) or pa.types.is_string(kind):
        return column
    if pa.types.is_floating(kind) or pa.types.is_decimal(kind):
        floats = column.cast(pa.float64())
        is_nan = pc.is_nan(floats)
        has_nan = pc.any(is_nan).as_py()
        return pc.if_else(is_nan, pa.scalar(None, pa.float64()), floats) if has_nan else floats
    if pa.types.is_timestamp(kind) or pa.types.is_date(kind):
        return column.cast(pa.timestamp("us", getattr(kind, "tz", None)), safe=False).cast(
            pa.timestamp("us")
        )
    if pa.types.is_large_string(kind) or pa.types.is_string_view(kind) or pa.types.is_null(kind):
        return column.cast(pa.string())
    texts = [None if value is None else str(value) for value in column.to_pylist()]
    return pa.array(texts, pa.string())


SAMPLE = 50_000
SEED = 17
MOST_PERIODS = 50_000
"""Above so many values a time column of whole numbers has no periods to count."""


class ColumnCounts:
    """Counts of one column over all rows."""

    def __init__(self) -> None:
        self.missing = self.infinite = 0
        self.minimum: Any = None
        self.maximum: Any = None
        self.moments = RunningMoments()
        self._keys = Smallest()

    def add(self, values: pa.Array, hashes: Hashes) -> pa.Array:
        """Take in a plain column of a batch; returns it with missing for infinite values."""
        self.missing += values.null_count
        present = hashes if not values.null_count else hashes[~_nulls(values)]
        keys = np.unique(present)
        self._keys.add(keys, keys)
        if pa.types.is_floating(values.type):
            infinite = pc.is_inf(values)
            infinite_count = pc.sum(infinite).as_py() or 0
            if infinite_count:
                self.infinite += infinite_count
                values = pc.if_else(infinite, pa.scalar(None, values.type), values)
        if is_number(values.type) or pa.types.is_timestamp(values.type):
            ends = pc.min_max(values).as_py()
            if ends["min"] is not None:
                first = self.minimum is None
                self.minimum = ends["min"] if first else min(ends["min"], self.minimum)
                self.maximum = ends["max"] if first else max(ends["max"], self.maximum)
        if is_number(values.type):
            self.moments.add(values.drop_null().to_numpy().astype(np.float64, copy=False))
        return values

    def distinct(self) -> tuple[int, bool]:
        """Return the number of distinct values, and whether it is exact."""
        count = self._keys.distinct()
        return round(count), count < 1 << 16


class Gathered:
    """Everything that is kept of the rows that passed."""

    def __init__(self, time: str | None = None) -> None:
        """Start with no rows.

        Args:
            time: the column whose periods are counted.
        """
        self.rows = self.rows_with_missing = 0
        self.columns: dict[str, ColumnCounts] = {}
        self.types: dict[str, pa.DataType] = {}
        self.periods: Counter[int] | None = Counter()
        """Rows per integer, or per day since 1970, of the time column."""
        self.both_missing: NDArray[np.int64] = np.zeros((0, 0), np.int64)
        self._time = time
        self._random = np.random.default_rng(SEED)
        self._hashes: list[Hashes] = []
        self._pool: pa.Table | None = None
        self._keys: NDArray[np.float64] = np.empty(0)
        self._limit = 1.0

    def add(self, batch: pa.RecordBatch) -> None:
        """Take in a batch; every batch has the same columns."""
        values = {name: plain(batch.column(name)) for name in batch.schema.names}
        if not self.columns:
            self.columns = {name: ColumnCounts() for name in values}
            self.types = {name: batch.schema.field(name).type for name in values}
            self.both_missing = np.zeros((len(values), len(values)), np.int64)
        rows = np.zeros(batch.num_rows, np.uint64)
        finite = {}
        for name, column in values.items():
            hashes = hashes_of(pa.chunked_array([column]), pa.types.is_integer(column.type))
            rows = fold(rows, hashes)
            finite[name] = self.columns[name].add(column, hashes)
        self._hashes.append(rows)
        self._add_missing(list(values.values()), batch.num_rows)
        if self._time in values:
            self._add_periods(values[self._time])
        self._add_sample(pa.table(finite), batch.num_rows)
        self.rows += batch.num_rows

    def _add_missing(self, columns: list[pa.Array], rows: int) -> None:
        lacking = [at for at, column in enumerate(columns) if column.null_count]
        if not lacking:
            return
        missing = np.stack([_nulls(columns[at]) for at in lacking], axis=1)
        self.rows_with_missing += int(missing.any(axis=1).sum())
        floats = missing.astype(np.float32)  # exact up to 2²⁴ rows a batch
        self.both_missing[np.ix_(lacking, lacking)] += (floats.T @ floats).astype(np.int64)

    def _add_periods(self, column: pa.Array) -> None:
        if self.periods is None:
            return
        if pa.types.is_timestamp(column.type):
            column = pa.array(
                column.drop_null().cast(pa.int64()).to_numpy() // MICROSECONDS_PER_DAY, pa.int64()
            )
        elif not pa.types.is_integer(column.type):
            self.periods = None
            return
        for count in column.drop_null().value_counts().to_pylist():
            self.periods[count["values"]] += count["counts"]
        if len(self.periods) > MOST_PERIODS:
            self.periods = None

    def _add_sample(self, table: pa.Table, rows: int) -> None:
        """Every row draws a number; the `SAMPLE` lowest stay, however the rows were cut."""
        keys = self._random.random(rows)
        chosen = np.flatnonzero(keys < self._limit)
        self._keys = np.concatenate([self._keys, keys[chosen]])
        part = table if len(chosen) == rows else table.take(pa.array(chosen))
        self._pool = part if self._pool is None else pa.concat_tables([self._pool, part])
        if len(self._keys) > 2 * SAMPLE:
            self._prune()

    def _prune(self) -> None:
        if self._pool is None or len(self._keys) <= SAMPLE:
            return
        places = np.sort(np.argpartition(self._keys, SAMPLE)[:SAMPLE])
        self._pool = self._pool.take(pa.array(places)).combine_chunks()
        self._keys = self._keys[places]
        self._limit = float(self._keys.max())

    def sample(self) -> pa.Table:
        """The sampled rows in their order; infinite values are missing."""
        self._prune()
        return pa.table({}) if self._pool is None else self._pool

    def duplicates(self) -> int:
        """Rows that repeat an earlier one in every column."""
        hashes = np.concatenate(self._hashes) if self._hashes else np.empty(0, np.uint64)
        return len(hashes) - len(np.unique(hashes))


def gather(batches: Iterable[pa.RecordBatch], time: str | None = None) -> Gathered:
    """Pass once over the batches, all of the same columns.

    Args:
        time: the column whose periods are counted.
    """
    gathered = Gathered(time)
    for batch in batches:
        gathered.add(batch)
    return gathered


def _nulls(column: pa.Array) -> NDArray[np.bool_]:
    nulls: NDArray[np.bool_] = column.is_null().to_numpy(zero_copy_only=False)
    return nulls
