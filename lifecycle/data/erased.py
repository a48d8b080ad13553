"""Who was erased: keyed hashes of entities, which ingestion leaves out for good.

The source is not ours: an erased person may still be in it, and must not come back with the next
ingestion. The hash is another one than the pseudonym in the tables (`privacy.pseudonym`): the list
says nothing about any row, and a search for what is left of a person does not find it.
"""

from collections.abc import Collection, Iterable
from datetime import UTC, datetime

import pyarrow as pa
import pyarrow.compute as pc
from deltalake import DeltaTable, write_deltalake
from deltalake.exceptions import DeltaError, TableNotFoundError

from lifecycle.data.lake import first_line, table_uri
from lifecycle.data.privacy import pii_key, pseudonym
from lifecycle.errors import BackendError
from lifecycle.identity import sha256
from lifecycle.project import Project
from lifecycle.settings import Settings

TABLE = "erased"
PURPOSE = b"erased\0"
"""Begins what is hashed, so that this hash differs from every pseudonym."""
SCHEMA = pa.schema({"hash": pa.string(), "time": pa.string()})


def erased_hashes(settings: Settings, project: Project) -> frozenset[str]:
    """The list; empty if nobody was erased. One small read of the lake.

    Raises:
        BackendError: the list cannot be read.
    """
    uri = table_uri(settings, project.name, TABLE)
    try:
        found = DeltaTable(uri).to_pyarrow_table(columns=["hash"])
    except TableNotFoundError:
        return frozenset()
    except (DeltaError, pa.ArrowException, OSError) as error:
        raise BackendError(f"{uri}: cannot read who was erased: {first_line(error)}") from None
    return frozenset(found["hash"].to_pylist())


def erased_digest(hashes: Collection[str]) -> str:
    """What a cached ingestion depends on besides its source; empty if nobody was erased."""
    return sha256(sorted(hashes)) if hashes else ""


def erased_mask(
    values: pa.Array | pa.ChunkedArray, hashes: Collection[str], settings: Settings
) -> pa.BooleanArray | pa.ChunkedArray:
    """Which rows are about an erased entity: not null, of the length of `values`.

    Each distinct value is hashed once (about two microseconds); nothing is if nobody was erased.

    Args:
        values: the column of the entity, typed as the contract says or as text.
    """
    if not hashes:
        return pa.repeat(False, len(values))
    distinct = pc.unique(values)
    gone = hash_entities(distinct.to_pylist(), settings)
    told = distinct.filter(pa.array([one in hashes for one in gone], pa.bool_()))
    return pc.is_in(values, value_set=told.drop_null())


def hash_entities(values: Iterable[object], settings: Settings) -> list[str]:
    """The list's hash of each value; a missing one has the empty text, which is never listed."""
    return [one or "" for one in pseudonym(values, pii_key(settings), PURPOSE)]


def suppress(settings: Settings, project: Project, values: Iterable[object]) -> int:
    """Put entities on the list, in one commit; how many were not there yet.

    Raises:
        BackendError: the list cannot be read or written.
    """
    known = erased_hashes(settings, project)
    new = sorted(set(hash_entities(values, settings)) - known - {""})
    if new:
        uri = table_uri(settings, project.name, TABLE)
        now = datetime.now(UTC).isoformat(timespec="seconds")
        rows = pa.table({"hash": new, "time": [now] * len(new)}, schema=SCHEMA)
        try:
            write_deltalake(uri, rows, mode="append")
        except (DeltaError, OSError) as error:
            raise BackendError(f"{uri}: cannot write: {first_line(error)}") from None
    return len(new)
