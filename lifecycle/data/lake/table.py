"""What versions a table has, as its commits say."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import pandas as pd
from deltalake import DeltaTable
from deltalake.exceptions import DeltaError, TableNotFoundError

from lifecycle.errors import BackendError
from lifecycle.records import DatasetVersion
from lifecycle.settings import Settings

NOTE = "note."
ERASED = "erased"
"""In a commit: how many rows of the version `lifecycle erase` has taken out since."""
ROW = "__row"
"""Column with a row's number in the version; never handed out."""


class Noted(NamedTuple):
    """A version with what its commit says of it."""

    version: DatasetVersion
    note: dict[str, str]


def table_uri(settings: Settings, project_name: str, table: str) -> str:
    """Where a project's table is."""
    return f"{settings.lake}/{project_name}/{table}"


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
    found = (commit for commit in commits(uri) if commit["digest"] == digest)
    return next((_version(uri, commit) for commit in found), None)


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
    known = (commit for commit in commits(uri) if commit["version"] == version)
    return sum(int(commit.get(ERASED, 0)) for commit in known)


def commits(uri: str) -> list[dict[str, Any]]:
    """Commits that wrote a version, newest first; none if there is no table yet."""
    try:
        return [commit for commit in DeltaTable(uri).history() if "digest" in commit]
    except TableNotFoundError:
        return []
    except (DeltaError, OSError) as error:
        raise BackendError(f"{uri}: cannot read the table: {first_line(error)}") from None


def first_line(error: Exception) -> str:
    """An error of Delta's, without what follows."""
    return str(error).strip().split("\n", 1)[0]


def _version(uri: str, commit: dict[str, Any]) -> DatasetVersion:
    return DatasetVersion(
        uri=uri,
        version=commit["version"],
        digest=commit["digest"],
        rows=commit["operationMetrics"]["num_added_rows"],
    )


def _note(commit: dict[str, Any]) -> dict[str, str]:
    return {k.removeprefix(NOTE): v for k, v in commit.items() if k.startswith(NOTE)}
