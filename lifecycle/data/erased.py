"""Who was erased: keyed hashes of entities, which ingestion leaves out for good.

The source is not ours: an erased person may still be in it, and must not come back with the next
ingestion. The hash is another one than the pseudonym in the tables (`privacy.pseudonym`): the list
says nothing about any row, and a search for what is left of a person does not find it.

A hash that damage has changed would let its person back in, so the list checks itself: each commit
adds rows that bear its number and one checksum of them all, and a number that is missing shows.
"""

from collections.abc import Collection, Iterable
from datetime import UTC, datetime

import pyarrow as pa
import pyarrow.compute as pc
from deltalake import CommitProperties, DeltaTable, write_deltalake
from deltalake.exceptions import CommitFailedError, DeltaError, TableNotFoundError

from lifecycle.audit.chain import RESTORE
from lifecycle.data.privacy import pii_key, pseudonym
from lifecycle.errors import BackendError
from lifecycle.lake import create_table, first_line, table_uri
from lifecycle.project import Project
from lifecycle.runtime.identity import sha256
from lifecycle.settings import Settings

TABLE = "erased"
PURPOSE = b"erased\0"
"""Begins what is hashed, so that this hash differs from every pseudonym."""
SCHEMA = pa.schema(
    {"hash": pa.string(), "time": pa.string(), "number": pa.int64(), "check": pa.string()}
)
"""`number` and `check` are null in rows that were written before there were any."""
ATTEMPTS = 20


def erased_hashes(settings: Settings, project: Project) -> frozenset[str]:
    """The list; empty if nobody was erased. One small read of the lake.

    Raises:
        BackendError: the list cannot be read, or is damaged.
    """
    return _read(table_uri(settings, project.name, TABLE))[1]


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
        BackendError: the list cannot be read or written, or is damaged.
    """
    uri = table_uri(settings, project.name, TABLE)
    wanted = set(hash_entities(values, settings)) - {""}
    for _ in range(ATTEMPTS):
        table, known = _read(uri)
        new = sorted(wanted - known)
        if not new:
            return 0
        try:
            if table is None:
                table = create_table(uri, SCHEMA)
            _append(table, new)
        except CommitFailedError:  # another process came first
            continue
        except (DeltaError, OSError) as error:
            raise BackendError(f"{uri}: cannot write: {first_line(error)}") from None
        return len(new)
    raise BackendError(f"{uri}: other processes keep writing this table; run again")


def _append(table: DeltaTable, new: list[str]) -> None:
    """One commit on top of what `table` has read; if another one came between, it fails."""
    number, now = table.version() + 1, datetime.now(UTC).isoformat(timespec="seconds")
    columns = {
        "hash": new,
        "time": [now] * len(new),
        "number": [number] * len(new),
        "check": [_check(number, now, new)] * len(new),
    }
    write_deltalake(
        table,
        pa.table(columns, schema=SCHEMA),
        mode="append",
        schema_mode="merge",
        commit_properties=CommitProperties(max_commit_retries=0),
    )


def _read(uri: str) -> tuple[DeltaTable | None, frozenset[str]]:
    """The table, if there is one, and the hashes in it."""
    try:
        table = DeltaTable(uri)
        rows = table.to_pyarrow_table()
        _hold(rows, table.version())
        return table, frozenset(rows["hash"].to_pylist())
    except TableNotFoundError:
        return None, frozenset()
    except (DeltaError, pa.ArrowException, OSError) as error:
        why = first_line(error)
        raise BackendError(f"{uri}: cannot read who was erased: {why}; {RESTORE}") from None
    except (ValueError, KeyError) as error:  # text that is none, or a column that is gone
        raise BackendError(
            f"{uri}: the list of who was erased is damaged ({error}); {RESTORE}"
        ) from None


def _hold(rows: pa.Table, version: int) -> None:
    """Hold the rows of each commit against its checksum, and the commits against their number.

    Raises:
        ValueError: a commit's rows are others, or missing.
    """
    if "check" not in rows.column_names:
        return
    frame = rows.to_pandas()
    numbered = frame.dropna(subset=["number", "check"], how="all")
    numbers = set()
    for (number, check), part in numbered.groupby(["number", "check"], dropna=False):
        hashes, times = part["hash"].tolist(), part["time"].unique().tolist()
        whole = len(times) == 1 and not part.isna().any(axis=None)
        if not whole or check != _check(int(number), times[0], sorted(hashes)):
            raise ValueError(f"the rows of commit {number:g} do not match their checksum")
        numbers.add(int(number))
    first = min(numbers, default=version + 1) if len(numbered) < len(frame) else 1
    if gaps := set(range(first, version + 1)) ^ numbers:
        raise ValueError(f"the rows of commit {min(gaps)} are missing or not its own")


def _check(number: int, time: str, hashes: list[str]) -> str:
    return sha256({"number": number, "time": time, "hashes": hashes})
