"""Places of sources by name, and a project that reads one."""

import importlib
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from lifecycle.data.sources import Source
from lifecycle.project import Project
from lifecycle.project.loader import load_project
from tests.support.places import (
    CONTRACT,
    DeltaPlace,
    Dvc,
    FilePlace,
    Folder,
    FunctionPlace,
    Package,
    Place,
    SqlPlace,
)
from tests.support.servers import Bucket, WebFolder


def project_of(folder: Path, source: dict[str, Any], **contract: Any) -> Project:
    columns = contract.pop("columns", CONTRACT)
    watermark = source.get("incremental", {}).get("column")
    if watermark:  # it must not be missing
        columns = columns | {watermark: {"type": columns[watermark]["type"]}}
    declared = {
        "name": "small",
        "source": source,
        "task": "binary",
        "target": "member",
        "entity": None,
        "contract": {"columns": columns, "key": ["id"], **contract},
    }
    file = folder / "project.yaml"
    file.write_text(yaml.safe_dump(declared, allow_unicode=True))
    return load_project(file)


Maker = Callable[[pytest.FixtureRequest, Path, pytest.MonkeyPatch], Place]


def local(*what: str) -> Maker:
    return lambda request, folder, patch: FilePlace(Folder(folder), *what)


def dvc(*what: str) -> Maker:
    return lambda request, folder, patch: FilePlace(Dvc(folder), *what)


def package(request: pytest.FixtureRequest, folder: Path, patch: pytest.MonkeyPatch) -> Place:
    patch.syspath_prepend(folder)
    place = FilePlace(Package(folder))
    place.store.write("in.csv", b"")
    importlib.invalidate_caches()
    return place


def web(private: bool, *what: str) -> Maker:
    def make(request: pytest.FixtureRequest, folder: Path, patch: pytest.MonkeyPatch) -> Place:
        store = WebFolder(request.getfixturevalue("web"), private)
        for name, value in store.environment.items():
            patch.setenv(name, value)
        return FilePlace(store, *what)

    return make


def s3(*what: str) -> Maker:
    def make(request: pytest.FixtureRequest, folder: Path, patch: pytest.MonkeyPatch) -> Place:
        store = Bucket(request.getfixturevalue("s3"), f"b-{uuid.uuid4().hex[:12]}")
        for name, value in store.environment.items():
            patch.setenv(name, value)
        return FilePlace(store, *what)

    return make


def sqlite(request: pytest.FixtureRequest, folder: Path, patch: pytest.MonkeyPatch) -> Place:
    (folder / "rows.db").touch()
    return SqlPlace(f"sqlite:///{folder}/rows.db", {"path": "sqlite:///rows.db"})


def postgres(**spec: Any) -> Maker:
    def make(request: pytest.FixtureRequest, folder: Path, patch: pytest.MonkeyPatch) -> Place:
        url = request.getfixturevalue("database")
        patch.setenv("WAREHOUSE_URL", url)
        secret = request.getfixturevalue("postgres").password
        return SqlPlace(url, {"credentials": "WAREHOUSE_URL", **spec}, secret)

    return make


def delta(request: pytest.FixtureRequest, folder: Path, patch: pytest.MonkeyPatch) -> Place:
    return DeltaPlace(folder)


def function(gives: str) -> Maker:
    return lambda request, folder, patch: FunctionPlace(folder, gives)


PLACES: dict[str, Maker] = {
    "csv": local("csv"),
    "parquet": local("parquet"),
    "jsonl": local("jsonl"),
    "excel": local("excel"),
    "csv.gz": local("csv", ".gz"),
    "csv.bz2": local("csv", ".bz2"),
    "csv.xz": local("csv", ".xz"),
    "csv.zst": local("csv", ".zst"),
    "jsonl.gz": local("jsonl", ".gz"),
    "folder of csv": local("csv", "", "folder"),
    "glob of parquet": local("parquet", "", "glob"),
    "partitions of csv": local("csv", "", "partitions"),
    "partitions of parquet": local("parquet", "", "partitions"),
    "dvc": dvc("csv"),
    "dvc, folder of jsonl.gz": dvc("jsonl", ".gz", "folder"),
    "dvc, partitions of parquet": dvc("parquet", "", "partitions"),
    "package": package,
    "http": web(False, "csv"),
    "http, authorized, gzip": web(True, "csv", ".gz"),
    "http, authorized, parquet": web(True, "parquet"),
    "http, jsonl": web(False, "jsonl"),
    "s3": s3("csv"),
    "s3, partitions of parquet": s3("parquet", "", "partitions"),
    "s3, glob of jsonl": s3("jsonl", ".zst", "glob"),
    "s3, excel": s3("excel"),
    "sqlite": sqlite,
    "postgresql by ADBC": postgres(),
    "postgresql by SQLAlchemy": postgres(options={"pool_pre_ping": True}),
    "delta": delta,
    "function, table": function("return t"),
    "function, frame": function("return t.to_pandas(integer_object_nulls=True)"),
    "function, iterator": function("yield from t.to_batches(max_chunksize=7)"),
}
SLOW = ("s3, partitions of parquet", "s3, excel")
"""Half of the seconds of all places; each differs from one that is quick only in its format."""
ON_RAY = {
    "folder of csv": "component",
    "partitions of parquet": "system",
    "dvc, folder of jsonl.gz": "system",
    "s3, glob of jsonl": "system",
}
"""Read once more by Ray's workers, which have none of this process's variables; and the tier."""
Opener = Callable[[Project], Source]
