"""Place of a change: the segment, and the first bad time.

Each row has a score that is higher (or lower) where the change is: whether it is missing, how far
its prediction is from the truth. A segment is a level of a column that has nearly all of what was
added; the first bad time is where the run of rows begins whose sum above the middle between before
and after is the largest (the maximum-likelihood change points of a mean with two sides, Page 1954).
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from lifecycle.monitoring.drift import MIN_TIMES, PREDICTION
from lifecycle.monitoring.scored import OpenWindow
from lifecycle.monitoring.sketch import as_floats

Floats = NDArray[np.float64]
Mask = NDArray[np.bool_]

ALL = "all"
MIN_SEGMENT_ROWS = 30
MAX_LEVELS = 20
"""A column with more levels has no segments."""
WITHIN = 0.8
"""Share of what was added that a segment has to have."""
MAX_SEGMENT_SHARE = 0.8
"""A level with more of the rows is no segment: that is all."""
ROUNDS = 4
CERTAIN = 4.0
"""Standard errors from which a difference of means is more than chance among many looked at."""


@dataclass(frozen=True)
class RowSegment:
    """Rows of a level of a column, in both windows."""

    column: str
    level: str
    before: Mask
    after: Mask

    @property
    def name(self) -> str:
        return f"{self.column}={self.level}"


class Sides:
    """Reference and current window, with what locating a change needs of both.

    Args:
        categorical: features that are categories.
        sources: columns of the data that each feature is made of; a feature without any is itself.
    """

    def __init__(
        self,
        reference: OpenWindow,
        current: OpenWindow,
        categorical: Sequence[str],
        sources: Mapping[str, frozenset[str]],
    ) -> None:
        self.reference, self.current = reference, current
        self.categorical = frozenset(categorical)
        self._sources = sources
        self.sketches: dict[str, tuple[tuple[Any, Any], int, Any]] = {}
        self._texts: dict[str, tuple[pd.Series[Any], pd.Series[Any]]] = {}
        self._values: dict[str, tuple[Floats, Floats]] = {}

    def sources(self, name: str) -> frozenset[str]:
        """Columns of the data that a feature is made of."""
        return self._sources.get(name) or frozenset([name])

    def texts(self, name: str) -> tuple["pd.Series[Any]", "pd.Series[Any]"]:
        """A category of both windows; missing values stay so."""
        if name not in self._texts:
            windows = self.reference, self.current
            before, after = (_as_texts(window.features[name]) for window in windows)
            self._texts[name] = before, after
        return self._texts[name]

    def numbers(self, name: str) -> tuple[Floats, Floats]:
        """A feature that is a number, or the predictions, of both windows."""
        if name not in self._values:
            windows = (self.reference, self.current)
            columns = [w.answer if name == PREDICTION else w.features[name] for w in windows]
            self._values[name] = as_floats(columns[0]), as_floats(columns[1])
        return self._values[name]

    @cached_property
    def rows(self) -> tuple[int, int]:
        """Number of rows of both windows."""
        return len(self.reference.features), len(self.current.features)

    @cached_property
    def entities(self) -> NDArray[np.intp]:
        """Number of the entity of each reference row (m,); of the row itself without any."""
        entity = self.reference.entity
        if entity is None:
            return np.arange(self.rows[0])
        return np.asarray(pd.factorize(entity)[0], dtype=np.intp)

    @cached_property
    def order(self) -> NDArray[np.intp] | None:
        """The current rows in the order of time; None where they have none."""
        return order_of(self.current)

    @cached_property
    def orders(self) -> tuple[NDArray[np.intp], NDArray[np.intp]] | None:
        """The rows of both windows in the order of time; None where either has none."""
        former = order_of(self.reference)
        return None if self.order is None or former is None else (former, self.order)

    @cached_property
    def segments(self) -> list[RowSegment]:
        """Levels of categories and attributes that both windows have rows enough of."""
        return [*self._segments()]

    def _segments(self) -> Iterator[RowSegment]:
        for name in self.candidates:
            codes = self.levels(name)
            if codes is None:
                continue
            before, after, levels = codes
            for at, level in enumerate(levels):
                masks = before == at, after == at
                counts = int(masks[0].sum()), int(masks[1].sum())
                if (
                    min(counts) >= MIN_SEGMENT_ROWS
                    and counts[1] <= MAX_SEGMENT_SHARE * self.rows[1]
                ):
                    yield RowSegment(name, level, *masks)

    def rows_of(self, segment: str) -> Mask:
        """Mark the reference's rows (m,) of a segment; all rows if it is no level of a column."""
        masks = [part.before for part in self.segments if part.name == segment]
        return masks[0] if masks else np.ones(self.rows[0], dtype=bool)

    @cached_property
    def candidates(self) -> tuple[str, ...]:
        """Columns that segments may be of."""
        attributes = [name for name in self.current.attributes if name in self.reference.attributes]
        few = [
            str(name)
            for name in self.reference.features.columns
            if name not in self.categorical
            and pd.api.types.is_integer_dtype(self.reference.features[name].dtype)
            and self.reference.features[name].nunique() <= MAX_LEVELS // 3
        ]
        return tuple(dict.fromkeys((*attributes, *sorted(self.categorical), *few)))

    def levels(self, name: str) -> tuple[NDArray[np.intp], NDArray[np.intp], list[str]] | None:
        """Codes of both windows and the levels' names; None where there are too many."""
        windows = self.reference, self.current
        is_feature = all(name in window.features.columns for window in windows)
        sides: list[Any] = [
            window.features[name] if is_feature else window.attributes[name] for window in windows
        ]
        codes, values = pd.factorize(
            np.concatenate([np.asarray(side, dtype=object) for side in sides])
        )
        if not 2 <= len(values) <= MAX_LEVELS:
            return None
        before = len(sides[0])
        return codes[:before], codes[before:], [_text(value) for value in values]


def order_of(window: OpenWindow) -> NDArray[np.intp] | None:
    """Return the rows of a window in the order of time; None where they have none."""
    times = window.time
    if times is None or pd.isna(times).any() or len(pd.unique(times)) < MIN_TIMES:
        return None
    return np.argsort(times, kind="stable")


@dataclass(frozen=True)
class Place:
    """Place of a change."""

    segment: str
    since: str
    run: NDArray[np.intp]
    """Current rows of the segment from the first bad one to the last, in the order of time."""


def locate(sides: Sides, before: Floats, after: Floats, avoid: frozenset[str]) -> Place:
    """Find the segment and the first bad time of a change.

    Args:
        before: score of each reference row (m,), NaN where it does not count.
        after: score of each current row (n,).
        avoid: columns that are no segment, since the change is in them.
    """
    segment = segment_of(sides, before, after, avoid)
    inside = np.ones(len(after), dtype=bool) if segment is None else segment.after
    base = before if segment is None else before[segment.before]
    order = sides.order
    rows = np.flatnonzero(inside & ~np.isnan(after))
    name = ALL if segment is None else segment.name
    if order is None:
        return Place(name, "", rows)
    rows = order[(inside & ~np.isnan(after))[order]]
    first, last = longest_run(after[rows], float(np.nanmean(base)) if len(base) else 0.0)
    run = rows[first:last]
    times = sides.current.time
    since = time_text(times[run[0]]) if times is not None and len(run) else ""
    return Place(name, since, run)


def segment_of(
    sides: Sides, before: Floats, after: Floats, avoid: frozenset[str]
) -> RowSegment | None:
    """Find the segment that has nearly all of what was added to a score; None if none has."""
    counts = ~np.isnan(before), ~np.isnan(after)
    scores = np.where(counts[0], before, 0.0), np.where(counts[1], after, 0.0)
    total = scores[1].sum() - counts[1].sum() * scores[0].sum() / max(counts[0].sum(), 1)
    spread = max(float(np.nanstd(after)), float(np.nanstd(before)), 1e-12)
    best: tuple[float, RowSegment] | None = None
    for segment in sides.segments:
        if sides.sources(segment.column) & avoid:
            continue
        inside = [int((count & mask).sum()) for count, mask in _pairs(counts, segment)]
        if min(inside) < MIN_SEGMENT_ROWS:
            continue
        sums = [float(score[mask].sum()) for score, mask in _pairs(scores, segment)]
        others = [int(count.sum()) - n for count, n in zip(counts, inside, strict=True)]
        if min(others) < MIN_SEGMENT_ROWS:
            continue
        other_sums = [float(score.sum()) - s for score, s in zip(scores, sums, strict=True)]
        added = sums[1] / inside[1] - sums[0] / inside[0]
        outside = other_sums[1] / others[1] - other_sums[0] / others[0]
        error = spread * np.sqrt(1 / inside[1] + 1 / inside[0])
        if added * total <= 0 or abs(added) < CERTAIN * error:
            continue
        within = added * inside[1] / (added * inside[1] + abs(outside) * others[1] * np.sign(added))
        noise = spread * np.sqrt(1 / others[1] + 1 / others[0])
        if within < WITHIN and abs(outside) > 2 * noise:
            continue
        if abs(outside) > abs(added) / 4:
            continue
        contrast = added**2 * inside[1] * others[1] / len(after) - outside**2 * others[1]
        if best is None or contrast > best[0]:
            best = contrast, segment
    return None if best is None else best[1]


def _pairs(values: tuple[Any, Any], segment: RowSegment) -> Iterator[tuple[Any, Mask]]:
    return zip(values, (segment.before, segment.after), strict=True)


def longest_run(series: Floats, base: float) -> tuple[int, int]:
    """Return first and end of the run of rows whose mean is furthest from `base`, for its length.

    Args:
        series: (n,) in the order of time.
        base: mean before the change.
    """
    level = float(series.mean())
    first, last = 0, len(series)
    for _ in range(ROUNDS):
        side = 1.0 if level >= base else -1.0
        sums = np.concatenate([[0.0], np.cumsum(side * (series - (base + level) / 2))])
        lowest = np.minimum.accumulate(sums)
        end = int(np.argmax(sums - lowest))
        start = int(np.argmin(sums[: end + 1]))
        if end <= start or (start, end) == (first, last):
            break
        first, last = start, end
        level = float(series[first:last].mean())
    return first, last


def time_text(value: Any) -> str:
    """A time of a row as text, without what is zero of it."""
    if isinstance(value, np.datetime64 | pd.Timestamp):
        text = pd.Timestamp(value).isoformat(timespec="seconds")
        return text.removesuffix("T00:00:00")
    return _text(value)


def _as_texts(column: "pd.Series[Any]") -> "pd.Series[Any]":
    codes, values = pd.factorize(column, use_na_sentinel=True)
    names = np.array([*map(_text, values), None], dtype=object)
    return pd.Series(names[codes])


def _text(value: object) -> str:
    if isinstance(value, float | np.floating):
        return f"{value:.6g}"
    return str(value)
