"""Versions of a table, as its commits record them."""

from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from functools import partial
from itertools import islice, takewhile
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import pandas as pd
import pyarrow as pa
import pyarrow.fs
from deltalake import CommitProperties, DeltaTable
from deltalake.exceptions import CommitFailedError, DeltaError, TableNotFoundError

from lifecycle.errors import BackendError, DataError, first_line
from lifecycle.lake.manifest import NOTE, place_of, read_commit
from lifecycle.records import DatasetVersion, Record
from lifecycle.settings import Settings

COMMIT_FILES = "[0-9]" * 20 + ".json"
ROWS = "rows"
"""In a commit that does not hold all of its version's rows: how many those are."""
READ_AHEAD = 64
"""Most commits of object storage that are fetched at once."""
ERASED = "erased"
"""In a commit: how many rows of the version `lifecycle erase` has taken out since."""
NUMBER = "row"
"""Column of the parts and of predictions: a row's number in the version that they are about."""
ROW = "__row"
"""Column with a row's number in the version; never handed out."""


class Noted(NamedTuple):
    """A version with what its commit says of it."""

    version: DatasetVersion
    note: dict[str, str]


def table_uri(settings: Settings, project_name: str, table: str) -> str:
    """URI of a project's table."""
    return f"{settings.lake.rstrip('/')}/{project_name}/{table}"


def create_table(
    uri: str,
    schema: pa.Schema,
    *,
    partition_by: str | None = None,
    configuration: Mapping[str, str | None] | None = None,
) -> DeltaTable:
    """Make an empty table, or open the one that another process has made.

    Delta's own `mode="ignore"` lets the second of two processes commit again what the first one
    did. Nobody expects a commit without rows: here the second one fails, and opens the table.

    Raises:
        DeltaError: the table can be neither made nor opened.
        OSError: the place cannot be written.
    """
    try:
        return DeltaTable.create(
            uri,
            schema=schema,
            mode="ignore",
            partition_by=partition_by,
            configuration=configuration,
            commit_properties=CommitProperties(max_commit_retries=0),
        )
    except CommitFailedError:
        return DeltaTable(uri)


def history(uri: str) -> pd.DataFrame:
    """Versions of a table, oldest first: version, digest, rows, time (UTC) and note.

    Raises:
        BackendError: the table cannot be read. (A table that is not there has no versions.)
    """
    versions = [
        {
            "version": commit["version"],
            "digest": commit["digest"],
            "rows": _rows(commit),
            "time": pd.Timestamp(commit["timestamp"], unit="ms"),
            "note": _note(commit),
        }
        for commit in commits(uri)
    ]
    return pd.DataFrame(versions[::-1], columns=["version", "digest", "rows", "time", "note"])


def numbered_version(uri: str, number: int | None = None) -> DatasetVersion:
    """A version of a table by its number, by default the newest.

    Raises:
        DataError: there is no such version.
        BackendError: the table cannot be read.
    """
    versions = history(uri)
    matching = versions if number is None else versions[versions["version"] == number]
    if matching.empty:
        have = ", ".join(map(str, versions["version"])) or "none"
        table = uri.rstrip("/").rpartition("/")[2]
        which = "" if number is None else f" {number}"
        raise DataError(f"{table} has no version{which} in {uri}; it has {have}")
    last = matching.iloc[-1]
    return DatasetVersion(
        uri=uri, version=int(last["version"]), digest=last["digest"], rows=int(last["rows"])
    )


def find_version(
    uri: str, digest: str, source: DatasetVersion | None = None
) -> DatasetVersion | None:
    """The version of a table with this digest, the newest if there are several.

    Args:
        source: a version that it is made from. The search ends at commits before that one's, so
            that it does not read the whole history for a digest that is new.

    Raises:
        BackendError: the table cannot be read.
    """
    since = _time(read_commit(source.uri, source.version) or {}) if source else 0
    recent = takewhile(lambda commit: _time(commit) >= since, commits(uri))
    matches = (commit for commit in recent if commit["digest"] == digest)
    return next((_version(uri, commit) for commit in matches), None)


def noted_versions(uri: str) -> Iterator[Noted]:
    """Versions of a table with their notes, newest first, each read when it is asked for.

    Raises:
        BackendError: the table cannot be read.
    """
    return (Noted(_version(uri, commit), _note(commit)) for commit in commits(uri))


def noted_version(uri: str, noted: Mapping[str, str]) -> Noted | None:
    """The newest version whose note says all of this.

    Raises:
        BackendError: the table cannot be read.
    """
    matches = (version for version in noted_versions(uri) if noted.items() <= version.note.items())
    return next(matches, None)


def note_of(uri: str, version: int) -> dict[str, str]:
    """The note of a version, whose rows may have expired; empty if there is no such version.

    Raises:
        BackendError: the commit cannot be read.
    """
    return _note(read_commit(uri, version) or {})


def erased_rows(uri: str, version: int) -> int:
    """Number of rows that were erased from a version since it was written.

    Raises:
        BackendError: the commit cannot be read.
    """
    return int((read_commit(uri, version) or {}).get(ERASED, 0))


def rows_left(uri: str, version: int) -> int:
    """Number of rows of a version, without those that were erased since it was written.

    Raises:
        BackendError: the commit is not there, or cannot be read.
    """
    commit = read_commit(uri, version)
    if commit is None:
        raise BackendError(f"{uri}: version {version} is gone; was the table replaced?")
    return _rows(commit)


def commits(uri: str) -> Iterator[dict[str, Any]]:
    """Commits that wrote a version, newest first, each read when it is asked for; none if there is
    no table yet.

    Raises:
        BackendError: the table, or one of its commits, cannot be read.
    """
    numbers = iter(_numbers(uri))
    count = 1
    with ThreadPoolExecutor(READ_AHEAD) if "://" in uri else nullcontext() as threads:
        while chunk := list(islice(numbers, count)):
            infos = (threads.map if threads else map)(partial(read_commit, uri), chunk)
            for number, info in zip(chunk, infos, strict=True):
                if info and "digest" in info:
                    yield info | {"version": number}
            count = min(2 * count, READ_AHEAD)


def _numbers(uri: str) -> Iterable[int]:
    """Numbers of a table's commits, newest first."""
    system, path = place_of(uri)
    try:
        if isinstance(system, pyarrow.fs.LocalFileSystem):
            files = (Path(path) / "_delta_log").glob(COMMIT_FILES)
            return sorted((int(file.stem) for file in files), reverse=True)
        return range(DeltaTable(uri).version(), -1, -1)
    except TableNotFoundError:
        return ()
    except (DeltaError, OSError, ValueError) as error:
        raise BackendError(f"{uri}: cannot read the table: {first_line(error)}") from None


def _version(uri: str, commit: dict[str, Any]) -> DatasetVersion:
    return DatasetVersion(
        uri=uri,
        version=commit["version"],
        digest=commit["digest"],
        rows=_rows(commit),
    )


def _rows(commit: Mapping[str, Any]) -> int:
    return int(commit[ROWS] if ROWS in commit else commit["operationMetrics"]["num_added_rows"])


def _time(commit: Mapping[str, Any]) -> int:
    """Milliseconds since 1970 of a commit."""
    return int(commit.get("timestamp", 0))


def _note(commit: dict[str, Any]) -> dict[str, str]:
    return {k.removeprefix(NOTE): v for k, v in commit.items() if k.startswith(NOTE)}


# References to versions of a lake that was moved: resolved where the lake is now.
#
# A reference names a table by its whole place, and is kept: in the registry, in a commit's note, in
# a cached result. `<lake>/<project>/<table>` ends alike wherever the lake lies.

R = TypeVar("R", bound=Record)


def relocated(record: R, settings: Settings) -> R:
    """The record with every reference in it to a version that these settings' lake has.

    A version of another lake, which theirs does not have, stays as it is.
    """
    if isinstance(record, DatasetVersion):
        return record.model_copy(update={"uri": _place(record, settings)})
    moved = {
        name: relocated(value, settings)
        for name, value in record
        if isinstance(value, Record) and value is not None
    }
    return record.model_copy(update=moved) if moved else record


def missing(record: Record) -> bool:
    """Tell whether something that the record refers to is gone: a version of a table, or a file.

    Raises:
        BackendError: a table cannot be read.
    """
    if isinstance(record, DatasetVersion):
        return not _holds(record.uri, record)
    for _, value in record:
        for commit in value if isinstance(value, tuple) else (value,):
            if isinstance(commit, Path) and not commit.exists():
                return True
            if isinstance(commit, Record) and missing(commit):
                return True
    return False


def _place(ref: DatasetVersion, settings: Settings) -> str:
    parts = ref.uri.rstrip("/").rsplit("/", 2)
    if len(parts) < 3:
        return ref.uri
    place = table_uri(settings, *parts[1:])
    if place == ref.uri:
        return ref.uri
    try:
        return place if _holds(place, ref) else ref.uri
    except BackendError:  # reading it will say what is wrong
        return ref.uri


def _holds(uri: str, ref: DatasetVersion) -> bool:
    return (read_commit(uri, ref.version) or {}).get("digest") == ref.digest
