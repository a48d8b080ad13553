"""Personal data: a keyed hash that stands for a value, so that rows can be joined, not read."""

import hmac
import secrets
from collections.abc import Collection, Iterable
from datetime import UTC, date, datetime
from itertools import islice

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from deltalake import CommitProperties, DeltaTable, write_deltalake
from deltalake.exceptions import CommitFailedError, DeltaError, TableNotFoundError

from lifecycle.audit.chain import RESTORE
from lifecycle.data.contract.terms import TABLES
from lifecycle.errors import BackendError, SettingsError, first_line
from lifecycle.lake.table import create_table, noted_versions, table_uri
from lifecycle.project import Project
from lifecycle.runtime.files import create_once
from lifecycle.runtime.identity import sha256
from lifecycle.settings import Settings

FILE = "pii-key"


def pii_key(settings: Settings) -> bytes:
    """The key of the hashes: the settings' own, else a random one made once and kept in `home`.

    Whoever has it can test guesses (there are few birthdays), so the file is its owner's alone.

    Raises:
        SettingsError: the key is empty, or the file cannot be read or made.
    """
    if settings.pii_key is not None:
        key = settings.pii_key.get_secret_value().encode()
        if not key:
            raise SettingsError("LIFECYCLE_PII_KEY: is empty; set it to a long random text")
        return key
    file = settings.folder() / FILE
    try:
        return create_once(file, secrets.token_hex(32), 0o600).encode()
    except OSError as error:
        raise SettingsError(
            f"{file}: cannot store the key of personal data there ({error.strerror}); "
            "set LIFECYCLE_PII_KEY"
        ) from None


def pseudonym(values: Iterable[object], key: bytes, purpose: bytes = b"") -> list[str | None]:
    """HMAC-SHA256 (RFC 2104) of each value as 64 hexadecimal digits; None stays None, NaN too.

    A value is hashed as text, whole numbers alike in every type: 7, 7.0 and "7" are one person.

    Args:
        purpose: begins what is hashed, so that hashes of two purposes have nothing in common.
    """
    keyed = hmac.new(key, purpose, "sha256")  # copied, not made anew: less than half the time
    hashes: list[str | None] = []
    for text in map(plain_text, values):
        if text is None:
            hashes.append(None)
            continue
        digest = keyed.copy()
        digest.update(text.encode())
        hashes.append(digest.hexdigest())
    return hashes


def plain_text(value: object) -> str | None:
    """A value as the text that is hashed; None if it is missing."""
    if type(value) is int:  # what there is most of, beside text
        return str(value)
    if isinstance(value, str):
        return value
    if value is None or value is pd.NA or value is pd.NaT:
        return None
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float):
        if value != value:
            return None
        return str(int(value)) if value.is_integer() else repr(value)
    return value.isoformat() if isinstance(value, date | datetime) else str(value)


# Personal data at ingestion: columns that no stage needs in clear are hashed or dropped.


class Hidden:
    """Carries out `pii` of the contract's columns that neither model nor reports read.

    Raises:
        SettingsError: the key of personal data cannot be read or made.
    """

    def __init__(self, project: Project, settings: Settings) -> None:
        columns = project.contract.columns
        self._key = (
            pii_key(settings) if any(spec.pii == "hash" for spec in columns.values()) else b""
        )
        read = read_as_they_are(project)
        self._hashed = {n for n, spec in columns.items() if spec.pii == "hash" and n not in read}
        self._left_out = {n for n, spec in columns.items() if spec.pii == "drop" and n not in read}

    @property
    def hashes(self) -> bool:
        """Return whether versions or quarantine hold a keyed hash."""
        return bool(self._key)

    def schema(self, schema: pa.Schema) -> pa.Schema:
        """The schema of what is written."""
        return pa.schema(
            [
                pa.field(field.name, pa.string()) if field.name in self._hashed else field
                for field in schema
                if field.name not in self._left_out
            ]
        )

    def batch(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        """Accepted rows as they are written."""
        if not self._hashed and not self._left_out:
            return batch
        arrays = [
            self._hash(values) if name in self._hashed else values
            for name, values in zip(batch.schema.names, batch.columns, strict=True)
            if name not in self._left_out
        ]
        return pa.RecordBatch.from_arrays(arrays, schema=self.schema(batch.schema))

    def mask(self, _name: str, value: object) -> str:
        """Replacement for a value in quarantine and messages."""
        return pseudonym([value], self._key)[0] or ""

    def _hash(self, values: pa.Array) -> pa.Array:
        """Each distinct value is hashed once."""
        coded = values.dictionary_encode()
        names = pa.array(pseudonym(coded.dictionary.to_pylist(), self._key), pa.string())
        return pa.DictionaryArray.from_arrays(coded.indices, names).dictionary_decode()


def read_as_they_are(project: Project) -> frozenset[str]:
    """Columns that dataset versions keep whatever `pii` says, because a stage reads their values:
    inputs, target, time, protected, and what the evaluation slices by."""
    time = {project.time.column} if project.time else set()
    slices = set(project.evaluation.slices)
    columns = {*project.input_columns, project.target, *project.protected} | time | slices
    return frozenset(columns - {project.entity})


# The PII hashing key. With a different key, no hashed identity would match.

NOTED = "pii_key"
"""In the commit of a version with hashed columns: the fingerprint of the key."""
FINGERPRINT_PURPOSE = b"fingerprint\0"
"""Begins what is hashed, so that the fingerprint is no hash of a value."""


def fingerprint(settings: Settings) -> str:
    """Tells two keys apart without telling either; 16 hexadecimal digits.

    Raises:
        SettingsError: the key cannot be read or made.
    """
    return (pseudonym([""], pii_key(settings), FINGERPRINT_PURPOSE)[0] or "")[:16]


def check_key(project: Project, settings: Settings) -> None:
    """See that the key is the one that the newest versions were hashed with; none is made here.

    Raises:
        SettingsError: it is another one, or is gone.
        BackendError: the lake cannot be read.
    """
    hashes = any(spec.pii == "hash" for spec in project.contract.columns.values())
    for table in TABLES:
        versions = noted_versions(table_uri(settings, project.name, table))
        if not hashes:  # the newest may have been hashed for who was erased
            versions = islice(versions, 1)
        hashed = next((version for version in versions if NOTED in version.note), None)
        if hashed is None:
            continue
        file = settings.home / FILE
        exists = settings.pii_key is not None or file.is_file()
        number, earlier = hashed.version.version, hashed.note[NOTED]
        if not exists or fingerprint(settings) != earlier:
            other_key = "another key" if exists else "a key that is not here"
            raise SettingsError(
                f"LIFECYCLE_PII_KEY: {table} version {number} of {project.name} was hashed with "
                f"{other_key}, so no hashed identity would match; set the variable to that key, or "
                f"restore {file} if it was there"
            )


# Suppression list: keyed hashes of erased entities, whose rows are never ingested again.
#
# The source is not ours: an erased person may still be in it, and must not come back with the next
# ingestion. The hash is another one than the pseudonym in the tables (`privacy.pseudonym`): the
# list says nothing about any row, and a search for what is left of a person does not find it.
#
# A hash that damage has changed would let its person back in, so the list checks itself: each
# commit adds rows that bear its number and one checksum of them all, and a number that is missing
# shows.

TABLE = "erased"
ERASED_PURPOSE = b"erased\0"
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
    """Digest of the suppression list, for cache keys; empty if no person was erased."""
    return sha256(sorted(hashes)) if hashes else ""


def erased_mask(
    values: pa.Array | pa.ChunkedArray, hashes: Collection[str], settings: Settings
) -> pa.BooleanArray | pa.ChunkedArray:
    """Mask of the rows about an erased entity: no nulls, as long as `values`.

    Each distinct value is hashed once (about two microseconds); nothing is if nobody was erased.

    Args:
        values: the column of the entity, typed as the contract says or as text.
    """
    if not hashes:
        return pa.repeat(False, len(values))
    distinct = pc.unique(values)
    hashes_of_values = hash_entities(distinct.to_pylist(), settings)
    erased_values = distinct.filter(
        pa.array([value_hash in hashes for value_hash in hashes_of_values], pa.bool_())
    )
    return pc.is_in(values, value_set=erased_values.drop_null())


def hash_entities(values: Iterable[object], settings: Settings) -> list[str]:
    """The list's hash of each value; a missing one has the empty text, which is never listed."""
    return [value_hash or "" for value_hash in pseudonym(values, pii_key(settings), ERASED_PURPOSE)]


def suppress(settings: Settings, project: Project, values: Iterable[object]) -> int:
    """Put entities on the list, in one commit; how many were not there yet.

    Raises:
        BackendError: the list cannot be read or written, or is damaged.
    """
    uri = table_uri(settings, project.name, TABLE)
    requested = set(hash_entities(values, settings)) - {""}
    for _ in range(ATTEMPTS):
        table, rows = _read(uri)
        new = sorted(requested - rows)
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
        reason = first_line(error)
        raise BackendError(f"{uri}: cannot read who was erased: {reason}; {RESTORE}") from None
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
        is_complete = len(times) == 1 and not part.isna().any(axis=None)
        if not is_complete or check != _check(int(number), times[0], sorted(hashes)):
            raise ValueError(f"the rows of commit {number:g} do not match their checksum")
        numbers.add(int(number))
    first = min(numbers, default=version + 1) if len(numbered) < len(frame) else 1
    if gaps := set(range(first, version + 1)) ^ numbers:
        raise ValueError(f"the rows of commit {min(gaps)} are missing or not its own")


def _check(number: int, time: str, hashes: list[str]) -> str:
    return sha256({"number": number, "time": time, "hashes": hashes})
