"""Leakage suspects: columns that alone say almost all about the target. Said, never acted on."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

SAMPLE = 50_000
BINS = 50
SUSPICIOUS = 0.9
"""Share of the target's variance that one column explains by itself."""
ROWS_A_GROUP = 20
MOST_PAIRED = 2_000
"""Columns of numbers that are paired: 2 million pairs take some seconds."""
ROWS_TRIED = 32
MOST_ROWS_HOLD, SLACK = 0.99, 0.1
"""Share of the rows in which a pair gives the target; of the few tried first, less will do."""
SEED = 17


def leakage_suspects(frame: pd.DataFrame, target: NDArray[np.float64]) -> dict[str, str]:
    """Columns that look like consequences of the target, each with what was found.

    The correlation ratio (Fisher 1925): the share of the target's variance between the groups of a
    column, adjusted for their number; numbers are cut into 50 quantiles. For classes that is
    Goodman and Kruskal's tau (1954): the variance is that of the classes' indicators together. And
    pairs of numbers whose sum or difference is the target, such as a total and its other part.

    Args:
        frame: inputs, typed as the contract says.
        target: (n,), a number a row, or (n, classes) with 1 where a row is of the class; without
            missing values.
    """
    step = max(1, len(frame) // SAMPLE)
    frame, target = frame.iloc[::step], target[::step]
    if not target.var(axis=0).any():
        return {}
    found = {}
    for name in map(str, frame.columns):
        explained = _explained(frame[name], target)
        if explained > SUSPICIOUS:
            found[name] = f"explains {explained:.0%} of the target alone"
    for first, second, words in _pairs(frame, target) if target.ndim == 1 else ():
        found[first] = found[second] = words
    return found


def _explained(values: "pd.Series[Any]", target: NDArray[np.float64]) -> float:
    if pd.api.types.is_datetime64_any_dtype(values.dtype):
        return 0.0
    if pd.api.types.is_numeric_dtype(values.dtype) and values.nunique() > BINS:
        numbers = pd.Series(values.to_numpy(dtype=np.float64, na_value=np.nan))
        codes = pd.qcut(numbers, BINS, labels=False, duplicates="drop").fillna(-1).to_numpy()
    else:
        codes = pd.factorize(values)[0]
    groups = pd.DataFrame(target).groupby(codes)
    if len(target) < ROWS_A_GROUP * groups.ngroups:
        return 0.0
    inside = groups.var(ddof=0).mul(groups.size(), axis=0).to_numpy().sum()
    within = float(inside / (len(target) - groups.ngroups))
    return 1 - within / float(target.var(axis=0, ddof=1).sum())


def _pairs(frame: pd.DataFrame, target: NDArray[np.float64]) -> Iterator[tuple[str, str, str]]:
    """Pairs of numbers whose sum or difference is the target, each in words after its columns.

    All pairs are tried on a few rows, where the target has different values if it can; those that
    hold there are tried on all.
    """
    names = [
        str(name)
        for name in frame.columns
        if pd.api.types.is_numeric_dtype(frame[name].dtype) and frame[name].nunique() > 2
    ][:MOST_PAIRED]
    if len(names) < 2:
        return
    columns = [frame[name].to_numpy(dtype=np.float64, na_value=np.nan) for name in names]
    rows = _telling_rows(target)
    few, aim = np.column_stack([column[rows] for column in columns]), target[rows]
    for at, first in enumerate(few.T):
        with np.errstate(invalid="ignore"):
            sums = _holds(first[:, None] + few[:, :at], aim[:, None])
            differences = _holds(first[:, None] - few, aim[:, None])
        for other in np.flatnonzero(sums > MOST_ROWS_HOLD - SLACK):
            if _is_target(columns[other] + columns[at], target):
                yield names[other], names[at], f"{names[other]} + {names[at]} is the target"
        for other in np.flatnonzero(differences > MOST_ROWS_HOLD - SLACK):
            if _is_target(columns[at] - columns[other], target):
                yield names[at], names[other], f"{names[at]} − {names[other]} is the target"


def _telling_rows(target: NDArray[np.float64]) -> NDArray[np.int64]:
    """Some rows, half of them with another value than the most frequent one (rows,)."""
    random = np.random.default_rng(SEED)
    rare = np.flatnonzero(target != _mode(target))
    some = random.permutation(rare)[: ROWS_TRIED // 2]
    return np.concatenate([some, random.permutation(len(target))[: ROWS_TRIED - len(some)]])


def _is_target(values: NDArray[np.float64], target: NDArray[np.float64]) -> bool:
    """Whether nearly all values are the target's, also where that is not its most frequent one: two
    columns that are nearly the same differ by 0, as most rows of a rare event have it."""
    rare = target != _mode(target)
    holds = np.isclose(values, target)
    return bool(holds.mean() > MOST_ROWS_HOLD and holds[rare].mean() > MOST_ROWS_HOLD)


def _holds(values: NDArray[np.float64], aim: NDArray[np.float64]) -> NDArray[np.float64]:
    """Share of the rows in which each column has what it should (columns,)."""
    share: NDArray[np.float64] = np.isclose(values, aim).mean(axis=0)
    return share


def _mode(target: NDArray[np.float64]) -> float:
    values, counts = np.unique(target, return_counts=True)
    return float(values[counts.argmax()])
