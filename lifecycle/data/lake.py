"""The lake: versioned Delta tables; a version is written whole, in one commit, or not at all."""

import logging
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
from deltalake import (
    ColumnProperties,
    CommitProperties,
    DeltaTable,
    PostCommitHookProperties,
    WriterProperties,
    write_deltalake,
)
from deltalake.exceptions import CommitFailedError, DeltaError, TableNotFoundError
from pyarrow.dataset import ParquetFragmentScanOptions

from lifecycle.data.arrow import to_arrow, to_frame
from lifecycle.data.digest import digest_of
from lifecycle.errors import BackendError
from lifecycle.records import DatasetVersion
from lifecycle.settings import Settings

logger = logging.getLogger(__name__)

CONFIGURATION = {"delta.logRetentionDuration": "interval 36500 days"}
"""Versions are references: they must stay readable for as long as a model names them."""
ATTEMPTS = 5
ROW = "__row"
"""Column that keeps the row order, which Delta's parallel writer does not; never handed out."""
RUNS = 10_000
"""Up to so many runs of rows are put in order without a copy."""
NOTE = "note."
GROUP = 1 << 16
"""Rows of a Parquet row group, and of a batch: what a writer holds in memory of a table."""
PLAIN = ColumnProperties(dictionary_enabled=False, statistics_enabled="NONE")
"""For floats: most are distinct, so that looking for repeated ones and ranges is time lost."""


def table_uri(settings: Settings, project_name: str, table: str) -> str:
    """Where a project's table is."""
    return f"{settings.lake}/{project_name}/{table}"


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
    digest = digest_of(table, rows)
    for attempt in range(ATTEMPTS):
        try:
            return _write(table.schema, _batches(table, rows), uri, note, digest)
        except CommitFailedError:
            logger.info("%s: another writer was faster, attempt %d", uri, attempt + 1)
    raise BackendError(f"{uri}: other processes keep writing this table; run again")


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
        digest: what identifies the content; a version that has it already is returned, and the
            stream is left alone.

    Raises:
        BackendError: the table cannot be written, or another writer was faster.
    """
    try:
        return _write(schema, batches, uri, note, digest)
    except CommitFailedError:
        raise BackendError(
            f"{uri}: another process wrote this table meanwhile; run again"
        ) from None


def read_version(ref: DatasetVersion, columns: Sequence[str] | None = None) -> pd.DataFrame:
    """Exactly the version that `ref` names, rows in the order written, index 0..n-1.

    Whole numbers and booleans are numpy types where the contract allows no missing value, pandas'
    nullable `Int64` and `boolean` where it does.

    Raises:
        BackendError: the table or the version is not there, or does not hold these rows.
    """
    return to_frame(read_table(ref, columns), is_nullable)


def is_nullable(field: pa.Field, _: pa.ChunkedArray) -> bool:
    """Whether the contract allows a missing value in a column of a version."""
    return bool(field.nullable)


def read_table(ref: DatasetVersion, columns: Sequence[str] | None = None) -> pa.Table:
    """What `read_version` reads, as Arrow.

    Raises:
        BackendError: the table or the version is not there, or does not hold these rows.
    """
    # reading ahead of what is decoded pays over a network, and holds the files in memory
    options = ParquetFragmentScanOptions(pre_buffer="://" in ref.uri)
    wanted = [*columns, ROW] if columns is not None else None
    try:
        found = DeltaTable(ref.uri, version=ref.version).to_pyarrow_dataset()
        table = found.to_table(columns=wanted, fragment_scan_options=options)
    except (DeltaError, pa.ArrowException, OSError) as error:
        raise BackendError(
            f"{ref.uri}: version {ref.version} cannot be read: {_first_line(error)}"
        ) from None
    if table.num_rows != ref.rows:
        raise BackendError(
            f"{ref.uri}: version {ref.version} has {table.num_rows} rows, not the {ref.rows} of "
            "the reference; the table was made anew since, so prepare the data again"
        )
    return _in_order(table)


def history(uri: str) -> pd.DataFrame:
    """Versions of a table, oldest first: version, digest, rows, time (UTC) and note.

    Raises:
        BackendError: the table cannot be read. (A table that is not there has no versions.)
    """
    versions = [
        {
            "version": commit["version"],
            "digest": commit["digest"],
            "rows": commit["operationMetrics"]["num_added_rows"],
            "time": pd.Timestamp(commit["timestamp"], unit="ms"),
            "note": {k.removeprefix(NOTE): v for k, v in commit.items() if k.startswith(NOTE)},
        }
        for commit in _commits(uri)
    ]
    return pd.DataFrame(versions[::-1], columns=["version", "digest", "rows", "time", "note"])


def find_version(uri: str, digest: str) -> DatasetVersion | None:
    """The version of a table with this digest, the newest if there are several.

    Raises:
        BackendError: the table cannot be read.
    """
    for commit in _commits(uri):
        if commit["digest"] == digest:
            rows = commit["operationMetrics"]["num_added_rows"]
            return DatasetVersion(uri=uri, version=commit["version"], digest=digest, rows=rows)
    return None


def _write(
    schema: pa.Schema,
    batches: Iterator[pa.RecordBatch],
    uri: str,
    note: Mapping[str, str],
    digest: str,
) -> DatasetVersion:
    """One overwriting commit; if another one comes between, this one fails and leaves nothing."""
    known = find_version(uri, digest)
    if known is not None:
        logger.info("%s: version %d has this content already", uri, known.version)
        return known
    numbered = schema.append(pa.field(ROW, pa.int64(), nullable=False))
    failures: list[Exception] = []
    metadata = {NOTE + key: value for key, value in note.items()} | {"digest": digest}
    try:
        write_deltalake(
            uri,
            pa.RecordBatchReader.from_batches(numbered, _numbered(numbered, batches, failures)),
            mode="overwrite",
            schema_mode="overwrite",
            configuration=CONFIGURATION,
            commit_properties=CommitProperties(custom_metadata=metadata, max_commit_retries=0),
            post_commithook_properties=PostCommitHookProperties(cleanup_expired_logs=False),
            writer_properties=_writer(numbered),
        )
    except CommitFailedError:
        raise
    except (DeltaError, OSError) as error:
        if failures:  # not Delta's: what makes the batches failed
            raise failures[0] from None
        raise BackendError(f"{uri}: cannot write the table: {_first_line(error)}") from None
    written = find_version(uri, digest)
    if written is None:
        raise BackendError(f"{uri}: the version just written is gone; was the table replaced?")
    return written


def _writer(schema: pa.Schema) -> WriterProperties:
    plain = [f.name for f in schema if pa.types.is_floating(f.type) or f.name == ROW]
    return WriterProperties(
        compression="LZ4_RAW",  # Snappy's size at half its time
        max_row_group_size=GROUP,
        column_properties=dict.fromkeys(plain, PLAIN),
    )


def _batches(table: pa.Table, rows: pa.BooleanArray | None) -> Iterator[pa.RecordBatch]:
    for start in range(0, table.num_rows, GROUP):
        some = table.slice(start, GROUP)
        if rows is not None:
            some = some.filter(rows.slice(start, GROUP))
        yield from some.combine_chunks().to_batches()


def _numbered(
    schema: pa.Schema, batches: Iterator[pa.RecordBatch], failures: list[Exception]
) -> Iterator[pa.RecordBatch]:
    """The batches with row numbers; what they raise is kept, since Delta would only quote it."""
    start = 0
    try:
        for batch in batches:
            rows = pa.array(np.arange(start, start + batch.num_rows))
            yield pa.RecordBatch.from_arrays([*batch.columns, rows], schema=schema)
            start += batch.num_rows
    except Exception as error:
        failures.append(error)
        raise


def _in_order(table: pa.Table) -> pa.Table:
    """The rows as they were written: the writer's threads took turns, so runs of rows are mixed."""
    rows = table[ROW].to_numpy()
    table = table.drop_columns([ROW])
    starts = np.flatnonzero(np.diff(rows, prepend=-2) != 1)
    if len(starts) > RUNS:  # rows one by one in another order; this copies them
        return table.take(np.argsort(rows))
    ends = np.append(starts[1:], len(rows))
    turns = np.argsort(rows[starts])
    runs = [table.slice(starts[at], ends[at] - starts[at]) for at in turns]
    return pa.concat_tables(runs) if len(runs) > 1 else table


def _commits(uri: str) -> list[dict[str, Any]]:
    """Commits that wrote a version, newest first; none if there is no table yet."""
    try:
        return [commit for commit in DeltaTable(uri).history() if "digest" in commit]
    except TableNotFoundError:
        return []
    except (DeltaError, OSError) as error:
        raise BackendError(f"{uri}: cannot read the table: {_first_line(error)}") from None


def _first_line(error: Exception) -> str:
    return str(error).strip().split("\n", 1)[0]
