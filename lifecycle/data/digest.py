"""What identifies the content of a table."""

import hashlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from lifecycle.data.arrow import to_arrow


def digest_of(content: pd.DataFrame | pa.Table, rows: pa.BooleanArray | None = None) -> str:
    """SHA-256 over each column's name, type and SHA-256 of its values in row order.

    Chunks do not count. The columns are hashed on several threads, one column at a time on each.

    Args:
        rows: which rows count, as if the others were not there; None for all.
    """
    table = to_arrow(content) if isinstance(content, pd.DataFrame) else content
    count = table.num_rows if rows is None else rows.true_count
    digest = hashlib.sha256(f"{count}".encode())
    with ThreadPoolExecutor() as threads:
        columns = threads.map(lambda column: _column_digest(column, rows), table.columns)
        for field, values in zip(table.schema, columns, strict=True):
            digest.update(f"\0{field.name}\0{field.type}\0{field.nullable}\0".encode() + values)
    return digest.hexdigest()


def _column_digest(column: pa.ChunkedArray, rows: pa.BooleanArray | None) -> bytes:
    digest = hashlib.sha256()
    for part in _bytes_of(column if rows is None else column.filter(rows)):
        digest.update(part)
    return digest.digest()


def _bytes_of(column: pa.ChunkedArray) -> Iterator[bytes | memoryview]:
    """What identifies a column's values: which are missing, and the bytes of the others.

    What memory holds under a missing value is undefined, so it is filled first.
    """
    yield f"{column.null_count}\0".encode()
    if column.null_count:
        yield np.packbits(column.is_null().to_numpy()).tobytes()
    if pa.types.is_string(column.type):
        column = column.cast(pa.large_string())
    if pa.types.is_large_string(column.type):
        values = column.fill_null("")
        yield pc.binary_length(values).to_numpy().astype("<i8").tobytes()
        for chunk in values.chunks:
            offsets = np.frombuffer(chunk.buffers()[1], dtype=np.int64)[chunk.offset :]
            yield memoryview(chunk.buffers()[2] or b"")[offsets[0] : offsets[len(chunk)]]
        return
    if pa.types.is_temporal(column.type):
        column = column.cast(pa.int64())
    if pa.types.is_boolean(column.type):
        column = column.cast(pa.int8())
    for chunk in column.fill_null(0).chunks:
        yield np.ascontiguousarray(chunk.to_numpy()).view(np.uint8).data
