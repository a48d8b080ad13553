"""Versions of a table, as its commits record them."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import pandas as pd
import pyarrow as pa
import pyarrow.fs
from deltalake import CommitProperties, DeltaTable
from deltalake.exceptions import CommitFailedError, DeltaError, TableNotFoundError

from lifecycle.errors import BackendError, first_line
from lifecycle.lake.manifest import NOTE, place_of
from lifecycle.records import DatasetVersion, Record
from lifecycle.settings import Settings

COMMIT_FILES = "[0-9]" * 20 + ".json"
ERASED = "erased"
"""In a commit: how many rows of the version `lifecycle erase` has taken out since."""
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
            "rows": commit["operationMetrics"]["num_added_rows"],
            "time": pd.Timestamp(commit["timestamp"], unit="ms"),
            "note": _note(commit),
        }
        for commit in commits(uri)
    ]
    return pd.DataFrame(versions[::-1], columns=["version", "digest", "rows", "time", "note"])


def find_version(uri: str, digest: str) -> DatasetVersion | None:
    """The version of a table with this digest, the newest if there are several.

    Raises:
        BackendError: the table cannot be read.
    """
    matches = (commit for commit in commits(uri) if commit["digest"] == digest)
    return next((_version(uri, commit) for commit in matches), None)


def noted_version(uri: str, noted: Mapping[str, str]) -> Noted | None:
    """The newest version whose note says all of this.

    Raises:
        BackendError: the table cannot be read.
    """
    for commit in commits(uri):
        note = _note(commit)
        if noted.items() <= note.items():
            return Noted(_version(uri, commit), note)
    return None


def erased_rows(uri: str, version: int) -> int:
    """How many rows were erased from a version since it was written.

    Raises:
        BackendError: the table cannot be read.
    """
    matches = (commit for commit in commits(uri) if commit["version"] == version)
    return sum(int(commit.get(ERASED, 0)) for commit in matches)


def commits(uri: str) -> list[dict[str, Any]]:
    """Commits that wrote a version, newest first; none if there is no table yet."""
    system, path = place_of(uri)
    try:
        if isinstance(system, pyarrow.fs.LocalFileSystem):
            return _local_commits(Path(path))
        history = DeltaTable(uri).history()
    except TableNotFoundError:
        return []
    except (DeltaError, OSError, ValueError) as error:
        raise BackendError(f"{uri}: cannot read the table: {first_line(error)}") from None
    # deltalake counts down from the version it opened, though it also tells of commits that came
    # since; a table of ours has all its commits, so that the oldest is number 0
    since = max(0, -history[-1]["version"]) if history else 0
    return [
        commit | {"version": commit["version"] + since} for commit in history if "digest" in commit
    ]


def _local_commits(table: Path) -> list[dict[str, Any]]:
    """The log as its files have it: deltalake tells of no history below a folder with `#` or `?`.

    Raises:
        OSError: a file cannot be read.
        ValueError: one holds no JSON; names it.
    """
    commits = []
    for file in sorted((table / "_delta_log").glob(COMMIT_FILES), reverse=True):
        try:
            lines = file.read_text(encoding="utf-8").splitlines()
            infos = [json.loads(line)["commitInfo"] for line in lines if '"commitInfo"' in line]
        except (ValueError, TypeError, KeyError) as error:
            raise ValueError(f"{file.name} is damaged ({error})") from None
        commits += [info | {"version": int(file.stem)} for info in infos if "digest" in info]
    return commits


def _version(uri: str, commit: dict[str, Any]) -> DatasetVersion:
    return DatasetVersion(
        uri=uri,
        version=commit["version"],
        digest=commit["digest"],
        rows=commit["operationMetrics"]["num_added_rows"],
    )


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
    """Whether something that the record refers to is gone: a version of a table, or a file.

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
    pairs = ((commit["version"], commit["digest"]) for commit in commits(uri))
    return (ref.version, ref.digest) in pairs
