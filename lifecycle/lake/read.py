"""Reading exactly one version of a table: whole, or batch by batch.

A version's files are held against the digests in its commit before any of them is parsed. Only a
version that was written before commits listed their files is read as Delta's log has it.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.dataset as ds
from deltalake import DeltaTable, Schema
from deltalake.exceptions import DeltaError
from numpy.typing import NDArray
from pyarrow.dataset import ParquetFragmentScanOptions
from pyarrow.parquet import ParquetFile, read_schema

from lifecycle.errors import BackendError, first_line
from lifecycle.lake.column_types import narrow, to_frame
from lifecycle.lake.manifest import VersionFile, files_of, verified
from lifecycle.lake.table import ROW, erased_rows
from lifecycle.project import ColumnSpec
from lifecycle.records import DatasetVersion

RUNS = 10_000
"""Up to so many runs of rows are put in order without a copy."""
BATCH = 1 << 16
"""Most rows of a batch."""
NULLABLE = {
    pa.int8(): pd.Int64Dtype(),
    pa.int16(): pd.Int64Dtype(),
    pa.int32(): pd.Int64Dtype(),
    pa.int64(): pd.Int64Dtype(),
    pa.bool_(): pd.BooleanDtype(),
}
"""A batch without a missing value must have the types of one that has some."""


def read_version(ref: DatasetVersion, columns: Sequence[str] | None = None) -> pd.DataFrame:
    """Exactly the version that `ref` names, rows in the order written, index 0..n-1.

    Whole numbers and booleans are numpy types where the contract allows no missing value, pandas'
    nullable `Int64` and `boolean` where it does.

    Raises:
        BackendError: the table or the version is not there, or does not hold these rows.

    >>> from lifecycle.lake.write import write_version
    >>> version = write_version(pd.DataFrame({"age": [31, 45]}), f"{folder}/patients", note={})
    >>> version.version, version.rows
    (0, 2)
    >>> read_version(version)["age"].tolist()
    [31, 45]
    """
    return to_frame(read_table(ref, columns), is_nullable)


def is_nullable(field: pa.Field, _: pa.ChunkedArray) -> bool:
    """Whether the contract allows a missing value in a column of a version."""
    return bool(field.nullable)


def read_table(ref: DatasetVersion, columns: Sequence[str] | None = None) -> pa.Table:
    """What `read_version` reads, as Arrow.

    Raises:
        BackendError: the table or the version is not there, is damaged, or does not hold these
            rows.
    """
    wanted = [*columns, ROW] if columns is not None else None
    # reading ahead of what is decoded pays over a network, and holds the files in memory
    with _dataset(ref, files_of(ref)) as dataset, _readable(ref):
        options = ParquetFragmentScanOptions(pre_buffer="://" in ref.uri)
        table = dataset.to_table(columns=wanted, fragment_scan_options=options)
    _check_rows(ref, table.num_rows)
    return _in_order(table)


def open_version(
    ref: DatasetVersion, columns: Sequence[str] | None = None
) -> Iterator[pa.RecordBatch]:
    """The rows that `read_version` reads, in their order, a batch in memory at a time.

    Raises:
        BackendError: the table or the version is not there, is damaged, or does not hold these
            rows.
    """
    files = files_of(ref)
    if files is None:  # perhaps made by Delta's own writer, whose threads take turns
        yield from read_table(ref, columns).to_batches(BATCH)
        return
    rows = 0
    for file in files:
        with verified(ref.uri, file) as stream, _readable(ref):
            parquet = ParquetFile(stream, pre_buffer=False)
            names = [name for name in parquet.schema_arrow.names if name != ROW]
            names = [name for name in names if not columns or name in columns]
            for group in range(parquet.num_row_groups):
                for batch in parquet.iter_batches(BATCH, row_groups=[group], columns=names):
                    rows += batch.num_rows
                    yield batch.select(list(columns)) if columns else batch
    _check_rows(ref, rows)


def open_frames(
    ref: DatasetVersion, columns: Sequence[str] | None = None
) -> Iterator[pd.DataFrame]:
    """The batches of `open_version`, typed as `read_version` types them, each with index 0..n-1.

    Raises:
        BackendError: as `open_version`.
    """
    for batch in open_version(ref, columns):
        yield to_frame(pa.Table.from_batches([batch]), is_nullable)


def read_head(ref: DatasetVersion, rows: int, columns: Sequence[str] | None = None) -> pd.DataFrame:
    """The first rows that `read_version` reads, or all if there are fewer; the others are not read.

    Raises:
        BackendError: as `open_version`.
    """
    batches: list[pa.RecordBatch] = []
    for batch in open_version(ref, columns):
        batches.append(batch)
        if sum(some.num_rows for some in batches) >= rows:
            break
    if not batches:
        return read_version(ref, columns)
    return to_frame(pa.Table.from_batches(batches).slice(0, rows), is_nullable)


def open_rows(
    ref: DatasetVersion, columns: Sequence[str], first: int = 0, end: int | None = None
) -> Iterator[pa.RecordBatch]:
    """Rows by their numbers, with the column `ROW`, in the files' order; only the files that can
    hold them are opened.

    Args:
        first: number of the first row.
        end: number after that of the last one; by default all that follow.

    Raises:
        BackendError: the table or the version is not there, or is damaged.
    """
    end = ref.rows if end is None else end
    files = files_of(ref)
    if files is not None:
        files = [file for file in files if file.first < end and first < file.end]
    wanted = (ds.field(ROW) >= first) & (ds.field(ROW) < end)
    for some in [None] if files is None else [[file] for file in files]:
        with _dataset(ref, some) as dataset, _readable(ref):
            yield from dataset.to_batches(columns=[*columns, ROW], filter=wanted, batch_size=BATCH)


def batch_frame(
    batch: pa.RecordBatch | pa.Table, specs: Mapping[str, ColumnSpec]
) -> tuple[pd.DataFrame, NDArray[np.int64]]:
    """Rows of a batch typed as `read_version` types them, and their row numbers (rows,)."""
    raw = batch.to_pandas(types_mapper=NULLABLE.get)
    columns = {name: narrow(raw[name], specs[name]) for name in raw if name != ROW}
    return pd.DataFrame(columns), raw[ROW].to_numpy(dtype=np.int64)


@contextmanager
def _dataset(ref: DatasetVersion, files: list[VersionFile] | None) -> Iterator[ds.Dataset]:
    """The version's files, verified, as Delta types their columns.

    Args:
        files: some of them, or all; None if only Delta's log knows them. Its statistics are put
            aside: it reads a filter on a column without any as one that nothing passes.
    """
    with ExitStack() as stack:
        if files is None:
            with _readable(ref):
                table = DeltaTable(ref.uri, version=ref.version).to_pyarrow_dataset()
                kind, schema = table.format, table.schema
                fragments = [
                    kind.make_fragment(f.path, f.filesystem) for f in table.get_fragments()
                ]
        else:
            streams = [stack.enter_context(verified(ref.uri, file)) for file in files]
            with _readable(ref):
                kind = ds.ParquetFileFormat()
                schema = pa.schema(Schema.from_arrow(read_schema(streams[0])).to_arrow())
                fragments = [kind.make_fragment(file) for file in streams]
        yield ds.FileSystemDataset(fragments, schema, kind)


@contextmanager
def _readable(ref: DatasetVersion) -> Iterator[None]:
    try:
        yield
    except (DeltaError, pa.ArrowException, OSError) as error:
        raise BackendError(
            f"{ref.uri}: version {ref.version} cannot be read: {first_line(error)}"
        ) from None


def _check_rows(ref: DatasetVersion, rows: int) -> None:
    missing = ref.rows - rows
    if missing and not 0 < missing <= erased_rows(ref.uri, ref.version):
        raise BackendError(
            f"{ref.uri}: version {ref.version} has {rows} rows, not the {ref.rows} of "
            "the reference; the table was made anew since, so prepare the data again"
        )


def _in_order(table: pa.Table) -> pa.Table:
    """The rows as they were written: files come in any order, so runs of rows are mixed."""
    rows = table[ROW].to_numpy()
    table = table.drop_columns([ROW])
    starts = np.flatnonzero(np.diff(rows, prepend=-2) != 1)
    if len(starts) > RUNS:  # rows one by one in another order; this copies them
        return table.take(np.argsort(rows))
    ends = np.append(starts[1:], len(rows))
    turns = np.argsort(rows[starts])
    runs = [table.slice(starts[at], ends[at] - starts[at]) for at in turns]
    return pa.concat_tables(runs) if len(runs) > 1 else table
