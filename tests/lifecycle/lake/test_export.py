"""Versions as files: every value comes back, and nothing half-written is there."""

from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from lifecycle.errors import BackendError, DataError
from lifecycle.lake import export as exporting
from lifecycle.lake.export import export
from lifecycle.lake.read import BATCH, open_version
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


@pytest.mark.parametrize("name", ["p.csv", "p.parquet"])
def test_what_cannot_be_read_to_its_end_replaces_nothing(
    version: DatasetVersion, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    def begun(version: DatasetVersion) -> Iterator[pa.RecordBatch]:
        yield from open_version(version)
        raise BackendError("the disk is gone")

    monkeypatch.setattr(exporting, "open_version", begun)
    path = tmp_path / name
    path.write_text("what was there before")
    with pytest.raises(BackendError, match="gone"):
        export(version, path)
    assert path.read_text() == "what was there before"
    assert sorted(each.name for each in tmp_path.iterdir()) == sorted(["lake", name])


def test_no_row_and_more_than_a_batch(tmp_path: Path) -> None:
    for rows in (0, BATCH + 10):
        frame = pd.DataFrame({"row": np.arange(rows)})
        path = tmp_path / f"{rows}.csv"
        export(write_version(frame, str(tmp_path / "lake" / str(rows)), note={}), path)
        assert pd.read_csv(path)["row"].tolist() == frame["row"].tolist()


def test_what_a_kind_of_file_cannot_hold_is_one_clear_error(
    version: DatasetVersion, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lists = pa.schema({"scores": pa.list_(pa.float64())})
    monkeypatch.setattr(exporting, "stored_schema", lambda _: lists)
    with pytest.raises(DataError, match=r"p\.csv: cannot write it \(.*list"):
        export(version, tmp_path / "p.csv")
