"""Writing the next version of a table: files aside, then one commit that makes them a version."""

import json
import logging
import os
import queue
import secrets
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import suppress
from types import TracebackType
from typing import Any, NamedTuple, Self

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.fs
from deltalake import (
    CommitProperties,
    DeltaTable,
    PostCommitHookProperties,
    Schema,
)
from deltalake.exceptions import CommitFailedError, DeltaError, TableNotFoundError
from deltalake.transaction import AddAction, create_table_with_add_actions
from pyarrow.parquet import ParquetWriter

from lifecycle.errors import BackendError, first_line
from lifecycle.lake.column_types import is_text, to_arrow
from lifecycle.lake.manifest import (
    NOTE,
    Digest,
    HashingStream,
    VersionFile,
    is_intact,
    place_of,
    sealed,
)
from lifecycle.lake.table import ROW, commits, find_version
from lifecycle.records import DatasetVersion

# Files of a version that is being written: in the table's folder, but in no commit yet.
#
# A marker names the process that writes them. A commit says whose files it took, so the next writer
# knows of each marker whether its files belong to a version, are being written, or are left over.

MARKER = "_writing-"
"""Begins a marker's name; Delta does not look at names with an underscore."""
LEFT_AFTER_SECONDS = 24 * 3600.0
"""A marker of another machine that is this old belongs to nobody any more."""


class Staged(NamedTuple):
    """A finished file that no commit names yet."""

    file: VersionFile
    size: int
    """Bytes."""
    statistics: str
    """What Delta's log says of its rows, as JSON."""


class StagedFiles:
    """The files of one writer."""

    def __init__(self, uri: str) -> None:
        self.token = secrets.token_hex(8)
        self.files: list[Staged] = []
        self._uri = uri
        self._system, self._prefix = place_of(uri)
        self._marker = f"{MARKER}{self.token}-{os.uname().nodename}-{os.getpid()}"
        self._open_files: list[str] = []
        self._stream: HashingStream | None = None
        self._offered = False

    def open(self) -> HashingStream:
        """A stream to the next file; the caller closes what it writes to it, then calls `close`."""
        if not self._open_files:
            if isinstance(self._system, pyarrow.fs.LocalFileSystem):
                self._system.create_dir(self._prefix, recursive=True)
            _sweep(self._uri)
            with self._system.open_output_stream(self._prefix + self._marker):
                pass
        name = f"part-{self.token}-{len(self._open_files):05d}.parquet"
        self._open_files.append(name)
        self._stream = HashingStream(self._system.open_output_stream(self._prefix + name))
        return self._stream

    def close(self, rows: int, statistics: str) -> None:
        """The file opened last is finished.

        Args:
            rows: how many it has; they follow those of the file before.
            statistics: what Delta's log says of its rows, as JSON.
        """
        assert self._stream is not None  # noqa: S101 - `open` came before
        if not self._stream.closed:
            self._stream.close()
        name = self._open_files[-1]
        size = self._system.get_file_info(self._prefix + name).size
        first = self.files[-1].file.end if self.files else 0
        file = VersionFile(name, self._stream.hexdigest(), first, first + rows)
        self.files.append(Staged(file, size, statistics))

    def offer(self) -> None:
        """A commit of the files is tried; from here on only the log knows whose they are."""
        self._offered = True

    def discard(self) -> None:
        """Delete what belongs to no version, and the marker.

        A commit that failed may have arrived all the same: an answer of object storage gets lost,
        or somebody interrupts. If the log cannot be asked, all is left to the next writer.
        """
        if not self._open_files:
            return
        try:
            is_committed = self._offered and self.token in {
                commit.get("files") for commit in commits(self._uri)
            }
        except BackendError:
            return
        for name in [] if is_committed else self._open_files:
            _delete(self._system, self._prefix + name)
        _delete(self._system, self._prefix + self._marker)


def _sweep(uri: str) -> None:
    """Delete what writers left that were killed."""
    system, prefix = place_of(uri)
    selector = pyarrow.fs.FileSelector(prefix.rstrip("/") or "/", allow_not_found=True)
    files = {info.base_name: info for info in system.get_file_info(selector)}
    markers = [name for name in files if name.startswith(MARKER)]
    dead = [name for name in markers if not _alive(name, files[name])]
    if not dead:
        return
    committed = {commit.get("files") for commit in commits(uri)}
    for marker in dead:
        token = marker.removeprefix(MARKER).split("-", 1)[0]
        if token not in committed:
            for name in files:
                if name.startswith(f"part-{token}-"):
                    _delete(system, prefix + name)
        _delete(system, prefix + marker)


def _alive(marker: str, info: pyarrow.fs.FileInfo) -> bool:
    """Whether the writer may still be at work."""
    machine, _, process = marker.removeprefix(MARKER).split("-", 1)[1].rpartition("-")
    if machine != os.uname().nodename:
        written = info.mtime.timestamp() if info.mtime else time.time()
        return time.time() - written < LEFT_AFTER_SECONDS
    try:
        os.kill(int(process), 0)
    except (ProcessLookupError, ValueError):
        return False
    except PermissionError:
        return True
    return True


def _delete(system: pyarrow.fs.FileSystem, path: str) -> None:
    with suppress(OSError):  # the next writer tries again
        system.delete_file(path)


logger = logging.getLogger(__name__)

CONFIGURATION = {"delta.logRetentionDuration": "interval 36500 days"}
"""Versions are references: they must stay readable for as long as a model names them."""
ATTEMPTS = 5
GROUP = 1 << 16
"""Rows of a Parquet row group: what a writer holds in memory of a table."""
FILE_ROWS = 1 << 21
WAITING = 4
"""Batches that may wait for the writing thread."""


class VersionWriter:
    """The next version of a table, batch by batch; nothing is seen of it before `commit`.

    Files are written and digested on a thread beside the caller. Left without `commit`, or killed,
    it leaves no version; what files are left then, the next writer deletes.

    Raises:
        BackendError: the table cannot be written.
    """

    def __init__(self, schema: pa.Schema, uri: str) -> None:
        self.rows = 0
        self._uri = uri
        self._schema = schema.append(pa.field(ROW, pa.int64(), nullable=False))
        self._digest = Digest(schema)
        self._staged_files = StagedFiles(uri)
        self._file: ParquetWriter | None = None
        self._in_file = 0
        self._missing: Counter[str] = Counter()
        self._gathered: list[pa.RecordBatch] = []
        self._queue: queue.Queue[pa.RecordBatch | None] = queue.Queue(WAITING)
        self._failed: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="lake-writer", daemon=True)
        self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._end()
        self._staged_files.discard()  # what was committed is kept

    def write(self, batch: pa.RecordBatch) -> None:
        """Take in rows; the caller does not change them any more.

        Raises:
            BackendError: the table cannot be written.
        """
        if batch.num_rows:
            self.rows += batch.num_rows
            self._queue.put(batch)
        self._check()

    def commit(self, note: Mapping[str, str], digest: str | None = None) -> DatasetVersion:
        """Make what was written the newest version, unless the table has an intact one like it.

        Args:
            note: what the commit says of the version besides its digest and rows.
            digest: what identifies the content, if not its own digest.

        Raises:
            BackendError: the table cannot be written, or others keep writing it.
        """
        if not self.rows:
            self._queue.put(self._empty())
        self._end()
        self._check()
        digest = digest or self._digest.hexdigest()
        for attempt in range(ATTEMPTS):
            version = find_version(self._uri, digest)
            if version is not None and is_intact(version):
                logger.info("%s: version %d has this content already", self._uri, version.version)
                return version
            self._staged_files.offer()
            try:
                self._commit(digest, note)
                break
            except CommitFailedError:
                logger.info("%s: another writer was faster, attempt %d", self._uri, attempt + 1)
            except (DeltaError, OSError) as error:
                raise self._unwritable(error) from None
        else:
            raise BackendError(f"{self._uri}: other processes keep writing this table; run again")
        written = find_version(self._uri, digest)
        if written is None:
            raise BackendError(
                f"{self._uri}: the version just written is gone; was the table replaced?"
            )
        return written

    def _commit(self, digest: str, note: Mapping[str, str]) -> None:
        metrics = {"num_added_rows": self.rows}
        metadata: dict[str, Any] = {NOTE + key: value for key, value in note.items()}
        metadata |= {
            "digest": digest,
            "operationMetrics": metrics,
            "files": self._staged_files.token,
        }
        metadata |= sealed(metadata, [staged.file for staged in self._staged_files.files])
        properties = CommitProperties(custom_metadata=metadata, max_commit_retries=0)
        hooks = PostCommitHookProperties(cleanup_expired_logs=False)
        schema = Schema.from_arrow(self._schema)
        try:
            table = DeltaTable(self._uri)
        except TableNotFoundError:
            try:
                create_table_with_add_actions(
                    self._uri,
                    schema,
                    self._actions(),
                    mode="error",
                    configuration=CONFIGURATION,
                    commit_properties=properties,
                )
            except DeltaError as error:
                if "already exists" in str(error):
                    raise CommitFailedError(first_line(error)) from None
                raise
            return
        table.create_write_transaction(
            self._actions(),
            "overwrite",
            schema,
            commit_properties=properties,
            post_commithook_properties=hooks,
        )

    def _actions(self) -> list[Any]:
        now = int(time.time() * 1000)
        return [
            AddAction(staged.file.path, staged.size, {}, now, True, staged.statistics)
            for staged in self._staged_files.files
        ]

    def _run(self) -> None:
        """The writing thread; after a failure it only empties the queue."""
        written = 0
        while (batch := self._queue.get()) is not None:
            if self._failed is not None:
                continue
            try:
                self._digest.add(batch)
                rows = pa.array(np.arange(written, written + batch.num_rows))
                numbered = pa.RecordBatch.from_arrays([*batch.columns, rows], schema=self._schema)
                written += batch.num_rows
                self._append(numbered)
            except BaseException as error:
                self._failed = error
        self._close()

    def _append(self, batch: pa.RecordBatch) -> None:
        self._gathered.append(batch)
        if sum(batch.num_rows for batch in self._gathered) < GROUP:
            return
        self._write_group()
        if self._in_file >= FILE_ROWS:
            self._close()

    def _write_group(self) -> None:
        """Write what was gathered: a row group, however small the batches are."""
        if self._file is None:
            self._file = ParquetWriter(
                self._staged_files.open(),
                self._schema,
                compression="LZ4",  # Snappy's size at half its time
                use_dictionary=[f.name for f in self._schema if is_text(f.type)],
                write_statistics=[ROW],
                write_batch_size=GROUP,
                column_encoding={ROW: "DELTA_BINARY_PACKED"},
                write_page_checksum=True,  # for readers that do not know the commit's digests
            )
            self._in_file = 0
            self._missing.clear()
        group = pa.Table.from_batches(self._gathered)
        self._gathered = []
        self._file.write_table(group, row_group_size=GROUP)
        self._in_file += group.num_rows
        for name, column in zip(group.column_names, group.columns, strict=True):
            self._missing[name] += column.null_count

    def _close(self) -> None:
        try:
            if self._gathered and self._failed is None:
                self._write_group()
            if self._file is not None:
                self._file.close()
                # no least and greatest values: they name persons
                statistics = {"numRecords": self._in_file, "nullCount": dict(self._missing)}
                self._staged_files.close(self._in_file, json.dumps(statistics))
        except BaseException as error:
            self._failed = self._failed or error
        self._file = None

    def _end(self) -> None:
        if self._thread.is_alive():
            self._queue.put(None)
            self._thread.join()

    def _check(self) -> None:
        if isinstance(self._failed, DeltaError | OSError | pa.ArrowException):
            raise self._unwritable(self._failed) from None
        if self._failed is not None:
            raise self._failed

    def _unwritable(self, error: Exception) -> BackendError:
        return BackendError(f"{self._uri}: cannot write the table: {first_line(error)}")

    def _empty(self) -> pa.RecordBatch:
        fields = list(self._schema)[:-1]
        return pa.RecordBatch.from_arrays(
            [pa.array([], f.type) for f in fields], schema=pa.schema(fields)
        )


# Frames, tables and streams as versions; batch by batch it is `write.VersionWriter`.


def write_version(frame: pd.DataFrame, uri: str, *, note: Mapping[str, str]) -> DatasetVersion:
    """Write `frame` as the next version of a table; content it already has is not written again.

    The commit carries `digest`, `rows` and `note`, so that a version says itself what it is.

    Raises:
        BackendError: the table cannot be written.
    """
    return write_rows(to_arrow(frame), None, uri, note=note)


def write_rows(
    table: pa.Table, rows: pa.BooleanArray | None, uri: str, *, note: Mapping[str, str]
) -> DatasetVersion:
    """Write some rows of an Arrow table, as `write_version` does; they are never copied together.

    Args:
        rows: which rows; None for all.

    Raises:
        BackendError: the table cannot be written.
    """
    with VersionWriter(table.schema, uri) as writer:
        for start in range(0, table.num_rows, GROUP):
            some = table.slice(start, GROUP)
            if rows is not None:
                some = some.filter(rows.slice(start, GROUP))
            for batch in some.combine_chunks().to_batches():
                writer.write(batch)
        return writer.commit(note)


def write_batches(
    schema: pa.Schema,
    batches: Iterator[pa.RecordBatch],
    uri: str,
    *,
    note: Mapping[str, str],
    digest: str,
) -> DatasetVersion:
    """Write a stream of batches as the next version of a table, in one commit.

    Args:
        digest: what identifies the content; an intact version that has it already is returned,
            and the stream is left alone.

    Raises:
        BackendError: the table cannot be written, or others keep writing it.
    """
    version = find_version(uri, digest)
    if version is not None and is_intact(version):
        return version
    with VersionWriter(schema, uri) as writer:
        for batch in batches:
            writer.write(batch)
        return writer.commit(note, digest)
