"""Frames and Arrow tables: the same columns, copied only where their memory differs."""

import json
from collections.abc import Callable
from typing import Any

import pandas as pd
import pyarrow as pa


def to_arrow(frame: pd.DataFrame) -> pa.Table:
    """A frame as Arrow; columns of numpy's whole numbers and booleans are marked not nullable.

    Numbers keep the frame's memory: change the frame, and the table has changed. Text is `string`
    whatever holds it in the frame, as its type is part of a table's digest.
    """
    table = pa.Table.from_pandas(frame, preserve_index=False)
    fields = [
        pa.field(
            field.name,
            pa.string() if pa.types.is_null(field.type) or is_text(field.type) else field.type,
            nullable=frame[field.name].dtype.kind not in "iub"
            or pd.api.types.is_extension_array_dtype(frame[field.name].dtype),
        )
        for field in table.schema
    ]
    return table.cast(pa.schema(fields))


def to_frame(
    table: pa.Table,
    may_miss: Callable[[pa.Field, pa.ChunkedArray], bool],
    *,
    split_blocks: bool = False,
) -> pd.DataFrame:
    """A frame with index 0..n-1; column by column it takes over the memory of a table that its
    caller does not keep.

    Args:
        may_miss: whether a column of whole numbers or booleans becomes pandas' nullable `Int64` or
            `boolean`.
        split_blocks: leave each column where it is, read-only, where that saves its copy; else
            columns of one type lie together, which is what pandas works best on.
    """
    columns = [
        _column(field.name, _nullable_type(field.type) if may_miss(field, column) else "object")
        for field, column in zip(table.schema, table.columns, strict=True)
    ]
    made = {"index_columns": [], "column_indexes": [], "columns": columns}
    table = table.replace_schema_metadata({"pandas": json.dumps(made)})
    frame: pd.DataFrame = table.to_pandas(
        date_as_object=False, split_blocks=split_blocks, self_destruct=True
    )
    return frame


def is_text(kind: pa.DataType) -> bool:
    """Whether values are text, whichever of Arrow's types holds them."""
    return bool(
        pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind)
    )


def is_number(kind: pa.DataType) -> bool:
    """Whether values have a mean."""
    return bool(pa.types.is_integer(kind) or pa.types.is_floating(kind))


def release_memory() -> None:
    """Give back what Arrow keeps of tables that are gone: training comes next, and needs it."""
    pa.default_memory_pool().release_unused()


def _nullable_type(kind: pa.DataType) -> str:
    if pa.types.is_boolean(kind):
        return "boolean"
    return "Int64" if pa.types.is_integer(kind) else "object"


def _column(name: str, numpy_type: str) -> dict[str, Any]:
    """A column of pandas' metadata, which name one column's type; `object` leaves it to Arrow."""
    names = {"name": name, "field_name": name, "pandas_type": "", "metadata": None}
    return names | {"numpy_type": numpy_type}
