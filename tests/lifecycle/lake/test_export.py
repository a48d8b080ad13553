"""Versions as files: every value comes back, and nothing half-written is there."""

from datetime import datetime
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from lifecycle.errors import DataError
from lifecycle.lake.export import export
from lifecycle.lake.write import write_version
from lifecycle.records import DatasetVersion

FRAME = pd.DataFrame(
    {
        "name": ["Ada", 'a "quoted", name', "two\nlines", None],
        "visits": pd.array([1, None, 2**53 + 1, -4], dtype="Int64"),
        "seen": pd.to_datetime(
            ["2024-01-01", None, "2024-03-01 12:30", "1969-12-31"], format="ISO8601"
        ),
        "prediction": np.array([0.1, 1 / 3, 1e-300, -0.0]),
    }
)


@pytest.fixture
def version(tmp_path: Path) -> DatasetVersion:
    return write_version(FRAME, str(tmp_path / "lake" / "predictions"), note={})


@pytest.mark.parametrize("name", ["p.csv", "p.parquet", "P.CSV"])
def test_every_value_comes_back(version: DatasetVersion, tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_text("what was there before")
    export(version, path)
    if path.suffix == ".parquet":
        back = pd.read_parquet(path, dtype_backend="numpy_nullable")
    else:
        back = pd.read_csv(path, parse_dates=["seen"], dtype={"visits": "Int64"})
    assert list(back) == list(FRAME)
    assert back["name"].isna().tolist() == [False] * 3 + [True]
    assert back["name"][:3].tolist() == FRAME["name"][:3].tolist()
    assert back["visits"].astype("Int64").equals(FRAME["visits"])
    assert (back["prediction"] == FRAME["prediction"]).all()
    assert back["seen"][2] == datetime(2024, 3, 1, 12, 30)
    assert back["seen"].isna().tolist() == FRAME["seen"].isna().tolist()


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("p.xlsx", r"p\.xlsx: name a file that ends in \.csv or \.parquet$"),
        ("p", r"name a file that ends in"),
        ("missing/p.csv", r"missing/p\.csv: cannot write it \(No such file or directory\)$"),
    ],
)
def test_a_place_that_cannot_be_written(
    version: DatasetVersion, tmp_path: Path, name: str, problem: str
) -> None:
    with pytest.raises(DataError, match=problem):
        export(version, tmp_path / name)
    assert [path.name for path in tmp_path.iterdir()] == ["lake"]
