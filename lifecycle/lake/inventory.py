"""The files of a table that many append to: each named by its SHA-256, all under one checksum.

Such a table keeps no history, so no commit lasts that could list its files. A file's name does, as
Delta's log and its checkpoints carry it: it says the SHA-256 of the bytes, and from when to when
the rows are. Which files there are is held against a checksum of all names: the version of an
application transaction (`txn`), which each commit carries on. So neither a flipped name, a file
that is no longer added or removed, nor a statistic decides in silence what is read.

Files that Delta's own writer made, before there were such names, are in no checksum and are read as
they are.
"""

import hashlib
import json
import re
import time
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple
from urllib.parse import unquote

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.fs
import pyarrow.parquet as pq
from deltalake import CommitProperties, DeltaTable, Transaction
from deltalake.transaction import AddAction, RemoveAction

from lifecycle.errors import BackendError, first_line
from lifecycle.lake.manifest import CHANGED, Place, VersionFile, place_of, verified
from lifecycle.runtime.files import write_atomic

CHECKSUM = "files"
"""The application whose transaction is the checksum."""
MODULUS = 2**62
TIME = "time"
"""Column with the time of a row, by which files are left out of reading."""
MICROSECONDS = pa.timestamp("us", "UTC")
NAME = re.compile(r"(?:(?P<first>-?\d+)-(?P<last>-?\d+)-)?(?P<sha256>[0-9a-f]{64})\.parquet")
"""Ends the name of a file that is being written; one that was left is deleted by a full vacuum."""
LEFT_S = 3600.0
"""Age of a file from which it is not that of a writer at work."""
LOG = "_delta_log/"
KEPT_COMMITS = 64
"""Commits before the last checkpoint that stay, for readers under way and for repair by hand."""
MAX_DELETED = 200
"""Files that one sweep deletes at most."""
BEGIN_ANEW = (
    "restore it from a backup of the lake, or move the table's folder aside: what is logged from "
    "then on begins a new one"
)
DAMAGED = f"{CHANGED}; {BEGIN_ANEW}"


class DataFile(NamedTuple):
    """A data file of the newest version."""

    path: str
    """Relative to the table."""
    size: int
    """Bytes, as Delta's log says: nothing holds it against the file."""

    @property
    def folder(self) -> str:
        """The path of its partition."""
        return self.path.rpartition("/")[0]

    @property
    def sha256(self) -> str | None:
        """SHA-256 of its bytes; None if Delta's own writer made it."""
        return sha256_of(self.path)

    @property
    def span(self) -> tuple[int, int] | None:
        """Microseconds since 1970 of its first row and its last; None where its name has none."""
        match = NAME.fullmatch(self.path.rpartition("/")[2])
        return (int(match["first"]), int(match["last"])) if match and match["first"] else None


def sha256_of(path: str) -> str | None:
    """The SHA-256 that a file's name says its bytes have; None if it says none."""
    match = NAME.fullmatch(path.rpartition("/")[2])
    return match["sha256"] if match else None


def partition_of(path: str) -> dict[str, str | None]:
    """The values of the partition that a file is in, as its path has them."""
    pairs = (folder.partition("=") for folder in path.split("/")[:-1])
    return {
        unquote(name): None if value == "__HIVE_DEFAULT_PARTITION__" else unquote(value)
        for name, _, value in pairs
    }


def inventory(uri: str, table: DeltaTable) -> list[DataFile]:
    """The files of a table as it was opened, in the order of their paths.

    Raises:
        BackendError: they are not those that were committed.
        DeltaError: Delta's log cannot be read.
    """
    added = pa.table(table.get_add_actions()).select(["path", "size_bytes"]).to_pydict()
    files = [DataFile(*action) for action in zip(added["path"], added["size_bytes"], strict=True)]
    if _total(file.path for file in files) != (table.transaction_version(CHECKSUM) or 0):
        raise BackendError(
            f"{uri}/_delta_log: the files that it lists do not match their checksum: {DAMAGED}"
        )
    return sorted(files)


def write_file(place: Place, folder: str, rows: pa.Table) -> AddAction:
    """Write rows as a file that no commit names yet.

    Args:
        folder: path of the partition; its columns are not in `rows`.

    Raises:
        OSError: it cannot be written.
    """
    timed = TIME in rows.column_names and pa.types.is_timestamp(rows.schema.field(TIME).type)
    texts = [f.name for f in rows.schema if pa.types.is_string(f.type) and f.name != "id"]
    sink = pa.BufferOutputStream()
    pq.write_table(
        rows,
        sink,
        compression="LZ4",
        use_dictionary=texts,
        write_statistics=[TIME] if timed else False,
    )
    content = sink.getvalue()
    name = f"{hashlib.sha256(content).hexdigest()}.parquet"
    statistics: dict[str, object] = {"numRecords": rows.num_rows}
    if timed and (ends := pc.min_max(rows[TIME].cast(MICROSECONDS)))["min"].is_valid:
        low, high = ends["min"], ends["max"]
        name = f"{low.value}-{high.value}-{name}"
        # not for us: other readers leave files out by them
        statistics["minValues"] = {TIME: low.as_py().isoformat(timespec="microseconds")}
        statistics["maxValues"] = {TIME: high.as_py().isoformat(timespec="microseconds")}
        statistics["nullCount"] = {TIME: rows[TIME].null_count}
    path = f"{folder}/{name}" if folder else name
    put_file(place, path, content)
    now = int(time.time() * 1000)
    return AddAction(path, content.size, partition_of(path), now, True, json.dumps(statistics))


def change_files(
    table: DeltaTable,
    removed: Sequence[str],
    added: Sequence[AddAction],
    transactions: Iterable[Transaction] = (),
    data_change: bool = True,
) -> None:
    """Take files out of a table and put others in, in the commit that follows the one it was opened
    at; it stays as it was opened.

    Args:
        transactions: what else the commit says has been done with it.
        data_change: whether rows change; False if the same rows are only packed otherwise.

    Raises:
        CommitFailedError: another commit came since the table was opened.
        DeltaError: the table cannot be written.
    """
    total = (table.transaction_version(CHECKSUM) or 0) - _total(removed)
    total = (total + _total(add.path for add in added)) % MODULUS
    now = int(time.time() * 1000)
    actions: list[AddAction | RemoveAction] = list(added)
    actions += [
        RemoveAction(
            path=path,
            data_change=data_change,
            deletion_timestamp=now,
            size=0,
            partition_values=partition_of(path),
        )
        for path in removed
    ]
    table.create_write_transaction(
        actions,
        "append",
        table.schema(),
        table.metadata().partition_columns,
        commit_properties=CommitProperties(
            # without a time, so that it never expires
            app_transactions=[*transactions, Transaction(CHECKSUM, total)],
            max_commit_retries=0,
        ),
    )


@contextmanager
def open_file(uri: str, file: DataFile) -> Iterator[pa.NativeFile]:
    """A file to read, whose bytes are those that were written, as far as its name says.

    Raises:
        BackendError: the file is missing or cannot be read, or its bytes are others.
    """
    if file.sha256 is not None:
        with verified(uri, VersionFile(file.path, file.sha256, 0, 0), BEGIN_ANEW) as source:
            yield source
        return
    system, prefix = place_of(uri)
    try:
        source = system.open_input_file(prefix + file.path)
    except OSError as error:
        raise BackendError(f"{uri}/{file.path}: cannot be read: {first_line(error)}") from None
    with source:
        yield source


def _total(paths: Iterable[str]) -> int:
    """The checksum of files: the sum of their names' hashes, so that their order is no matter."""
    hashed = (path for path in paths if sha256_of(path) is not None)
    return sum(int(hashlib.sha256(p.encode()).hexdigest()[:16], 16) for p in hashed) % MODULUS


def sweep(place: Place, table: DeltaTable, replaced: Collection[str]) -> None:
    """Delete files that were replaced, those that killed writers left, and old commits.

    Args:
        table: at a commit that has a checkpoint. Its files have names that are never used twice.

    Raises:
        OSError: they cannot be listed or deleted.
    """
    system, prefix = place
    table_files = set(pa.table(table.get_add_actions())["path"].to_pylist())
    paths = []
    for info in system.get_file_info(pyarrow.fs.FileSelector(prefix.rstrip("/") or "/")):
        name, age = info.base_name, time.time() - (info.mtime_ns or time.time_ns()) / 1e9
        if ".parquet" in name and name not in table_files and (name in replaced or age > LEFT_S):
            paths.append(name)
    for info in system.get_file_info(pyarrow.fs.FileSelector(prefix + LOG)):
        number = info.base_name[:20]
        if number.isdigit() and int(number) < table.version() - KEPT_COMMITS:
            paths.append(LOG + info.base_name)
    for path in sorted(paths)[:MAX_DELETED]:
        with suppress(FileNotFoundError):
            system.delete_file(prefix + path)


def first_commit(place: Place) -> int:
    """Number of the commit at which Delta's log begins, as far as the log says so; else -1."""
    system, prefix = place
    try:
        with system.open_input_file(f"{prefix}{LOG}_last_checkpoint") as stream:
            return int(json.loads(stream.read())["version"])
    except (OSError, ValueError, KeyError, TypeError):
        return -1


def put_file(place: Place, path: str, content: pa.Buffer | bytes) -> None:
    """Make or replace a file of a table.

    Raises:
        OSError: it cannot be written.
    """
    system, prefix = place
    if not isinstance(system, pyarrow.fs.LocalFileSystem):
        with system.open_output_stream(prefix + path) as out:
            out.write(content)
        return
    # seen whole or not at all, even by who asks no commit for it
    target = Path(prefix + path)
    target.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(target, memoryview(content))
