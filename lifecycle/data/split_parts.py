"""Keys of a split: of each row the part that its entity is in, its period, its target."""

from typing import Any, NamedTuple, assert_never

import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray

from lifecycle.data.windows import period_of
from lifecycle.lake.column_types import is_text, to_frame
from lifecycle.lake.read import is_nullable, open_version
from lifecycle.lake.row_hash import STEP, mix
from lifecycle.project import Project, SplitSpec, TimeSpec
from lifecycle.records import DatasetVersion

# Rows in time order: the start of each row's period, and which periods are the newest.

Starts = NDArray[Any]
"""Where each row's period starts (rows,): whole numbers, times, or days of calendar periods."""


def starts_of(times: "pd.Series[Any]", spec: TimeSpec) -> Starts:
    """The start of the period each time lies in; with `period: value`, the time itself."""
    if spec.period == "value":
        integer = pd.api.types.is_integer_dtype(times.dtype)
        return times.to_numpy(dtype=np.int64) if integer else times.to_numpy()
    days = times.to_numpy().astype("datetime64[D]")  # 20 times as fast as `to_period`
    if spec.period == "month":
        return days.astype("datetime64[M]").astype("datetime64[D]")
    if spec.period == "week":
        since_monday = (days.astype(np.int64) + 3) % 7  # day 0, 1970-01-01, was a Thursday
        monday: NDArray[np.datetime64] = days - since_monday.astype("timedelta64[D]")
        return monday
    if spec.period == "day":
        return days
    assert_never(spec.period)


class Periods:
    """The periods that rows lie in, oldest first."""

    def __init__(self, starts: Starts, spec: TimeSpec) -> None:
        self._starts, self._spec = starts, spec
        self._periods, self._sizes = np.unique(starts, return_counts=True)

    def __len__(self) -> int:
        return len(self._periods)

    def sizes(self, rows: NDArray[np.bool_] | None = None) -> NDArray[np.int64]:
        """Rows in each period, oldest first (periods,).

        Args:
            rows: which ones to count (rows,); by default all.
        """
        if rows is None:
            return self._sizes
        at = np.searchsorted(self._periods, self._starts[rows])
        return np.bincount(at, minlength=len(self))

    def newest(self, target_rows: float, before: int) -> int:
        """Number of periods, the newest before a number, come closest to `target_rows`; at least
        one, if there is one."""
        sizes = self._sizes[:before]
        if not len(sizes):
            return 0
        return 1 + int(np.abs(np.cumsum(sizes[::-1]) - target_rows).argmin())

    def since(self, number: int) -> NDArray[np.bool_]:
        """Mask of the rows that lie in a period or a later one (rows,)."""
        if number >= len(self._periods):
            return np.zeros(len(self._starts), dtype=bool)
        mask: NDArray[np.bool_] = self._starts >= self._periods[number]
        return mask

    def start(self, number: int) -> Any:
        """Start of a period: a whole number, a time or a day."""
        return self._periods[number]

    def number(self, start: Any) -> int:
        """Number of the first period that starts there or later; `len` if there is none."""
        return int(np.searchsorted(self._periods, start))

    def name(self, number: int) -> str:
        """Name of a period; behind the last one comes the end."""
        if number >= len(self._periods):
            return "the end"
        start = self._periods[number]
        if self._periods.dtype.kind != "M":
            return str(int(start))
        unit = "us" if self._spec.period == "value" else "s"
        return str(period_of(pd.Series([start.astype(f"datetime64[{unit}]")]), self._spec).iloc[0])


# Where a seeded hash puts a row: the same key is in the same part for ever.

BLOCK = 1 << 20
"""Keys hashed at a time."""
TRAIN, VALIDATION, HOLDOUT = range(3)
Places = NDArray[np.int8]
"""TRAIN, VALIDATION or HOLDOUT of each row (rows,)."""


def places(keys: "pd.Series[Any]", spec: SplitSpec) -> Places:
    """The part each key is in."""
    return _places(hash_share(keys, spec.seed), spec)


def places_by_number(rows: int, spec: SplitSpec) -> Places:
    """The part each row is in, by its number."""
    blocks = [
        places(pd.Series(np.arange(start, min(start + BLOCK, rows))), spec)
        for start in range(0, rows, BLOCK)
    ]
    return np.concatenate(blocks) if blocks else np.empty(0, dtype=np.int8)


def _places(shares: NDArray[np.float64], spec: SplitSpec) -> Places:
    parts = np.full(len(shares), TRAIN, dtype=np.int8)
    parts[shares < spec.holdout + spec.validation] = VALIDATION
    parts[shares < spec.holdout] = HOLDOUT
    return parts


def hash_share(keys: "pd.Series[Any]", seed: int) -> NDArray[np.float64]:
    """A number in [0, 1) for each key, equal for equal keys whatever the other rows are.

    Whole numbers and text go through SplitMix64 (Steele, Lea, Flood 2014) with the seed added;
    text is first hashed by SipHash-2-4 (pandas' `hash_array`).
    """
    shares = np.empty(len(keys))
    for start in range(0, len(keys), BLOCK):  # all at once would take five times the memory
        shares[start : start + BLOCK] = _shares(keys.iloc[start : start + BLOCK], seed)
    return shares


def _shares(keys: "pd.Series[Any]", seed: int) -> NDArray[np.float64]:
    if pd.api.types.is_integer_dtype(keys.dtype):
        words = keys.to_numpy(dtype=np.int64).view(np.uint64)
    else:
        text = keys.astype(str).to_numpy(dtype=object)
        words = pd.util.hash_array(text, hash_key="lifecycle-flows!")
    start = mix(np.full(1, seed, dtype=np.int64).view(np.uint64) + STEP)
    mixed = mix((words ^ start) + STEP)  # wraps around, as it should
    return (mixed >> np.uint64(11)).astype(np.float64) / 2.0**53


class Keys(NamedTuple):
    """Keys that decide each row's part, in at most nine bytes per row."""

    rows: int
    places: Places | None
    """By entity; None without one."""
    starts: Starts | None
    """Of the rows' periods; None without a time."""

    def of(self, rows: NDArray[np.bool_] | slice) -> "Keys":
        """Keys of the selected rows."""
        count = rows.stop if isinstance(rows, slice) else int(rows.sum())
        places = None if self.places is None else self.places[rows]
        return Keys(count, places, None if self.starts is None else self.starts[rows])

    def room_for(self, rows: int) -> "Keys":
        """Like these, but empty and of another length."""
        places = None if self.places is None else np.empty(rows, self.places.dtype)
        return Keys(
            rows, places, None if self.starts is None else np.empty(rows, self.starts.dtype)
        )


def keys_of(
    frame: pd.DataFrame, spec: SplitSpec, entity: str | None, time: TimeSpec | None
) -> Keys:
    """The keys of a frame, typed as the contract says."""
    return Keys(
        len(frame),
        places(frame[entity], spec) if entity else None,
        starts_of(frame[time.column], time) if time else None,
    )


def read_keys(dataset: DatasetVersion, project: Project) -> tuple["pd.Series[Any]", Keys]:
    """The target and the keys of a version, in one pass over their columns.

    Raises:
        BackendError: the lake cannot be read.
    """
    spec, entity, time = project.split, project.entity, project.time
    columns = [project.target, entity, time.column if time else None]
    names = list(dict.fromkeys(name for name in columns if name is not None))
    targets: list[pa.Array] = []
    keys: Keys | None = None
    rows = 0
    for batch in open_version(dataset, names):
        field = batch.schema.field(project.target)
        target = batch.column(project.target)
        # each text once: as a value of its own it takes 60 bytes
        targets.append(target.dictionary_encode() if is_text(target.type) else target)
        frame = to_frame(pa.Table.from_batches([batch]), is_nullable)
        chunk = keys_of(frame, spec, entity, time)
        keys = keys or chunk.room_for(dataset.rows)
        for arrays, part in zip(keys[1:], chunk[1:], strict=True):
            if arrays is not None and part is not None:
                arrays[rows : rows + chunk.rows] = part
        rows += chunk.rows
    if keys is None:
        return pd.Series(dtype=np.float64), Keys(0, None, None)
    column = pa.chunked_array(targets)
    if pa.types.is_dictionary(column.type):
        values = column.unify_dictionaries().to_pandas()
    else:
        table = pa.table([column], schema=pa.schema([field]))
        del column, targets
        values = to_frame(table, is_nullable)[project.target]
    return values, keys.of(
        slice(rows)
    )  # fewer than the version was written with, if some are erased
