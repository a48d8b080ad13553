"""How far two distributions are apart, 0 to 1, and what chance alone does in small samples."""

import math

import numpy as np
from numpy.typing import NDArray
from scipy import stats


def kolmogorov_smirnov(reference: NDArray[np.float64], current: NDArray[np.float64]) -> float:
    """Largest distance of the two distribution functions, 0 to 1; missing counts as lowest.

    The statistic of scipy.stats.ks_2samp, without its p-value, which fails for single rows.
    """
    a, b = (np.sort(np.nan_to_num(values, nan=-np.inf)) for values in (reference, current))
    at = np.concatenate([a, b])
    below_a = np.searchsorted(a, at, side="right") / len(a)
    below_b = np.searchsorted(b, at, side="right") / len(b)
    return float(np.abs(below_a - below_b).max())


def cramers_v(reference: NDArray[np.float64], current: NDArray[np.float64]) -> float:
    """Cramér's V of window and level, 0 to 1, with both windows given equal weight.

    V of the 2 × k table of shares (Cramér 1946, ch. 21.9): √(χ²/n) = √(½ Σ (p−q)²/(p+q)). With
    the counts themselves V would shrink the more the windows differ in size.
    """
    total = reference + current
    return float(np.sqrt(((reference - current)[total > 0] ** 2 / total[total > 0]).sum() / 2))


def kolmogorov_smirnov_by_chance(n: int, m: int, alpha: float) -> float:
    """What the distance of two samples of one distribution exceeds with probability `alpha`.

    Smirnov's limit for n and m values (1939; Annals of Mathematical Statistics 19, 1948):
    √(−½ ln(α/2)) √((n+m)/nm). For values that repeat it is rarer than that.
    """
    return math.sqrt(-math.log(alpha / 2) / 2 * (n + m) / (n * m))


def cramers_v_by_chance(n: int, m: int, levels: int, alpha: float) -> float:
    """What V of two samples of one distribution exceeds with probability `alpha`.

    Pearson's χ² of the two samples (1900) has k − 1 degrees of freedom, and with both samples given
    equal weight it is 4 nm/(n+m) V².
    """
    if levels < 2:
        return 0.0
    quantile = float(stats.chi2.ppf(1 - alpha, levels - 1))
    return math.sqrt(quantile * (n + m) / (4 * n * m))
