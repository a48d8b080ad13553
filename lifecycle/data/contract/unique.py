"""Keys of all earlier rows, as 64-bit hashes: eight bytes per row."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray

from lifecycle.lake.row_hash import mix, value_hashes

Keys = NDArray[Any]
"""Shape (rows,), `int64` or `uint64`."""
LARGEST = 1 << 22
"""Keys of a run that is not merged any more (32 MiB): merging holds a run twice."""
NONE = np.uint64(0x9E3779B97F4A7C15)
"""Stands for a missing value, before mixing."""


class UniqueKeys:
    """The keys that came, as sorted runs which are merged when they are of like size.

    A log-structured merge tree in memory (O'Neil et al., 1996): a key is moved a logarithmic number
    of times, and looked up in few runs; a run whose range a batch lies outside of is not looked
    into, so that growing keys cost next to nothing.
    """

    def __init__(self) -> None:
        self._runs: list[Keys] = []

    @property
    def nbytes(self) -> int:
        """Bytes held."""
        return sum(run.nbytes for run in self._runs)

    def repeated(self, keys: Keys) -> NDArray[np.bool_] | None:
        """Remember a batch's keys, and tell which rows' came before, in it or earlier; None if
        none did."""
        if not len(keys):
            return None
        repeats: NDArray[np.bool_] | None = None
        ordered = keys
        if not (keys[1:] > keys[:-1]).all():
            ordered = np.sort(keys)
            first = np.concatenate([[True], ordered[1:] != ordered[:-1]])
            if not first.all():
                ordered = ordered[first]
                repeats = pd.Series(keys).duplicated().to_numpy()
        duplicates = self._present(ordered)
        if duplicates.any():
            before = np.isin(keys, ordered[duplicates])
            repeats = before if repeats is None else repeats | before
            ordered = ordered[~duplicates]
        if len(ordered):
            self._keep(ordered.copy() if ordered is keys else ordered)
        return repeats

    def _present(self, ordered: Keys) -> NDArray[np.bool_]:
        present = np.zeros(len(ordered), dtype=bool)
        for run in self._runs:
            start, end = np.searchsorted(ordered, [run[0], run[-1]])
            inside = ordered[start : end + 1]
            if len(inside):
                at = np.minimum(np.searchsorted(run, inside), len(run) - 1)
                present[start : end + 1] |= run[at] == inside
        return present

    def _keep(self, ordered: Keys) -> None:
        runs = self._runs
        runs.append(ordered)
        while len(runs) > 1 and len(runs[-2]) < 2 * len(runs[-1]):
            if len(runs[-2]) + len(runs[-1]) > LARGEST:
                break
            newest, before = runs.pop(), runs.pop()
            # a stable sort is a merge sort: two sorted runs are merged in one go
            merged = np.concatenate([before, newest])
            merged.sort(kind="stable")
            runs.append(merged)


def keys_of(columns: Sequence[pa.Array], *, exact: bool = True) -> Keys:
    """One key a row for the values of one or more columns of the same rows.

    One column of whole numbers or times is its own key, exactly. Otherwise the keys are 64-bit
    hashes: of n different rows, two share one with a probability of about n² / 2⁶⁵, one in 92,000
    for 20 million rows; the later one is then taken for a repetition. Missing values are equal.

    Args:
        exact: False for hashes in any case, which are spread evenly over 64 bits.
    """
    if exact and len(columns) == 1 and not columns[0].null_count:
        only = columns[0].view(pa.int64()) if pa.types.is_timestamp(columns[0].type) else columns[0]
        if pa.types.is_integer(only.type):
            own: Keys = only.to_numpy()
            return own
    keys = np.zeros(len(columns[0]), dtype=np.uint64)
    for column in columns:
        as_integers = not pa.types.is_floating(column.type)
        keys = mix(mix(keys) + value_hashes(column, as_integers, distinct=True, missing=NONE))
    return keys
