"""Sketches of a column: the bins or levels in which windows are compared with the reference.

A window is counted into the reference's bins in one pass, without sorting, and what chance does to
a distance is found by resampling the counts (`monitoring.limits`). The distance of the window and
those of the resamples are the same function of the same bins, so that a coarse bin costs a little
power and no false alarm.
"""

from collections import Counter
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from lifecycle.profiling.compare import (
    CategoricalTest,
    NumericTest,
    cramers_v_of_shares,
    total_variation_of_shares,
)

Codes = NDArray[np.int16]
Floats = NDArray[np.float64]

BINS = 32
"""Bins of equal mass that a numeric column is cut into; a repeated value has one of its own."""
MAX_LEVELS = 64
MIN_LEVEL_ROWS = 5
"""Rarer levels of the reference, and levels it does not have, share one bin (Cochran 1954)."""
SKETCHED_ROWS = 1 << 15
"""Rows of the reference that its quantiles are read off."""
TAILS = (0.0, 0.001, 0.01, 0.99, 0.999, 1.0)
"""Quantiles that are cut points besides, for a distance that weighs far values."""
MISSING = "(missing)"


@dataclass(frozen=True)
class NumericSketch:
    """Cut points of a numeric column; bin 0 is the missing values."""

    test: NumericTest
    cuts: Floats
    """(c,): ascending; a value is in the bin after the last cut point that it reaches."""
    scale: float
    """Standard deviation of the reference."""

    @property
    def bins(self) -> int:
        return len(self.cuts) + 2

    def codes(self, column: "pd.Series[Any] | Floats") -> Codes:
        """Bin of each row (n,)."""
        values = column if isinstance(column, np.ndarray) else as_floats(column)
        codes = np.searchsorted(self.cuts, values, side="right").astype(np.int16) + 1
        return np.where(np.isnan(values), 0, codes).astype(np.int16)

    def distances(self, reference: NDArray[Any], current: NDArray[Any]) -> NDArray[Any]:
        """Distances of shares (..., bins) of two samples, along the last axis."""
        if self.test == "kolmogorov_smirnov":  # a missing value counts as lowest
            difference: NDArray[Any] = np.abs(np.cumsum(current - reference, axis=-1)).max(axis=-1)
            return difference
        moved = np.abs(reference[..., 0] - current[..., 0])
        present = [side[..., 1:] for side in (reference, current)]
        sums = [side.sum(axis=-1, keepdims=True) for side in present]
        below = [
            np.cumsum(side / np.where(total > 0, total, 1), axis=-1)[..., :-1]
            for side, total in zip(present, sums, strict=True)
        ]
        gaps = np.diff(self.cuts)
        earth = (np.abs(below[0] - below[1])[..., :-1] * gaps).sum(axis=-1) / self.scale
        both = (sums[0][..., 0] > 0) & (sums[1][..., 0] > 0)
        return np.asarray(np.where(both, np.maximum(earth, moved), moved))

    def overshoot(self, values: Floats) -> float:
        """Add to the Wasserstein distance what lies beyond the reference's outermost values."""
        if self.test == "kolmogorov_smirnov" or not (present := ~np.isnan(values)).any():
            return 0.0
        finite = values[present]
        beyond = np.maximum(finite - self.cuts[-1], 0) + np.maximum(self.cuts[0] - finite, 0)
        return float(beyond.mean() / self.scale)


@dataclass(frozen=True)
class LevelSketch:
    """Levels of a category; the last bin is all others."""

    test: CategoricalTest
    levels: tuple[str, ...]

    @property
    def bins(self) -> int:
        return len(self.levels) + 1

    def codes(self, column: "pd.Series[Any]") -> Codes:
        """Bin of each row (n,)."""
        bins = {level: at for at, level in enumerate(self.levels)}
        codes, names = levels_of(column)
        return np.array([bins.get(name, len(bins)) for name in names], dtype=np.int16)[codes]

    def distances(self, reference: NDArray[Any], current: NDArray[Any]) -> NDArray[Any]:
        """Distances of shares (..., bins) of two samples, along the last axis."""
        measure = cramers_v_of_shares if self.test == "cramers_v" else total_variation_of_shares
        return measure(reference, current)


Sketch = NumericSketch | LevelSketch


def sketch_numbers(values: Floats, test: NumericTest) -> NumericSketch:
    """Cut a reference column (n,) into bins of about equal mass.

    A value that is a bin's worth of rows by itself gets a bin of its own, so that a column of few
    values is compared value by value.
    """
    present = values[~np.isnan(values)]
    if not len(present):
        return NumericSketch(test, np.zeros(1), 1.0)
    sample = np.sort(present[:: max(1, len(present) // SKETCHED_ROWS)])
    lowest, highest = float(present.min()), float(present.max())
    at = np.arange(1, BINS) / BINS
    if test == "wasserstein":
        at = np.concatenate([at, TAILS])
    quantiles = np.quantile(sample, at, method="inverted_cdf")
    distinct = sample[np.concatenate([[True], sample[1:] > sample[:-1]])]
    points = distinct if len(distinct) <= BINS else np.unique(quantiles)
    points = np.unique(np.concatenate([points, [lowest, highest]]))
    counts = np.searchsorted(sample, points, "right") - np.searchsorted(sample, points, "left")
    repeated = points[(counts >= len(sample) / BINS / 2) | (points == highest)]
    cuts = np.unique(np.concatenate([points, np.nextafter(repeated, np.inf)]))
    return NumericSketch(test, cuts, float(np.std(present)) or 1.0)


def sketch_levels(column: "pd.Series[Any]", test: CategoricalTest) -> LevelSketch:
    """Return the frequent levels of a reference column, a missing value being a level, too."""
    codes, names = levels_of(column)
    counts: Counter[str] = Counter()
    for name, count in zip(names, np.bincount(codes, minlength=len(names)).tolist(), strict=True):
        counts[name] += count  # 1 and "1" are one level
    frequent = sorted(counts, key=lambda name: (-counts[name], name))[:MAX_LEVELS]
    return LevelSketch(test, tuple(name for name in frequent if counts[name] >= MIN_LEVEL_ROWS))


def shares_of(codes: Codes, bins: int) -> Floats:
    """Share of the rows in each bin (bins,)."""
    return np.bincount(codes, minlength=bins) / max(len(codes), 1)


def as_floats(column: "pd.Series[Any]") -> Floats:
    """A column as floats, missing and infinite values as NaN; times in seconds since 1970."""
    if pd.api.types.is_datetime64_any_dtype(column.dtype):
        present = column.notna().to_numpy()
        seconds = column.astype("datetime64[us]").astype("int64").to_numpy() / 1e6
        return np.where(present, seconds, np.nan)
    values = column.to_numpy(dtype=np.float64, na_value=np.nan)
    return np.where(np.isinf(values), np.nan, values)


def levels_of(column: "pd.Series[Any]") -> tuple[NDArray[np.intp], list[str]]:
    """Codes of the rows and the levels' names, `1` and `"1"` being one level."""
    codes, values = pd.factorize(column, use_na_sentinel=True)
    names = [*map(str, values), MISSING]
    return np.where(codes < 0, len(names) - 1, codes), names
