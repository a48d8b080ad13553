"""Erasing from Delta tables: every version keeps its number and is readable, with fewer rows.

A file that holds the person is written anew under another name, without those rows. Then the log
is changed, commit by commit, each file of it replaced in one step, in an order in which a reader
sees the old rows or the new ones, never both:

1. Where the old file is removed, the new one is removed as well, though nothing adds it yet; and
   every version that will lose rows says how many (`erased` beside its digest), which is what
   `lake.read_table` asks when a version has fewer rows than its reference.
2. Where the old file is added, the new one is added in its place.
3. Checkpoints, which repeat the log, are deleted; Delta makes others in time.
4. An empty commit: a writer that had read the log before it has to read again.

The old files go when all that is done (`sweep`). Killed anywhere and run again, what is done is
found done, because a new file's name tells what it is: `<name>.erased-<round>-<rows>.parquet`.
"""

import hashlib
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import IO

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from deltalake import DeltaTable
from deltalake.exceptions import DeltaError, TableNotFoundError
from deltalake.transaction import AddAction

from lifecycle.errors import BackendError, first_line
from lifecycle.governance.delta_log import (
    LOG,
    added_paths,
    digests,
    drop_checkpoints,
    is_marked,
    mark,
    newest_rounds,
    parts,
    switch,
)
from lifecycle.governance.folder import Folder
from lifecycle.governance.subject import Subject
from lifecycle.lake.inventory import DAMAGED as NAMED_DAMAGED
from lifecycle.lake.inventory import DataFile, inventory, sha256_of, write_file
from lifecycle.lake.manifest import DAMAGED, place_of
from lifecycle.lake.prediction_log import ATTEMPTS, replace_files, rows_of
from lifecycle.runtime.files import is_temporary

ORPHAN_SECONDS = 3600.0
"""A file that no commit names is a writer's that is at work, or was killed; from this age, the
second."""
ROUNDS = 5


@dataclass(frozen=True)
class Rewritten:
    """A data file that was written anew."""

    path: str
    size: int
    rows: int
    """Rows that it has."""


def table_names(lake: Folder) -> list[str]:
    """Names of a project's tables, those in folders below included."""
    paths = (lake.inside(path) for path in lake.files())
    return sorted({name.partition("/" + LOG)[0] for name in paths if "/" + LOG in name})


def matching_rows(table: Folder, subject: Subject) -> Iterator[tuple[str, pa.Table]]:
    """Data files of a table, in any version or none, that hold the person: path, their rows.

    Each is held against its digest first: in a damaged one a person may be missed, and what is
    written anew from it would pass for sound.

    Raises:
        BackendError: a file is damaged or cannot be read.
    """
    written = digests(table)
    for path in table.files():
        if path.endswith(".parquet") and LOG not in path:
            inside, label = table.inside(path), table.label(path)
            with table.open(path) as file:
                if digest := sha256_of(inside):
                    _check_bytes(file, label, digest, NAMED_DAMAGED)
                elif inside in written:
                    _check_bytes(file, label, written[inside], DAMAGED)
                try:
                    parts = [p for p in _their_rows(pq.ParquetFile(file), subject) if len(p)]
                except pa.ArrowException as error:
                    raise BackendError(f"{label}: cannot be read: {first_line(error)}") from None
            if parts:
                yield inside, pa.concat_tables(parts)


def _check_bytes(file: IO[bytes], label: str, written: str, damaged: str) -> None:
    digest = hashlib.file_digest(file, "sha256")  # type: ignore[arg-type]  # IO has readinto
    if digest.hexdigest() != written:
        raise BackendError(f"{label}: {damaged}; rows can only be erased from intact files")
    file.seek(0)


def erase_versions(uri: str, table: Folder, subject: Subject, request: str) -> None:
    """Take the person out of every version of a table.

    Raises:
        BackendError: the table cannot be read or written, or others keep writing it.
    """
    for _ in range(ROUNDS):
        for path in _newest_that_hold(table, subject):
            rewrite(table, path, subject)
        changed = switch(table)
        if not changed and (not newest_rounds(added_paths(table)) or is_marked(table, request)):
            return
        drop_checkpoints(table)
        mark(uri, request)
    raise BackendError(f"{uri}: other processes keep writing this table; run again")


def sweep(table: Folder) -> None:
    """Delete what was replaced, what a killed run left aside, and old files no commit names."""
    live = added_paths(table)
    newest = newest_rounds(live)
    for path in table.files():
        inside = table.inside(path)
        if is_temporary(Path(inside).name):
            table.remove(path)
        elif inside.endswith(".parquet") and LOG not in inside and inside not in live:
            replaced = parts(inside)[0] in newest
            if replaced or age(table, path) > ORPHAN_SECONDS:
                table.remove(path)


def rewrite(table: Folder, path: str, subject: Subject) -> Rewritten:
    """Write a data file anew without the person, under its next name."""
    stem, number, before = parts(path)
    with table.open(f"{table.path}/{path}") as file:
        old = pq.ParquetFile(file)
        count = sum(len(part) for part in _their_rows(old, subject))
        new = f"{stem}.erased-{number + 1}-{before + count}.parquet"
        with table.replacing(f"{table.path}/{new}") as scratch:
            count_left = _write(old, subject, scratch)
            size = scratch.stat().st_size
    return Rewritten(new, size, count_left)


def age(table: Folder, path: str) -> float:
    """Seconds since a file was written."""
    return time.time() - table.modified(path)


def _newest_that_hold(table: Folder, subject: Subject) -> list[str]:
    """Files of versions that hold the person, each in the newest round there is of it."""
    newest = newest_rounds({table.inside(path) for path in table.files()})
    live = {parts(path)[0] for path in added_paths(table)}
    versions = []
    for path, _ in matching_rows(table, subject):
        stem = parts(path)[0]
        if stem in live and path == newest.get(stem, path):
            versions.append(path)
    return versions


def _write(old: pq.ParquetFile, subject: Subject, scratch: Path) -> int:
    count = 0
    schema = old.schema_arrow
    with pq.ParquetWriter(scratch, schema, compression="lz4") as writer:
        for group in range(old.num_row_groups):
            part = old.read_row_group(group)
            remaining = part.filter(pc.invert(subject.rows(part)))
            count += len(remaining)
            writer.write_table(remaining)
    return count


def _their_rows(file: pq.ParquetFile, subject: Subject) -> Iterator[pa.Table]:
    for group in range(file.num_row_groups):
        part = file.read_row_group(group)
        yield part.filter(subject.rows(part))


# Removal of rows from tables that only grow, such as the prediction log, and keep no versions.


def erase_rows(uri: str, table: Folder, subject: Subject) -> None:
    """Take the person out of a table's newest version, and delete all that came before it.

    Raises:
        BackendError: the table cannot be read or written, is damaged, or others keep writing it.
    """
    additions: dict[str, AddAction] = {}
    try:
        for _ in range(ATTEMPTS):
            delta = DeltaTable(uri)
            active = {file.path: file for file in inventory(uri, delta)}
            paths = [path for path, _ in matching_rows(table, subject) if path in active]
            for path in paths:
                if path not in additions:
                    additions[path] = _without(uri, active[path], subject)
            if not paths or replace_files(uri, delta, paths, [additions[path] for path in paths]):
                break
        else:
            raise BackendError(f"{uri}: other processes keep writing this table; run again")
        vacuum(uri)
        remaining = {file.path for file in inventory(uri, DeltaTable(uri))}
    except (DeltaError, OSError) as error:
        raise BackendError(f"{uri}: cannot erase rows: {first_line(error)}") from None
    for path, _ in list(matching_rows(table, subject)):
        if path not in remaining and age(table, f"{table.path}/{path}") > ORPHAN_SECONDS:
            table.remove(f"{table.path}/{path}")


def count_before(uri: str, end: datetime) -> int:
    """Rows of the prediction log that are older than a time; none if there is no log.

    Raises:
        BackendError: the table cannot be read, or is damaged.
    """
    try:
        return sum(len(rows) - len(batch) for _, rows, batch in _older(uri, DeltaTable(uri), end))
    except TableNotFoundError:
        return 0
    except (DeltaError, OSError) as error:
        raise BackendError(f"{uri}: cannot read: {first_line(error)}") from None


def delete_before(uri: str, end: datetime) -> None:
    """Delete the rows of the prediction log that are older than a time.

    Raises:
        BackendError: the table cannot be read or written, is damaged, or others keep writing it.
    """
    try:
        for _ in range(ATTEMPTS):
            table, old, new = DeltaTable(uri), [], []
            for file, _, batch in _older(uri, table, end):
                old.append(file.path)
                if len(batch):
                    new.append(write_file(place_of(uri), file.folder, batch))
            if not old or replace_files(uri, table, old, new):
                break
        else:
            raise BackendError(f"{uri}: other processes keep writing this table; run again")
        vacuum(uri)
    except (DeltaError, OSError) as error:
        raise BackendError(f"{uri}: cannot delete old rows: {first_line(error)}") from None


def _older(
    uri: str, table: DeltaTable, end: datetime
) -> Iterator[tuple[DataFile, pa.Table, pa.Table]]:
    """Files with rows that are older than a time: their rows, and those of them that are not."""
    limit = pa.scalar(end, pa.timestamp("us", "UTC"))
    for file in inventory(uri, table):
        if file.span is None or file.span[0] < limit.value:
            rows = rows_of(uri, file)
            recent = rows.filter(pc.greater_equal(rows["time"], limit))
            if len(recent) < len(rows):
                yield file, rows, recent


def vacuum(uri: str) -> None:
    """Delete the files that were replaced; a writer's that is at work has none of them."""
    DeltaTable(uri).vacuum(retention_hours=0, dry_run=False, enforce_retention_duration=False)


def _without(uri: str, file: DataFile, subject: Subject) -> AddAction:
    rows = rows_of(uri, file)
    return write_file(place_of(uri), file.folder, rows.filter(pc.invert(subject.rows(rows))))
