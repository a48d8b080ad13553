"""Distributions as a few bars: single values, intervals, levels."""

from datetime import datetime, timedelta

import numpy as np
from numpy.typing import NDArray

from lifecycle.features.encode import Floats
from lifecycle.profiling.inputs import Levels
from lifecycle.profiling.record import Bar, ColumnProfile

SINGLE = 24
"""Up to so many different whole numbers have a bar each."""
INTERVALS = 20
LEVELS = 10
GROUPS = 10
"""Groups of equally many rows that a number's relation to the target is shown in."""
SHORT = 40


def number_bars(values: Floats, integer: bool, time: bool) -> tuple[Bar, ...]:
    """Single values of whole numbers, or 20 intervals of equal width over the middle 98 %; what
    lies beyond is in the first and the last."""
    present = values[~np.isnan(values)]
    if not len(present):
        return ()
    single, counts = np.unique(present, return_counts=True)
    if len(single) <= (SINGLE if integer else 2):
        return tuple(
            Bar(label=spell(value, time), rows=int(rows))
            for value, rows in zip(single, counts, strict=True)
        )
    low, high = np.quantile(present, [0.01, 0.99])
    tails = (present.min() < low - (high - low), present.max() > high + (high - low))
    low = low if tails[0] else present.min()
    high = high if tails[1] else present.max()
    if low == high:
        low, high = present.min(), present.max()
    edges = np.linspace(low, high, INTERVALS + 1)
    if integer:
        edges = np.unique(np.floor(edges))
        edges[-1] = high
    rows = np.histogram(np.clip(present, edges[0], edges[-1]), edges)[0]
    ends = edges.copy()
    ends[0], ends[-1] = present.min(), present.max()
    return tuple(
        Bar(label=f"{spell(ends[at], time)} to {spell(ends[at + 1], time)}", rows=int(count))
        for at, count in enumerate(rows)
    )


def level_bars(levels: Levels) -> tuple[tuple[Bar, ...], int]:
    """The ten most frequent levels, and the rows of the others."""
    counts = levels.counts
    bars = tuple(
        Bar(label=name, rows=int(rows))
        for name, rows in zip(levels.names[:LEVELS], counts[:LEVELS], strict=True)
    )
    return bars, int(counts[LEVELS:].sum())


def number_groups(
    values: Floats, integer: bool, time: bool
) -> tuple[NDArray[np.int64], tuple[str, ...]]:
    """A group a row (-1: missing), and the groups' names: values, or equally many rows each."""
    has_value = ~np.isnan(values)
    present = values[has_value]
    groups = np.full(len(values), -1, np.int64)
    if not len(present):
        return groups, ()
    single, codes = np.unique(present, return_inverse=True)
    if len(single) <= (SINGLE if integer else 2):
        groups[has_value] = codes
        return groups, tuple(spell(value, time) for value in single)
    edges = np.unique(np.quantile(present, np.linspace(0, 1, GROUPS + 1)))
    places = np.clip(np.searchsorted(edges, present, side="right") - 1, 0, max(len(edges) - 2, 0))
    groups[has_value] = places
    if len(edges) < 2:
        return groups, (spell(edges[0], time),)
    return groups, tuple(
        f"{spell(edges[at], time)} to {spell(edges[at + 1], time)}" for at in range(len(edges) - 1)
    )


def level_groups(levels: Levels) -> tuple[NDArray[np.int64], tuple[str, ...]]:
    """The ten most frequent levels as groups; the others are left out (-1)."""
    return np.where(levels.codes < LEVELS, levels.codes, -1), levels.names[:LEVELS]


def spell(value: float, time: bool = False) -> str:
    """A number in four digits; a time (seconds since 1970) as a date, and minutes if any."""
    if time:
        moment = datetime(1970, 1, 1) + timedelta(seconds=float(value))
        midnight = (moment.hour, moment.minute, moment.second) == (0, 0, 0)
        return moment.strftime("%Y-%m-%d" if midnight else "%Y-%m-%d %H:%M")
    if float(value).is_integer() and abs(value) < 1e7:
        return f"{int(value):,}" if abs(value) >= 1e4 else str(int(value))
    return f"{value:.4g}" if abs(value) < 1e4 or abs(value) >= 1e9 else f"{value:,.0f}"


def short(text: str) -> str:
    """A label that fits."""
    return text if len(text) <= SHORT else f"{text[: SHORT - 1]}…"


# Short texts for values and columns, the same on the page and in the terminal.


def share(value: float) -> str:
    """A share as a percentage that is 0 or 100 only where that is exact."""
    if value in (0, 1):
        return f"{value:.0%}"
    if value < 0.001:
        return "< 0.1%"
    return "> 99.9%" if value > 0.999 else f"{value:.1%}"


def spelled(value: float | str | None) -> str:
    """A value in few digits; a dash where there is none."""
    if value is None:
        return "–"
    return value if isinstance(value, str) else spell(value)


def headline(column: ColumnProfile) -> str:
    """Least, middle and most of a column in one line; its most frequent levels; nothing hidden."""
    if column.hidden:
        return "text, not shown" if column.kind == "text" and not column.pii else "not shown"
    if column.kind == "category":
        total = sum(bar.rows for bar in column.bars) + column.others
        parts = [f"{short(bar.label)} {share(bar.rows / total)}" for bar in column.bars[:3]]
        return ", ".join(parts) + (" …" if len(column.bars) > 3 else "")
    if column.quartiles is None:
        return "no values"
    ends = (column.minimum, column.quartiles[1], column.maximum)
    return " · ".join(map(spelled, ends)) + (f" {column.unit}" if column.unit else "")
