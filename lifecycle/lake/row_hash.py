"""Rows and values as 64-bit hashes, and which rows are in both of two versions.

The only module that hashes rows: for differences of versions, repeated keys, splits and checks.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray

from lifecycle.lake.column_types import is_text
from lifecycle.records.data import RowsDiff

Hashes = NDArray[np.uint64]
STEP = np.uint64(0x9E3779B97F4A7C15)
"""Keeps equal values of two columns apart (the increment of SplitMix64)."""
MISSING = np.uint64(0x5851F42D4C957F2D)
"""Hash of a missing value."""
MAX_EXAMPLES = 10
"""Row numbers that are named."""


def fold(rows: Hashes, column: Hashes) -> Hashes:
    """The rows' hashes with one more column in them; the order of columns counts."""
    return mix((rows + STEP) ^ column)


def mix(words: Hashes) -> Hashes:
    """Mix the bits of each word, so that no two become one: SplitMix64's finalizer (Steele, Lea,
    Flood, 2014), by which pandas hashes numbers.
    """
    return pd.util.hash_array(words)


def frame_hashes(frame: pd.DataFrame) -> "pd.Series[Any]":
    """A hash of each row of a frame; the index does not count."""
    return pd.util.hash_pandas_object(frame, index=False)


def hashes_of(column: pa.ChunkedArray, as_integers: bool) -> Hashes:
    """(n,): a hash of each value; numbers alike in every type, 7 and 7.0.

    Args:
        as_integers: whether numbers are whole, so that no digit is lost above 2⁵³.
    """
    parts = [value_hashes(chunk, as_integers) for chunk in column.chunks]
    return np.concatenate(parts) if parts else np.zeros(0, np.uint64)


def value_hashes(
    chunk: pa.Array, as_integers: bool, *, distinct: bool = False, missing: np.uint64 = MISSING
) -> Hashes:
    """(n,): a hash of each value of one chunk; see `hashes_of`.

    Args:
        distinct: whether few texts are expected to repeat, so that none is looked up.
        missing: hash of a missing value.
    """
    kind = chunk.type
    if pa.types.is_temporal(kind):
        numbers = chunk.cast(pa.timestamp("us")).cast(pa.int64())
    elif pa.types.is_boolean(kind) or pa.types.is_integer(kind) or pa.types.is_floating(kind):
        numbers = chunk.cast(pa.int64() if as_integers else pa.float64(), safe=False)
    else:
        return _text_hashes(chunk, distinct, missing)
    values = numbers.fill_null(0).to_numpy(zero_copy_only=False)
    hashes = pd.util.hash_array(values + values.dtype.type(0))  # -0.0 is 0.0
    return _with_missing(hashes, chunk, missing)


def _with_missing(hashes: Hashes, chunk: pa.Array, missing: np.uint64) -> Hashes:
    if not chunk.null_count:
        return hashes
    return np.where(chunk.is_null().to_numpy(zero_copy_only=False), missing, hashes)


def _text_hashes(chunk: pa.Array, distinct: bool, missing: np.uint64) -> Hashes:
    """Each distinct text is hashed once, unless most are."""
    if not is_text(chunk.type):
        texts = [None if value is None else str(value) for value in chunk.to_pylist()]
        chunk = pa.array(texts, pa.string())
    if distinct:
        filled = chunk.fill_null("").to_numpy(zero_copy_only=False)
        return _with_missing(pd.util.hash_array(filled, categorize=False), chunk, missing)
    coded = chunk.dictionary_encode()
    words = pd.util.hash_array(
        np.array([*coded.dictionary.to_pylist(), ""], dtype=object), categorize=False
    )
    words[-1] = missing
    codes = coded.indices.fill_null(len(words) - 1).to_numpy(zero_copy_only=False)
    hashes: Hashes = words[codes]
    return hashes


def by_content(former: Hashes, present: Hashes) -> RowsDiff:
    """Rows that are in one version only; one that is there twice counts twice."""
    before, counts_before = np.unique(former, return_counts=True)
    after, counts_after = np.unique(present, return_counts=True)
    _, old_places, other = np.intersect1d(before, after, assume_unique=True, return_indices=True)
    same = int(np.minimum(counts_before[old_places], counts_after[other]).sum())
    return RowsDiff(
        key=(),
        same=same,
        added=len(present) - same,
        removed=len(former) - same,
        changed=None,
        examples=_examples(
            added=np.flatnonzero(~np.isin(present, before)),
            removed=np.flatnonzero(~np.isin(former, after)),
        ),
    )


def pairs_of(former: Hashes, present: Hashes) -> tuple[NDArray[np.int64], NDArray[np.int64]] | None:
    """Row numbers of equal keys in either version, in the present one's order; None if a key
    repeats.
    """
    order = np.argsort(former, kind="stable")
    ordered = former[order]
    if (ordered[1:] == ordered[:-1]).any() or len(np.unique(present)) < len(present):
        return None
    if not len(ordered):
        return order, order
    at = np.searchsorted(ordered, present)
    at[at == len(ordered)] = 0
    matches = ordered[at] == present
    return order[at[matches]], np.flatnonzero(matches)


def by_key(
    key: Sequence[str],
    pairs: tuple[NDArray[np.int64], NDArray[np.int64]],
    former: Hashes,
    present: Hashes,
) -> tuple[RowsDiff, NDArray[np.bool_]]:
    """Rows of which a key came, went, or stayed with another content; and which pairs changed."""
    before, after = pairs
    changed = former[before] != present[after]
    added, removed = np.ones(len(present), bool), np.ones(len(former), bool)
    added[after], removed[before] = False, False
    rows = RowsDiff(
        key=tuple(key),
        same=int((~changed).sum()),
        added=int(added.sum()),
        removed=int(removed.sum()),
        changed=int(changed.sum()),
        examples=_examples(
            added=np.flatnonzero(added),
            removed=np.flatnonzero(removed),
            changed=after[changed],
        ),
    )
    return rows, changed


def _examples(**rows: NDArray[np.int64]) -> dict[str, tuple[int, ...]]:
    return {
        name: tuple(numbers[:MAX_EXAMPLES].tolist())
        for name, numbers in rows.items()
        if len(numbers)
    }
