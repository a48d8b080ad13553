"""A chain of lines in the lake: append-only, many writers, each line bound to the one before.

A line's hash covers the hash of the line before (Haber and Stornetta, 1991), so a changed, missing
or inserted line shows. Every read holds every line against its hash.

**Segments.** The lines are in Parquet files of a Delta table. A file's name says which lines it
holds and the SHA-256 of its bytes, which are hashed before they are parsed; its first line has the
hash of the last line in the segment before.

**Head.** A small file next to them says how many lines there are, the last hash, and the newest
line of each topic. An append reads that instead of the lines. It is written after the commit: if
its writer is killed in between, the next append reads what came since. Lines that are cut off at
the end are missed by it.

**Packing.** `FAN_IN` segments of one size become one in a single Delta commit, which adds the large
one and removes the small ones: a crash leaves one packing or the other. A commit fails unless it
follows the one that its writer has read; whoever comes second reads again and chains anew.
"""

import hashlib
import json
import logging
import random
import re
import secrets
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, NamedTuple, TypeVar

import pyarrow as pa
import pyarrow.parquet as pq
from deltalake import DeltaTable
from deltalake.exceptions import CommitFailedError, DeltaError, TableNotFoundError
from deltalake.transaction import AddAction
from pydantic import ValidationError

from lifecycle.errors import BackendError, first_line
from lifecycle.lake.inventory import change_files, first_commit, put_file, sweep
from lifecycle.lake.manifest import place_of
from lifecycle.lake.table import create_table
from lifecycle.records import Link
from lifecycle.runtime.identity import sha256

logger = logging.getLogger(__name__)

LINE = "line"
"""Column with a line's number, from 0: files of a table have no order."""
HEAD = "_head.json"
REMEDY = (
    "restore it from a backup of the lake, or compare the last hash with the one you keep "
    "elsewhere, then delete the file: the next change makes it anew"
)
NAME = re.compile(r"(\d{12})-(\d{12})-[0-9a-f]{16}-([0-9a-f]{64})\.parquet")
"""A segment: number of its first line, number after that of its last, random digits, SHA-256 of its
bytes. No name is used twice, so a file that was left can be deleted while others write."""
FAN_IN = 8
"""Segments of one size that are packed into one."""
MAX_LINES = FAN_IN**4
"""A segment of so many lines is packed no more."""
ATTEMPTS = 20
PAUSE_S = 0.02
"""Added per attempt to the longest pause before the next."""
RESTORE = "restore it from a backup of the lake: what it held cannot be made again"
CONFIGURATION = {
    "delta.appendOnly": "true",
    "delta.logRetentionDuration": "interval 36500 days",
    "delta.deletedFileRetentionDuration": "interval 0 hours",
}
L = TypeVar("L", bound=Link)
T = TypeVar("T")


class Broken(ValueError):
    """A line or file that is not what was written; the message says which and why."""


class Missing(Broken):
    """A file that is not there: packed since, or lost."""


class Segment(NamedTuple):
    """A file of the table."""

    path: str
    """Relative to the table."""
    first: int = -1
    end: int = -1
    """Number after that of its last line; -1 in files from before there were segments."""
    sha256: str = ""
    """Of its bytes; empty in files from before there were segments."""


class StoredLine(NamedTuple):
    """A line as a file has it."""

    place: str
    """The file."""
    number: int
    content: dict[str, Any]


@dataclass(frozen=True)
class ChainHead(Generic[L]):
    """State of the chain that an append has to know of the lines before."""

    lines: int = 0
    hash: str = ""
    """Of the last line."""
    latest: Mapping[str, L] = field(default_factory=dict)
    """Topic → its newest line."""


@dataclass(frozen=True)
class Chain(Generic[L]):
    """The lines of one table."""

    uri: str
    kind: type[L]
    schema: pa.Schema
    """Of the table: a line's number, then the fields of `kind`."""
    topics: Callable[[L], Sequence[str]]
    """What a line is about, the most special first; few, as the head has a line of each."""

    def append(self, line: L, same: Callable[[L], bool]) -> L:
        """Add a line, unless the newest one on its first topic is the same: then that is returned.

        Args:
            line: `previous` and `hash` are filled in.
            same: whether a line that is there says what `line` says.

        Raises:
            BackendError: the table cannot be read or written, or is damaged.
        """
        for attempt in range(ATTEMPTS):
            try:
                table, files, head = self._stable(self._tip)
            except Broken as broken:
                raise BackendError(str(broken)) from None
            newest = head.latest.get(self.topics(line)[0])
            if newest is not None and same(newest):
                return newest
            chained = line.model_copy(update={"previous": head.hash})
            chained = chained.model_copy(update={"hash": hash_of(chained)})
            try:
                added = self._write([chained], head.lines)
                change_files(table, (), [added])
            except CommitFailedError:
                logger.info("%s: another writer was faster, attempt %d", self.uri, attempt + 1)
                time.sleep(random.uniform(0, PAUSE_S * attempt))  # noqa: S311 - nothing secret
                continue
            except (DeltaError, OSError) as error:
                if first_commit(place_of(self.uri)) > table.version():
                    continue  # commits that came since are deleted already
                raise BackendError(f"{self.uri}: cannot write: {first_line(error)}") from None
            if first_commit(place_of(self.uri)) > table.version() and chained not in self.lines():
                continue  # the same, and the number of the commit was free again
            files.append(_segment(added.path))
            self._tidy(table, files, self._after(head, [chained]))
            return chained
        raise BackendError(f"{self.uri}: other processes keep writing the audit trail; run again")

    def lines(self) -> list[L]:
        """Every line, oldest first; none if there is no table yet.

        Raises:
            BackendError: the table cannot be read, or a line is not what was written.
        """
        try:
            return self._stable(self._read)
        except Broken as broken:
            raise BackendError(str(broken)) from None

    def broken(self) -> str | None:
        """Describe the first line that was altered; None if the chain is intact.

        Raises:
            BackendError: the table cannot be read.
        """
        try:
            self._stable(self._read)
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

    # What the table holds.

    def _stable(self, read: Callable[[ChainHead[L] | None, DeltaTable | None], T]) -> T:
        """Read, and again if the lines were packed meanwhile.

        Raises:
            Broken: as `read`; or the table is gone.
            BackendError: the table cannot be read.
        """
        version = None
        while True:
            head = self._head()  # before the table, which then has all its lines
            table = self._open()
            if table is None and head is not None:
                raise Broken(f"{self.uri}: the table of the audit trail is gone; {RESTORE}")
            try:
                return read(head, table)
            except Missing:
                if table is None or table.version() == version:
                    raise
                version = table.version()

    def _read(self, head: ChainHead[L] | None, table: DeltaTable | None) -> list[L]:
        """Every line, each held against its hash, the line before and the head.

        Raises:
            Broken: one does not hold, or a file cannot be read.
            BackendError: the table cannot be read.
        """
        files = self._files(table) if table is not None else []
        lines = self._checked(self._rows(files), 0, "")
        if head is not None and len(lines) < head.lines:
            raise self._cut_off(head, len(lines))
        if head is not None and lines[head.lines - 1].hash != head.hash:
            raise Broken(f"line {head.lines - 1}: is not the line that {self.uri}/{HEAD} names")
        return lines

    def _tip(
        self, head: ChainHead[L] | None, table: DeltaTable | None
    ) -> tuple[DeltaTable, list[Segment], ChainHead[L]]:
        """The table, which is made if there is none, its files, and the head as they have it.

        Raises:
            Broken: head and files do not match, or a file cannot be read.
            BackendError: the table cannot be read or made.
        """
        table = table or self._make()
        files = self._files(table)
        if head is None or not all(file.sha256 for file in files):
            return table, files, self._after(ChainHead(), self._read(head, table))
        end = files[-1].end if files else 0
        if end < head.lines:
            raise self._cut_off(head, end)
        rows = self._rows([file for file in files if file.end > head.lines])
        new = [row for row in rows if row.number >= head.lines]
        return table, files, self._after(head, self._checked(new, head.lines, head.hash))

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

    def _files(self, table: DeltaTable) -> list[Segment]:
        """The files, in the order of their lines if all are segments.

        Raises:
            Broken: they do not follow one another.
            BackendError: the table cannot be read.
        """
        try:
            paths = pa.table(table.get_add_actions())["path"].to_pylist()
        except (DeltaError, pa.ArrowException, OSError) as error:
            raise BackendError(
                f"{self.uri}: cannot read the audit trail: {first_line(error)}"
            ) from None
        files = sorted(map(_segment, paths), key=lambda file: file.first)
        if all(file.sha256 for file in files):
            for file, end in zip(files, [0, *(file.end for file in files)], strict=False):
                if file.first != end:
                    raise Broken(f"{self.uri}/{file.path}: line {end} should begin it; {RESTORE}")
        return files

    def _content(self, path: str) -> bytes | None:
        """The bytes of a file; None if there is none."""
        try:
            system, prefix = place_of(self.uri)
            with system.open_input_file(prefix + path) as stream:
                return bytes(stream.read())
        except FileNotFoundError:
            return None
        except (DeltaError, OSError) as error:
            raise BackendError(f"{self.uri}/{path}: cannot be read: {first_line(error)}") from None

    def _rows(self, files: Iterable[Segment]) -> list[StoredLine]:
        """The lines of files, in order, as they are written there.

        Raises:
            Broken: a file is missing, or not what was written.
            BackendError: a file cannot be reached.
        """
        rows: list[StoredLine] = []
        for file in files:
            place = f"{self.uri}/{file.path}"
            content = self._content(file.path)
            if content is None:
                raise Missing(f"{place}: this file of the audit trail is missing; {RESTORE}")
            rows += _parsed(content, file.sha256, place)
        return sorted(rows, key=lambda row: row.number)

    def _checked(self, rows: Sequence[StoredLine], number: int, previous: str) -> list[L]:
        """Lines, each held against its hash and the line before.

        Args:
            number: of the first line.
            previous: hash of the line before it.

        Raises:
            Broken: a line does not hold.
        """
        lines: list[L] = []
        for row in rows:
            try:
                line = self.kind.model_validate(row.content)
            except ValidationError as error:
                reason = f"is no change of a version ({first_line(error)})"
                raise Broken(f"line {row.number} ({row.place}): {reason}") from None
            label = f"line {row.number} ({line.time}, {line})"
            if row.number != number:
                raise Broken(f"{label}: line {number} should stand here (in {row.place})")
            if line.previous != previous:
                raise Broken(
                    f"{label}: does not follow from the line before, which was changed or replaced "
                    f"(in {row.place})"
                )
            if line.hash != hash_of(line):
                raise Broken(f"{label}: was changed since it was written (in {row.place})")
            number, previous = number + 1, line.hash
            lines.append(line)
        return lines

    def _head(self) -> ChainHead[L] | None:
        """The head as it was written; None if there is none. Raises as `_read`."""
        content = self._content(HEAD)
        while content is not None:
            try:
                return self._head_of(content)
            except Broken:
                former, content = content, self._content(HEAD)
                if (
                    content == former
                ):  # else replaced while it was read: a bucket gave bytes of both
                    raise
        return None

    def _head_of(self, content: bytes) -> ChainHead[L]:
        try:
            head = json.loads(content)
            if head.pop("seal") != sha256(head):
                raise ValueError("it does not match its checksum")
            latest = {name: self.kind.model_validate(line) for name, line in head["latest"].items()}
            return ChainHead(head["lines"], head["hash"], latest)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise Broken(f"{self.uri}/{HEAD}: is damaged ({first_line(error)}); {REMEDY}") from None

    def _after(self, head: ChainHead[L], lines: Iterable[L]) -> ChainHead[L]:
        """The head after more lines."""
        number, last, latest = head.lines, head.hash, dict(head.latest)
        for line in lines:
            number, last = number + 1, line.hash
            latest |= dict.fromkeys(self.topics(line), line)
        return ChainHead(number, last, latest)

    def _write_head(self, head: ChainHead[L]) -> None:
        latest = {name: line.model_dump(mode="json") for name, line in head.latest.items()}
        content = {"lines": head.lines, "hash": head.hash, "latest": latest}
        text = json.dumps(content | {"seal": sha256(content)})
        put_file(place_of(self.uri), HEAD, text.encode())

    def _cut_off(self, head: ChainHead[L], lines: int) -> Broken:
        missing = f"has {lines} lines, and had {head.lines}: the last ones are missing"
        return Broken(f"{self.uri}: {missing}; {RESTORE}")

    def _write(self, lines: Sequence[L], first: int) -> AddAction:
        """Write lines as a segment that no commit names yet.

        Args:
            first: number of the first line.

        Raises:
            OSError: it cannot be written.
        """
        rows = [{LINE: first + at} | line.model_dump(mode="json") for at, line in enumerate(lines)]
        sink = pa.BufferOutputStream()
        pq.write_table(
            pa.Table.from_pylist(rows, schema=self.schema),
            sink,
            compression="zstd",
            use_dictionary=False,
            write_statistics=False,
            store_schema=False,
        )
        content = sink.getvalue()
        digest, end = hashlib.sha256(content).hexdigest(), first + len(lines)
        path = f"{first:012d}-{end:012d}-{secrets.token_hex(8)}-{digest}.parquet"
        put_file(place_of(self.uri), path, content)
        now, statistics = int(time.time() * 1000), json.dumps({"numRecords": len(rows)})
        return AddAction(path, content.size, {}, now, True, statistics)

    def _tidy(self, table: DeltaTable, files: Sequence[Segment], head: ChainHead[L]) -> None:
        """Write the head and pack segments. What fails here a later append does: the line is in."""
        try:
            self._write_head(head)
            if _group(files):
                table.update_incremental()
                self._pack(table)
        except CommitFailedError:
            logger.info("%s: not packed, another writer was faster", self.uri)
        except (Broken, BackendError, DeltaError, pa.ArrowException, OSError) as error:
            logger.warning("%s: the audit trail is not tidied: %s", self.uri, first_line(error))

    def _pack(self, table: DeltaTable) -> None:
        """Put small segments together, and let Delta's log begin at a checkpoint."""
        group = _group(self._files(table))
        if not group:
            return
        rows = self._rows(group)
        lines = self._checked(rows, rows[0].number, rows[0].content["previous"])
        packed = self._write(lines, rows[0].number)
        packed.data_change = False
        replaced = [file.path for file in group]
        change_files(table, replaced, [packed], data_change=False)
        table.update_incremental()
        if not CONFIGURATION.items() <= table.metadata().configuration.items():
            table.alter.set_table_properties(CONFIGURATION)
        table.create_checkpoint()
        sweep(place_of(self.uri), table, replaced)


def hash_of(line: Link) -> str:
    """SHA-256 of the line as JSON with sorted keys, without its own hash."""
    return sha256(line.model_dump(mode="json", exclude={"hash"}))


def _segment(path: str) -> Segment:
    match = NAME.fullmatch(path)
    return Segment(path, int(match[1]), int(match[2]), match[3]) if match else Segment(path)


def _group(files: Sequence[Segment]) -> list[Segment]:
    """The files to pack into one, as a carry goes through the digits of a number; often none.

    Args:
        files: in the order of their lines. If some are from before there were segments, all of them
            are packed.
    """
    if not all(file.sha256 for file in files):
        return list(files)
    group: list[Segment] = []
    remaining = list(files)
    size = FAN_IN
    while size <= MAX_LINES:
        run: list[Segment] = []
        while remaining and remaining[-1].end - remaining[-1].first < size:
            run.insert(0, remaining.pop())
        if len(run) + bool(group) < FAN_IN:
            break
        group = run + group
        size *= FAN_IN
    return group


def _parsed(content: bytes, digest: str, place: str) -> list[StoredLine]:
    """The lines in the bytes of a file.

    Args:
        digest: SHA-256 that they should have; empty if nobody knows.

    Raises:
        Broken: they are not what was written.
    """
    try:
        if digest and hashlib.sha256(content).hexdigest() != digest:
            raise ValueError("its SHA-256 is not the one in its name")
        rows = pq.read_table(pa.BufferReader(content), use_threads=False).to_pylist()
        return [StoredLine(place, int(row.pop(LINE)), row) for row in rows]
    except (pa.ArrowException, OSError, ValueError, KeyError, TypeError) as error:
        reason = first_line(error).partition(": ")
        raise Broken(
            f"{place}: this file of the audit trail is damaged "
            f"({(reason[2] or reason[0]).partition('. ')[0]}); {RESTORE}"
        ) from None
