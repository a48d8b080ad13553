"""Leakage suspects: columns that alone say almost all about the target. Said, never acted on."""

from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

SAMPLE = 50_000
BINS = 50
SUSPICIOUS = 0.9
"""Share of the target's variance that one column explains by itself."""
ROWS_A_GROUP = 20
MOST_PAIRS_OF = 40


def leakage_suspects(frame: pd.DataFrame, target: NDArray[np.float64]) -> dict[str, str]:
    """Columns that look like consequences of the target, each with what was found.

    The correlation ratio (Fisher 1925): the share of the target's variance between the groups of a
    column, adjusted for their number; numbers are cut into 50 quantiles. For classes that is
    Goodman and Kruskal's tau (1954): the variance is that of the classes' indicators together. And
    pairs of numbers whose sum is the target.

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
    for first, second in _summing_pairs(frame, target) if target.ndim == 1 else ():
        found[first] = f"{first} + {second} is the target"
        found[second] = found[first]
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


def _summing_pairs(frame: pd.DataFrame, target: NDArray[np.float64]) -> list[tuple[str, str]]:
    numbers = {
        str(name): frame[name].to_numpy(dtype=np.float64, na_value=np.nan)
        for name in frame.columns
        if pd.api.types.is_numeric_dtype(frame[name].dtype) and frame[name].nunique() > 2
    }
    if len(numbers) > MOST_PAIRS_OF:
        return []
    return [
        (first, second)
        for first, second in combinations(numbers, 2)
        if np.isclose(numbers[first] + numbers[second], target).mean() > 0.99
    ]
