"""References to versions of a lake that was moved: resolved where the lake is now.

A reference names a table by its whole place, and is kept: in the registry, in a commit's note, in a
cached result. `<lake>/<project>/<table>` ends alike wherever the lake lies.
"""

from pathlib import Path
from typing import TypeVar

from lifecycle.errors import BackendError
from lifecycle.lake.table import commits, table_uri
from lifecycle.records import DatasetVersion, Record
from lifecycle.settings import Settings

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
        for one in value if isinstance(value, tuple) else (value,):
            if isinstance(one, Path) and not one.exists():
                return True
            if isinstance(one, Record) and missing(one):
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
    known = ((commit["version"], commit["digest"]) for commit in commits(uri))
    return (ref.version, ref.digest) in known
