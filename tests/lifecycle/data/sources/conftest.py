"""The servers, and a project on a place."""

import importlib
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from lifecycle.data.sources import Source, open_source, spread
from lifecycle.project import Project
from lifecycle.project_file import load_project
from lifecycle.settings import Settings
from tests.lifecycle.data.sources.places import (
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
from tests.lifecycle.data.sources.servers import Bucket, Web, WebFolder, running_s3, running_web
from tests.postgres import Postgres


@pytest.fixture(scope="session")
def s3() -> Iterator[str]:
    with running_s3() as url:
        yield url


@pytest.fixture(scope="session")
def web_server() -> Iterator[Web]:
    with running_web() as web:
        yield web


@pytest.fixture
def web(web_server: Web) -> Web:
    web_server.files.clear()
    web_server.got.clear()
    web_server.says_versions = True
    return web_server


@pytest.fixture(scope="session")
def database(postgres: Postgres) -> Iterator[str]:
    with postgres.database("sources") as url:
        yield url


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


def _local(*what: str) -> Maker:
    return lambda request, folder, patch: FilePlace(Folder(folder), *what)


def _dvc(*what: str) -> Maker:
    return lambda request, folder, patch: FilePlace(Dvc(folder), *what)


def _package(request: pytest.FixtureRequest, folder: Path, patch: pytest.MonkeyPatch) -> Place:
    patch.syspath_prepend(folder)
    place = FilePlace(Package(folder))
    place.store.write("in.csv", b"")
    importlib.invalidate_caches()
    return place


def _web(private: bool, *what: str) -> Maker:
    def make(request: pytest.FixtureRequest, folder: Path, patch: pytest.MonkeyPatch) -> Place:
        store = WebFolder(request.getfixturevalue("web"), private)
        for name, value in store.environment.items():
            patch.setenv(name, value)
        return FilePlace(store, *what)

    return make


def _s3(*what: str) -> Maker:
    def make(request: pytest.FixtureRequest, folder: Path, patch: pytest.MonkeyPatch) -> Place:
        store = Bucket(request.getfixturevalue("s3"), f"b-{uuid.uuid4().hex[:12]}")
        for name, value in store.environment.items():
            patch.setenv(name, value)
        return FilePlace(store, *what)

    return make


def _sqlite(request: pytest.FixtureRequest, folder: Path, patch: pytest.MonkeyPatch) -> Place:
    (folder / "rows.db").touch()
    return SqlPlace(f"sqlite:///{folder}/rows.db", {"path": "sqlite:///rows.db"})


def _postgres(**spec: Any) -> Maker:
    def make(request: pytest.FixtureRequest, folder: Path, patch: pytest.MonkeyPatch) -> Place:
        url = request.getfixturevalue("database")
        patch.setenv("WAREHOUSE_URL", url)
        secret = request.getfixturevalue("postgres").password
        return SqlPlace(url, {"credentials": "WAREHOUSE_URL", **spec}, secret)

    return make


def _delta(request: pytest.FixtureRequest, folder: Path, patch: pytest.MonkeyPatch) -> Place:
    return DeltaPlace(folder)


def _function(gives: str) -> Maker:
    return lambda request, folder, patch: FunctionPlace(folder, gives)


PLACES: dict[str, Maker] = {
    "csv": _local("csv"),
    "parquet": _local("parquet"),
    "jsonl": _local("jsonl"),
    "excel": _local("excel"),
    "csv.gz": _local("csv", ".gz"),
    "csv.bz2": _local("csv", ".bz2"),
    "csv.xz": _local("csv", ".xz"),
    "csv.zst": _local("csv", ".zst"),
    "jsonl.gz": _local("jsonl", ".gz"),
    "folder of csv": _local("csv", "", "folder"),
    "glob of parquet": _local("parquet", "", "glob"),
    "partitions of csv": _local("csv", "", "partitions"),
    "partitions of parquet": _local("parquet", "", "partitions"),
    "dvc": _dvc("csv"),
    "dvc, folder of jsonl.gz": _dvc("jsonl", ".gz", "folder"),
    "dvc, partitions of parquet": _dvc("parquet", "", "partitions"),
    "package": _package,
    "http": _web(False, "csv"),
    "http, authorized, gzip": _web(True, "csv", ".gz"),
    "http, authorized, parquet": _web(True, "parquet"),
    "http, jsonl": _web(False, "jsonl"),
    "s3": _s3("csv"),
    "s3, partitions of parquet": _s3("parquet", "", "partitions"),
    "s3, glob of jsonl": _s3("jsonl", ".zst", "glob"),
    "s3, excel": _s3("excel"),
    "sqlite": _sqlite,
    "postgresql by ADBC": _postgres(),
    "postgresql by SQLAlchemy": _postgres(options={"pool_pre_ping": True}),
    "delta": _delta,
    "function, table": _function("return t"),
    "function, frame": _function("return t.to_pandas(integer_object_nulls=True)"),
    "function, iterator": _function("yield from t.to_batches(max_chunksize=7)"),
}


ON_RAY = [
    "folder of csv",
    "partitions of parquet",
    "dvc, folder of jsonl.gz",
    "s3, glob of jsonl",
]
"""Read once more by Ray's workers, which have none of this process's variables."""


@pytest.fixture(
    params=[
        *PLACES,
        *(
            pytest.param((name,), id=f"{name}, on Ray", marks=pytest.mark.component)
            for name in ON_RAY
        ),
    ],
    ids=str,
)
def place(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Place]:
    name = request.param if isinstance(request.param, str) else request.param[0]
    made = PLACES[name](request, tmp_path, monkeypatch)
    yield made
    if isinstance(made, SqlPlace):
        made.clear()


Opener = Callable[[Project], Source]


@pytest.fixture
def opened(request: pytest.FixtureRequest, place: Place) -> Opener:
    """How the project's source is opened: as ever, or to be read by the session's Ray."""
    if isinstance(request.node.callspec.params["place"], str):
        return open_source
    request.getfixturevalue("ray_cluster")
    joined = Settings(ray_address="127.0.0.1:6379")  # it is connected, so nobody goes there
    return lambda project: spread(open_source(project), joined)


@pytest.fixture
def project(place: Place, tmp_path: Path) -> Project:
    return project_of(tmp_path, place.spec)
