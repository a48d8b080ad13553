"""Writing the next version of a table: files aside, then one commit that makes them a version."""

import hashlib
import json
import logging
import queue
import threading
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from types import TracebackType
from typing import Any, NamedTuple, Self

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.fs
from deltalake import CommitProperties, DeltaTable, PostCommitHookProperties, Schema
from deltalake.exceptions import CommitFailedError, DeltaError, TableNotFoundError
from deltalake.transaction import AddAction, RemoveAction, create_table_with_add_actions
from numpy.typing import NDArray
from pyarrow.parquet import ParquetFile, ParquetWriter

from lifecycle.errors import BackendError, first_line
from lifecycle.lake.column_types import is_text, to_arrow
from lifecycle.lake.content import Digest
from lifecycle.lake.manifest import (
    NOTE,
    Manifest,
    VersionFile,
    builds_on,
    is_intact,
    place_of,
    read_lists,
    sealed,
)
from lifecycle.lake.staging import StagedFiles
from lifecycle.lake.table import NUMBER, ROW, ROWS, find_version, rows_left
from lifecycle.records import DatasetVersion
from lifecycle.runtime.identity import sha256

logger = logging.getLogger(__name__)

CONFIGURATION = {"delta.logRetentionDuration": "interval 36500 days"}
"""Versions are references: they must stay readable for as long as a model names them."""
ATTEMPTS = 5
GROUP = 1 << 16
"""Rows of a Parquet row group: what a writer holds in memory of a table."""
FILE_ROWS = 1 << 21
WAITING = 4
"""Batches that may wait for the writing thread."""


class _Rows(NamedTuple):
    """Rows on their way to the writing thread."""

    batch: pa.RecordBatch
    numbers: NDArray[np.int64] | None = None
    """(rows,): of rows that the version has already; None for new ones."""
    file: VersionFile | None = None
    """The former file that they are of; if it is joined with others, up to the end of the last."""


class VersionWriter:
    """The next version of a table, batch by batch; nothing is seen of it before `commit`.

    Files are written and digested on a thread beside the caller. Left without `commit`, or killed,
    it leaves no version; what files are left then, the next writer deletes.

    Args:
        schema: columns of the rows.
        uri: the table.
        former: a version of it whose files the new one has, too, but those that are replaced; its
            columns are those of `schema`. None for a version of its own, which it is as well where
            the former one's commit lists no files.

    Raises:
        BackendError: the table cannot be written, or the former version's list cannot be read.
    """

    def __init__(self, schema: pa.Schema, uri: str, former: DatasetVersion | None = None) -> None:
        self.rows = 0
        self._uri = uri
        self._schema = schema.append(pa.field(ROW, pa.int64(), nullable=False))
        self._numbers = [name for name in (NUMBER, ROW) if name in self._schema.names]
        self._digest = Digest(schema)
        self._lists = read_lists(former) if former else None
        self._former = former if self._lists else None
        self._replaced: list[VersionFile] = []
        self._removed = hashlib.sha256()
        self._removed_rows = 0
        self._staged_files = StagedFiles(uri)
        self._file: ParquetWriter | None = None
        self._in_file = 0
        self._replaces: VersionFile | None = None
        self._next = max((file.end for file in self.former_files or ()), default=0)
        self._first = self._next
        self._missing: Counter[str] = Counter()
        self._gathered: list[pa.RecordBatch] = []
        self._queue: queue.Queue[_Rows | None] = queue.Queue(WAITING)
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

    @property
    def former_files(self) -> list[VersionFile] | None:
        """The former version's files; None for a version of its own."""
        return self._lists.files if self._lists else None

    def write(self, batch: pa.RecordBatch) -> None:
        """Take in new rows; the caller does not change them any more.

        Raises:
            BackendError: the table cannot be written.
        """
        if batch.num_rows:
            self.rows += batch.num_rows
            self._queue.put(_Rows(batch))
        self._check()

    def replace(
        self,
        file: VersionFile,
        rows: Iterable[tuple[pa.RecordBatch, NDArray[np.int64]]],
        removed: NDArray[np.int64],
    ) -> None:
        """Write a file of the former version anew, without some of its rows; the others keep their
        numbers, and their place before all that follow.

        Args:
            rows: those that stay, with their numbers (rows,).
            removed: numbers of the rows that do not.

        Raises:
            BackendError: the table cannot be written.
        """
        self._removed.update(np.sort(removed).astype("<i8").tobytes())
        self._removed_rows += len(removed)
        self.join([file], rows)

    def join(
        self,
        files: Sequence[VersionFile],
        rows: Iterable[tuple[pa.RecordBatch, NDArray[np.int64]]],
    ) -> None:
        """Write neighbouring files of the former version as one, whose rows keep their numbers.

        Args:
            rows: of all these files, with their numbers (rows,).

        Raises:
            BackendError: the table cannot be written.
        """
        self._replaced.extend(files)
        place = files[0]._replace(end=files[-1].end)
        for batch, numbers in rows:
            if batch.num_rows:
                self._queue.put(_Rows(batch, numbers, place))
            self._check()

    def commit(
        self,
        note: Mapping[str, str],
        digest: str | None = None,
        source: DatasetVersion | None = None,
    ) -> DatasetVersion:
        """Make what was written the newest version, unless the table has an intact one like it.

        Without a former version, what identifies the content is the digest of its rows; with one,
        a digest over the former one's, the rows that are new and the numbers of those that are gone
        (a hash chain): so its cost does not grow with the table, and how rows were cut into
        increments counts.

        Args:
            note: what the commit says of the version besides its digest and rows.
            digest: what identifies the content, if not that.
            source: a version that it is made from, as `find_version` takes it.

        Raises:
            BackendError: the table cannot be written, or others keep writing it.
        """
        if not self.rows and self._former is None:
            self._queue.put(_Rows(self._empty()))
        self._end()
        self._check()
        digest = digest or self._content()
        for attempt in range(ATTEMPTS):
            version = None
            if self._former is None:
                version = find_version(self._uri, digest, source)
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

    def commit_packed(self, note: Mapping[str, str], number: int) -> DatasetVersion:
        """Make the former version's rows, of which some files were joined, the newest version; its
        digest is the former one's.

        Args:
            note: of the former version.
            number: of the table's newest commit when the former version was read.

        Raises:
            CommitFailedError: there is another commit since.
            BackendError: the table cannot be written.
        """
        assert self._former is not None  # noqa: S101 - there is nothing to pack without one
        self._end()
        self._check()
        table = DeltaTable(self._uri)
        if table.version() != number:
            raise CommitFailedError(f"{self._uri}: version {table.version()} came in between")
        self._staged_files.offer()
        self._append_to(table, self._metadata(self._former.digest, note), data_change=False)
        return self._former.model_copy(update={"version": number + 1})

    def _content(self) -> str:
        rows = self._digest.hexdigest()
        if self._former is None:
            return rows
        removed = self._removed.hexdigest()
        return sha256({"former": self._former.digest, "removed": removed, "rows": rows})

    def _metadata(self, digest: str, note: Mapping[str, str]) -> dict[str, Any]:
        """What the commit says of itself."""
        metrics = {"num_added_rows": self.rows}
        metadata: dict[str, Any] = {NOTE + key: value for key, value in note.items()}
        metadata |= {
            "digest": digest,
            "operationMetrics": metrics,
            "files": self._staged_files.token,
        }
        if self._former is not None:
            before = rows_left(self._uri, self._former.version)
            metadata[ROWS] = before - self._removed_rows + self.rows
        return metadata | sealed(metadata, self._manifest())

    def _commit(self, digest: str, note: Mapping[str, str]) -> None:
        metadata = self._metadata(digest, note)
        try:
            table = DeltaTable(self._uri)
        except TableNotFoundError:
            try:
                create_table_with_add_actions(
                    self._uri,
                    Schema.from_arrow(self._schema),
                    self._add_actions(),
                    mode="error",
                    configuration=CONFIGURATION,
                    commit_properties=CommitProperties(
                        custom_metadata=metadata, max_commit_retries=0
                    ),
                )
            except DeltaError as error:
                if "already exists" in str(error):
                    raise CommitFailedError(first_line(error)) from None
                raise
            return
        self._append_to(table, metadata)

    def _append_to(
        self, table: DeltaTable, metadata: dict[str, str], data_change: bool = True
    ) -> None:
        """Make the commit that follows the one at which a table was opened."""
        table.create_write_transaction(
            [*self._add_actions()] if self._former is None else self._actions(table, data_change),
            "overwrite" if self._former is None else "append",
            Schema.from_arrow(self._schema),
            commit_properties=CommitProperties(custom_metadata=metadata, max_commit_retries=0),
            post_commithook_properties=PostCommitHookProperties(cleanup_expired_logs=False),
        )

    def _manifest(self) -> Manifest:
        """The commit's list: all files, or what differs from that which the former builds on."""
        files = [staged.file for staged in self._staged_files.files]
        if self._lists is None:
            return Manifest(files)
        replaced = frozenset(file.path for file in self._replaced)
        all_files = Manifest(files, removed=replaced).merged(self._lists.files)
        before = {file.path for file in self._lists.base_files}
        new = [file for file in all_files if file.path not in before]
        removed = before - {file.path for file in all_files}
        if not builds_on(len(new) + len(removed), len(all_files)):
            return Manifest(all_files)
        return Manifest(new, self._lists.base, frozenset(removed))

    def _add_actions(self, data_change: bool = True) -> list[AddAction]:
        now = int(time.time() * 1000)
        return [
            AddAction(staged.file.path, staged.size, {}, now, data_change, staged.statistics)
            for staged in self._staged_files.files
        ]

    def _actions(self, table: DeltaTable, data_change: bool) -> list[AddAction | RemoveAction]:
        """From the table's newest files to those of this version, which may follow another one."""
        now = int(time.time() * 1000)
        listed = pa.table(table.get_add_actions()).select(["path", "size_bytes"]).to_pydict()
        present = dict(zip(listed["path"], listed["size_bytes"], strict=True))
        replaced = {file.path for file in self._replaced}
        remaining = {file.path for file in self.former_files or ()} - replaced
        system, prefix = place_of(self._uri)
        actions: list[AddAction | RemoveAction] = [*self._add_actions(data_change)]
        for path in sorted(remaining - present.keys()):
            with system.open_input_file(prefix + path) as file:
                rows, size = ParquetFile(file).metadata.num_rows, file.size()
            actions.append(AddAction(path, size, {}, now, True, json.dumps({"numRecords": rows})))
        return actions + [
            RemoveAction(
                path=path,
                data_change=data_change,
                deletion_timestamp=now,
                size=present[path],
                partition_values={},
            )
            for path in sorted(present.keys() - remaining)
        ]

    def _run(self) -> None:
        """The writing thread; after a failure it only empties the queue."""
        while (rows := self._queue.get()) is not None:
            if self._failed is not None:
                continue
            try:
                self._take(rows)
            except BaseException as error:
                self._failed = error
        self._close()

    def _take(self, rows: _Rows) -> None:
        batch, numbers = rows.batch, rows.numbers
        if rows.file != self._replaces:  # rows that stay do not get into the file of new ones
            self._close()
            self._replaces = rows.file
        if numbers is None:
            self._digest.add(batch)
            numbers = np.arange(self._next, self._next + batch.num_rows)
            self._next += batch.num_rows
        columns = [*batch.columns, pa.array(numbers)]
        self._append(pa.RecordBatch.from_arrays(columns, schema=self._schema))

    def _append(self, batch: pa.RecordBatch) -> None:
        self._gathered.append(batch)
        if sum(batch.num_rows for batch in self._gathered) < GROUP:
            return
        self._write_group()
        if self._in_file >= FILE_ROWS and self._replaces is None:
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
                column_encoding={name: "DELTA_BINARY_PACKED" for name in self._numbers},
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
                first, end = self._first, self._next
                if self._replaces is None:
                    self._first = end
                else:
                    first, end = self._replaces.first, self._replaces.end
                self._staged_files.close(first, end, json.dumps(statistics))
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
            part = table.slice(start, GROUP)
            if rows is not None:
                part = part.filter(rows.slice(start, GROUP))
            for batch in part.combine_chunks().to_batches():
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
