"""The digest of a table's content: what its cells hold, however rows were cut and stored."""

import hashlib
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pandas as pd
import pyarrow as pa

from lifecycle.lake.column_types import is_text, to_arrow

BATCH = 1 << 16


class Digest:
    """SHA-256 of a table's content, batch by batch.

    Over each column's name, type and three digests, of all rows in their order: the numbers of rows
    that miss a value, the values' bytes, and of text the lengths. How the rows are cut into batches
    does not count.
    """

    def __init__(self, schema: pa.Schema) -> None:
        self._schema = schema
        self._columns = [_Column(field.type) for field in schema]
        self._rows = 0

    def add(self, batch: pa.RecordBatch) -> None:
        """Take in rows of the schema."""
        for column, values in zip(self._columns, batch.columns, strict=True):
            column.add(values, self._rows)
        self._rows += batch.num_rows

    def hexdigest(self) -> str:
        """The digest of all rows so far."""
        digest = hashlib.sha256(f"{self._rows}".encode())
        for field, column in zip(self._schema, self._columns, strict=True):
            digest.update(f"\0{field.name}\0{field.type}\0{field.nullable}\0".encode())
            digest.update(column.digest())
        return digest.hexdigest()


def digest_of(content: pd.DataFrame | pa.Table, rows: pa.BooleanArray | None = None) -> str:
    """The `Digest` of a whole table, its columns hashed on several threads.

    Args:
        rows: which rows count, as if the others were not there; None for all.
    """
    table = to_arrow(content) if isinstance(content, pd.DataFrame) else content
    if rows is not None:
        table = table.filter(rows)
    digest = Digest(table.schema)

    def add(at: int) -> None:
        start = 0
        for chunk in table.column(at).chunks:
            digest._columns[at].add(chunk, start)
            start += len(chunk)

    with ThreadPoolExecutor() as threads:
        list(threads.map(add, range(table.num_columns)))
    digest._rows = table.num_rows
    return digest.hexdigest()


class _Column:
    def __init__(self, kind: pa.DataType) -> None:
        self._kind = kind
        self._missing, self._values, self._lengths = (hashlib.sha256() for _ in range(3))

    def add(self, values: pa.Array, start: int) -> None:
        """Take in values; what memory holds under a missing one is undefined, so it is filled.

        Args:
            start: number of the first row.
        """
        kind = self._kind
        if values.null_count:
            rows = np.flatnonzero(values.is_null().to_numpy(zero_copy_only=False)) + start
            self._missing.update(rows.astype("<i8").tobytes())
        if is_text(kind):
            filled = values.fill_null("") if values.null_count else values
            width = np.int64 if pa.types.is_large_string(kind) else np.int32
            ends = np.frombuffer(filled.buffers()[1] or b"\0" * 8, dtype=width)
            ends = ends[filled.offset : filled.offset + len(filled) + 1]
            self._lengths.update(np.diff(ends).astype("<i8").tobytes())
            text = memoryview(filled.buffers()[2] or b"")
            self._values.update(text[ends[0] : ends[-1]])
            return
        if pa.types.is_temporal(kind):
            values = values.view(pa.int64() if kind.bit_width == 64 else pa.int32())
        if pa.types.is_boolean(kind):
            values = values.cast(pa.int8())
        filled = values.fill_null(0) if values.null_count else values
        self._values.update(np.ascontiguousarray(filled.to_numpy()).view(np.uint8).data)

    def digest(self) -> bytes:
        parts = (self._missing, self._values, self._lengths)
        return b"".join(part.digest() for part in parts)
