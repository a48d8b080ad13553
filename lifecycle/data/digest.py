"""Digests: frames as Arrow tables, and what identifies their content."""

import hashlib
from collections.abc import Iterator

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc


def digest_of(frame: pd.DataFrame | pa.Table) -> str:
    """SHA-256 over column names, types and values in row order, whatever the chunks are."""
    table = to_arrow(frame) if isinstance(frame, pd.DataFrame) else frame
    digest = hashlib.sha256(f"{table.num_rows}".encode())
    for field, column in zip(table.schema, table.columns, strict=True):
        digest.update(f"\0{field.name}\0{field.type}\0{field.nullable}\0".encode())
        for part in _bytes_of(column):
            digest.update(part)
    return digest.hexdigest()


def to_arrow(frame: pd.DataFrame) -> pa.Table:
    """A frame as Arrow; columns of numpy's whole numbers and booleans are marked not nullable."""
    table = pa.Table.from_pandas(frame, preserve_index=False)
    fields = [
        pa.field(
            field.name,
            pa.string() if pa.types.is_null(field.type) else field.type,
            nullable=frame[field.name].dtype.kind not in "iub"
            or pd.api.types.is_extension_array_dtype(frame[field.name].dtype),
        )
        for field in table.schema
    ]
    return table.cast(pa.schema(fields))


def _bytes_of(column: pa.ChunkedArray) -> Iterator[bytes | memoryview]:
    """What identifies a column's values: which are missing, and the bytes of the others.

    What memory holds under a missing value is undefined, so it is filled first.
    """
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
    yield np.ascontiguousarray(column.fill_null(0).to_numpy()).view(np.uint8).data
