"""Changed units: the reference's distribution, or its steps, times a factor between units."""

from collections.abc import Callable, Iterator

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from lifecycle.monitoring.locate import Floats, Mask, Sides, locate
from lifecycle.monitoring.symptoms import (
    FEW_VALUES,
    MIN_ADDED,
    MIN_DUPLICATES,
    MIN_STUCK_ROWS,
    POINTS,
    Symptom,
    cumulative,
    ks_distance,
    quantile_grid,
)

UNITS = (1e6, 1000, 100, 86_400, 3_600, 60, 24, 10, 7, 12, 3.6, 2.54, 2.20462, 1.60934, 3.28084)
"""Factors between units of one quantity; their inverses count as well."""
AFFINE = ((1.8, 32.0), (1 / 1.8, -32 / 1.8), (1.0, 273.15), (1.0, -273.15))
"""Degrees Celsius, Fahrenheit and Kelvin: factor and summand."""
Unit = tuple[float, float]
"""Factor and summand."""
EXPLAINED = 0.25
"""A changed unit leaves at most so much of the distance."""
MIN_CHANGED = 0.05
"""Share of the rows whose unit has changed, at least."""
MIN_UNIT_SHARE = 0.8
"""Share of the rows from the first bad one to the last, in the segment, whose unit has changed."""
MIN_NEAR_SHARE = 0.9
"""That share for a factor by which a world may change, of values without steps."""
MIN_WIDENED = 1.6
"""How many times as wide a unit makes the values, or less, where they stay within the others."""
MIN_SCALE = 4.0
"""How many times as large, or less, values of a scale that no list of units has must be."""
SCALE_DOUBT = 2.0
"""How many times as much such a scale must leave less of the distance than a unit."""
SCALED_SHARES = (1.0, 0.8, 0.6, 0.4, 0.3, 0.2, 0.1)
"""Shares of the rows that such a scale is tried for."""
MIN_STEPS = 0.9
"""Share of the reference's values that are there again, from which a column goes in steps."""
MIN_MATCHED = 0.9
"""Share of the new values that are former ones in another unit, at least."""
STEP_ERROR = 1e-6
"""Relative error up to which two values are the same."""
TRIED = 3
"""Factors whose place is looked for, those that leave least first."""


def changed_unit(sides: Sides, name: str, least: float) -> Symptom | None:
    """Look for another unit in a column of numbers; None if there is none.

    Args:
        least: distance of all rows from which the distribution is looked at.
    """
    return _in_other_steps(sides, name) or _scaled(sides, name, least)


def _scaled(sides: Sides, name: str, least: float) -> Symptom | None:
    """A factor between units in a part of the rows.

    If a share p of the rows has values a x + b, the distribution is (1 - p) F(t) + p F((t - b)/a),
    from which p follows by least squares; what is left over says whether it is so.
    """
    before, after = sides.numbers(name)
    former = np.sort(before[~np.isnan(before)])
    values = np.sort(after[~np.isnan(after)])
    if len(former) < POINTS or len(values) < MIN_STUCK_ROWS or len(np.unique(former)) <= FEW_VALUES:
        return None
    furthest = ks_distance(former, values)
    if furthest <= least:
        return None
    fits = sorted(
        (fit[0] * doubt, *fit, unit)
        for candidates, doubt in ((_units(), 1.0), (_scales(former, values), SCALE_DOUBT))
        for unit in candidates
        if (fit := _fit(former, values, unit)) is not None and fit[1] >= MIN_CHANGED
    )
    for _, remainder, share, unit in fits[:TRIED]:
        if remainder > furthest / 2 or not _leaves_support(former, values, unit, share):
            continue
        is_sure = not 1 / MIN_SCALE < unit[0] < MIN_SCALE  # a world may change by less
        unseen = None if is_sure else unseen_steps(sides, name)
        if unseen is not None and unseen.mean() < share / 2:
            continue
        is_sure = is_sure or unseen is not None
        symptom = _in_place(sides, name, unit, share, (furthest, remainder), is_sure=is_sure)
        if symptom is not None:
            return symptom
    return None


def unseen_steps(sides: Sides, name: str) -> Mask | None:
    """Mark values that no reference row has (n,); None where most values are unique.

    Years, percent and counts are steps of which every world has the same; other units are between.
    """
    before, after = sides.numbers(name)
    frame = pd.DataFrame({"value": before, "entity": sides.entities}).drop_duplicates()
    if frame["value"].duplicated(keep=False).mean() < MIN_STEPS:
        return None
    unseen: Mask = ~np.isnan(after) & ~np.isin(after, before)
    return unseen


def _in_other_steps(sides: Sides, name: str) -> Symptom | None:
    """A unit in which values that are new are all among those there were."""
    bad = unseen_steps(sides, name)
    if bad is None or bad.sum() < MIN_DUPLICATES or bad.mean() <= MIN_ADDED:
        return None
    before, after = sides.numbers(name)
    values, counts = np.unique(after[bad], return_counts=True)
    former = np.unique(before[~np.isnan(before)])
    if min(len(values), len(former)) <= FEW_VALUES / 2:
        return None
    matches = [(_matched(values, counts, former, unit), unit) for unit in _units()]
    share, unit = max(matches, key=lambda match: match[0])
    if share < MIN_MATCHED:
        return None
    place = locate(sides, np.zeros(len(before)), bad.astype(float), sides.sources(name))
    evidence = f"{_unit_words(unit)} in about {bad.mean():.0%} of the rows"
    return Symptom("unit changed", (name,), place, bad, evidence, float(bad.mean()))


def _matched(values: Floats, counts: NDArray[np.intp], former: Floats, unit: Unit) -> float:
    """Share of the rows whose value, back in the former unit, is one of `former` (ascending)."""
    back = (values - unit[1]) / unit[0]
    at = np.clip(np.searchsorted(former, back), 1, len(former) - 1)
    nearest = np.minimum(np.abs(former[at] - back), np.abs(former[at - 1] - back))
    scale = np.maximum(np.abs(back), float(np.abs(former).max()) / 100)
    return float(counts[nearest <= STEP_ERROR * scale].sum() / counts.sum())


def _in_place(
    sides: Sides,
    name: str,
    unit: Unit,
    share: float,
    distances: tuple[float, float],
    *,
    is_sure: bool,
) -> Symptom | None:
    """A changed unit, if it explains what moved in all rows, or in those of its place.

    Args:
        share: of the rows that seem to have the unit.
        distances: of all rows, and what the unit leaves of it.
        is_sure: whether it is enough that it explains either; else it has to explain both, and
            what moved in its place twice as well.
    """
    furthest, remainder = distances
    before, after = sides.numbers(name)
    former = before[~np.isnan(before)]
    likely = _likelihood(np.sort(former), unit, share)
    scores = likely(before), likely(after)
    place = locate(sides, *scores, sides.sources(name))
    run = after[place.run]
    run = np.sort(run[~np.isnan(run)])
    base = before[sides.rows_of(place.segment)]
    base = np.sort(base[~np.isnan(base)])
    if len(run) < MIN_STUCK_ROWS or len(base) < MIN_STUCK_ROWS:
        return None
    refit = _fit(base, run, unit)  # a unit changes in all rows of its place
    if refit is None or refit[1] < (MIN_UNIT_SHARE if is_sure else MIN_NEAR_SHARE):
        return None
    noise = np.sqrt(1 / len(former) + 1 / (~np.isnan(after)).sum())
    within = EXPLAINED * ks_distance(base, run)
    if is_sure:
        is_explained = remainder <= max(EXPLAINED * furthest, min(noise, furthest / 2))
        is_explained |= refit[0] <= within
    else:
        is_explained = remainder <= EXPLAINED * furthest and refit[0] <= within / 2
    if not is_explained:
        return None
    bad = np.nan_to_num(scores[1]) > 0.5
    evidence = f"{_unit_words(unit)} in about {share:.0%} of the rows"
    return Symptom("unit changed", (name,), place, bad, evidence, share)


def _fit(former: Floats, values: Floats, unit: Unit) -> tuple[float, float] | None:
    """Return what a unit leaves of a difference of distributions, and the share of rows in it.

    Args:
        former: values of the reference, ascending.
        values: current ones, ascending.
    """
    grid = quantile_grid(former, values, former * unit[0] + unit[1])
    base = cumulative(former, grid)
    expected = cumulative(former, (grid - unit[1]) / unit[0]) - base
    moved = cumulative(values, grid) - base
    size = float(expected @ expected)
    if size <= 0:
        return None
    share = float(np.clip(expected @ moved / size, 0, 1))
    return float(np.abs(moved - share * expected).max()), share


def _units() -> Iterator[Unit]:
    for factor in UNITS:
        yield factor, 0.0
        yield 1 / factor, 0.0
    yield from AFFINE


def _scales(former: Floats, values: Floats) -> Iterator[Unit]:
    """Yield factors that no list has, as of a scale from 0 to 1: no world changes by so much.

    If all changed values are above the others, or below, the middle one of them is that of the
    reference times the factor.
    """
    middle = float(np.median(former))
    if middle <= 0:
        return
    for share in SCALED_SHARES:
        for quantile in (share / 2, 1 - share / 2):
            factor = float(np.quantile(values, quantile)) / middle
            if factor > MIN_SCALE or 0 < factor < 1 / MIN_SCALE:
                yield factor, 0.0


def _leaves_support(former: Floats, values: Floats, unit: Unit, share: float) -> bool:
    """Judge whether values lie where the reference has few, or lack where it has many.

    A world that changes has other shares of values that there were.
    """
    low, high = np.quantile(former, [0.01, 0.99])
    expected = former * unit[0] + unit[1]
    outside = float(((expected < low) | (expected > high)).mean())
    outside_share = float(((values < low) | (values > high)).mean()) - 0.02
    if outside >= 0.5:
        return outside_share >= 0.5 * outside * share
    ratio = np.quantile(expected, 0.9) - np.quantile(expected, 0.1)
    width = np.quantile(former, 0.9) - np.quantile(former, 0.1)
    return bool(width > 0 and not 1 / MIN_WIDENED < ratio / width < MIN_WIDENED)


def _likelihood(former: Floats, unit: Unit, share: float) -> Callable[[Floats], Floats]:
    """Probability that each value is of the changed unit, by densities over common bins."""
    other = former * unit[0] + unit[1]
    ends = np.unique(
        np.quantile(np.concatenate([former, np.sort(other)]), np.linspace(0, 1, POINTS // 4))
    )
    counts = [np.histogram(side, ends)[0] / len(side) + 1e-6 for side in (former, other)]
    chances = share * counts[1] / (share * counts[1] + (1 - share) * counts[0] + 1e-9)

    def likely(values: Floats) -> Floats:
        at = np.clip(np.searchsorted(ends, values, side="right") - 1, 0, len(chances) - 1)
        scores: Floats = np.where(np.isnan(values), np.nan, chances[at])
        return scores

    return likely


def _unit_words(unit: Unit) -> str:
    factor, summand = unit
    if summand:
        sign = "+" if summand > 0 else "−"
        scale = "" if factor == 1 else f" × {factor:.4g}"
        return f"values{scale} {sign} {abs(summand):.5g}"
    return f"values × {factor:.6g}" if factor > 1 else f"values ÷ {1 / factor:.6g}"
