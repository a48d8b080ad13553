"""Taking rows out of tables that only grow, such as the prediction log, which keep no version."""

from collections.abc import Iterator
from datetime import datetime

import pyarrow as pa
import pyarrow.compute as pc
from deltalake import DeltaTable
from deltalake.exceptions import DeltaError, TableNotFoundError
from deltalake.transaction import AddAction

from lifecycle.errors import BackendError
from lifecycle.governance.folder import Folder
from lifecycle.governance.subject import Subject
from lifecycle.governance.tables import ORPHAN_SECONDS, age, held
from lifecycle.lake import first_line
from lifecycle.lake.inventory import DataFile, inventory, write_file
from lifecycle.lake.manifest import place_of
from lifecycle.lake.prediction_log import ATTEMPTS, replace_files, rows_of


def erase_rows(uri: str, table: Folder, subject: Subject) -> None:
    """Take the person out of a table's newest version, and delete all that came before it.

    Raises:
        BackendError: the table cannot be read or written, is damaged, or others keep writing it.
    """
    made: dict[str, AddAction] = {}
    try:
        for _ in range(ATTEMPTS):
            delta = DeltaTable(uri)
            active = {file.path: file for file in inventory(uri, delta)}
            theirs = [path for path, _ in held(table, subject) if path in active]
            for path in theirs:
                if path not in made:
                    made[path] = _without(uri, active[path], subject)
            if not theirs or replace_files(uri, delta, theirs, [made[path] for path in theirs]):
                break
        else:
            raise BackendError(f"{uri}: other processes keep writing this table; run again")
        vacuum(uri)
        left = {file.path for file in inventory(uri, DeltaTable(uri))}
    except (DeltaError, OSError) as error:
        raise BackendError(f"{uri}: cannot erase rows: {first_line(error)}") from None
    for path, _ in list(held(table, subject)):
        if path not in left and age(table, f"{table.path}/{path}") > ORPHAN_SECONDS:
            table.remove(f"{table.path}/{path}")


def count_before(uri: str, end: datetime) -> int:
    """Rows of the prediction log that are older than a time; none if there is no log.

    Raises:
        BackendError: the table cannot be read, or is damaged.
    """
    try:
        return sum(len(rows) - len(kept) for _, rows, kept in _older(uri, DeltaTable(uri), end))
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
            for file, _, kept in _older(uri, table, end):
                old.append(file.path)
                if len(kept):
                    new.append(write_file(place_of(uri), file.folder, kept))
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
            kept = rows.filter(pc.greater_equal(rows["time"], limit))
            if len(kept) < len(rows):
                yield file, rows, kept


def vacuum(uri: str) -> None:
    """Delete the files that were replaced; a writer's that is at work has none of them."""
    DeltaTable(uri).vacuum(retention_hours=0, dry_run=False, enforce_retention_duration=False)


def _without(uri: str, file: DataFile, subject: Subject) -> AddAction:
    rows = rows_of(uri, file)
    return write_file(place_of(uri), file.folder, rows.filter(pc.invert(subject.rows(rows))))
