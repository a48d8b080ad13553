"""What a file's name says, and the same project on another source."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lifecycle.errors import ProjectError
from lifecycle.project import Project, SourceSpec
from lifecycle.project.data import compression_of, format_of


@pytest.mark.parametrize(
    ("path", "format", "compression"),
    [
        ("a.csv", "csv", "none"),
        ("A.CSV.GZ", "csv", "gzip"),
        ("a.b/c.parquet", "parquet", "none"),
        ("a.jsonl.zst.dvc", "jsonl", "zstd"),
        ("s3://bucket.parquet/a.xlsx", "excel", "none"),
        ("https://host/a.ndjson.xz?b=c.csv", "jsonl", "xz"),
        ("a.txt", None, "none"),
        ("many", None, "none"),
    ],
)
def test_format_by_ending(path: str, format: str | None, compression: str) -> None:
    assert (format_of(path), compression_of(path)) == (format, compression)


SQL = {"format": "sql", "path": "postgresql+psycopg://db/x", "table": "t", "credentials": "A_URL"}
HTTP = {"path": "https://host/a.csv", "credentials": "A_HEADER", "separator": ";"}
PYTHON = {"format": "python", "function": "made:rows"}


@pytest.mark.parametrize(
    ("source", "path", "expected"),
    [
        ({"path": "a.csv"}, "/b.parquet", {"path": "/b.parquet", "format": "parquet"}),
        ({"path": "a.csv", "separator": ";"}, "/b.x", {"path": "/b.x", "separator": ";"}),
        (SQL, "/b.jsonl.gz", {"path": "/b.jsonl.gz", "format": "jsonl"}),
        (PYTHON, "/many", {"path": "/many"}),
        (
            {"path": "a.csv", "separator": ";"},
            "/b.parquet",
            {"path": "/b.parquet", "format": "parquet"},
        ),
        (HTTP, "https://host/b.csv", HTTP | {"path": "https://host/b.csv"}),
        (HTTP, "https://other/a.csv", {"path": "https://other/a.csv", "separator": ";"}),
        (HTTP, "/a.csv", {"path": "/a.csv", "separator": ";"}),
    ],
)
def test_another_source(
    make_project: Callable[..., Project], source: Any, path: str, expected: Any
) -> None:
    """Credentials go along to the same server only."""
    project = make_project(source=source).with_source(path)
    assert project.source == SourceSpec.model_validate(expected)


def test_a_delta_table_is_seen(make_project: Callable[..., Project], tmp_path: Path) -> None:
    (tmp_path / "t" / "_delta_log").mkdir(parents=True)
    assert make_project().with_source(tmp_path / "t").source.format == "delta"


def test_a_password_is_refused(make_project: Callable[..., Project]) -> None:
    with pytest.raises(ProjectError, match="--source: path: it holds a password") as caught:
        make_project().with_source("https://me:word-9@host/a.csv")
    assert "word-9" not in str(caught.value)
