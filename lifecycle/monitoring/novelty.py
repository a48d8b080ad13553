"""Novelty of a column: what the reference never had, so that no drift is needed for an alarm.

A part of the rows too small for any distance still shows that data are broken if it has what no
reference row had: missing values, a new level, numbers far outside, one value more often or for
longer than any value was.
"""

from collections.abc import Iterator

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from lifecycle.monitoring.feed import moments
from lifecycle.monitoring.locate import ALL, Floats, Mask, Place, Sides, time_text
from lifecycle.monitoring.symptoms import (
    FEW_VALUES,
    GAPS,
    MIN_ADDED,
    MIN_DUPLICATES,
    MIN_STUCK_ROWS,
    Symptom,
)
from lifecycle.monitoring.units import unseen_steps

Order = tuple[NDArray[np.intp], NDArray[np.intp]]
"""Rows in the order of level and time, and the level of each."""
MAX_STEADY = 0.5
"""Share of the reference's rows that have the value of the row before, in time, at most."""


class Novelty:
    """Columns of the current window, held against all that the reference ever had.

    Args:
        sides: reference and current window.
    """

    def __init__(self, sides: Sides) -> None:
        self._sides = sides
        self._times = moments(sides.reference), moments(sides.current)
        self._orders = [*self._in_time()]

    def has(self, name: str) -> bool:
        """Tell whether a column has what the reference never had, in 2 % of the rows and more."""
        if name in self._sides.categorical:
            before, after = self._sides.texts(name)
            if before.isna().any():
                return False
            return _counts(~after.isin(before.unique()).to_numpy())
        numbers = self._sides.numbers(name)
        former = np.sort(numbers[0][~np.isnan(numbers[0])])
        if not len(former):
            return False
        low, high = float(former[0]), float(former[-1])
        margin = high - low  # a world that changes goes a little beyond
        bad = (numbers[1] < low - margin) | (numbers[1] > high + margin)
        if len(former) == len(numbers[0]):
            bad |= np.isnan(numbers[1])
        if _counts(bad):
            return True
        if len(np.unique(former)) <= FEW_VALUES or self._is_steady(numbers[0]):
            return False
        steps = unseen_steps(self._sides, name)
        if steps is not None and _counts(steps):
            return True
        return self._is_repeated(former, numbers[1]) or self.stuck(name) is not None

    def _is_steady(self, before: Floats) -> bool:
        """Tell whether most rows have the value of the row before, as a month or a rate has."""
        if not self._orders:
            return False
        series = before[self._orders[0][2][0][0]]
        return bool((series[1:] == series[:-1]).mean() > MAX_STEADY)

    def _is_repeated(self, former: Floats, after: Floats) -> bool:
        """Judge whether one value is far more frequent than any was, or frequent and outside."""
        usual = float(np.unique(former, return_counts=True)[1].max()) / len(former)
        values, counts = np.unique(after[~np.isnan(after)], return_counts=True)
        return any(
            (count > GAPS * usual * len(after) or not former[0] <= value <= former[-1])
            and _counts(after == value)
            and self._is_many(after == value)
            for value, count in zip(values, counts, strict=True)
            if count > MIN_ADDED * len(after)
        )

    def stuck(self, name: str) -> Symptom | None:
        """Find a value that stays for longer than any did, in rows and in time.

        Looked at are all rows in the order of time, then those of each level of each column.
        """
        if name in self._sides.categorical:
            return None
        before, after = self._sides.numbers(name)
        former = before[~np.isnan(before)]
        if len(np.unique(former)) <= FEW_VALUES or self._is_steady(before):
            return None
        best: NDArray[np.intp] = np.empty(0, dtype=np.intp)
        segment = ALL
        for column, levels, orders in self._orders:
            rows, level = self._longest((before, after), orders)
            if len(rows) > len(best) and former.min() <= after[rows[0]] <= former.max():
                best, segment = rows, f"{column}={levels[level]}" if column else ALL
            if segment == ALL and len(best):
                break
        if not len(best):
            return None
        times = self._sides.current.time
        assert times is not None  # noqa: S101 - else there are no orders
        bad = np.zeros(len(after), dtype=bool)
        bad[best] = True
        evidence = f"{after[best[0]]:.6g} in {len(best):,} rows one after another"
        place = Place(segment, time_text(times[best[0]]), best)
        return Symptom("stuck value", (name,), place, bad, evidence, float(bad.mean()))

    def _longest(
        self, sides: tuple[Floats, Floats], orders: tuple[Order, Order]
    ) -> tuple[NDArray[np.intp], int]:
        """Return the rows of the longest run and their level; none if it is not too long."""
        runs = [_runs(values, order) for values, order in zip(sides, orders, strict=True)]
        lengths = [run[1] - run[0] for run in runs]
        at = int(np.argmax(lengths[1]))
        least = max(GAPS * lengths[0].max(), MIN_ADDED * len(sides[1]), MIN_STUCK_ROWS)
        rows, levels = orders[1]
        first, end = runs[1][0][at], runs[1][1][at]
        spans = [
            times[order[0][run[1] - 1]] - times[order[0][run[0]]]
            for times, order, run in zip(self._times, orders, runs, strict=True)
            if times is not None
        ]
        is_long = lengths[1][at] > least and spans[1][at] > GAPS * spans[0].max()
        if not (is_long and self._is_many(rows[first:end])):
            return rows[:0], 0
        return rows[first:end], int(levels[first])

    def _is_many(self, rows: Mask | NDArray[np.intp]) -> bool:
        """Tell whether rows are of several entities: one may have the same value for long."""
        entity = self._sides.current.entity
        return entity is None or len(pd.unique(entity[rows])) >= MIN_DUPLICATES

    def _in_time(self) -> Iterator[tuple[str, list[str], tuple[Order, Order]]]:
        """Yield columns with their levels, and the rows of both windows in order; "" for all."""
        ordered = self._sides.orders
        if ordered is None or any(times is None for times in self._times):
            return
        none = [np.zeros(len(order), dtype=np.intp) for order in ordered]
        yield "", [], ((ordered[0], none[0]), (ordered[1], none[1]))
        for name in self._sides.candidates:
            levels = self._sides.levels(name)
            if levels is None:
                continue
            sides = []
            for order, codes in zip(ordered, levels[:2], strict=True):
                rows = order[np.argsort(codes[order], kind="stable")]
                sides.append((rows, codes[rows]))
            yield name, levels[2], (sides[0], sides[1])


def _counts(bad: Mask) -> bool:
    return bool(bad.mean() > MIN_ADDED and bad.sum() >= MIN_DUPLICATES)


def _runs(values: Floats, order: Order) -> Order:
    """First rows and ends of the runs of one value, as places in the order."""
    rows, levels = order
    series = values[rows]
    ends = np.flatnonzero((series[1:] != series[:-1]) | (levels[1:] != levels[:-1])) + 1
    return np.concatenate([[0], ends]), np.concatenate([ends, [len(series)]])
