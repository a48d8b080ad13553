"""Signs of broken data in a column; those in the rows are in `monitoring.feed`.

None of them is what a changed world looks like:

| sign | what is seen |
|---|---|
| unit changed | the reference's distribution, times a factor between units |
| missing or filled | missing values, or one value, took the place of others, here and there |
| stuck value | one value, and no other, in all rows from some time on |
| level renamed | a level has gone, and another has just its share |
| duplicated batch | rows that are there twice, entity and time included |
| late feed | no rows any more from some time on, for longer than the reference ever had none |
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from lifecycle.monitoring.locate import Floats, Mask, Place, Sides, locate, order_of
from lifecycle.monitoring.scored import OpenWindow
from lifecycle.records import CauseKind

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
MIN_STEPS = 0.9
"""Share of the reference's values that are there again, from which a column goes in steps."""
MIN_MATCHED = 0.9
"""Share of the new values that are former ones in another unit, at least."""
STEP_ERROR = 1e-5
"""Relative error up to which two values are the same."""
TRIED = 3
"""Factors whose place is looked for, those that leave least first."""
POINTS = 200
MIN_ADDED = 0.02
"""Share of the rows that a value, a level or missing ones must have gained."""
FEW_VALUES = 12
"""With no more distinct values in the reference, there is no unit, and one that becomes frequent
may be the world's."""
MIN_GROWTH = 4.0
"""How many times as frequent as before a value is that others were filled with."""
MAX_MOVED = 0.5
"""How far the other rows may have moved at most: else it is all of them that changed."""
CONSTANT = 0.97
"""Share of the rows of a run that have the value at which a column is stuck."""
MIN_STUCK_ROWS = 20
SAME_SHARE = 2.0
"""How many times as frequent as its new name a level that has gone may have been, or less."""
MAX_LEFT = 0.1
"""Share of its rows that a level keeps, at most, since it has another name."""
MIN_DUPLICATES = 20
"""Rows that a sign must be in, at least."""
GAPS = 3.0
"""How many times as long as ever in the reference a gap, or a run of one value, must be."""


@dataclass(frozen=True)
class Symptom:
    """A sign of broken data, and where it is."""

    kind: CauseKind
    columns: tuple[str, ...]
    place: Place
    bad: Mask
    """(n,): current rows that have it."""
    evidence: str
    share: float
    """Of the current rows."""
    limit: float = 0.0
    is_sure: bool = True
    """Whether it is one even if other columns moved as well; else the world may have changed."""


def column_symptom(sides: Sides, name: str, chance: float) -> Symptom | None:
    """Look for what is broken in a column that alarms; None if nothing is.

    Args:
        chance: what the column's distance is by chance alone.
    """
    least = max(MIN_ADDED, chance / 2)
    if name in sides.categorical:
        return _renamed(sides, name, least) or _one_value(sides, name, least)
    return _other_steps(sides, name) or _unit(sides, name, least) or _one_value(sides, name, least)


# One value in the place of others.


def _one_value(sides: Sides, name: str, least: float) -> Symptom | None:
    """A value, or a missing one, that took the place of others."""
    sign = _frequent(sides, name, least)
    if sign is None:
        return None
    value, masks, is_known, few = sign
    before, bad = masks
    place = locate(sides, before.astype(float), bad.astype(float), sides.sources(name))
    run = bad[place.run]
    share = float(run.mean()) if len(run) else 0.0
    shares = float(before.mean()), float(bad.mean())
    is_missing = value is None
    words = "missing" if is_missing else f"{_number(value)}"
    is_stuck = not is_missing and is_known and share >= CONSTANT and len(run) >= MIN_STUCK_ROWS
    if is_stuck and few:
        is_stuck = longest(run) > GAPS * longest(before[_in_order(sides.reference)])
    if is_stuck:
        evidence = f"{words} in {share:.0%} of {len(run):,} rows one after another"
        added = shares[1] - shares[0]
        return Symptom("stuck value", (name,), place, bad, evidence, added, is_sure=not few)
    if not is_missing and is_known and (few or shares[1] < MIN_GROWTH * shares[0]):
        return None  # what was frequent before may become more so
    if not is_missing and not few and _moved_elsewhere(sides, name, before, bad) > MAX_MOVED:
        return None  # it is frequent since all values are others
    evidence = f"{words} in {shares[1]:.1%} of the rows ({shares[0]:.1%} in the reference)"
    added = shares[1] - shares[0]
    is_sure = is_missing or (not few and is_far(sides.numbers(name)[0], float(value)))
    return Symptom("missing or filled", (name,), place, bad, evidence, added, is_sure=is_sure)


def _moved_elsewhere(sides: Sides, name: str, before: Mask, bad: Mask) -> float:
    """Kolmogorov-Smirnov distance of the rows that do not have a value."""
    values = [
        np.sort(side[~mask & ~np.isnan(side)])
        for side, mask in zip(sides.numbers(name), (before, bad), strict=True)
    ]
    if not all(len(side) for side in values):
        return 0.0
    return _furthest(*values)


def is_far(values: Floats, value: float) -> bool:
    """Tell whether a value lies further outside than the reference is wide."""
    low, high = float(np.nanmin(values)), float(np.nanmax(values))
    return bool(value < 2 * low - high or value > 2 * high - low)


def longest(mask: Mask) -> int:
    """Return the number of rows of the longest run of true ones."""
    ends = np.flatnonzero(np.diff(np.concatenate([[0], mask.astype(np.int8), [0]])))
    return int((ends[1::2] - ends[::2]).max(initial=0))


def _in_order(window: OpenWindow) -> NDArray[np.intp]:
    order = order_of(window)
    return np.arange(len(window.features)) if order is None else order


def _frequent(
    sides: Sides, name: str, least: float
) -> tuple[Any, tuple[Mask, Mask], bool, bool] | None:
    """Return the value whose share grew most, its masks, whether the reference has it and few."""
    if name in sides.categorical:
        return _frequent_level(sides, name, least)
    before, after = sides.numbers(name)
    missing = np.isnan(before), np.isnan(after)
    if missing[1].mean() - missing[0].mean() > least:
        return None, missing, bool(missing[0].any()), False
    values, counts = np.unique(after[~missing[1]], return_counts=True)
    if not len(values):
        return None
    tops = values[np.argsort(-counts)[:5]]
    former = np.sort(before[~missing[0]])
    at = [np.searchsorted(former, tops, side) for side in ("left", "right")]
    shares_before = (at[1] - at[0]) / max(len(before), 1)
    shares_after = np.sort(counts)[::-1][:5] / len(after)
    best = int(np.argmax(shares_after - shares_before))
    if shares_after[best] - shares_before[best] <= least:
        return None
    value = float(tops[best])
    few = len(np.unique(former)) <= FEW_VALUES
    is_known = bool(shares_before[best] > 0) if few else bool(former[0] <= value <= former[-1])
    return value, (before == value, after == value), is_known, few


def _frequent_level(
    sides: Sides, name: str, least: float
) -> tuple[Any, tuple[Mask, Mask], bool, bool] | None:
    """Return the level whose share grew most, or that is all there is, as `_frequent` does."""
    before, after = sides.texts(name)
    missing = before.isna().to_numpy(), after.isna().to_numpy()
    if missing[1].mean() - missing[0].mean() > least:
        return None, missing, bool(missing[0].any()), False
    shares = after.value_counts(normalize=True)
    gained = shares - before.value_counts(normalize=True).reindex(shares.index).fillna(0.0)
    if not len(gained):
        return None
    top: Any = shares.index[0] if shares.iloc[0] >= CONSTANT else gained.idxmax()
    if gained.loc[top] <= least:
        return None
    return top, ((before == top).to_numpy(), (after == top).to_numpy()), True, True


# A changed unit.


def _unit(sides: Sides, name: str, least: float) -> Symptom | None:
    """A factor between units in a part of the rows.

    If a share p of the rows has values a x + b, the distribution is (1 - p) F(t) + p F((t - b)/a),
    from which p follows by least squares; what is left over says whether it is so.
    """
    before, after = sides.numbers(name)
    former = np.sort(before[~np.isnan(before)])
    values = np.sort(after[~np.isnan(after)])
    if len(former) < POINTS or len(values) < MIN_STUCK_ROWS or len(np.unique(former)) <= FEW_VALUES:
        return None
    furthest = _furthest(former, values)
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
    entity = sides.reference.entity
    frame = pd.DataFrame({"value": before, "entity": np.arange(len(before))})
    if entity is not None:
        frame = frame.assign(entity=entity).drop_duplicates()
    if frame["value"].duplicated(keep=False).mean() < MIN_STEPS:
        return None
    unseen: Mask = ~np.isnan(after) & ~np.isin(after, before)
    return unseen


def _other_steps(sides: Sides, name: str) -> Symptom | None:
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
        is_sure: whether it is enough that it explains either; else it has to explain both.
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
    within = EXPLAINED * _furthest(base, run)
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


def _grid(*samples: Floats) -> Floats:
    """Quantiles of ascending samples."""
    at = np.linspace(0, 1, POINTS)
    points = [side[(at * (len(side) - 1)).astype(np.intp)] for side in samples]
    grid: Floats = np.unique(np.concatenate(points))
    return grid


def _furthest(former: Floats, values: Floats) -> float:
    """Kolmogorov-Smirnov distance of two ascending samples, seen at their quantiles."""
    grid = _grid(former, values)
    return float(np.abs(_cumulative(values, grid) - _cumulative(former, grid)).max())


def _fit(former: Floats, values: Floats, unit: Unit) -> tuple[float, float] | None:
    """Return what a unit leaves of a difference of distributions, and the share of rows in it.

    Args:
        former: values of the reference, ascending.
        values: current ones, ascending.
    """
    grid = _grid(former, values, former * unit[0] + unit[1])
    base = _cumulative(former, grid)
    expected = _cumulative(former, (grid - unit[1]) / unit[0]) - base
    moved = _cumulative(values, grid) - base
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


def _cumulative(ordered: Floats, grid: Floats) -> Floats:
    shares: Floats = np.searchsorted(ordered, grid, side="right") / len(ordered)
    return shares


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


# A renamed level.


def _renamed(sides: Sides, name: str, least: float) -> Symptom | None:
    """A level that has gone and one that has its share."""
    before, after = sides.texts(name)
    shares = [side.value_counts() / len(side) for side in (before, after)]
    table = pd.DataFrame({"before": shares[0], "after": shares[1]}).fillna(0.0)
    new = table[(table["before"] == 0) & (table["after"] > least / 2)]
    rows = _in_order(sides.current)
    first = int(np.argmax(after.isin(new.index).to_numpy()[rows])) if len(new) else 0
    since = after.iloc[rows[first:]].value_counts() / (len(rows) - first)
    table["since"] = since.reindex(table.index).fillna(0.0)
    pairs = [*_pairs(table, new)]
    if not pairs or len(pairs) < len(new):  # else levels have joined
        return None
    names = {level for _, level in pairs}
    bad = after.isin(names).to_numpy()
    base = before.isin(names).to_numpy()
    place = locate(sides, base.astype(float), bad.astype(float), sides.sources(name))
    words = ", ".join(f"{former!r} is now {level!r}" for former, level in pairs[:3])
    is_sure = all(_plain(level) == _plain(other) for level, other in pairs)
    share = float(bad.mean())
    return Symptom("level renamed", (name,), place, bad, words, share, is_sure=is_sure)


def _pairs(table: pd.DataFrame, new: pd.DataFrame) -> Iterator[tuple[str, str]]:
    """Yield former and new names, the most alike in share first."""
    vanished = table[(table["before"] > 0) & (table["since"] < MAX_LEFT * table["before"])]
    lost = (vanished["before"] - vanished["since"]).to_dict()
    for level, share in table.loc[new.index, "since"].sort_values(ascending=False).items():
        alike = [former for former in lost if _plain(former) == _plain(level)]
        if not alike:
            alike = [
                former
                for former, loss in lost.items()
                if 1 / SAME_SHARE <= max(loss, 1e-9) / share <= SAME_SHARE
            ]
        if alike:
            former = min(alike, key=lambda candidate: abs(lost[candidate] - share))
            del lost[former]
            yield str(former), str(level)


def _plain(level: Any) -> str:
    return "".join(filter(str.isalnum, str(level).casefold()))


def _number(value: Any) -> str:
    return f"{value:.6g}" if isinstance(value, float) else repr(value)


def merged(symptoms: Sequence[Symptom], n: int) -> list[NDArray[np.intp]]:
    """Put symptoms of one kind in mostly the same rows together, as places in the list."""
    groups: list[list[int]] = []
    for at, symptom in enumerate(symptoms):
        for group in groups:
            other = symptoms[group[0]]
            both = int((symptom.bad & other.bad).sum())
            either = max(int((symptom.bad | other.bad).sum()), 1)
            if symptom.kind == other.kind and n and both / either > 0.5:
                group.append(at)
                break
        else:
            groups.append([at])
    return [np.array(group) for group in groups]
