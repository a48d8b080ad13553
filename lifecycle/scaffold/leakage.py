"""Leakage suspects: columns that alone say almost all about the target. Said, never acted on."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd
import scipy  # scipy loads `stats`, which takes a second, when it is used
from numpy.typing import NDArray

SAMPLE = 50_000
BINS = 50
SUSPICIOUS = 0.9
"""Share of the target's variance that one column explains by itself."""
ROWS_PER_GROUP = 20
LEAST_ORDERED = 50
"""Rows from which on neighbours tell how much a number explains."""
FAR_FROM_COPY = 0.001
"""Share of the variance of the target's ranks that a copy of it leaves, at most."""
MOST_PAIRED = 2_000
"""Columns of numbers that are paired: 2 million pairs take some seconds."""
ROWS_TRIED = 32
MOST_ROWS_HOLD, SLACK = 0.99, 0.1
"""Share of the rows in which a pair gives the target; of the few tried first, less will do."""
ABSOLUTE, RELATIVE = 1e-8, 1e-5
"""How far a sum may be from the target."""
SEED = 17


def leakage_suspects(frame: pd.DataFrame, target: NDArray[np.float64]) -> dict[str, str]:
    """Columns that look like consequences of the target, each with what was found.

    The correlation ratio (Fisher 1925): the share of the target's variance between the groups of a
    column, adjusted for their number; numbers are cut into 50 quantiles. For classes that is
    Goodman and Kruskal's tau (1954): the variance is that of the classes' indicators together. In a
    file too small for so many groups, a number must be nearly a copy of the target. And pairs of
    numbers whose sum or difference is the target, such as a total and its other part.

    Args:
        frame: inputs, typed as the contract says.
        target: (n,), a number a row, or (n, classes) with 1 where a row is of the class; without
            missing values.
    """
    step = max(1, len(frame) // SAMPLE)
    frame, target = frame.iloc[::step], target[::step]
    if not target.var(axis=0).any():
        return {}
    suspects = {}
    for name in map(str, frame.columns):
        explained = _explained(frame[name], target)
        if explained > SUSPICIOUS:
            suspects[name] = f"explains {explained:.0%} of the target alone"
    for first, second, words in _pairs(frame, target) if target.ndim == 1 else ():
        suspects[first] = suspects[second] = words
    return suspects


def _explained(values: "pd.Series[Any]", target: NDArray[np.float64]) -> float:
    """The share of the target's variance that a column explains; 0 where that cannot be told."""
    if pd.api.types.is_datetime64_any_dtype(values.dtype):
        return 0.0
    codes = _groups(values)
    sizes = np.bincount(codes)
    groups = int(np.count_nonzero(sizes))
    if len(target) < ROWS_PER_GROUP * groups:
        return _explained_by_order(values, target)
    columns = target.reshape(len(target), -1)
    middle = columns - columns.mean(axis=0)
    total = float((middle**2).sum())
    between = sum(
        float((np.bincount(codes, column) ** 2 / np.maximum(sizes, 1)).sum()) for column in middle.T
    )
    within = max(total - between, 0.0) / (len(target) - groups)
    return 1 - within / (total / (len(target) - 1))


def _explained_by_order(values: "pd.Series[Any]", target: NDArray[np.float64]) -> float:
    """The share of the variance of an amount's ranks that a number explains, from the differences
    between neighbours (von Neumann 1941), which need no groups; 0 unless it is nearly a copy: last
    year's value explains 99 % and may be known. A trend over the rows has copies by nature."""
    amount = target.ndim == 1 and len(np.unique(target)) > 2
    if not amount or len(target) < LEAST_ORDERED or not pd.api.types.is_numeric_dtype(values.dtype):
        return 0.0
    numbers = values.to_numpy(dtype=np.float64, na_value=np.nan)
    ranks = scipy.stats.rankdata(target)
    shuffled = np.random.default_rng(SEED).permutation(len(numbers))  # of equal numbers
    order = shuffled[np.argsort(numbers[shuffled], kind="stable")]
    steps, least, as_they_come = (
        float((np.diff(aim) ** 2).mean()) / 2 / float(ranks.var())
        for aim in (ranks[order], np.sort(ranks), ranks)
    )
    copy = steps - least < FAR_FROM_COPY < as_they_come - least
    return 1 - (steps - least) if copy else 0.0


def _groups(values: "pd.Series[Any]") -> NDArray[np.int64]:
    """The group of each row, from 0 (rows,): a value's, or of numbers a quantile's; missing is one
    of its own."""
    if pd.api.types.is_numeric_dtype(values.dtype):
        numbers = values.to_numpy(dtype=np.float64, na_value=np.nan)
        finite = numbers[~np.isnan(numbers)]
        if len(np.unique(finite)) > BINS:
            edges = np.unique(np.quantile(finite, np.linspace(0, 1, BINS + 1)))
            at = np.maximum(np.searchsorted(edges, numbers, side="left"), 1)
            return np.where(np.isnan(numbers), 0, at).astype(np.int64)
    codes: NDArray[np.int64] = pd.factorize(values)[0].astype(np.int64) + 1
    return codes


def _pairs(frame: pd.DataFrame, target: NDArray[np.float64]) -> Iterator[tuple[str, str, str]]:
    """Pairs of numbers whose sum or difference is the target, each in words after its columns.

    All pairs are tried on a few rows, where the target has different values if it can; those that
    hold there are tried on all.
    """
    numeric = [
        (str(name), values.to_numpy(dtype=np.float64, na_value=np.nan))
        for name, values in frame.items()
        if pd.api.types.is_numeric_dtype(values.dtype)
    ]
    several = [(name, column) for name, column in numeric if _distinct(column) > 2][:MOST_PAIRED]
    if len(several) < 2:
        return
    names, columns = [name for name, _ in several], [column for _, column in several]
    rows = _telling_rows(target)
    few, aim = np.stack([column[rows] for column in columns]), target[rows]
    negative = -few
    for at, first in enumerate(few):
        for other in _that_hold(few[:at], -first, aim):
            if _is_target(columns[other] + columns[at], target):
                yield names[other], names[at], f"{names[other]} + {names[at]} is the target"
        for other in _that_hold(negative, -first, aim):
            if _is_target(columns[at] - columns[other], target):
                yield names[at], names[other], f"{names[at]} − {names[other]} is the target"


def _telling_rows(target: NDArray[np.float64]) -> NDArray[np.int64]:
    """Some rows, half of them with another value than the most frequent one (rows,)."""
    random = np.random.default_rng(SEED)
    rare = np.flatnonzero(target != _mode(target))
    rows = random.permutation(rare)[: ROWS_TRIED // 2]
    return np.concatenate([rows, random.permutation(len(target))[: ROWS_TRIED - len(rows)]])


def _is_target(values: NDArray[np.float64], target: NDArray[np.float64]) -> bool:
    """Whether nearly all values are the target's, also where that is not its most frequent one: two
    columns that are nearly the same differ by 0, as most rows of a rare event have it."""
    rare = target != _mode(target)
    holds = np.isclose(values, target)
    return bool(holds.mean() > MOST_ROWS_HOLD and holds[rare].mean() > MOST_ROWS_HOLD)


def _that_hold(
    few: NDArray[np.float64], less: NDArray[np.float64], aim: NDArray[np.float64]
) -> NDArray[np.int64]:
    """Which columns, `less` taken off, are what they should be in most of the rows tried.

    So few rows may differ that one of the first ones is right: a column that is wrong in all of
    those is not looked at any further.

    Args:
        few: (columns, rows).
        less: (rows,).
        aim: (rows,).
    """
    least = MOST_ROWS_HOLD - SLACK
    first = len(aim) - int(np.floor(least * len(aim)))
    likely = np.flatnonzero(_are_near(few[:, :first] - less[:first], aim[:first]).any(axis=1))
    holds = _are_near(few[likely] - less, aim).mean(axis=1)
    places: NDArray[np.int64] = likely[holds > least]
    return places


def _are_near(values: NDArray[np.float64], aim: NDArray[np.float64]) -> NDArray[np.bool_]:
    """As `np.isclose`, in a third of the time: (columns, rows)."""
    near: NDArray[np.bool_] = np.abs(values - aim) <= ABSOLUTE + RELATIVE * np.abs(aim)
    return near


def _distinct(column: NDArray[np.float64]) -> int:
    """How many different values there are, but for missing ones."""
    return len(np.unique(column[~np.isnan(column)]))


def _mode(target: NDArray[np.float64]) -> float:
    values, counts = np.unique(target, return_counts=True)
    return float(values[counts.argmax()])
