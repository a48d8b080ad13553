"""Distance between two samples of a column, and its limit by chance at their sizes.

The one comparison of two columns: monitoring, the canary gate, the checks, differences of versions
and the profile's drift call it; the thresholds are theirs. Each distance has a limit: what two
samples of one distribution exceed with probability `alpha` at most. A distance below it says
nothing, however small the threshold a project declares.
"""

import math
from collections.abc import Callable, Mapping
from typing import Any, Literal, NamedTuple

import numpy as np
import pandas as pd
import scipy  # scipy loads `stats`, which takes a second, when it is used
from numpy.typing import NDArray

from lifecycle.features.encode import Floats

NumericTest = Literal["kolmogorov_smirnov", "wasserstein"]
CategoricalTest = Literal["cramers_v", "total_variation"]


class Comparison(NamedTuple):
    """A distance, and its limit by chance."""

    statistic: float
    chance: float


class Distance(NamedTuple):
    """A way to measure how far two samples are apart."""

    title: str
    """What pages and messages call it."""
    between: Callable[[Floats, Floats], float]
    by_chance: Callable[[Floats, Floats, tuple[float, float], float], float]
    """Its limit, from the samples, their independent rows and `alpha`."""


def compare_numbers(
    reference: Floats,
    current: Floats,
    alpha: float,
    test: NumericTest = "kolmogorov_smirnov",
    rows: tuple[float, float] | None = None,
) -> Comparison:
    """Compare two samples of a number (n,) and (m,); NaN is a missing value.

    Args:
        alpha: how rarely chance alone may exceed the limit.
        rows: independent rows in either sample, where that is fewer than its length.

    >>> last_year, this_year = np.arange(1000.0), np.arange(1000.0) + 100
    >>> distance, by_chance = compare_numbers(last_year, this_year, alpha=0.01)
    >>> round(distance, 2), round(by_chance, 2)
    (0.1, 0.07)
    """
    sizes = rows or (len(reference), len(current))
    return _compare(DISTANCES[test], reference, current, sizes, alpha)


def compare_categories(
    reference: Floats,
    current: Floats,
    rows: tuple[float, float],
    alpha: float,
    test: CategoricalTest = "cramers_v",
) -> Comparison:
    """Compare the shares of k levels in two samples, each (k,).

    Args:
        rows: independent rows in either sample.
        alpha: how rarely chance alone may exceed the limit.
    """
    return _compare(DISTANCES[test], reference, current, rows, alpha)


def _compare(
    distance: Distance,
    reference: Floats,
    current: Floats,
    rows: tuple[float, float],
    alpha: float,
) -> Comparison:
    chance = distance.by_chance(reference, current, rows, alpha)
    return Comparison(distance.between(reference, current), chance)


def kolmogorov_smirnov(reference: Floats, current: Floats) -> float:
    """Largest distance of the two distribution functions, 0 to 1; missing counts as lowest.

    The statistic of scipy.stats.ks_2samp, without its p-value, which fails for single rows.
    """
    a, b = (np.sort(np.nan_to_num(values, nan=-np.inf)) for values in (reference, current))
    at = np.concatenate([a, b])
    below_a = np.searchsorted(a, at, side="right") / len(a)
    below_b = np.searchsorted(b, at, side="right") / len(b)
    return float(np.abs(below_a - below_b).max())


def wasserstein(reference: Floats, current: Floats) -> float:
    """Earth mover's distance in standard deviations of the reference.

    Of the values that are there; if the share of missing values moved by more, that share.
    A reference without spread is measured in standard deviations of both samples together.
    """
    present = [values[~np.isnan(values)] for values in (reference, current)]
    moved = abs(len(present[0]) / len(reference) - len(present[1]) / len(current))
    if not len(present[0]) or not len(present[1]):
        return moved
    return max(float(scipy.stats.wasserstein_distance(*present) / _scale(*present)), moved)


def cramers_v(reference: Floats, current: Floats) -> float:
    """Cramér's V of sample and level, 0 to 1, with both samples given equal weight.

    V of the 2 × k table of shares (Cramér 1946, ch. 21.9): √(χ²/n) = √(½ Σ (p−q)²/(p+q)). With
    the counts themselves V would shrink the more the samples differ in size.
    """
    return float(cramers_v_of_shares(reference, current))


def total_variation(reference: Floats, current: Floats) -> float:
    """Half the sum of the differences of the levels' shares, 0 to 1."""
    return float(total_variation_of_shares(reference, current))


def cramers_v_of_shares(reference: NDArray[Any], current: NDArray[Any]) -> NDArray[Any]:
    """Cramér's V of many pairs of samples: shares (..., k) → (...,); see `cramers_v`."""
    total = reference + current
    squares = np.divide(
        (reference - current) ** 2, total, out=np.zeros_like(total), where=total > 0
    )
    return np.asarray(np.sqrt(squares.sum(axis=-1) / 2))


def total_variation_of_shares(reference: NDArray[Any], current: NDArray[Any]) -> NDArray[Any]:
    """Total variation of many pairs of samples: shares (..., k) → (...,)."""
    return np.asarray(np.abs(reference - current).sum(axis=-1) / 2)


def kolmogorov_smirnov_by_chance(n: float, m: float, alpha: float) -> float:
    """Return the distance that two samples of one distribution exceed with probability `alpha`.

    This is Smirnov's limit for n and m values (1939; Annals of Mathematical Statistics 19, 1948):
    √(−½ ln(α/2)) √((n+m)/nm). With repeated values it is exceeded less often.
    """
    return math.sqrt(-math.log(alpha / 2) / 2 * (n + m) / (n * m))


def cramers_v_by_chance(n: float, m: float, levels: int, alpha: float) -> float:
    """Return the V that two samples of one distribution exceed with probability `alpha`.

    Pearson's χ² of the two samples (1900) has k − 1 degrees of freedom, and with both samples given
    equal weight it is 4 nm/(n+m) V².
    """
    if levels < 2:
        return 0.0
    quantile = float(scipy.stats.chi2.ppf(1 - alpha, levels - 1))
    return math.sqrt(quantile * (n + m) / (4 * n * m))


def total_variation_by_chance(n: float, m: float, shares: Floats, alpha: float) -> float:
    """Bound the total variation of two samples of one distribution.

    It is exceeded with probability `alpha` at most.

    Its mean is at most ½ Σ √(p(1−p)(n+m)/nm), by Jensen's inequality level by level. One row of
    either sample moves it by 1/n or 1/m, so it exceeds its mean by √(−½ ln α (n+m)/nm) with
    probability `alpha` at most (McDiarmid 1989, lemma 1.2).

    Args:
        shares: shares of the levels in both samples together (k,).
    """
    mean = np.sqrt(shares * (1 - shares) * (n + m) / (n * m)).sum() / 2
    return float(mean) + math.sqrt(-math.log(alpha) / 2 * (n + m) / (n * m))


def wasserstein_by_chance(n: float, m: float, values: Floats, scale: float, alpha: float) -> float:
    """Bound the earth mover's distance of two samples of one distribution, in units of `scale`.

    Its mean is at most √((n+m)/nm) ∫√(F(1−F)) (Bobkov and Ledoux 2019, theorem 3.2). The distance
    is the largest difference between the two samples' means of any function with a slope of at most
    1, and no such function varies more than the values. So it exceeds its mean by
    σ √(−2 ln α (n+m)/nm) with probability `alpha` at most, if means are near enough to normal
    (Borell 1975).

    Args:
        values: the values of both samples together, none missing.
    """
    ordered = np.sort(values)
    below = np.arange(1, len(ordered)) / len(ordered)
    spread = float((np.sqrt(below * (1 - below)) * np.diff(ordered)).sum())
    deviation = float(np.std(ordered)) * math.sqrt(-2 * math.log(alpha))
    return math.sqrt((n + m) / (n * m)) * (spread + deviation) / scale


def _wasserstein_by_chance(
    reference: Floats, current: Floats, rows: tuple[float, float], alpha: float
) -> float:
    """The limit of `wasserstein`, whose share of missing values has a chance of its own."""
    n, m = rows
    present = [values[~np.isnan(values)] for values in (reference, current)]
    presence = [
        len(sample) / len(every)
        for sample, every in zip(present, (reference, current), strict=True)
    ]
    missing = 1 - (presence[0] * n + presence[1] * m) / (n + m)
    shares = np.array([missing, 1 - missing])
    by_missing = total_variation_by_chance(n, m, shares, alpha / 2) if 0 < missing < 1 else 0.0
    if not len(present[0]) or not len(present[1]):
        return by_missing
    sizes = (n * presence[0], m * presence[1])
    pooled = np.concatenate(present)
    return max(by_missing, wasserstein_by_chance(*sizes, pooled, _scale(*present), alpha / 2))


def _scale(reference: Floats, current: Floats) -> float:
    return float(np.std(reference) or np.std(np.concatenate([reference, current])) or 1.0)


def independent_rows(groups: NDArray[np.object_] | None, rows: int) -> float:
    """Return the effective number of independent rows of a sample whose rows come in groups.

    This is Kish's effective size (Survey Sampling, 1965, section 8.2) if all rows of a group are
    alike: n² / Σ c² with c rows in each group.

    Args:
        groups: the entity of each row (rows,); None if rows are independent.
    """
    if groups is None:
        return rows
    sizes = np.bincount(pd.factorize(groups, use_na_sentinel=False)[0]).astype(np.float64)
    return float(rows**2 / (sizes**2).sum())


def _pooled_by_chance(
    reference: Floats, current: Floats, rows: tuple[float, float], alpha: float
) -> float:
    pooled = (reference * rows[0] + current * rows[1]) / sum(rows)
    return total_variation_by_chance(*rows, pooled, alpha)


def _levels_by_chance(
    reference: Floats, current: Floats, rows: tuple[float, float], alpha: float
) -> float:
    return cramers_v_by_chance(*rows, int(np.count_nonzero(reference + current)), alpha)


DISTANCES: Mapping[NumericTest | CategoricalTest, Distance] = {
    "kolmogorov_smirnov": Distance(
        "Kolmogorov-Smirnov",
        kolmogorov_smirnov,
        lambda _a, _b, rows, alpha: kolmogorov_smirnov_by_chance(*rows, alpha),
    ),
    "wasserstein": Distance("Wasserstein", wasserstein, _wasserstein_by_chance),
    "cramers_v": Distance("Cramér's V", cramers_v, _levels_by_chance),
    "total_variation": Distance("total variation", total_variation, _pooled_by_chance),
}
"""Every distance by the name that `monitoring.drift` declares it with. A new one is an entry here,
and its name in `NumericTest` or `CategoricalTest` and in the project's section."""
