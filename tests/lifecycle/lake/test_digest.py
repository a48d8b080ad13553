"""Digests: what changes them, and what does not."""

import numpy as np
import pandas as pd
import pyarrow as pa

from lifecycle.lake.column_types import to_arrow
from lifecycle.lake.content import digest_of


def test_digest_sees_names_types_values_and_order_but_not_chunks() -> None:
    base = pd.DataFrame({"a": [1, 2, 3], "b": ["x", "", None]})
    others = [
        base.rename(columns={"a": "c"}),
        base.astype({"a": "float64"}),
        base.assign(a=[1, 3, 2]),
        base.assign(b=["x", None, ""]),
        base.assign(b=["", "x", None]),
        base[["b", "a"]],
        base.iloc[:2],
    ]
    digests = {digest_of(frame) for frame in [base, *others]}
    assert len(digests) == 1 + len(others)
    table = to_arrow(base)
    assert digest_of(pa.concat_tables([table.slice(0, 1), table.slice(1)])) == digest_of(base)


def test_rows_left_out_do_not_count() -> None:
    index = np.arange(40)
    frame = pd.DataFrame(
        {
            "maybe": pd.array(np.where(index % 3, index, None), dtype="Int64"),
            "number": np.where(index % 4, index / 3, np.nan),
            "flag": index % 2 == 0,
            "text": np.where(index % 5, "é", None),
            "time": pd.date_range("2020", periods=40).astype("datetime64[us]"),
        }
    )
    rows = index % 7 < 3
    table = to_arrow(frame)
    chunks = pa.concat_tables([table.slice(0, 11), table.slice(11)])
    assert digest_of(chunks, pa.array(rows)) == digest_of(frame[rows].reset_index(drop=True))
    assert digest_of(chunks, pa.array(~rows)) != digest_of(chunks, pa.array(rows))


def test_what_is_under_a_missing_value_does_not_count() -> None:
    one = pa.array([1, 2], mask=np.array([False, True]))
    other = pa.array([1, 99], mask=np.array([False, True]))
    assert digest_of(pa.table({"a": one})) == digest_of(pa.table({"a": other}))


def test_the_digest_is_for_ever() -> None:
    """Written down once: another value would make every cached result and model a new one."""
    frame = pd.DataFrame({"a": [1, 2], "b": ["x", None], "c": [0.5, np.nan], "d": [True, False]})
    frame["e"] = pd.to_datetime(["2020-01-01", None]).astype("datetime64[us]")
    assert digest_of(frame).startswith("e79ac4483f2865b2")
