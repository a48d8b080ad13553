"""The proof: every byte of every place is read, and what still names a person is told.

Bytes are searched as they are; what hides text is opened as well: Parquet pages, SQLite's rows,
gzip, bzip2, xz and zip. A value that is short (`subject.distinctive`) counts where its column's
name stands before it, or in a table's column of that name; any other wherever it stands.
"""

import bz2
import gzip
import io
import lzma
import os
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import IO, Any
from urllib.parse import urlsplit

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from lifecycle.errors import BackendError
from lifecycle.governance.databases import open_database, search_database, way_out
from lifecycle.governance.delta_log import versions_of_files
from lifecycle.governance.folder import (
    OLD_VERSION_NOTE,
    VERSION,
    Folder,
    kept_versions,
    open_folder,
)
from lifecycle.governance.requests import FOLDER as REQUESTS
from lifecycle.governance.subject import Subject
from lifecycle.governance.tables import table_names
from lifecycle.lake.column_types import is_text
from lifecycle.project import Project
from lifecycle.records import Searched
from lifecycle.settings import SQLITE, Settings, sqlite_file, sqlite_url

# All places that may have rows: the lake, `home`, artifacts, databases, of all projects.

SQLITE_MAGIC = b"SQLite format 3\0"
SECRET = ("pii-key", "serve-keys.json", "store-id")
"""Files of `home` without rows, whose content must not be copied."""
SERVER = "://"


@dataclass(frozen=True)
class Places:
    """Places to search; no folder lies in another."""

    folders: tuple[Folder, ...]
    databases: tuple[str, ...]
    """URLs of databases that are no files."""
    unsearched: tuple[str, ...]
    pages: str
    """Where a script's Prefect server keeps a copy of its package's own pages."""

    def files(self) -> Iterator[tuple[Folder, str]]:
        """Every file with its folder; requests for erasure, keys and Prefect's pages left out."""
        for folder in self.folders:
            for path in folder.files():
                inside = folder.inside(path)
                kept_out = inside in SECRET or inside.startswith(f"{REQUESTS}/")
                if not (kept_out or path.startswith(self.pages)):
                    yield folder, path


def find_places(settings: Settings) -> Places:
    """Collect the places that these settings and Prefect's own variables name."""
    roots = [str(settings.home), settings.lake, settings.ray_storage]
    databases: list[str] = []
    unsearched: list[str] = []
    tracking = settings.tracking_uri
    if tracking.startswith(("http://", "https://")):
        if not settings.databases:
            unsearched.append(
                f"MLflow's database behind {_host(tracking)}: name it in LIFECYCLE_DATABASES"
            )
    elif tracking.startswith(SQLITE):
        roots.append(str(sqlite_file(tracking)))
    else:
        databases.append(tracking)
    artifacts = settings.artifact_root
    if artifacts is None or artifacts.startswith(("http://", "https://", "mlflow-artifacts:")):
        unsearched.append(
            "the artifacts of the MLflow server: name their folder or bucket in "
            "LIFECYCLE_MLFLOW_ARTIFACT_ROOT"
        )
    else:
        roots.append(artifacts)
    roots.append(str(prefect_home(settings)))
    if (
        (api := os.environ.get("PREFECT_API_URL", ""))
        and not settings.databases
        and (urlsplit(api).hostname not in ("127.0.0.1", "localhost", "::1"))
    ):
        unsearched.append(
            f"the database of the Prefect server {_host(api)}: name it in LIFECYCLE_DATABASES"
        )
    if settings.databases:
        databases += settings.databases.get_secret_value().split()
    folders = {}
    for root in filter(None, roots):
        folder = open_folder(root)
        folders[type(folder.fs), folder.path] = folder
    return Places(
        folders=_outermost([*folders.values()]),
        databases=tuple(databases),
        unsearched=tuple(unsearched),
        pages=f"{open_folder(str(prefect_home(settings) / 'ui')).path}/",
    )


def prefect_home(settings: Settings) -> Path:
    """Return the folder in which Prefect stores a script's database and results."""
    return Path(os.environ.get("PREFECT_HOME") or settings.home / "prefect").expanduser()


def is_sqlite(folder: Folder, path: str) -> bool:
    """Return whether a file is a local SQLite database."""
    if not folder.local:
        return False
    with open(path, "rb") as file:
        return file.read(len(SQLITE_MAGIC)) == SQLITE_MAGIC


def _outermost(folders: list[Folder]) -> tuple[Folder, ...]:
    def within(inner: Folder, outer: Folder) -> bool:
        same = type(inner.fs) is type(outer.fs)
        return same and inner.path.startswith(outer.path.rstrip("/") + "/")

    return tuple(
        folder for folder in folders if not any(within(folder, other) for other in folders)
    )


def _host(uri: str) -> str:
    parts = urlsplit(uri)
    return f"{parts.scheme}://{parts.hostname}" + (f":{parts.port}" if parts.port else "")


CHUNK = 16 << 20
OVERLAP = 1 << 16
"""Bytes read twice, so that nothing is missed where two chunks meet."""
UNREADABLE = (
    BackendError,
    OSError,
    EOFError,
    pa.ArrowException,
    lzma.LZMAError,
    zipfile.BadZipFile,
)
OPENERS: dict[bytes, Any] = {
    b"\x1f\x8b": gzip.open,
    b"BZh": bz2.open,
    b"\xfd7zXZ\0": lzma.open,
}


def search(project: Project, settings: Settings, subject: Subject) -> Searched:
    """Look for the persons everywhere.

    Raises:
        BackendError: a folder cannot be listed or a database not be read.
    """
    places = find_places(settings)
    lake = open_folder(settings.lake).path.rstrip("/")
    tables = _of_versions(open_folder(settings.lake) / project.name)
    remaining: list[str] = []
    elsewhere: list[str] = []
    unsearched = list(places.unsearched)
    files, size = 0, 0
    for folder, path in chain(places.files(), _kept_files(places, unsearched)):
        label = (
            tables.get(path, "")
            + folder.label(path)
            + (OLD_VERSION_NOTE if VERSION in path else "")
        )
        try:
            matches, read = search_file(folder, path, subject)
            files, size = files + 1, size + read
        except FileNotFoundError:  # somebody's temporary file
            continue
        except UNREADABLE as error:
            unsearched.append(f"{label}: cannot be read ({error})")
            continue
        other = f"{path}/".startswith(f"{lake}/") and not path.startswith(f"{lake}/{project.name}/")
        (elsewhere if other else remaining).extend(f"{label}{where}" for where in matches)
    found_there, refused = _databases(places, subject)
    return Searched(
        left=tuple(sorted({*remaining, *found_there})),
        elsewhere=tuple(sorted(elsewhere)),
        unsearched=(*unsearched, *refused),
        unknown=() if subject.values else _unknown(project),
        files=files,
        megabytes=round(size / 2**20, 1),
    )


def _unknown(project: Project) -> tuple[str, ...]:
    """Columns whose plain values ingestion replaces or leaves out: only the source has them."""
    columns = project.contract.columns.items()
    names = [name for name, spec in columns if spec.pii in ("hash", "drop")]
    return tuple(name for name in names if name != project.entity)


def search_file(folder: Folder, path: str, subject: Subject) -> tuple[list[str], int]:
    """Search a file: return the places with a match, and its size in bytes.

    A place is empty for a match in the bytes of the file.
    """
    matches = []
    if is_sqlite(folder, path):
        with open_database(sqlite_url(path)) as engine:
            for column, rows in search_database(engine, subject).items():
                matches.append(f": {column}, {rows} rows")
    with folder.open(path) as file:
        matches += _in_file(file, subject)
        return matches, file.seek(0, os.SEEK_END)


def _of_versions(lake: Folder) -> dict[str, str]:
    """Data file → the table and the versions that it belongs to, to be told before its path."""
    counts = {}
    for name in table_names(lake):
        table = lake / name
        for path, versions in versions_of_files(table).items():
            last = f" to v{versions[-1]}" if len(versions) > 1 else ""
            counts[f"{table.path}/{path}"] = f"{name} v{versions[0]}{last}, "
    return counts


def _kept_files(places: Places, unsearched: list[str]) -> Iterator[tuple[Folder, str]]:
    """Old versions of objects; a bucket that does not tell of them goes to `unsearched`."""
    for folder in places.folders:
        try:
            yield from kept_versions(folder)
        except BackendError as error:
            unsearched.append(str(error))


def _databases(places: Places, subject: Subject) -> tuple[list[str], list[str]]:
    remaining, unsearched = [], []
    for url in places.databases:
        try:
            with open_database(url) as engine:
                label = engine.url.render_as_string(hide_password=True)
                for column, rows in search_database(engine, subject).items():
                    remaining.append(f"{label}: {column}, {rows} rows; {way_out(column)}")
        except BackendError as error:
            unsearched.append(str(error))
    return remaining, unsearched


def _in_file(file: IO[bytes], subject: Subject) -> Iterator[str]:
    start = file.read(8)
    file.seek(0)
    if start[:4] == b"PAR1":
        yield from _in_parquet(file, subject)
    file.seek(0)
    if _in_stream(file, subject):
        yield ""
    file.seek(0)
    for magic, opener in OPENERS.items():
        if start.startswith(magic):
            with opener(file) as inner:
                if _in_stream(inner, subject):
                    yield ": compressed"
    if start[:4] == b"PK\x03\x04":
        with zipfile.ZipFile(file) as archive:
            for name in archive.namelist():
                with archive.open(name) as inner:
                    if _in_stream(inner, subject):
                        yield f": {name}"


def _in_parquet(file: IO[bytes], subject: Subject) -> Iterator[str]:
    parquet = pq.ParquetFile(file)
    counts: dict[str, int] = {}
    for batch in parquet.iter_batches():
        for name in batch.schema.names:
            if rows := _in_column(batch.column(name), name, subject):
                counts[name] = counts.get(name, 0) + rows
    for name, rows in counts.items():
        yield f": {name}, {rows} rows"


def _in_column(column: pa.Array, name: str, subject: Subject) -> int:
    while pa.types.is_list(column.type) or pa.types.is_large_list(column.type):
        column = column.flatten()
    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    mask = pa.array([False] * len(column))
    if name in subject.columns:
        mask = subject.equal(column).fill_null(False)
    if is_text(column.type):
        mask = pc.or_(mask, subject.cells(column))
    return int(pc.sum(mask).as_py() or 0)


def _in_stream(file: IO[bytes] | io.BufferedIOBase, subject: Subject) -> bool:
    before = b""
    while part := file.read(CHUNK):
        data = before + part
        if subject.holds(data):
            return True
        before = data[-OVERLAP:]
    return False
