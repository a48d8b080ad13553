"""The input tensors of an inference request, in its JSON or behind it."""

from collections.abc import Mapping
from typing import Any

from lifecycle.errors import MalformedRequestError, RequestError
from lifecycle.project import ColumnSpec
from lifecycle.serving.body import check_rows
from lifecycle.serving.tensors import DTYPES, Tensor, from_bytes, from_json

LENGTH = b"inference-header-content-length"
"""Header: how many bytes of the body are the JSON, where binary tensors follow it."""


def divide(body: bytes, length: bytes | None) -> tuple[memoryview, memoryview]:
    """The JSON of a request and the binary tensors behind it.

    Args:
        length: the header `LENGTH`, if the request has it.

    Raises:
        MalformedRequestError: the header is no number of bytes up to the body's.
    """
    whole = memoryview(body)
    if length is None:
        return whole, whole[len(whole) :]
    if not length.isdigit() or len(length) > 12 or int(length) > len(whole):
        raise MalformedRequestError(
            f"Inference-Header-Content-Length: must be a whole number up to the body's "
            f"{len(whole)} bytes, got {length[:20].decode('latin-1')!r}"
        )
    return whole[: int(length)], whole[int(length) :]


def read_tensors(
    inputs: Any, binary: memoryview, columns: Mapping[str, ColumnSpec], max_rows: int
) -> tuple[list[Tensor], int]:
    """Every input tensor, and how many rows they all have.

    Args:
        inputs: what the request has under `inputs`.
        binary: what follows its JSON.

    Raises:
        MalformedRequestError: not the protocol's shape, or bytes and shapes do not add up.
        RequestTooLargeError: too many rows.
        RequestError: no row, or an element that is not of its tensor's datatype.
    """
    if type(inputs) is not list or not inputs:
        raise MalformedRequestError("inputs: must be a list of tensors, one at least")
    tensors: list[Tensor] = []
    at = 0
    for place, one in enumerate(inputs):
        if type(one) is not dict or type(name := one.get("name")) is not str:
            raise MalformedRequestError(f"inputs[{place}]: must be a tensor with a name")
        datatype, shape = _datatype(name, one), _shape(name, one, len(columns))
        check_rows(shape[0], max_rows, f"input {name}")
        size = _binary_size(name, one)
        if size is None:
            tensors.append(from_json(name, datatype, shape, one.get("data")))
            continue
        if "data" in one or at + size > len(binary):
            raise MalformedRequestError(
                f"input {name}: binary_data_size is {size}, but the body has "
                + ("data in its JSON" if "data" in one else f"{len(binary) - at} bytes left")
            )
        tensors.append(from_bytes(name, datatype, shape, binary[at : at + size]))
        at += size
    if at != len(binary):
        raise MalformedRequestError(f"the body has {len(binary) - at} bytes that no input names")
    rows = tensors[0].shape[0]
    for tensor in tensors:
        if tensor.shape[0] != rows:
            raise MalformedRequestError(
                f"input {tensor.name}: has {tensor.shape[0]} rows, {tensors[0].name} has {rows}"
            )
    return tensors, rows


def _datatype(name: str, tensor: dict[str, Any]) -> str:
    datatype = tensor.get("datatype")
    if not isinstance(datatype, str) or (datatype != "BYTES" and datatype not in DTYPES):
        raise MalformedRequestError(
            f"input {name}: datatype must be one of BYTES, {', '.join(DTYPES)}"
        )
    return datatype


def _shape(name: str, tensor: dict[str, Any], columns: int) -> tuple[int, ...]:
    shape = tensor.get("shape")
    if (
        type(shape) is not list
        or len(shape) not in (1, 2)
        or not all(type(length) is int and length >= 0 for length in shape)
        or shape[1:] not in ([], [1], [columns])
    ):
        raise MalformedRequestError(
            f"input {name}: shape must be [rows], [rows, 1] or, with all inputs in one tensor, "
            f"[rows, {columns}]"
        )
    return tuple(shape)


def parameters(name: str, given: dict[str, Any]) -> dict[str, Any]:
    """The parameters of a request, input or output; those without a meaning here are let be.

    Raises:
        MalformedRequestError: they are no object.
        RequestError: an extension is asked for that is not here.
    """
    found = given.get("parameters", {})
    if type(found) is not dict:
        raise MalformedRequestError(f"{name}: parameters must be an object")
    for key in ("shared_memory_region", "classification"):
        if found.get(key):
            raise RequestError(f"{name}: {key} is an extension this server does not have")
    return found


def _binary_size(name: str, tensor: dict[str, Any]) -> int | None:
    size = parameters(f"input {name}", tensor).get("binary_data_size")
    if size is not None and (type(size) is not int or size < 0):
        raise MalformedRequestError(f"input {name}: binary_data_size must be a number of bytes")
    return size
