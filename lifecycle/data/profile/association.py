"""How closely two columns go together, whatever their kinds: 0 is not at all, 1 wholly."""

from itertools import combinations

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from lifecycle.data.profile.record import Measure, Pair
from lifecycle.data.profile.sampled import Codes, Floats, Levels, Sampled

MOST = 100
"""Columns whose pairs are measured, in the table's order."""
GROUPED = 50
"""Levels told apart; rarer ones count as one."""
LEAST_ROWS = 20
"""Rows that have both values, below which nothing is said."""


def associations(sample: Sampled, names: list[str]) -> tuple[Pair, ...]:
    """Every pair among the first 100 of the columns, the closest first.

    Numbers and times: Spearman's rank correlation, ranks among each column's own present values.
    Categories: Cramér's V, corrected for bias (Bergsma 2013). One of each: the correlation ratio
    η (Fisher 1925) of the numbers' ranks, adjusted for the number of groups (Kelley 1935).
    """
    names = names[:MOST]
    numeric = [name for name in names if name in sample.numbers]
    grouped = {name: pooled(sample.levels[name]) for name in names if name in sample.levels}
    pairs = []
    for (i, first), (j, second) in combinations(enumerate(numeric), 2):
        if i == 0 and j == 1:
            matrix = spearman([sample.numbers[name] for name in numeric])
        if not np.isnan(matrix[i, j]):
            pairs.append(_pair(first, second, matrix[i, j], "Spearman"))
    for first, second in combinations(grouped, 2):
        pairs.append(_pair(first, second, bergsma_v(grouped[first], grouped[second]), "Cramér's V"))
    for first in numeric:
        values = sample.numbers[first]
        for second, codes in grouped.items():
            found = correlation_ratio(values, codes)
            pairs.append(_pair(first, second, found, "correlation ratio"))
    return tuple(sorted(pairs, key=lambda pair: -abs(pair.value)))


def _pair(first: str, second: str, value: float, measure: Measure) -> Pair:
    return Pair(first=first, second=second, value=round(float(value), 4), measure=measure)


def spearman(columns: list[Floats]) -> NDArray[np.float64]:
    """(k, k): NaN where fewer than 20 rows have both, or one of them does not vary."""
    present = np.stack([~np.isnan(values) for values in columns], axis=1)
    ranks = np.zeros(present.shape)
    for at, values in enumerate(columns):
        known = present[:, at]
        if known.any():
            ranks[known, at] = stats.rankdata(values[known]) / known.sum() - 0.5
    mask = present.astype(np.float64)
    n = mask.T @ mask
    with np.errstate(invalid="ignore", divide="ignore"):
        means = (ranks.T @ mask) / n
        spread = (np.square(ranks).T @ mask) / n - means**2
        covariance: NDArray[np.float64] = (ranks.T @ ranks) / n - means * means.T
        found: NDArray[np.float64] = covariance / np.sqrt(spread * spread.T)
        found[(n < LEAST_ROWS) | (spread < 1e-12) | (spread.T < 1e-12)] = np.nan
    return found.clip(-1, 1)


def bergsma_v(first: Codes, second: Codes) -> float:
    """Cramér's V corrected for bias (Bergsma, Journal of the Korean Statistical Society 42, 2013).

    Args:
        first, second: (n,), -1 is missing.
    """
    both = (first >= 0) & (second >= 0)
    a, b, n = first[both], second[both], int(both.sum())
    if n < LEAST_ROWS:
        return 0.0
    width = int(b.max()) + 1
    table = np.bincount(a * width + b, minlength=(int(a.max()) + 1) * width).reshape(-1, width)
    table = table[table.any(axis=1)][:, table.any(axis=0)].astype(np.float64)
    rows, columns = table.shape
    if min(rows, columns) < 2:
        return 0.0
    expected = np.outer(table.sum(axis=1), table.sum(axis=0)) / n
    phi = float(((table - expected) ** 2 / expected).sum()) / n
    phi = max(0.0, phi - (rows - 1) * (columns - 1) / (n - 1))
    least = min(rows - (rows - 1) ** 2 / (n - 1), columns - (columns - 1) ** 2 / (n - 1)) - 1
    return min(1.0, float(np.sqrt(phi / least))) if least > 0 else 0.0


def correlation_ratio(values: Floats, codes: Codes) -> float:
    """√ε²: the share of the ranks' variance that lies between the groups, adjusted for chance.

    With ranks it is the effect size of Kruskal and Wallis' test (1952), which long tails do not
    hide.

    Args:
        values: (n,), NaN is missing.
        codes: (n,), -1 is missing.
    """
    both = ~np.isnan(values) & (codes >= 0)
    y, groups, n = values[both], codes[both], int(both.sum())
    counts = np.bincount(groups) if n else np.zeros(0, np.int64)
    filled = counts > 0
    k = int(filled.sum())
    if n < LEAST_ROWS or k < 2 or n <= k:
        return 0.0
    y = stats.rankdata(y)
    y -= y.mean()
    total = float(y @ y)
    if total <= 0:
        return 0.0
    between = float((np.bincount(groups, y)[filled] ** 2 / counts[filled]).sum())
    return float(np.sqrt(np.clip(1 - (total - between) / total * (n - 1) / (n - k), 0, 1)))


def pooled(levels: Levels) -> Codes:
    """Codes with all but the most frequent levels as one."""
    return np.minimum(levels.codes, GROUPED - 1)
