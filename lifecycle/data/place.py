"""Where a seeded hash puts a row: the same key is in the same part for ever."""

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from lifecycle.project import SplitSpec

BLOCK = 1 << 20
"""Keys hashed at a time."""
TRAIN, VALIDATION, HOLDOUT = range(3)
Places = NDArray[np.int8]
"""TRAIN, VALIDATION or HOLDOUT of each row (rows,)."""


def places(keys: "pd.Series[Any]", spec: SplitSpec) -> Places:
    """The part each key is in."""
    return _places(hash_share(keys, spec.seed), spec)


def places_by_number(rows: int, spec: SplitSpec) -> Places:
    """The part each row is in, by its number."""
    blocks = [
        places(pd.Series(np.arange(start, min(start + BLOCK, rows))), spec)
        for start in range(0, rows, BLOCK)
    ]
    return np.concatenate(blocks) if blocks else np.empty(0, dtype=np.int8)


def _places(shares: NDArray[np.float64], spec: SplitSpec) -> Places:
    found = np.full(len(shares), TRAIN, dtype=np.int8)
    found[shares < spec.holdout + spec.validation] = VALIDATION
    found[shares < spec.holdout] = HOLDOUT
    return found


def hash_share(keys: "pd.Series[Any]", seed: int) -> NDArray[np.float64]:
    """A number in [0, 1) for each key, equal for equal keys whatever the other rows are.

    Whole numbers and text go through SplitMix64 (Steele, Lea, Flood 2014) with the seed added;
    text is first hashed by SipHash-2-4 (pandas' `hash_array`).
    """
    shares = np.empty(len(keys))
    for start in range(0, len(keys), BLOCK):  # all at once would take five times the memory
        shares[start : start + BLOCK] = _shares(keys.iloc[start : start + BLOCK], seed)
    return shares


def _shares(keys: "pd.Series[Any]", seed: int) -> NDArray[np.float64]:
    if pd.api.types.is_integer_dtype(keys.dtype):
        words = keys.to_numpy(dtype=np.int64).view(np.uint64)
    else:
        text = keys.astype(str).to_numpy(dtype=object)
        words = pd.util.hash_array(text, hash_key="lifecycle-flows!")
    mixed = _splitmix(words ^ _splitmix(np.full(1, seed, dtype=np.int64).view(np.uint64)))
    return (mixed >> np.uint64(11)).astype(np.float64) / 2.0**53


def _splitmix(words: NDArray[np.uint64]) -> NDArray[np.uint64]:
    mixed = words + np.uint64(0x9E3779B97F4A7C15)  # wraps around, as it should
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return mixed ^ (mixed >> np.uint64(31))
