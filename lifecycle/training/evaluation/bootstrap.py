"""Bootstrap resamples as weights, and the 95 % interval that follows from them.

Up to `LARGE` rows the interval is the percentile bootstrap of 400 resamples (Efron and Tibshirani,
1993, chapter 13). Above, where a metric is as good as normal, it is the standard normal interval,
value ± 1.96 standard errors, with the standard error from 100 resamples: 50 to 200 suffice for one
(ibid., section 6.4), and a percentile would need many more.

Where rows of one entity belong together, whole entities are drawn (the cluster bootstrap, Field and
Welsh, 2007): single rows would make the interval too narrow.
"""

from collections.abc import Iterator
from statistics import NormalDist

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from lifecycle.records import Estimate
from lifecycle.training.evaluation.metrics import Floats, Whole

CONFIDENCE = 0.95
LARGE = 20_000
"""Rows above which the standard error stands in for the percentiles."""
RESAMPLES, RESAMPLES_OF_LARGE = 400, 100


def resamples(rows: int, seed: int, groups: ArrayLike | None) -> Iterator[Whole]:
    """How often each row is drawn, (rows,), once a resample.

    Args:
        groups: (rows,), the entity of each row; None draws single rows.
    """
    codes = None if groups is None else pd.factorize(np.asarray(groups), use_na_sentinel=False)[0]
    units = rows if codes is None else int(codes.max()) + 1
    rng = np.random.default_rng(seed)
    for _ in range(RESAMPLES_OF_LARGE if rows > LARGE else RESAMPLES):
        drawn = np.bincount(rng.integers(0, units, units), minlength=units)
        yield drawn if codes is None else drawn[codes]


def interval(value: float, resampled: Floats, rows: int) -> Estimate:
    """The value with its interval; resamples in which the metric is undefined are left out.

    With fewer than two defined resamples nothing is known beyond the value itself.
    """
    defined = resampled[np.isfinite(resampled)]
    if len(defined) < 2:
        return Estimate(value=value, low=value, high=value)
    tail = (1 - CONFIDENCE) / 2
    if rows > LARGE:
        width = NormalDist().inv_cdf(1 - tail) * float(defined.std(ddof=1))
        return Estimate(value=value, low=value - width, high=value + width)
    low, high = np.quantile(defined, [tail, 1 - tail])
    return Estimate(value=value, low=min(float(low), value), high=max(float(high), value))


def lower_bound(value: float, resampled: Floats, rows: int, confidence: float) -> float:
    """The lower end of the one-sided interval, made as `interval` makes its two ends."""
    defined = resampled[np.isfinite(resampled)]
    if len(defined) < 2:
        return value
    if rows > LARGE:
        return value - NormalDist().inv_cdf(confidence) * float(defined.std(ddof=1))
    return min(float(np.quantile(defined, 1 - confidence)), value)


def method(rows: int, grouped: bool) -> str:
    """How the interval was made, in words."""
    what = "whole entities" if grouped else "rows"
    if rows > LARGE:
        return (
            f"{CONFIDENCE:.0%} normal intervals, the standard error from {RESAMPLES_OF_LARGE} "
            f"bootstrap resamples of {what}"
        )
    return f"{CONFIDENCE:.0%} percentile intervals of {RESAMPLES} bootstrap resamples of {what}"
