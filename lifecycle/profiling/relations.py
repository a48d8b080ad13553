"""Association of two columns of any kinds: 0 is none, 1 is full."""

from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import stats

from lifecycle.features.encode import Floats
from lifecycle.profiling.bars import level_groups, number_groups
from lifecycle.profiling.inputs import Codes, Levels, Sample, level_name
from lifecycle.profiling.record import Bin, Measure, Pair, Relation
from lifecycle.profiling.schema import ProfileSchema
from lifecycle.scaffold.leakage import leakage_suspects

MOST = 100
"""Columns whose pairs are measured, in the table's order."""
GROUPED = 50
"""Levels told apart; rarer ones count as one."""
LEAST_ROWS = 20
"""Rows that have both values, below which nothing is said."""


def associations(sample: Sample, names: list[str]) -> tuple[Pair, ...]:
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
            ratios = correlation_ratio(values, codes)
            pairs.append(_pair(first, second, ratios, "correlation ratio"))
    return tuple(sorted(pairs, key=lambda pair: -abs(pair.value)))


def _pair(first: str, second: str, value: float, measure: Measure) -> Pair:
    return Pair(first=first, second=second, value=round(float(value), 4), measure=measure)


def spearman(columns: list[Floats]) -> NDArray[np.float64]:
    """(k, k): NaN where fewer than 20 rows have both, or one of them does not vary."""
    present = np.stack([~np.isnan(values) for values in columns], axis=1)
    ranks = np.zeros(present.shape)
    for at, values in enumerate(columns):
        valid = present[:, at]
        if valid.any():
            ranks[valid, at] = stats.rankdata(values[valid]) / valid.sum() - 0.5
    mask = present.astype(np.float64)
    n = mask.T @ mask
    with np.errstate(invalid="ignore", divide="ignore"):
        means = (ranks.T @ mask) / n
        spread = (np.square(ranks).T @ mask) / n - means**2
        covariance: NDArray[np.float64] = (ranks.T @ ranks) / n - means * means.T
        correlations: NDArray[np.float64] = covariance / np.sqrt(spread * spread.T)
        correlations[(n < LEAST_ROWS) | (spread < 1e-12) | (spread.T < 1e-12)] = np.nan
    return correlations.clip(-1, 1)


def bergsma_v(first: Codes, second: Codes) -> float:
    """Cramér's V corrected for bias (Bergsma, Journal of the Korean Statistical Society 42, 2013).

    Args:
        first, second: (n,), -1 is missing.
    """
    present = (first >= 0) & (second >= 0)
    a, b, n = first[present], second[present], int(present.sum())
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
    present = ~np.isnan(values) & (codes >= 0)
    y, groups, n = values[present], codes[present], int(present.sum())
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


# Association of each column with the target, and suspects of leakage.

MOST_CLASSES = 12


class Target:
    """The target in the sample."""

    def __init__(self, sample: Sample, schema: ProfileSchema) -> None:
        self._sample, self._name = sample, schema.target
        self.classes: tuple[str, ...] = ()
        self._shares: NDArray[np.float64] = np.full((sample.rows, 1), np.nan)
        """(rows, what `Bin.target` has): means of these are shown; NaN where it is missing."""
        if self._name in sample.numbers:
            self._shares = sample.numbers[self._name][:, None]
        elif sample.kinds[self._name] == "category":
            self._classes(schema)
        self.base = self._means(np.zeros(sample.rows, np.int64), 1)[0]

    def _classes(self, schema: ProfileSchema) -> None:
        levels = self._sample.levels[self._name]
        class_names = levels.names[:MOST_CLASSES]
        if schema.task == "binary":
            class_names = (level_name(schema.positive),)
        self.classes = tuple(map(str, class_names))
        codes = [levels.names.index(name) if name in levels.names else -2 for name in class_names]
        if codes:
            present = levels.codes >= 0
            shares = [np.where(present, levels.codes == code, np.nan) for code in codes]
            self._shares = np.stack(shares, axis=1)

    def relation(self, name: str, *, show_values: bool) -> Relation | None:
        """Measure the association of a column with the target; None if it has too many levels.

        Args:
            show_values: whether the values of the column and of the target may be shown.
        """
        strength, measure = self._strength(name)
        if np.isnan(strength):
            return None
        bins: tuple[Bin, ...] = ()
        if show_values:
            sample = self._sample
            if name in sample.numbers:
                time = sample.kinds[name] == "time"
                groups, labels = number_groups(sample.numbers[name], name in sample.integers, time)
            else:
                groups, labels = level_groups(sample.levels[name])
            rows = np.bincount(groups[groups >= 0], minlength=len(labels))
            bins = tuple(
                Bin(label=label, rows=int(count), target=mean)
                for label, count, mean in zip(
                    labels, rows, self._means(groups, len(labels)), strict=True
                )
                if mean
            )
        return Relation(strength=round(strength, 4), measure=measure, bins=bins)

    def suspects(self, frame: pd.DataFrame) -> dict[str, str]:
        """Columns that look like consequences of the target, and why.

        Args:
            frame: columns of the sample.
        """
        places = np.flatnonzero(~np.isnan(self._shares).any(axis=1))
        if len(places) < 2 or frame.empty:
            return {}
        values = self._shares[places]
        shares: NDArray[np.float64] = values[:, 0] if values.shape[1] == 1 else values
        return leakage_suspects(frame.iloc[places], shares)

    def _strength(self, name: str) -> tuple[float, Measure]:
        numbers, levels, target = self._sample.numbers, self._sample.levels, self._name
        if name in numbers and target in numbers:
            return float(spearman([numbers[name], numbers[target]])[0, 1]), "Spearman"
        if name in levels and target in levels:
            return bergsma_v(pooled(levels[name]), pooled(levels[target])), "Cramér's V"
        number, level = (name, target) if name in numbers else (target, name)
        return correlation_ratio(numbers[number], pooled(levels[level])), "correlation ratio"

    def _means(self, groups: NDArray[np.int64], count: int) -> list[tuple[float, ...]]:
        """Mean shares a group; empty where it has no row with a target."""
        present = (groups >= 0) & ~np.isnan(self._shares).any(axis=1)
        rows = np.bincount(groups[present], minlength=count)
        sums = [
            np.bincount(groups[present], column[present], minlength=count)
            for column in self._shares.T
        ]
        return [
            tuple(float(total[at] / rows[at]) for total in sums) if rows[at] else ()
            for at in range(count)
        ]


def frame_of(sample: Sample, names: list[str]) -> pd.DataFrame:
    """Columns of the sample as a frame: numbers as floats, levels as categories."""
    columns: dict[str, Any] = {}
    for name in names:
        if name in sample.numbers:
            columns[name] = sample.numbers[name]
        else:
            levels = sample.levels[name]
            columns[name] = pd.Categorical.from_codes(
                levels.codes, pd.RangeIndex(len(levels.names))
            )
    return pd.DataFrame(columns, index=range(sample.rows))
