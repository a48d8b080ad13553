"""Columns of any source as Arrow columns of few types, and as the type the contract asks for."""

import difflib
import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any
from uuid import UUID

import pyarrow as pa
import pyarrow.compute as pc

from lifecycle.data.sources.base import BATCH
from lifecycle.data.sources.notation import Notation
from lifecycle.project import ColumnSpec, ColumnType

TEXT_TYPES = ("string", "category")
"""Contract types read as text."""
MICROSECONDS = pa.timestamp("us")


def declared(
    batch: pa.RecordBatch, columns: Mapping[str, ColumnSpec], notation: Notation
) -> pa.RecordBatch:
    """A batch whose contract columns have the types they should have, or are text.

    Args:
        notation: how the source writes its cells.
    """
    arrays = []
    for name, array in zip(batch.schema.names, batch.columns, strict=True):
        array = plain(array)
        if spec := columns.get(name):
            array = as_declared(notation.read(array, name, spec), spec.type)
        arrays.append(array)
    return pa.RecordBatch.from_arrays(arrays, names=batch.schema.names)


def sliced(batch: pa.RecordBatch) -> Iterator[pa.RecordBatch]:
    """A batch in pieces of at most 65,536 rows, none of them empty."""
    for start in range(0, batch.num_rows, BATCH):
        yield batch.slice(start, BATCH)


def as_declared(array: pa.Array, kind: ColumnType) -> pa.Array:
    """A column in the type the contract asks for if every cell allows it, else as text."""
    array = plain(array)
    if pa.types.is_floating(array.type) and kind != "number" and array.null_count < len(array):
        array = pc.if_else(pc.is_nan(array), pa.scalar(None, array.type), array)
    if kind in TEXT_TYPES:
        return _text(array)
    try:
        return _typed(array, kind)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
        return _text(array)


def plain(array: pa.Array) -> pa.Array:
    """A column as one of whole numbers, floats, booleans, text or naive `timestamp[us]` in UTC."""
    kind = array.type
    if isinstance(kind, pa.BaseExtensionType):
        return plain(_uuids(array) if kind.extension_name == "arrow.uuid" else array.storage)
    if pa.types.is_dictionary(kind):
        return plain(array.dictionary_decode())
    if pa.types.is_string(kind) or pa.types.is_boolean(kind) or pa.types.is_integer(kind):
        return array
    if pa.types.is_float16(kind) or pa.types.is_float32(kind):
        return array.cast(pa.float64())
    if pa.types.is_floating(kind):
        return array
    if pa.types.is_timestamp(kind) or pa.types.is_date(kind):
        return array.cast(MICROSECONDS, safe=False)  # nanoseconds are cut off
    if pa.types.is_nested(kind):
        return pa.array([None if v is None else _json(v) for v in array.to_pylist()], pa.string())
    try:
        return array.cast(pa.string())
    except pa.ArrowInvalid:  # bytes that are no text
        return pa.array([text_of(value) for value in array.to_pylist()], pa.string())


def column_of(values: Sequence[Any], decimal: str = ".") -> pa.Array:
    """Python values as a column: of one type if they have one, else as text; None is missing.

    Args:
        decimal: what stands before the decimals of numbers among texts, as in the texts.
    """
    try:
        return plain(pa.array(values))
    except (pa.ArrowException, TypeError, ValueError, OverflowError):
        return pa.array([text_of(value, decimal) for value in values], pa.string())


def text_of(value: object, decimal: str = ".") -> str | None:
    """A single value as the text its column would have."""
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        if value != value:
            return None
        return str(int(value)) if value.is_integer() else repr(value).replace(".", decimal)
    if isinstance(value, bytes):
        return value.hex()
    return _json(value) if isinstance(value, dict | list | tuple) else str(value)


def _typed(array: pa.Array, kind: ColumnType) -> pa.Array:
    """Cast what means the same in both types; Arrow casts more, such as a time to a number."""
    have = array.type
    if pa.types.is_string(have):
        return _parsed(array, kind)
    numeric = not pa.types.is_timestamp(have)
    if kind == "integer" and numeric:
        return array.cast(pa.int64())
    if kind == "number" and numeric:
        return array.cast(pa.float64(), safe=False)  # whole numbers beyond 2**53 are rounded
    if kind == "boolean" and numeric:
        if (
            not pa.types.is_boolean(have)
            and not pc.all(pc.is_in(array, pa.array([0, 1, None], have))).as_py()
        ):
            raise pa.ArrowInvalid("neither 0 nor 1")
        return array.cast(pa.bool_())
    if kind == "datetime" and not numeric:
        return array
    raise pa.ArrowInvalid(f"{have} is not a valid {kind}")


def _parsed(array: pa.Array, kind: ColumnType) -> pa.Array:
    if kind == "integer":
        numbers = _cast(array, pa.int64())
        if pc.any(pc.match_substring(array, "x", ignore_case=True)).as_py():
            raise pa.ArrowInvalid("0x10 is text")  # Arrow reads it as 16
        return numbers
    if kind == "datetime":
        return _times(array)
    return _cast(array, pa.float64() if kind == "number" else pa.bool_())


def _times(array: pa.Array) -> pa.Array:
    for target in (MICROSECONDS, pa.timestamp("us", "UTC"), pa.timestamp("ns")):
        try:
            return _cast(array, target).cast(MICROSECONDS, safe=False)
        except pa.ArrowInvalid:
            continue
    raise pa.ArrowInvalid("no times")


def _cast(array: pa.Array, kind: pa.DataType) -> pa.Array:
    try:
        return array.cast(kind)
    except pa.ArrowInvalid:
        return pc.utf8_trim_whitespace(array).cast(kind)


def _text(array: pa.Array) -> pa.Array:
    return array if pa.types.is_string(array.type) else array.cast(pa.string())


def _uuids(array: pa.Array) -> pa.Array:
    raw = array.storage.to_pylist()
    return pa.array([None if v is None else str(UUID(bytes=v)) for v in raw], pa.string())


def _json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, default=str)


# Columns that probably only changed their name.


def renamed(missing: Sequence[str], extra: Sequence[str], cutoff: float = 0.6) -> dict[str, str]:
    """Guess the new name of each missing column among the extra ones.

    A name that differs only in case, spaces and signs comes first, then the nearest spelling.

    Args:
        cutoff: minimum similarity of spellings, from 0 to 1 (`difflib`'s ratio).
    """
    remaining = list(extra)
    names: dict[str, str] = {}
    for same in (True, False):
        for name in missing:
            if name in names:
                continue
            if same:
                close = [
                    other for other in remaining if _bare(other) and _bare(other) == _bare(name)
                ]
            else:
                close = difflib.get_close_matches(name, remaining, n=1, cutoff=cutoff)
            if close:
                names[name] = close[0]
                remaining.remove(close[0])
    return names


def left_out(names: Collection[str], missing: Sequence[str], extra: Sequence[str]) -> set[str]:
    """Missing columns without a similarly named counterpart.

    Args:
        names: columns that need not be there, such as the target where labels have not come.
    """
    return {name for name in missing if name in names} - set(renamed(missing, extra))


def _bare(name: str) -> str:
    return "".join(sign for sign in name.casefold() if sign.isalnum())
