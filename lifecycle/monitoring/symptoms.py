"""Signs of broken data in a column: fills, stuck values, renamed levels.

Changed units are in `monitoring.units`, what is wrong with rows in `monitoring.feed`.

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

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from lifecycle.monitoring.locate import Floats, Mask, Place, Sides, locate, order_of
from lifecycle.monitoring.scored import OpenWindow
from lifecycle.records import CauseKind

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
POINTS = 200
"""Quantiles of a sample that two are compared at."""
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


# One value in the place of others.


def one_value(sides: Sides, name: str, least: float) -> Symptom | None:
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
    return ks_distance(*values)


def quantile_grid(*samples: Floats) -> Floats:
    """Quantiles of ascending samples."""
    at = np.linspace(0, 1, POINTS)
    points = [side[(at * (len(side) - 1)).astype(np.intp)] for side in samples]
    grid: Floats = np.unique(np.concatenate(points))
    return grid


def ks_distance(former: Floats, values: Floats) -> float:
    """Kolmogorov-Smirnov distance of two ascending samples, seen at their quantiles."""
    grid = quantile_grid(former, values)
    return float(np.abs(cumulative(values, grid) - cumulative(former, grid)).max())


def cumulative(ordered: Floats, grid: Floats) -> Floats:
    """Share of an ascending sample (n,) up to each point of a grid (g,)."""
    shares: Floats = np.searchsorted(ordered, grid, side="right") / len(ordered)
    return shares


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


# A renamed level.


def renamed_level(sides: Sides, name: str, least: float) -> Symptom | None:
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
