"""Reading exactly one version of a table: whole, or batch by batch."""

from collections.abc import Iterator, Sequence
from itertools import pairwise
from urllib.parse import unquote

import numpy as np
import pandas as pd
import pyarrow as pa
from deltalake import DeltaTable
from deltalake.exceptions import DeltaError
from pyarrow.dataset import ParquetFragmentScanOptions
from pyarrow.parquet import ParquetFile

from lifecycle.data.arrow import to_frame
from lifecycle.data.lake.places import place_of
from lifecycle.data.lake.table import ROW, erased_rows, first_line
from lifecycle.errors import BackendError
from lifecycle.records import DatasetVersion

RUNS = 10_000
"""Up to so many runs of rows are put in order without a copy."""
BATCH = 1 << 16
"""Most rows of a batch."""


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
        raise _unreadable(ref, error) from None
    _check_rows(ref, table.num_rows)
    return _in_order(table)


def open_version(
    ref: DatasetVersion, columns: Sequence[str] | None = None
) -> Iterator[pa.RecordBatch]:
    """The rows that `read_version` reads, in their order, a batch in memory at a time.

    Raises:
        BackendError: the table or the version is not there, or does not hold these rows.
    """
    system, prefix = place_of(ref.uri)
    try:
        files = DeltaTable(ref.uri, version=ref.version).get_add_actions()
        paths = [unquote(path) for path in pa.table(files)["path"].to_pylist()]
        # ahead of time a row group over a network, where a request costs most; never a whole file
        ahead = "://" in ref.uri
        opened = [
            ParquetFile(system.open_input_file(prefix + path), pre_buffer=ahead) for path in paths
        ]
        ordered = _by_row(opened)
        if ordered is None:  # made by Delta's own writer, whose threads take turns
            for one in opened:
                one.close()
            yield from read_table(ref, columns).to_batches(BATCH)
            return
        rows = 0
        for file in ordered:
            names = [
                n for n in file.schema_arrow.names if n != ROW and (not columns or n in columns)
            ]
            for group in range(file.num_row_groups):
                for batch in file.iter_batches(BATCH, row_groups=[group], columns=names):
                    rows += batch.num_rows
                    yield batch.select(list(columns)) if columns else batch
            file.close()
    except (DeltaError, pa.ArrowException, OSError) as error:
        raise _unreadable(ref, error) from None
    _check_rows(ref, rows)


def _by_row(files: list[ParquetFile]) -> list[ParquetFile] | None:
    """The files in the order of their rows; None if their rows are mixed."""
    ranges = []
    for file in files:
        metadata = file.metadata
        at = file.schema_arrow.get_field_index(ROW)
        known = [
            metadata.row_group(i).column(at).statistics for i in range(metadata.num_row_groups)
        ]
        if not known:
            continue
        if any(one is None or not one.has_min_max for one in known):
            return None
        ends = [(one.min, one.max) for one in known]
        if any(later[0] <= former[1] for former, later in pairwise(ends)):
            return None
        ranges.append((ends[0][0], ends[-1][1], file))
    ranges.sort(key=lambda one: one[0])
    mixed = any(later[0] <= former[1] for former, later in pairwise(ranges))
    return None if mixed else [file for *_, file in ranges]


def _check_rows(ref: DatasetVersion, rows: int) -> None:
    missing = ref.rows - rows
    if missing and not 0 < missing <= erased_rows(ref.uri, ref.version):
        raise BackendError(
            f"{ref.uri}: version {ref.version} has {rows} rows, not the {ref.rows} of "
            "the reference; the table was made anew since, so prepare the data again"
        )


def _unreadable(ref: DatasetVersion, error: Exception) -> BackendError:
    return BackendError(f"{ref.uri}: version {ref.version} cannot be read: {first_line(error)}")


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
