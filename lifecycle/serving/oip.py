"""The Open Inference Protocol v2 (KServe, Triton, MLServer) over HTTP, without shared memory.

https://github.com/kserve/open-inference-protocol, with the binary tensor data extension that
Triton's clients use by themselves.

POST /v2/models/{name}[/versions/{version}]/infer; for the GET paths see `oip_info`.

A tensor a column, shape [rows] or [rows, 1], or one of shape [rows, columns] with all of them.
Answers are the tensor `predict` and, for multiclass, `probabilities`, for binary with a `decision`
`predicted`; errors {"error": "…"}.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

from lifecycle.errors import MalformedRequestError, RequestError
from lifecycle.project import ColumnSpec, Scalar
from lifecycle.serving.body import as_list, load_object
from lifecycle.serving.oip_inputs import LENGTH, divide, parameters, read_tensors
from lifecycle.serving.tensors import (
    Tensor,
    to_bytes,
    to_column,
    to_matrix,
)
from lifecycle.serving.wire import Answer, Asked, Column, Headers
from lifecycle.training.schema import BundleSchema

SHAPE = 'an inference request {"inputs": [{"name", "shape", "datatype", "data"}, …]}'
PREDICT, PROBABILITIES, PREDICTED = "predict", "probabilities", "predicted"
BINARY = b"application/octet-stream"
"""Content type of an answer with binary tensors."""


def infer_target(path: str) -> tuple[str, str] | None:
    """Model name and version (empty if none is named) of an inference path; None of any other.

    Args:
        path: decoded, from `/v2` on.
    """
    match path.split("/"):
        case ["", "v2", "models", name, "infer"]:
            return name, ""
        case ["", "v2", "models", name, "versions", number, "infer"] if number:
            return name, number
    return None


def read(
    body: bytes,
    headers: Headers,
    schema: BundleSchema,
    max_rows: int,
    entity: str | None = None,
    ignore: bool = False,
) -> Asked:
    """The columns of an inference request, and which outputs it wants.

    A column is a list with None where a value is missing, or an array (of the tensor's datatype, on
    the body's own bytes) in which none is; the values are not checked further.

    Args:
        entity: a column that may come as a tensor besides the inputs, of any datatype.
        ignore: whether other tensors are let be.

    Raises:
        MalformedRequestError: another shape than the protocol's, or bytes that do not add up.
        RequestTooLargeError: too many rows, or too deep.
        RequestError: a tensor is missing, unknown, or of a datatype its column cannot have; names
            it, and the row where it is about one.
    """
    head, binary = divide(body, headers.get(LENGTH))
    request = load_object(head, SHAPE)
    name = request.get("id", "")
    if type(name) is not str:
        raise MalformedRequestError("id: must be text")
    tensors, rows = read_tensors(request.get("inputs"), binary, schema.inputs, max_rows)
    columns, matrix = _columns(tensors, schema.inputs, entity, ignore)
    return Asked(rows, None, columns, name, outputs=_wanted(request, schema), matrix=matrix)


def write(
    answer: Answer, outputs: Iterable[tuple[str, bool]]
) -> tuple[bytes, list[tuple[bytes, bytes]]]:
    """An inference response, and the header that one with binary tensors needs.

    Args:
        outputs: those wanted, `Asked.outputs`.
    """
    given = _given(answer)
    tensors: list[dict[str, Any]] = []
    tail: list[bytes] = []
    for name, binary in outputs:
        datatype, values = given[name]
        shape = answer.predictions.shape if name == PROBABILITIES else answer.predictions.shape[:1]
        tensor: dict[str, Any] = {"name": name, "datatype": datatype, "shape": shape}
        if binary:
            tail.append(to_bytes(values, datatype))
            tensor["parameters"] = {"binary_data_size": len(tail[-1])}
        else:
            tensor["data"] = np.ravel(values) if name == PROBABILITIES else values
        tensors.append(tensor)
    content = {
        "model_name": answer.model.name,
        "model_version": str(answer.model.version),
        **({"id": answer.requested} if answer.requested else {}),
        "parameters": {"id": answer.id},
        "outputs": tensors,
    }
    head = orjson.dumps(content, default=as_list, option=orjson.OPT_SERIALIZE_NUMPY)
    if not tail:
        return head, []
    return b"".join([head, *tail]), [(LENGTH, b"%d" % len(head))]


def output_datatypes(model: BundleSchema | Answer) -> list[tuple[str, str]]:
    """Name and datatype of each output, by the model's classes (multiclass) or labels (binary)."""
    if model.classes:
        return [(PREDICT, _datatype(model.classes)), (PROBABILITIES, "FP64")]
    if model.labels:
        return [(PREDICT, "FP64"), (PREDICTED, _datatype(model.labels))]
    return [(PREDICT, "FP64")]


def _datatype(values: Sequence[Scalar]) -> str:
    of_type = {bool: "BOOL", int: "INT64", float: "FP64"}
    kinds = {of_type.get(type(value), "BYTES") for value in values}
    return "FP64" if kinds == {"INT64", "FP64"} else kinds.pop() if len(kinds) == 1 else "BYTES"


def _given(answer: Answer) -> dict[str, tuple[str, NDArray[Any] | Sequence[Any]]]:
    """Every output the model gives: its datatype and its values."""
    of_name = dict(output_datatypes(answer))
    chosen = list(answer.chosen)
    values: dict[str, NDArray[Any] | Sequence[Any]]
    if answer.classes:
        values = {PREDICT: chosen, PROBABILITIES: answer.predictions}
    else:
        values = {PREDICT: answer.predictions, PREDICTED: chosen}
    return {name: (kind, values[name]) for name, kind in of_name.items()}


def _columns(
    tensors: list[Tensor], inputs: Mapping[str, ColumnSpec], entity: str | None, ignore: bool
) -> tuple[dict[str, Column], NDArray[Any] | None]:
    """By name, and the one matrix they may have come as."""
    columns: dict[str, Column] = {}
    whole = None
    named = {tensor.name: tensor for tensor in tensors}
    if len(named) < len(tensors):
        raise MalformedRequestError("inputs: a tensor is given twice")
    foreign = [name for name in named if name not in inputs and name != entity]
    if len(foreign) == 1 and not inputs.keys() & named.keys():
        matrix = named.pop(foreign[0])
        if matrix.shape[1:] != (len(inputs),):
            raise RequestError(
                f"input {matrix.name}: no column of the model; one tensor for all inputs has the "
                f"shape [rows, {len(inputs)}], got {list(matrix.shape)}"
            )
        columns, whole = to_matrix(matrix, dict(inputs))
    elif foreign and not ignore:
        raise RequestError(f"input {foreign[0]}: the model has no such input")
    elif missing := [n for n, spec in inputs.items() if n not in named and not spec.nullable]:
        raise RequestError(f"input {missing[0]}: this tensor is missing")
    for name in foreign:
        if (other := named.pop(name, None)) is not None:
            columns[name] = other.values
    for name, tensor in named.items():
        if tensor.shape[1:] not in ((), (1,)):
            raise RequestError(
                f"input {name}: must have the shape [rows] or [rows, 1], got {list(tensor.shape)}"
            )
        columns[name] = to_column(tensor, inputs[name]) if name in inputs else tensor.values
    return columns, whole


def _wanted(request: dict[str, Any], schema: BundleSchema) -> tuple[tuple[str, bool], ...]:
    """Each output once; as JSON unless the request or the output says otherwise."""
    by_itself = parameters("the request", request).get("binary_data_output", False)
    known = [name for name, _ in output_datatypes(schema)]
    outputs = request.get("outputs", [])
    if type(outputs) is not list or not all(type(output) is dict for output in outputs):
        raise MalformedRequestError('outputs: must be a list of {"name": …}')
    wanted: dict[str, bool] = {}
    for output in outputs or [{"name": name} for name in known]:
        name = output.get("name")
        if type(name) is not str or name not in known or name in wanted:
            raise RequestError(
                f"output {str(name)[:100]!r}: the model has {', '.join(known)}, each once"
            )
        binary = parameters(f"output {name}", output).get("binary_data", by_itself)
        if type(binary) is not bool:
            raise MalformedRequestError(f"output {name}: binary_data must be true or false")
        wanted[name] = binary
    return tuple(wanted.items())
