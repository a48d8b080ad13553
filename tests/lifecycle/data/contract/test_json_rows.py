"""Rows as JSON, by Arrow: what Python's own reader makes of them are the values."""

import json
import math
from datetime import datetime

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lifecycle.data.contract.quarantine import json_rows

COLUMNS = {
    "whole": (st.integers(-(2**63), 2**63 - 1), pa.int64()),
    "number": (st.floats(allow_nan=True, allow_infinity=True), pa.float64()),
    "flag": (st.booleans(), pa.bool_()),
    'te"xt\\\n': (st.text(st.characters(exclude_categories=["Cs"])), pa.string()),
    "time": (st.datetimes(datetime(1700, 1, 1), datetime(2200, 1, 1)), pa.timestamp("us")),
}


@given(rows=st.lists(st.tuples(*(st.none() | values for values, _ in COLUMNS.values()))))
def test_every_value_comes_back(rows: list[tuple[object, ...]]) -> None:
    columns = [list(column) for column in zip(*rows, strict=True)] or [[] for _ in COLUMNS]
    arrays = [
        pa.array(column, kind) for column, (_, kind) in zip(columns, COLUMNS.values(), strict=True)
    ]
    found = json_rows(pa.RecordBatch.from_arrays(arrays, names=list(COLUMNS)))
    assert found.null_count == 0
    for text, row in zip(found.to_pylist(), rows, strict=True):
        read = json.loads(text)
        assert list(read) == list(COLUMNS)
        for got, sent in zip(read.values(), row, strict=True):
            if isinstance(sent, float):
                assert got == (sent if math.isfinite(sent) else None)
            elif isinstance(sent, datetime):
                assert datetime.fromisoformat(got) == sent
            else:
                assert got == sent


def test_a_slice_has_its_own_rows() -> None:
    batch = pa.RecordBatch.from_pydict({"a": np.arange(5), "b": ["x", 'y"', None, "z", "é"]})
    assert json_rows(batch.slice(2, 3)).to_pylist() == [
        '{"a":2,"b":null}',
        '{"a":3,"b":"z"}',
        '{"a":4,"b":"é"}',
    ]


@pytest.mark.parametrize("rows", [0, 2])
def test_without_columns_rows_are_empty_objects(rows: int) -> None:
    batch = pa.RecordBatch.from_pydict({"a": [1] * rows}).select([])
    assert json_rows(batch).to_pylist() == ["{}"] * batch.num_rows
