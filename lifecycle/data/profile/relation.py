"""How each column goes with the target, and which look like its consequence."""

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from lifecycle.data.profile.association import bergsma_v, correlation_ratio, pooled, spearman
from lifecycle.data.profile.bars import level_groups, number_groups
from lifecycle.data.profile.known import Known
from lifecycle.data.profile.record import Bin, Measure, Relation
from lifecycle.data.profile.sampled import Sampled, level_name
from lifecycle.scaffold.leakage import leakage_suspects

MOST_CLASSES = 12


class Target:
    """The target in the sample."""

    def __init__(self, sample: Sampled, known: Known) -> None:
        self._sample, self._name = sample, known.target
        self.classes: tuple[str, ...] = ()
        self._shares: NDArray[np.float64] = np.full((sample.rows, 1), np.nan)
        """(rows, what `Bin.target` has): means of these are shown; NaN where it is missing."""
        if self._name in sample.numbers:
            self._shares = sample.numbers[self._name][:, None]
        elif sample.kinds[self._name] == "category":
            self._classes(known)
        self.base = self._means(np.zeros(sample.rows, np.int64), 1)[0]

    def _classes(self, known: Known) -> None:
        levels = self._sample.levels[self._name]
        wanted = levels.names[:MOST_CLASSES]
        if known.task == "binary":
            wanted = (level_name(known.positive),)
        self.classes = tuple(map(str, wanted))
        codes = [levels.names.index(name) if name in levels.names else -2 for name in wanted]
        if codes:
            there = levels.codes >= 0
            shares = [np.where(there, levels.codes == code, np.nan) for code in codes]
            self._shares = np.stack(shares, axis=1)

    def relation(self, name: str, *, shown: bool) -> Relation | None:
        """How closely a column goes with the target; None for a column too varied to say.

        Args:
            shown: whether its values, and those of the target, may be named.
        """
        strength, measure = self._strength(name)
        if np.isnan(strength):
            return None
        bins: tuple[Bin, ...] = ()
        if shown:
            sample = self._sample
            if name in sample.numbers:
                time = sample.kinds[name] == "time"
                groups, labels = number_groups(sample.numbers[name], name in sample.whole, time)
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
        known = np.flatnonzero(~np.isnan(self._shares).any(axis=1))
        if len(known) < 2 or frame.empty:
            return {}
        values = self._shares[known]
        shares: NDArray[np.float64] = values[:, 0] if values.shape[1] == 1 else values
        return leakage_suspects(frame.iloc[known], shares)

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
        there = (groups >= 0) & ~np.isnan(self._shares).any(axis=1)
        rows = np.bincount(groups[there], minlength=count)
        sums = [
            np.bincount(groups[there], column[there], minlength=count) for column in self._shares.T
        ]
        return [
            tuple(float(total[at] / rows[at]) for total in sums) if rows[at] else ()
            for at in range(count)
        ]


def frame_of(sample: Sampled, names: list[str]) -> pd.DataFrame:
    """Columns of the sample as a frame: numbers as floats, levels as categories."""
    made: dict[str, Any] = {}
    for name in names:
        if name in sample.numbers:
            made[name] = sample.numbers[name]
        else:
            levels = sample.levels[name]
            made[name] = pd.Categorical.from_codes(levels.codes, pd.RangeIndex(len(levels.names)))
    return pd.DataFrame(made, index=range(sample.rows))
