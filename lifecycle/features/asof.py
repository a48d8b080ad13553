"""Point-in-time lookup of an entity's features: binary search in arrays, offline and serving."""

from bisect import bisect_left, bisect_right
from typing import Any, Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from lifecycle.features.compute import first_facts
from lifecycle.lake.column_types import MICROSECONDS_PER_DAY, is_text

FEW = 64
"""Up to so many rows are looked up one by one, without the start-up cost of the search for many."""


class AsOf:
    """The features of facts, by entity and time.

    Arrow and NumPy arrays and nothing else: what it takes is what its columns take.

    Args:
        key: the entities (facts,), ascending.
        time: since when each fact was known (facts,), ascending within an entity; whole numbers
            or datetimes.
        features: a row a fact.
        max_age: in the time's unit, or days.
        same_instant: whether a fact is known at its own time already, or only after it.
    """

    def __init__(
        self,
        key: pa.ChunkedArray,
        time: pa.ChunkedArray,
        features: pa.Table,
        max_age: float | None = None,
        same_instant: bool = False,
    ) -> None:
        starts = first_facts(key)
        entities = key.take(pa.array(starts))
        self._text = is_text(key.type)
        self._entities: Any = (
            entities.cast(pa.large_string()).combine_chunks()  # beyond 2 GB of text, too
            if self._text
            else entities.to_numpy()
        )
        self._starts = np.append(starts, len(key))
        self._time = as_numbers(time)
        self._dates: bool = pa.types.is_timestamp(time.type)
        unit = MICROSECONDS_PER_DAY if self._dates else 1
        self._max_age = None if max_age is None else max_age * unit
        self._same_instant = same_instant
        self.features = features.combine_chunks()
        """(facts, features)."""
        self._columns = _arrays(self.features)

    @property
    def dates(self) -> bool:
        """Return whether times are datetimes, in microseconds since 1970; otherwise integers."""
        return self._dates

    @property
    def newest(self) -> int | None:
        """The latest time of any fact."""
        return int(self._time.max()) if len(self._time) else None

    def __len__(self) -> int:
        return len(self._time)

    def lookup(self, entities: pa.Array, times: NDArray[np.int64]) -> NDArray[np.int64]:
        """The fact that counts for each entity at each time (rows,); -1 where there is none.

        The newest that is earlier than the time (or as early, with `same_instant`), unless it is
        older than `max_age`; of several of one instant the last.

        Args:
            entities: of the type of the keys (rows,).
            times: as `as_numbers` makes them (rows,).
        """
        if not len(self):
            return np.full(len(entities), -1, dtype=np.int64)
        if len(entities) <= FEW:
            pairs = zip(entities.to_pylist(), times.tolist(), strict=True)
            return np.array([self._find(*pair) for pair in pairs], dtype=np.int64)
        place = self._places(entities)
        present = place >= 0
        first = self._starts[np.where(present, place, 0)]
        low = first.copy()
        high = np.where(present, self._starts[np.where(present, place, 0) + 1], first)
        open_ = low < high
        while open_.any():  # bisection of all ranges at once
            middle = (low + high) // 2
            at = self._time[np.where(open_, middle, 0)]
            earlier = open_ & ((at <= times) if self._same_instant else (at < times))
            low = np.where(earlier, middle + 1, low)
            high = np.where(open_ & ~earlier, middle, high)
            open_ = low < high
        rows = low - 1
        valid = present & (rows >= first)
        if self._max_age is not None:
            # ages of known facts alone: the difference of any two times could overflow
            age = np.where(valid, times, 0) - np.where(valid, self._time[rows], 0)
            valid &= age <= self._max_age
        return np.where(valid, rows, -1)

    def take(self, rows: NDArray[np.int64]) -> list[pa.Array]:
        """The features of facts, a column each; missing where the row is -1."""
        at = pa.array(rows, mask=rows < 0)
        features = self.features.take(at)
        return [column.combine_chunks() for column in features.columns]

    def values(self, rows: NDArray[np.int64]) -> list[list[Any]]:
        """Return the rows that `take` would, as one list of Python values per feature.

        Missing values are None.
        """
        if len(rows) > FEW:
            return [column.to_pylist() for column in self.take(rows)]
        indices = rows.tolist()
        return [
            [None if row < 0 else column[row].as_py() for row in indices]
            for column in self._columns
        ]

    def since(self, now: int) -> Self:
        """Return a copy without the facts that no lookup at `now` or later can find."""
        if not len(self):
            return self
        ends = self._starts[1:]
        rows = np.arange(len(self))
        entity = np.searchsorted(ends, rows, side="right")
        last = np.append(self._time[1:], 0)
        followed = rows + 1 < ends[entity]
        replaced = followed & ((last <= now) if self._same_instant else (last < now))
        indices = pa.array(np.flatnonzero(~replaced))
        smaller = object.__new__(type(self))
        smaller.__dict__.update(self.__dict__)
        counts = np.bincount(entity[~replaced], minlength=len(ends))
        smaller._starts = np.concatenate([[0], np.cumsum(counts)])
        smaller._time = self._time[~replaced]
        smaller.features = self.features.take(indices).combine_chunks()
        smaller._columns = _arrays(smaller.features)
        return smaller

    def _find(self, entity: Any, time: int) -> int:
        """`lookup` of one row."""
        at = self._place(entity)
        if at < 0:
            return -1
        first, end = self._starts[at : at + 2].tolist()
        bisect = bisect_right if self._same_instant else bisect_left
        row = bisect(self._time, time, first, end) - 1
        if row < first:
            return -1
        old = self._max_age is not None and time - int(self._time[row]) > self._max_age
        return -1 if old else row

    def _place(self, entity: Any) -> int:
        """Return the index of an entity; -1 if it has no facts."""
        entities = self._entities
        if self._text:  # Arrow orders text by its UTF-8 bytes, which is Python's order, too
            at = bisect_left(entities, entity, key=lambda value: value.as_py())
            return at if at < len(entities) and entities[at].as_py() == entity else -1
        at = int(entities.searchsorted(entity))
        return at if at < len(entities) and entities[at] == entity else -1

    def _places(self, entities: pa.Array) -> NDArray[np.int64]:
        """`_place` of many (rows,)."""
        own_entities = self._entities
        if self._text:
            index = pc.index_in(entities.cast(pa.large_string()), value_set=own_entities)
            positions: NDArray[np.int64] = index.fill_null(-1).to_numpy().astype(np.int64)
            return positions
        values = entities.to_numpy()
        at = np.searchsorted(own_entities, values)
        places: NDArray[np.int64] = np.where(
            own_entities[np.minimum(at, len(own_entities) - 1)] == values, at, -1
        )
        return places


def _arrays(features: pa.Table) -> list[pa.Array]:
    """Each column in one piece."""
    return [
        column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()
        for column in features.columns
    ]


def as_numbers(times: pa.ChunkedArray | pa.Array) -> NDArray[np.int64]:
    """Whole numbers as they are, datetimes as microseconds since 1970."""
    if pa.types.is_timestamp(times.type):
        times = times.cast(pa.timestamp("us"))
    numbers: NDArray[np.int64] = times.cast(pa.int64()).to_numpy()
    return numbers
