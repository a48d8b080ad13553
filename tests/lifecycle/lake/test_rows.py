"""Rows of a result table are replaced by their key."""

import pandas as pd
import pyarrow as pa
import pytest
from deltalake import DeltaTable

from lifecycle.errors import BackendError
from lifecycle.lake.rows import replace_rows
from lifecycle.lake.table import table_uri
from lifecycle.settings import Settings

SCHEMA = pa.schema({"window": pa.string(), "version": pa.int64(), "value": pa.float64()})


def rows(window: str, *values: float) -> pa.Table:
    return pa.table(
        {"window": [window] * len(values), "version": [1] * len(values), "value": list(values)},
        schema=SCHEMA,
    )


def read(uri: str) -> pd.DataFrame:
    return DeltaTable(uri).to_pandas()


def test_rows_replace_those_with_their_key(settings: Settings) -> None:
    uri = table_uri(settings, "small", "numbers")
    for window, *values in (("it's", 1.0, 2.0), ("b", 3.0), ("it's", 4.0), ("it's", 4.0)):
        replace_rows(uri, rows(window, *values), {"window": window, "version": 1})
    assert sorted(zip(*read(uri)[["window", "value"]].to_numpy().T, strict=True)) == [
        ("b", 3.0),
        ("it's", 4.0),
    ]
    replace_rows(uri, rows("b"), {"window": "b", "version": 1})
    assert read(uri)["window"].tolist() == ["it's"]
    with pytest.raises(BackendError, match="cannot write the table"):
        replace_rows("/proc/none/numbers", rows("b"), {"window": "b", "version": 1})
