"""Reading exactly one version of a table: whole, or batch by batch.

A version's files are held against the digests in its commit before any of them is parsed. Only a
version that was written before commits listed their files is read as Delta's log has it.

A version may be a part of another one: it holds the numbers of that one's rows, and reading it
reads them there.
"""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import cached_property

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
from lifecycle.lake.manifest import VersionFile, files_of, read_manifest, verified
from lifecycle.lake.table import NUMBER, ROW, erased_rows, note_of
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
    """Tell whether the contract allows a missing value in a column of a version."""
    return bool(field.nullable)


def read_table(ref: DatasetVersion, columns: Sequence[str] | None = None) -> pa.Table:
    """Read what `read_version` reads, as Arrow.

    Raises:
        BackendError: the table or the version is not there, is damaged, or does not hold these
            rows.
    """
    if part_of(ref) is not None:
        batches = list(open_version(ref, columns))
        schema = batches[0].schema if batches else stored_schema(ref)
        return pa.Table.from_batches(batches, schema)
    table = _own_rows(ref, columns)
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
    part = _part_of(ref)
    if part is None and files_of(ref) is None:
        yield from read_table(ref, columns).to_batches(BATCH)
        return
    rows = 0
    for batch, _ in _scan(ref, part, columns):
        rows += batch.num_rows
        yield batch
    _check_rows(ref, rows, part)


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
        if sum(batch.num_rows for batch in batches) >= rows:
            break
    if not batches:
        return read_version(ref, columns)
    return to_frame(pa.Table.from_batches(batches).slice(0, rows), is_nullable)


def open_rows(
    ref: DatasetVersion, columns: Sequence[str], first: int = 0, end: int | None = None
) -> Iterator[pa.RecordBatch]:
    """Rows by their numbers, with the column `ROW`, in the files' order; only the files that can
    hold them are opened. The rows of a part have the numbers of the version that it is of.

    Args:
        first: number of the first row.
        end: number after that of the last one; by default all that follow.

    Raises:
        BackendError: the table or the version is not there, or is damaged.
    """
    for batch, numbers in _scan(ref, _part_of(ref), columns, first, end):
        schema = batch.schema.append(pa.field(ROW, pa.int64(), nullable=False))
        yield pa.RecordBatch.from_arrays([*batch.columns, pa.array(numbers)], schema=schema)


def numbers_end(ref: DatasetVersion) -> int:
    """The number after that of a version's last row: more than its rows where some are gone.

    Raises:
        BackendError: the version is damaged, or of another table.
    """
    version = part_of(ref) or ref
    files = files_of(version)
    return version.rows if files is None else max((file.end for file in files), default=0)


def read_numbers(ref: DatasetVersion) -> NDArray[np.int64]:
    """The numbers of a version's rows, in their order (rows,); no column of theirs is read.

    Raises:
        BackendError: the version is not there, or is damaged.
    """
    numbers = [batch[ROW].to_numpy() for batch in open_rows(ref, [])]
    return np.concatenate(numbers) if numbers else np.empty(0, dtype=np.int64)


def stored_schema(ref: DatasetVersion) -> pa.Schema:
    """The columns of a version.

    Raises:
        BackendError: the version is not there, or is damaged.
    """
    part = _part_of(ref)
    version = part.dataset if part else ref
    files = files_of(version)
    with _dataset(version, files and files[:1]) as dataset:
        schema = dataset.schema.remove(dataset.schema.get_field_index(ROW))
    return part.schema(schema) if part else schema


def open_file(
    ref: DatasetVersion,
    file: VersionFile,
    columns: Sequence[str] | None = None,
    holds: Callable[[NDArray[np.int64]], NDArray[np.bool_]] | None = None,
) -> Iterator[tuple[pa.RecordBatch, NDArray[np.int64]]]:
    """The rows of one file of a version, with their numbers (rows,).

    Args:
        columns: which ones; None for all.
        holds: which of the rows with these numbers are asked for.

    Raises:
        BackendError: the file is not there, or is damaged.
    """
    with verified(ref.uri, file) as stream, _readable(ref):
        parquet = ParquetFile(stream, pre_buffer=False)
        names = [name for name in parquet.schema_arrow.names if name != ROW]
        names = list(columns) if columns is not None else names
        for group in range(parquet.num_row_groups):
            if holds is not None and not _any(parquet, group, holds):
                continue
            for batch in parquet.iter_batches(BATCH, row_groups=[group], columns=[*names, ROW]):
                numbers = batch.column(ROW).to_numpy()
                batch = batch.select(names)
                if holds is not None and not (mask := holds(numbers)).all():
                    batch, numbers = batch.filter(pa.array(mask)), numbers[mask]
                yield batch, numbers


def batch_frame(
    batch: pa.RecordBatch | pa.Table, specs: Mapping[str, ColumnSpec]
) -> tuple[pd.DataFrame, NDArray[np.int64]]:
    """Rows of a batch typed as `read_version` types them, and their row numbers (rows,)."""
    raw = batch.to_pandas(types_mapper=NULLABLE.get)
    columns = {name: narrow(raw[name], specs[name]) for name in raw if name != ROW}
    return pd.DataFrame(columns), raw[ROW].to_numpy(dtype=np.int64)


# Parts: versions that are some rows of another one.

PART_OF = "part_of"
"""In a commit's note: the version whose rows it has, as JSON; its table lies beside the part's."""
NOT_NULL = "not_null"
"""In a commit's note: a column of which the part has no row without a value."""


@dataclass(frozen=True)
class PartRows:
    """Some rows of a version."""

    ref: DatasetVersion
    dataset: DatasetVersion
    not_null: str

    @cached_property
    def rows(self) -> NDArray[np.bool_]:
        """(numbers,): whether the row with a number is of the part."""
        numbers = row_numbers(self.ref)
        rows = np.zeros(int(numbers.max(initial=-1)) + 1, dtype=bool)
        rows[numbers] = True
        return rows

    def holds(self, numbers: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Mask of the rows, by their numbers, that are of the part (rows,)."""
        if not len(self.rows):
            return np.zeros(len(numbers), dtype=bool)
        mask: NDArray[np.bool_] = self.rows[np.minimum(numbers, len(self.rows) - 1)]
        return mask & (numbers < len(self.rows))

    def schema(self, schema: pa.Schema) -> pa.Schema:
        """The part's columns, by those of the version that it is of."""
        at = schema.get_field_index(self.not_null)
        return schema if at < 0 else schema.set(at, schema.field(at).with_nullable(False))


def part_of(ref: DatasetVersion) -> DatasetVersion | None:
    """The version that one is a part of; None if it has rows of its own.

    Raises:
        BackendError: its commit cannot be read, is damaged, or is of another version.
    """
    part = _part_of(ref)
    return part.dataset if part else None


def row_numbers(ref: DatasetVersion) -> NDArray[np.int64]:
    """The numbers of a part's rows in the version that it is of, ascending (rows,).

    Raises:
        BackendError: the part is not there, is damaged, or is another one.
    """
    table = _in_order(_own_rows(ref, [NUMBER]))
    if table.num_rows != ref.rows:
        raise BackendError(
            f"{ref.uri}: version {ref.version} has {table.num_rows} row numbers, not the "
            f"{ref.rows} of the reference; the table was made anew since, so prepare the data again"
        )
    numbers: NDArray[np.int64] = table[NUMBER].to_numpy()
    return numbers


def part_note(dataset: DatasetVersion, not_null: str) -> dict[str, str]:
    """The note of a part's commit.

    Args:
        dataset: the version that it is of, in a table beside its own.
        not_null: a column of which it has no row without a value.
    """
    place = dataset.model_dump(mode="json", exclude={"uri"})
    place["table"] = dataset.uri.rstrip("/").rpartition("/")[2]
    return {PART_OF: json.dumps(place), NOT_NULL: not_null}


def _part_of(ref: DatasetVersion) -> PartRows | None:
    if read_manifest(ref) is None:  # which holds the note against its seal
        return None
    note = note_of(ref.uri, ref.version)
    if PART_OF not in note:
        return None
    place = json.loads(note[PART_OF])
    uri = f"{ref.uri.rstrip('/').rpartition('/')[0]}/{place.pop('table')}"
    return PartRows(ref, DatasetVersion(uri=uri, **place), note[NOT_NULL])


def _scan(
    ref: DatasetVersion,
    part: PartRows | None,
    columns: Sequence[str] | None,
    first: int = 0,
    end: int | None = None,
) -> Iterator[tuple[pa.RecordBatch, NDArray[np.int64]]]:
    """Rows with numbers from `first` to `end`, with those (rows,), file by file."""

    def holds(numbers: NDArray[np.int64]) -> NDArray[np.bool_]:
        mask = numbers >= first
        if end is not None:
            mask &= numbers < end
        return mask & part.holds(numbers) if part else mask

    version = part.dataset if part else ref
    files = files_of(version)
    if files is None:  # perhaps made by Delta's own writer, whose threads take turns
        for batch in _own_rows(version, columns).sort_by(ROW).to_batches(BATCH):
            numbers = batch.column(ROW).to_numpy()
            mask = holds(numbers)
            rows = batch.drop_columns([ROW]).filter(pa.array(mask))
            yield _typed(rows, part), numbers[mask]
        return
    for file in files:
        if file.end > first and (end is None or file.first < end):
            for batch, numbers in open_file(version, file, columns, holds):
                yield _typed(batch, part), numbers


def _typed(batch: pa.RecordBatch, part: PartRows | None) -> pa.RecordBatch:
    if part is None:
        return batch
    return pa.RecordBatch.from_arrays(batch.columns, schema=part.schema(batch.schema))


def _any(
    parquet: ParquetFile, group: int, holds: Callable[[NDArray[np.int64]], NDArray[np.bool_]]
) -> bool:
    """Tell whether a row group may have a row that is asked for, by its least number and its
    greatest; without them, it may."""
    at = parquet.schema_arrow.get_field_index(ROW)
    ends = parquet.metadata.row_group(group).column(at).statistics
    if ends is None or not ends.has_min_max:
        return True
    return bool(holds(np.arange(ends.min, ends.max + 1)).any())


def _own_rows(ref: DatasetVersion, columns: Sequence[str] | None) -> pa.Table:
    """A version's own rows, with the column `ROW`, in any order."""
    names = [*columns, ROW] if columns is not None else None
    # reading ahead of what is decoded pays over a network, and holds the files in memory
    with _dataset(ref, files_of(ref)) as dataset, _readable(ref):
        options = ParquetFragmentScanOptions(pre_buffer="://" in ref.uri)
        return dataset.to_table(columns=names, fragment_scan_options=options)


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


def _check_rows(ref: DatasetVersion, rows: int, part: PartRows | None = None) -> None:
    missing = ref.rows - rows
    version = part.dataset if part else ref
    if missing and not 0 < missing <= erased_rows(version.uri, version.version):
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
