"""A chain of lines in the lake: append-only, many writers, each line bound to the one before.

A Delta table that is only appended to. Delta commits one writer at a time: whoever comes second
reads again and chains anew. A line's hash covers the hash of the line before (Haber and Stornetta,
1991), so a changed, missing or inserted line shows. What is cut off at the end does not: keep the
last hash elsewhere, as `lifecycle audit` prints it.
"""

import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import pyarrow as pa
import pyarrow.parquet as pq
from deltalake import CommitProperties, DeltaTable, PostCommitHookProperties, write_deltalake
from deltalake.exceptions import CommitFailedError, DeltaError, TableNotFoundError
from pydantic import ValidationError

from lifecycle.errors import BackendError, first_line
from lifecycle.lake.table import create_table
from lifecycle.records import Link
from lifecycle.runtime.identity import sha256

logger = logging.getLogger(__name__)

LINE = "line"
"""Column with a line's number, from 0: files of a table have no order."""
ATTEMPTS = 20
RESTORE = "restore it from a backup of the lake: what it held cannot be made again"
CONFIGURATION = {
    "delta.appendOnly": "true",
    "delta.logRetentionDuration": "interval 36500 days",
}
L = TypeVar("L", bound=Link)


class Broken(ValueError):
    """A line or file that is not what was written; the message says which and why."""


@dataclass(frozen=True)
class Chain(Generic[L]):
    """The lines of one table."""

    uri: str
    kind: type[L]
    schema: pa.Schema
    """Of the table: a line's number, then the fields of `kind`."""

    def append(self, line: L, find: Callable[[list[L]], L | None]) -> L:
        """Add a line, unless `find` finds it among the lines there are: then that one is returned.

        Args:
            line: `previous` and `hash` are filled in.

        Raises:
            BackendError: the table cannot be read or written.
        """
        for attempt in range(ATTEMPTS):
            table = self._open() or self._make()
            lines = self._lines(table)
            if (previous := find(lines)) is not None:
                return previous
            chained = line.model_copy(update={"previous": lines[-1].hash if lines else ""})
            chained = chained.model_copy(update={"hash": hash_of(chained)})
            try:
                self._append(table, chained, len(lines))
            except CommitFailedError:
                logger.info("%s: another writer was faster, attempt %d", self.uri, attempt + 1)
            except (DeltaError, OSError) as error:
                raise BackendError(f"{self.uri}: cannot write: {first_line(error)}") from None
            else:
                return chained
        raise BackendError(f"{self.uri}: other processes keep writing the audit trail; run again")

    def lines(self) -> list[L]:
        """Every line, oldest first; none if there is no table yet.

        Raises:
            BackendError: the table cannot be read.
        """
        table = self._open()
        return [] if table is None else self._lines(table)

    def broken(self) -> str | None:
        """Describe the first line that was altered; None if the chain is intact.

        Raises:
            BackendError: the table cannot be read.
        """
        table = self._open()
        if table is None:
            return None
        try:
            self._lines(table, check=True)
        except Broken as broken:
            return str(broken)
        return None

    def mark(self) -> int:
        """The number of the last commit, which moves when anybody adds a line; cheap.

        Raises:
            BackendError: the table cannot be read.
        """
        table = self._open()
        return -1 if table is None else int(table.version())

    def _open(self) -> DeltaTable | None:
        try:
            return DeltaTable(self.uri)
        except TableNotFoundError:
            return None
        except (DeltaError, OSError) as error:
            raise BackendError(
                f"{self.uri}: cannot read the audit trail: {first_line(error)}; if a file of its "
                f"_delta_log is damaged, {RESTORE}"
            ) from None

    def _make(self) -> DeltaTable:
        """An empty table, or the one that another process made meanwhile."""
        try:
            return create_table(self.uri, self.schema, configuration=CONFIGURATION)
        except (DeltaError, OSError) as error:
            raise BackendError(f"{self.uri}: cannot write: {first_line(error)}") from None

    def _append(self, table: DeltaTable, line: L, number: int) -> None:
        """One commit on top of what `table` has read; if another one came between, it fails."""
        row = {LINE: number} | line.model_dump(mode="json")
        write_deltalake(
            table,
            pa.Table.from_pylist([row], schema=self.schema),
            mode="append",
            commit_properties=CommitProperties(max_commit_retries=0),
            post_commithook_properties=PostCommitHookProperties(cleanup_expired_logs=False),
        )

    def _rows(self, table: DeltaTable) -> Iterator[tuple[str, dict[str, Any]]]:
        """File by file, each row with its file's place, so that one which is damaged can be named.

        Raises:
            Broken: a file is missing, or is no Parquet.
            BackendError: the table cannot be reached.
        """
        try:
            for fragment in table.to_pyarrow_dataset().get_fragments():
                place = f"{self.uri}/{fragment.path}"
                try:
                    with fragment.filesystem.open_input_file(fragment.path) as file:
                        content = file.read()
                except FileNotFoundError:
                    raise Broken(
                        f"{place}: this file of the audit trail is missing; {RESTORE}"
                    ) from None
                try:
                    rows = pq.read_table(pa.BufferReader(content), use_threads=False)
                    for at in range(rows.num_rows):
                        yield place, _plain(rows, at, place)
                except (pa.ArrowException, OSError) as error:
                    why = first_line(error).partition(": ")
                    raise Broken(
                        f"{place}: this file of the audit trail is damaged "
                        f"({(why[2] or why[0]).partition('. ')[0]}); {RESTORE}"
                    ) from None
        except (DeltaError, pa.ArrowException, OSError) as error:
            raise BackendError(
                f"{self.uri}: cannot read the audit trail: {first_line(error)}"
            ) from None

    def _lines(self, table: DeltaTable, check: bool = False) -> list[L]:
        """The lines in order; with `check`, each held against its hash and the line before.

        Raises:
            Broken: a line does not hold, or a file cannot be read.
        """
        try:
            rows = sorted(self._rows(table), key=lambda row: row[1][LINE])
        except Broken as broken:
            if check:
                raise
            raise BackendError(str(broken)) from None
        lines: list[L] = []
        for at, (place, row) in enumerate(rows):
            number = row.pop(LINE)
            try:
                line = self.kind.model_validate(row)
            except ValidationError as error:
                if not check:
                    raise BackendError(
                        f"{place}: line {number} of the audit trail is no change of a version; "
                        "`lifecycle audit --verify` says more"
                    ) from None
                raise Broken(
                    f"line {number} ({place}): is no change of a version ({error})"
                ) from None
            if check:
                try:
                    _hold(line, number, at, lines[-1] if lines else None)
                except Broken as broken:
                    raise Broken(f"{broken} (in {place})") from None
            lines.append(line)
        return lines


def _plain(rows: pa.Table, at: int, place: str) -> dict[str, Any]:
    """A row as Python has it.

    Raises:
        Broken: a text of it is none, since its bytes are no UTF-8.
    """
    row: dict[str, Any] = {}
    for name in rows.column_names:
        try:
            row[name] = rows[name][at].as_py()
        except UnicodeDecodeError as error:
            raise Broken(
                f"{place}: line {row.get(LINE, '?')} of the audit trail is damaged: its {name} is "
                f"no text ({error.reason} at byte {error.start}); {RESTORE}"
            ) from None
    return row


def hash_of(line: Link) -> str:
    """SHA-256 of the line as JSON with sorted keys, without its own hash."""
    return sha256(line.model_dump(mode="json", exclude={"hash"}))


def _hold(line: Link, number: int, at: int, before: Link | None) -> None:
    what = f"line {number} ({line.time}, {line})"
    if number != at:
        raise Broken(f"{what}: line {at} should stand here")
    if line.previous != (before.hash if before else ""):
        raise Broken(f"{what}: does not follow from the line before, which was changed or replaced")
    if line.hash != hash_of(line):
        raise Broken(f"{what}: was changed since it was written")
