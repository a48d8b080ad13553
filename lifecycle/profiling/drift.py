"""How far the columns are from another version: distances of samples, beyond what chance does."""

import numpy as np
import pandas as pd

from lifecycle.profiling.compare import compare_categories, compare_numbers
from lifecycle.profiling.gather import Gathered
from lifecycle.profiling.record import Drift
from lifecycle.profiling.sample import Sampled
from lifecycle.profiling.schema import Known

CHANCE = 0.001
"""How rarely equal distributions may be called drifted."""
MISSING = "(missing)"
SHOWN = 10


def drift(
    name: str, now: Sampled, then: Sampled, before: Gathered, known: Known, *, shown: bool
) -> Drift | None:
    """One column against the other version; None if that has none of its kind, or no rows.

    Drifted is what exceeds both the project's threshold (`monitoring.drift`) and chance.

    Args:
        before: what was counted of the other version.
        shown: whether its values may be named.
    """
    counts = before.columns.get(name)
    if not now.rows or not then.rows or counts is None or now.kinds[name] == "text":
        return None
    share = counts.missing / before.rows
    if name in now.numbers and name in then.numbers:
        statistic, chance = compare_numbers(then.numbers[name], now.numbers[name], CHANCE)
        mean = counts.moments.mean() if shown and now.kinds[name] == "number" else None
        return Drift(
            statistic=statistic,
            test="Kolmogorov-Smirnov",
            drifted=statistic > max(known.numeric_threshold, chance),
            missing_then=share,
            mean_then=mean if mean is not None and np.isfinite(mean) else None,
        )
    if name not in now.levels or name not in then.levels:
        return None
    shares = pd.DataFrame({"then": _shares(then, name), "now": _shares(now, name)}).fillna(0.0)
    sides = shares["then"].to_numpy(), shares["now"].to_numpy()
    statistic, chance = compare_categories(*sides, (then.rows, now.rows), CHANCE)
    fresh, gone = (
        tuple(map(str, shares.index[shares[side] == 0][:SHOWN])) for side in ("then", "now")
    )
    return Drift(
        statistic=min(1.0, statistic),
        test="Cramér's V",
        drifted=statistic > max(known.categorical_threshold, chance),
        missing_then=share,
        new_levels=fresh if shown else (),
        gone_levels=gone if shown else (),
    )


def _shares(sample: Sampled, name: str) -> "pd.Series[float]":
    """Share of each level, missing as a level of its own."""
    levels = sample.levels[name]
    missing = sample.rows - int(levels.counts.sum())
    counts = np.append(levels.counts, missing) / sample.rows
    shares = pd.Series(counts, index=[*levels.names, MISSING])
    return shares[shares > 0].groupby(level=0, sort=False).sum()
