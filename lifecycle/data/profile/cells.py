"""Columns of any Arrow type in the few that a profile tells apart."""

import pyarrow as pa
import pyarrow.compute as pc


def plain(column: pa.Array) -> pa.Array:
    """As whole numbers, floats, booleans, times in UTC microseconds, or text; NaN is missing."""
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    kind = column.type
    if pa.types.is_boolean(kind) or pa.types.is_integer(kind) or pa.types.is_string(kind):
        return column
    if pa.types.is_floating(kind) or pa.types.is_decimal(kind):
        floats = column.cast(pa.float64())
        lost = pc.is_nan(floats)
        some = pc.any(lost).as_py()
        return pc.if_else(lost, pa.scalar(None, pa.float64()), floats) if some else floats
    if pa.types.is_timestamp(kind) or pa.types.is_date(kind):
        return column.cast(pa.timestamp("us", getattr(kind, "tz", None)), safe=False).cast(
            pa.timestamp("us")
        )
    if pa.types.is_large_string(kind) or pa.types.is_string_view(kind) or pa.types.is_null(kind):
        return column.cast(pa.string())
    texts = [None if value is None else str(value) for value in column.to_pylist()]
    return pa.array(texts, pa.string())
