"""Tensors of the Open Inference Protocol: from JSON or raw bytes to columns, and back to bytes.

Binary tensors are little-endian, row-major, without padding; a BYTES element is a 4-byte length and
its bytes.
"""

import struct
from collections.abc import Iterable, Sequence
from itertools import chain
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from lifecycle.errors import MalformedRequestError, RequestError
from lifecycle.project import ColumnSpec, ColumnType
from lifecycle.serving.records import Column

DTYPES: dict[str, np.dtype[Any]] = {
    "BOOL": np.dtype("bool"),
    **{f"INT{8 * size}": np.dtype(f"<i{size}") for size in (1, 2, 4, 8)},
    **{f"UINT{8 * size}": np.dtype(f"<u{size}") for size in (1, 2, 4, 8)},
    "FP32": np.dtype("<f4"),
    "FP64": np.dtype("<f8"),
}
NUMBERS = frozenset(DTYPES) - {"BOOL"}
DATATYPES: dict[ColumnType, str] = {
    "integer": "INT64",
    "number": "FP64",
    "boolean": "BOOL",
    "string": "BYTES",
    "category": "BYTES",
    "datetime": "BYTES",
}
"""What a column's tensor has in the model's metadata; a number may come as any number type."""
JSON_TYPES: dict[str, frozenset[type]] = {
    "BOOL": frozenset({bool}),
    "BYTES": frozenset({str}),
    **dict.fromkeys(NUMBERS, frozenset({int})),
    **dict.fromkeys(("FP32", "FP64"), frozenset({int, float})),
}
NONE = type(None)
LENGTH = struct.Struct("<I")


class Tensor(NamedTuple):
    """A tensor as a request has it, its elements in one row-major sequence."""

    name: str
    datatype: str
    shape: tuple[int, ...]
    values: list[Any] | NDArray[Any]
    """JSON's values, null as None; or an array on the request's own bytes, not to be written to."""
    binary: bool


def from_json(name: str, datatype: str, shape: tuple[int, ...], data: Any) -> Tensor:
    """A tensor with `data` in the JSON, flat or nested by row.

    Raises:
        MalformedRequestError: `data` is no list, or has another number of elements than the shape.
        RequestError: an element is not of the datatype; names the row.
    """
    if type(data) is not list:
        raise MalformedRequestError(f"input {name}: data must be a list")
    values: list[Any] = data
    if len(shape) > 1 and data and type(data[0]) is list:
        if len(data) != shape[0] or not all(type(r) is list and len(r) == shape[1] for r in data):
            raise MalformedRequestError(f"input {name}: data does not have the shape {list(shape)}")
        values = list(chain.from_iterable(data))
    _check_size(name, shape, len(values))
    allowed = JSON_TYPES[datatype]
    if not (allowed | {NONE}).issuperset(map(type, values)):
        at = next(i for i, v in enumerate(values) if type(v) not in allowed and v is not None)
        raise RequestError(
            f"{where(name, shape, at)}: must be {datatype}, got {type(values[at]).__name__}"
        )
    if (dtype := DTYPES.get(datatype)) is not None and dtype.kind in "iu":
        least, most = np.iinfo(dtype).min, np.iinfo(dtype).max
        present = [value for value in values if value is not None]
        if present and (min(present) < least or max(present) > most):
            at = next(i for i, v in enumerate(values) if v is not None and not least <= v <= most)
            raise RequestError(
                f"{where(name, shape, at)}: {values[at]} is out of range for {datatype}"
            )
    return Tensor(name, datatype, shape, values, binary=False)


def from_bytes(name: str, datatype: str, shape: tuple[int, ...], raw: memoryview) -> Tensor:
    """A binary tensor; numbers are not copied.

    Raises:
        MalformedRequestError: the bytes are too few or too many for the shape.
        RequestError: a BOOL that is neither 0 nor 1, or BYTES that are not UTF-8; names the row.
    """
    if datatype == "BYTES":
        texts = _texts(name, shape, raw)
        _check_size(name, shape, len(texts))
        return Tensor(name, datatype, shape, texts, binary=True)
    dtype = DTYPES[datatype]
    if len(raw) != _size(shape) * dtype.itemsize:
        raise MalformedRequestError(
            f"input {name}: binary_data_size is {len(raw)}, {datatype} of shape {list(shape)} has "
            f"{_size(shape) * dtype.itemsize} bytes"
        )
    values: NDArray[Any] = np.frombuffer(raw, dtype if datatype != "BOOL" else np.uint8)
    if datatype == "BOOL":
        if (wrong := np.flatnonzero(values > 1)).size:
            raise RequestError(f"{where(name, shape, int(wrong[0]))}: a BOOL is the byte 0 or 1")
        values = values.view(bool)
    return Tensor(name, datatype, shape, values, binary=True)


def to_column(tensor: Tensor, spec: ColumnSpec) -> Column:
    """The values of one column: NaN, and an empty binary text that can only be one, are missing.

    Returns:
        A list with None where a value is missing, or an array in which none is.

    Raises:
        RequestError: the datatype cannot be the column's, or a value is missing that must not be;
            names the row.
    """
    name, values = tensor.name, tensor.values
    kind = spec.value_type
    own = DATATYPES[kind]
    if tensor.datatype != own and not (own in NUMBERS and tensor.datatype in NUMBERS):
        also = " or another number type" if own in NUMBERS else ""
        raise RequestError(f"input {name}: must be {own}{also}, got {tensor.datatype}")
    if isinstance(values, np.ndarray):
        if values.dtype.kind != "f" or not (missing := np.isnan(values)).any():
            return values
        if not spec.nullable:
            row = int(missing.argmax())
            raise RequestError(f"row {row}: {name}: must not be NaN, which means missing")
        return [None if value != value else value for value in values.tolist()]
    if tensor.binary and spec.nullable and _never_empty(spec):
        return [value or None for value in values]  # a binary text has no null
    return values


def to_matrix(
    tensor: Tensor, inputs: dict[str, ColumnSpec]
) -> tuple[dict[str, Column], NDArray[Any] | None]:
    """The columns of one tensor (rows, inputs) that holds all inputs in order.

    Returns:
        The columns, and what they are views of if all are numbers and none is missing.

    Raises:
        RequestError: an input is neither number nor boolean, the datatype is none of FP32, FP64 and
            INT64, or a value is missing or no boolean where it must be one; names row and input.
    """
    if tensor.datatype not in ("FP32", "FP64", "INT64"):
        raise RequestError(
            f"input {tensor.name}: one tensor for all inputs must be FP32, FP64 or INT64, got "
            f"{tensor.datatype}"
        )
    kinds = {name: spec.value_type for name, spec in inputs.items()}
    if text := [name for name, kind in kinds.items() if DATATYPES[kind] == "BYTES"]:
        raise RequestError(
            f"input {tensor.name}: cannot hold {', '.join(text[:5])}, which are not numbers: send "
            "one tensor per column"
        )
    missing = isinstance(tensor.values, list) and None in tensor.values
    cells = np.asarray(tensor.values, object if missing else DTYPES[tensor.datatype])
    cells = cells.reshape(tensor.shape)
    if not missing and "boolean" not in kinds.values() and not np.isnan(cells).any():
        return dict(zip(inputs, cells.T, strict=True)), cells
    columns: dict[str, Column] = {}
    for at, (name, spec) in enumerate(inputs.items()):
        values = cells[:, at].tolist() if missing else cells[:, at]
        column = Tensor(name, tensor.datatype, tensor.shape[:1], values, tensor.binary)
        if kinds[name] == "boolean":
            column = column._replace(datatype="BOOL", values=_booleans(column, spec))
        columns[name] = to_column(column, spec)
    return columns, None


def to_bytes(values: NDArray[np.float64] | Sequence[Any], datatype: str) -> bytes:
    """The elements of an output as the bytes of a binary tensor."""
    if datatype == "BYTES":
        texts = [str(value).encode() for value in values]
        return b"".join(chain.from_iterable((LENGTH.pack(len(t)), t) for t in texts))
    return np.asarray(values, DTYPES[datatype]).tobytes()


def where(name: str, shape: tuple[int, ...], at: int) -> str:
    """Describe the place of an element for a message: its row, and in a matrix its column."""
    width = shape[1] if len(shape) > 1 and shape[1] > 1 else 1
    return f"row {at // width}: {name}{f'[{at % width}]' if width > 1 else ''}"


def _never_empty(spec: ColumnSpec) -> bool:
    """Return whether an empty text cannot be a value of the column."""
    return spec.type == "datetime" or (
        spec.type == "category" and "" not in (spec.categories or ())
    )


def _booleans(column: Tensor, spec: ColumnSpec) -> list[Any]:
    values = column.values.tolist() if isinstance(column.values, np.ndarray) else column.values
    booleans: list[bool | None] = []
    for row, value in enumerate(values):
        missing = value is None or value != value
        if not (missing and spec.nullable) and value not in (0, 1):
            raise RequestError(f"row {row}: {column.name}: must be 0 or 1, got {value}")
        booleans.append(None if missing else bool(value))
    return booleans


def _texts(name: str, shape: tuple[int, ...], raw: memoryview) -> list[str]:
    texts: list[str] = []
    at, end = 0, len(raw)
    while at < end:
        start = at + LENGTH.size
        if start > end or (at := start + LENGTH.unpack_from(raw, start - LENGTH.size)[0]) > end:
            raise MalformedRequestError(
                f"{where(name, shape, len(texts))}: a BYTES element ends before its length says so"
            )
        try:
            texts.append(str(raw[start:at], "utf-8"))
        except UnicodeDecodeError:
            raise RequestError(f"{where(name, shape, len(texts))}: is not UTF-8") from None
    return texts


def _size(shape: Iterable[int]) -> int:
    size = 1
    for length in shape:
        size *= length
    return size


def _check_size(name: str, shape: tuple[int, ...], size: int) -> None:
    if size != _size(shape):
        raise MalformedRequestError(
            f"input {name}: has {size} elements, its shape {list(shape)} means {_size(shape)}"
        )
