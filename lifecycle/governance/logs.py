"""Erasing from tables that only grow, such as the prediction log: no version of theirs is kept."""

import json
import time

import pyarrow as pa
from deltalake import CommitProperties, DeltaTable
from deltalake.exceptions import CommitFailedError, DeltaError
from deltalake.transaction import AddAction, RemoveAction

from lifecycle.errors import BackendError
from lifecycle.governance.folder import Folder
from lifecycle.governance.subject import Subject
from lifecycle.governance.tables import ORPHAN_SECONDS, age, held, rewrite

ATTEMPTS = 50
"""Replicas append once a second each; a commit has to come between two of them."""


def erase_rows(uri: str, table: Folder, subject: Subject) -> None:
    """Take the person out of a table's newest version, and delete all that came before it.

    Raises:
        BackendError: the table cannot be read or written, or others keep writing it.
    """
    made: dict[str, AddAction] = {}
    try:
        for _ in range(ATTEMPTS):
            delta = DeltaTable(uri)
            active = _active(delta)
            theirs = [path for path, _ in held(table, subject) if path in active]
            if not theirs:
                break
            for path in theirs:
                if path not in made:
                    made[path] = _rewritten(table, path, subject, active[path])
            if _commit(delta, {path: made[path] for path in theirs}):
                break
        else:
            raise BackendError(f"{uri}: other processes keep writing this table; run again")
        vacuum(uri)
    except (DeltaError, OSError) as error:
        raise BackendError(f"{uri}: cannot erase rows: {error}") from None
    left = _active(DeltaTable(uri))
    for path, _ in list(held(table, subject)):
        if path not in left and age(table, f"{table.path}/{path}") > ORPHAN_SECONDS:
            table.remove(f"{table.path}/{path}")


def vacuum(uri: str) -> None:
    """Delete the files that were replaced; a writer's that is at work has none of them."""
    DeltaTable(uri).vacuum(retention_hours=0, dry_run=False, enforce_retention_duration=False)


def _active(delta: DeltaTable) -> dict[str, dict[str, str | None]]:
    """Data file of the newest version → its partition values."""
    found = {}
    for action in pa.table(delta.get_add_actions(flatten=True)).to_pylist():
        parts = {k.removeprefix("partition."): v for k, v in action.items() if "partition." in k}
        found[action["path"]] = {k: None if v is None else str(v) for k, v in parts.items()}
    return found


def _rewritten(
    table: Folder, path: str, subject: Subject, partition: dict[str, str | None]
) -> AddAction:
    new = rewrite(table, path, subject)
    stats = json.dumps({"numRecords": new.rows})
    return AddAction(new.path, new.size, partition, int(time.time() * 1000), True, stats)


def _commit(delta: DeltaTable, made: dict[str, AddAction]) -> bool:
    """Old files out, new ones in, in one commit; False if somebody else's came first."""
    now = int(time.time() * 1000)
    actions: list[AddAction | RemoveAction] = list(made.values())
    for path, add in made.items():
        partition = dict(add.partition_values)
        actions.append(
            RemoveAction(
                path=path,
                data_change=True,
                deletion_timestamp=now,
                size=0,
                partition_values=partition,
            )
        )
    try:
        delta.create_write_transaction(
            actions,
            "append",
            delta.schema(),
            delta.metadata().partition_columns,
            commit_properties=CommitProperties(max_commit_retries=0),
        )
    except CommitFailedError:
        return False
    return True
