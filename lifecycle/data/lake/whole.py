"""Frames, tables and streams as versions; batch by batch it is `write.VersionWriter`."""

from collections.abc import Iterator, Mapping

import pandas as pd
import pyarrow as pa

from lifecycle.data.arrow import to_arrow
from lifecycle.data.lake.manifest import is_intact
from lifecycle.data.lake.table import find_version
from lifecycle.data.lake.write import GROUP, VersionWriter
from lifecycle.records import DatasetVersion


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
    known = find_version(uri, digest)
    if known is not None and is_intact(known):
        return known
    with VersionWriter(schema, uri) as writer:
        for batch in batches:
            writer.write(batch)
        return writer.commit(note, digest)
