"""What came before: exact for whole numbers, however many batches, in eight bytes a row."""

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lifecycle.data.contract import unique
from lifecycle.data.contract.unique import UniqueKeys, keys_of


@settings(deadline=None, max_examples=200)
@given(st.lists(st.lists(st.integers(-20, 20), max_size=8), max_size=12))
def test_as_pandas_says(batches: list[list[int]]) -> None:
    known, told = UniqueKeys(), []
    for batch in batches:
        again = known.repeated(np.array(batch, dtype=np.int64))
        told += [False] * len(batch) if again is None else again.tolist()
    everything = pd.Series([key for batch in batches for key in batch], dtype="int64")
    assert told == everything.duplicated().tolist()


@pytest.mark.parametrize("order", ["growing", "shuffled"])
def test_many_rows(order: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unique, "LARGEST", 1 << 12)
    keys = np.arange(40_000, dtype=np.int64)
    if order == "shuffled":
        keys = np.random.default_rng(1).permutation(keys)
    known = UniqueKeys()
    for start in range(0, len(keys), 1_000):
        assert known.repeated(keys[start : start + 1_000]) is None
    assert known.nbytes == 8 * len(keys)
    again = known.repeated(np.array([5, -1, 39_999, 40_000], dtype=np.int64))
    assert again is not None
    assert again.tolist() == [True, False, True, False]


def test_keys_do_not_hang_on_the_callers_memory() -> None:
    keys = np.array([1, 2, 3], dtype=np.int64)
    known = UniqueKeys()
    known.repeated(keys)
    keys[:] = 9
    again = known.repeated(np.array([2], dtype=np.int64))
    assert again is not None
    assert again.all()


@pytest.mark.parametrize(
    "column",
    [
        pa.array(["a", "b", "", None, "a", "", None]),
        pa.array([0.0, 1.5, -1.5, None, -0.0, 1.5, None]),
        pa.array([True, False, None, True]),
        pa.array([0, None, 1, 0, None]),
        pa.array([0, 1, None, 1], pa.timestamp("us")),
    ],
)
def test_equal_values_and_missing_ones_share_a_key(column: pa.Array) -> None:
    values = column.to_pylist()
    for columns in ([column], [column, column]):
        keys = keys_of(columns)
        for at, value in enumerate(values):
            for other, beside in enumerate(values):
                assert (keys[at] == keys[other]) == (value == beside)


def test_the_order_of_a_groups_values_counts() -> None:
    a, b = pa.array([1, 2]), pa.array([2, 1])
    keys = keys_of([a, b])
    assert keys[0] != keys[1]


def test_hashes_are_spread_evenly() -> None:
    keys = keys_of([pa.array(np.arange(100_000))], exact=False)
    share = np.histogram(keys / 2.0**64, bins=16, range=(0, 1))[0] / len(keys)
    assert np.abs(share - 1 / 16).max() < 0.004  # five standard errors
