"""What can be profiled: a project, a version in the lake, a frame, a file."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import pandas as pd
import pyarrow as pa

from lifecycle.data.arrow import to_arrow
from lifecycle.data.contract import Checker
from lifecycle.data.infer import read_columns
from lifecycle.data.lake import history, open_version, table_uri
from lifecycle.data.profile.known import Known, guessed, known_of
from lifecycle.data.sources import open_source
from lifecycle.errors import DataError
from lifecycle.project import Project, load_project
from lifecycle.records import DatasetVersion
from lifecycle.settings import Settings

BATCH = 1 << 16
Profiled = pd.DataFrame | pa.Table | Project | DatasetVersion | str | Path


@dataclass
class Opened:
    """Rows to read once, and what is known of them."""

    title: str
    place: str
    batches: Iterable[pa.RecordBatch]
    known: Known
    rejected: int = 0
    """Known once the batches were read."""


def open_frame(
    frame: pd.DataFrame, target: str | None, title: str = "frame", place: str = ""
) -> Opened:
    """A frame as it is.

    Raises:
        DataError: two columns have one name, or the target is none of them.
    """
    frame = frame.rename(columns=str)
    if twice := frame.columns[frame.columns.duplicated()].tolist():
        raise DataError(f"{title}: several columns are called {twice[0]!r}: rename all but one")
    known = guessed(frame, target)
    try:
        table = to_arrow(frame)
    except pa.ArrowException:  # objects of several types: said as text
        mixed = frame.select_dtypes("object").columns
        texts = {name: frame[name].where(frame[name].isna(), frame[name].map(str)) for name in mixed}
        table = to_arrow(frame.assign(**texts))
    return Opened(title, place or "a frame in memory", _batches(table), known)


def open_file(path: str | Path, target: str | None) -> Opened:
    """A data file, its columns typed as `lifecycle init` does; it is in memory whole.

    Raises:
        SourceError: the file is missing, unreadable or empty.
        DataError: the target is none of its columns.
    """
    columns = read_columns(str(path))
    frame = pd.DataFrame({name: column.values for name, column in columns.items()})
    return open_frame(frame, target, str(path).replace("\\", "/").rpartition("/")[2], str(path))


def open_table(
    project: Project, settings: Settings, table: str = "accepted", version: int | None = None
) -> Opened | None:
    """A version of a project's table, by default the newest; None if the table has none yet.

    Raises:
        DataError: there is no such version.
        BackendError: the table cannot be read.
    """
    uri = table_uri(settings, project.name, table)
    known = history(uri)
    if version is None and not len(known):
        return None
    found = known if version is None else known[known["version"] == version]
    if not len(found):
        have = ", ".join(map(str, known["version"])) or "none"
        raise DataError(f"{table} has no version {version} in {uri}; it has {have}")
    kept = found.iloc[-1][["version", "digest", "rows"]].to_dict()
    return open_ref(DatasetVersion(uri=uri, **kept), project)


def open_ref(ref: DatasetVersion, project: Project | None = None) -> Opened:
    """A version; without its project nothing is known of it but its columns."""
    name, table = ref.uri.rstrip("/").rsplit("/", 2)[-2:]
    place = f"{table}@{ref.version}, digest {ref.digest[:12]}"
    known = known_of(project) if project else Known(period="")
    return Opened(project.name if project else name, place, open_version(ref), known)


def open_declared(project: Project) -> Opened:
    """The source as the contract reads it: the rows that ingestion would accept.

    Raises:
        SourceError: the source cannot be read.
    """
    source = open_source(project)
    opened = Opened(project.name, source.place, (), known_of(project))

    def accepted() -> Iterator[pa.RecordBatch]:
        now = datetime.now(UTC).replace(tzinfo=None)
        checker = Checker(project.contract, now=now)
        yield pa.RecordBatch.from_pylist([], schema=checker.schema)
        first = 0
        for batch in source.batches(project.contract.columns):
            checked = checker.check(batch, first)
            first += batch.num_rows
            opened.rejected += checked.rejected.num_rows
            yield checked.accepted

    opened.batches = accepted()
    return opened


def open_any(
    data: Profiled,
    *,
    target: str | None = None,
    table: str = "accepted",
    version: int | None = None,
    settings: Settings | None = None,
) -> Opened:
    """Whatever it is; a path is a project file if it ends like YAML, else a data file.

    Raises:
        LifecycleError: it cannot be read, or has no such table, version or target.
    """
    if isinstance(data, pa.Table):
        data = data.to_pandas()
    if isinstance(data, pd.DataFrame):
        return open_frame(data, target)
    if isinstance(data, str | Path):
        if not str(data).endswith((".yaml", ".yml")):
            return open_file(data, target)
        data = load_project(data)
    if isinstance(data, DatasetVersion):
        return open_ref(data)
    opened = open_table(data, settings or Settings.load(), table, version)
    if opened is None and table != "accepted":
        raise DataError(f"{data.name}: there is no version of {table} yet: run flows/prepare.py")
    return opened or open_declared(data)


def _batches(table: pa.Table) -> Iterator[pa.RecordBatch]:
    yield pa.RecordBatch.from_arrays(
        [pa.array([], field.type) for field in table.schema], schema=table.schema
    )
    yield from table.to_batches(BATCH)
