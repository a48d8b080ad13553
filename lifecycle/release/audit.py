"""The audit trail: every change of version of a project, each line bound to the one before.

A Delta table that is only appended to, in the lake that all machines share. Delta commits one
writer at a time: whoever comes second reads again and chains anew. A line's hash covers the hash of
the line before (Haber and Stornetta, 1991), so a changed, missing or inserted line shows. What is
cut off at the end does not: keep the last hash elsewhere, as `lifecycle audit` prints it.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import pyarrow as pa
from deltalake import CommitProperties, DeltaTable, PostCommitHookProperties, write_deltalake
from deltalake.exceptions import CommitFailedError, DeltaError, TableNotFoundError
from pydantic import ValidationError

from lifecycle.data.lake import table_uri
from lifecycle.errors import BackendError
from lifecycle.identity import sha256
from lifecycle.records import Action, Change, ModelVersion
from lifecycle.settings import Settings

logger = logging.getLogger(__name__)

TABLE = "audit"
LINE = "line"
"""Column with a line's number, from 0: files of a table have no order."""
ATTEMPTS = 20
CONFIGURATION = {
    "delta.appendOnly": "true",
    "delta.logRetentionDuration": "interval 36500 days",
}
SCHEMA = pa.schema(
    {
        LINE: pa.int64(),
        "time": pa.string(),
        "who": pa.string(),
        "action": pa.string(),
        "model": pa.string(),
        "version": pa.int64(),
        "digest": pa.string(),
        "identity": pa.string(),
        "reasons": pa.list_(pa.string()),
        "previous": pa.string(),
        "hash": pa.string(),
    }
)
CROWNING = ("promote", "rollback")
"""Actions after which another version is the champion."""


class Broken(ValueError):
    """A line that is not what was written; the message says which and why."""


@dataclass(frozen=True)
class Trail:
    """The trail of one project, written in somebody's name."""

    settings: Settings
    project_name: str
    who: str

    def record(self, action: Action, model: ModelVersion, reasons: Sequence[str] = ()) -> Change:
        """Append a line; what a run before this one has said already is not said twice.

        A change that makes a champion is there if the newest such line names the version; any
        other if it is the last line of all. The line that is there is returned then.

        Raises:
            BackendError: the trail cannot be read or written.
        """
        uri = table_uri(self.settings, self.project_name, TABLE)
        for attempt in range(ATTEMPTS):
            table = _open(uri) or _make(uri)
            lines = _lines(table)
            said = _said(lines, action, model, tuple(reasons))
            if said is not None:
                return said
            change = _chained(lines, self.who, action, model, tuple(reasons))
            try:
                _append(table, change, len(lines))
            except CommitFailedError:
                logger.info("%s: another writer was faster, attempt %d", uri, attempt + 1)
            except (DeltaError, OSError) as error:
                raise BackendError(f"{uri}: cannot write: {_first_line(error)}") from None
            else:
                return change
        raise BackendError(f"{uri}: other processes keep writing the audit trail; run again")

    def changes(self) -> list[Change]:
        """As `history`."""
        return history(self.settings, self.project_name)

    def mark(self) -> int:
        """The number of the trail's last commit, which moves when anybody adds a line; cheap.

        Raises:
            BackendError: the trail cannot be read.
        """
        table = _open(table_uri(self.settings, self.project_name, TABLE))
        return -1 if table is None else int(table.version())


def history(settings: Settings, project_name: str) -> list[Change]:
    """Every change of a project's versions, oldest first; none if there is no trail yet.

    Raises:
        BackendError: the trail cannot be read.
    """
    table = _open(table_uri(settings, project_name, TABLE))
    return [] if table is None else _lines(table)


def verify(settings: Settings, project_name: str) -> str | None:
    """What is wrong with the first line that is not as it was written; None if all are.

    Raises:
        BackendError: the trail cannot be read.
    """
    table = _open(table_uri(settings, project_name, TABLE))
    if table is None:
        return None
    try:
        _lines(table, check=True)
    except Broken as broken:
        return str(broken)
    return None


def champions(changes: Sequence[Change]) -> list[int]:
    """Versions that were champion, oldest first, the last being it now.

    A rollback takes away what came after the version it went back to, so that going back twice
    goes back twice as far.
    """
    found: list[int] = []
    for change in changes:
        if change.action == "promote":
            found.append(change.version)
        elif change.action == "rollback":
            while found and found[-1] != change.version:
                found.pop()
            found = found or [change.version]
    return found


def _said(
    lines: list[Change], action: Action, model: ModelVersion, reasons: tuple[str, ...]
) -> Change | None:
    if action in CROWNING:
        crowned = next((line for line in reversed(lines) if line.action in CROWNING), None)
        return crowned if crowned and crowned.version == model.version else None
    if not lines:
        return None
    last = lines[-1]
    same = (last.action, last.version, last.reasons) == (action, model.version, reasons)
    return last if same else None


def _chained(
    lines: list[Change], who: str, action: Action, model: ModelVersion, reasons: tuple[str, ...]
) -> Change:
    change = Change(
        time=datetime.now(UTC).isoformat(timespec="milliseconds"),
        who=who,
        action=action,
        model=model.name,
        version=model.version,
        digest=model.digest,
        identity=model.identity,
        reasons=reasons,
        previous=lines[-1].hash if lines else "",
    )
    return change.model_copy(update={"hash": _hash(change)})


def _hash(change: Change) -> str:
    """SHA-256 of the line as JSON with sorted keys, without its own hash."""
    return sha256(change.model_dump(mode="json", exclude={"hash"}))


def _open(uri: str) -> DeltaTable | None:
    try:
        return DeltaTable(uri)
    except TableNotFoundError:
        return None
    except (DeltaError, OSError) as error:
        raise BackendError(f"{uri}: cannot read: {_first_line(error)}") from None


def _make(uri: str) -> DeltaTable:
    """An empty table, or the one that another process made meanwhile."""
    try:
        return DeltaTable.create(uri, schema=SCHEMA, mode="ignore", configuration=CONFIGURATION)
    except (DeltaError, OSError) as error:
        raise BackendError(f"{uri}: cannot write: {_first_line(error)}") from None


def _append(table: DeltaTable, change: Change, number: int) -> None:
    """One commit on top of what `table` has read; if another one came between, it fails."""
    row = {LINE: number} | change.model_dump(mode="json")
    write_deltalake(
        table,
        pa.Table.from_pylist([row], schema=SCHEMA),
        mode="append",
        commit_properties=CommitProperties(max_commit_retries=0),
        post_commithook_properties=PostCommitHookProperties(cleanup_expired_logs=False),
    )


def _lines(table: DeltaTable, check: bool = False) -> list[Change]:
    """The lines in order; with `check`, each held against its hash and the line before.

    Raises:
        Broken: a line does not hold.
    """
    try:
        rows = table.to_pyarrow_table().sort_by(LINE).to_pylist()
    except (DeltaError, pa.ArrowException, OSError) as error:
        raise BackendError(f"{table.table_uri}: cannot read: {_first_line(error)}") from None
    lines: list[Change] = []
    for at, row in enumerate(rows):
        number = row.pop(LINE)
        try:
            change = Change.model_validate(row)
        except ValidationError as error:
            if not check:
                raise BackendError(
                    f"{table.table_uri}: line {number} is no change of a version; "
                    "`lifecycle audit --verify` says more"
                ) from None
            raise Broken(f"line {number}: is no change of a version ({error})") from None
        if check:
            _hold(change, number, at, lines[-1] if lines else None)
        lines.append(change)
    return lines


def _hold(change: Change, number: int, at: int, before: Change | None) -> None:
    what = f"line {number} ({change.time}, {change.action} v{change.version})"
    if number != at:
        raise Broken(f"{what}: line {at} should stand here")
    if change.previous != (before.hash if before else ""):
        raise Broken(f"{what}: does not follow from the line before, which was changed or replaced")
    if change.hash != _hash(change):
        raise Broken(f"{what}: was changed since it was written")


def _first_line(error: Exception) -> str:
    return str(error).strip().split("\n", 1)[0]
