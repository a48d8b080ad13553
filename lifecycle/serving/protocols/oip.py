"""The Open Inference Protocol v2 (KServe, Triton, MLServer) over HTTP, without shared memory.

https://github.com/kserve/open-inference-protocol, with the binary tensor data extension that
Triton's clients use by themselves.

POST /v2/models/{name}[/versions/{version}]/infer.

One tensor per column, shape [rows] or [rows, 1], or one of shape [rows, columns] with all of them.
Answers are the tensor `predict` and, for multiclass, `probabilities`, for binary with a `decision`
`predicted`; errors {"error": "…"}.
"""

from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from importlib.metadata import version
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

from lifecycle.errors import MalformedRequestError, NotServedError, RequestError
from lifecycle.project import ColumnSpec, Scalar
from lifecycle.records import ModelVersion
from lifecycle.serving.body import as_list, check_rows, load_object
from lifecycle.serving.protocols.tensors import (
    DATATYPES,
    DTYPES,
    Tensor,
    from_bytes,
    from_json,
    to_bytes,
    to_column,
    to_matrix,
)
from lifecycle.serving.records import Answer, Column, Headers, PredictionRequest
from lifecycle.training.bundle import BundleSchema

# The input tensors of an inference request, in its JSON or behind it.

LENGTH = b"inference-header-content-length"
"""Header: how many bytes of the body are the JSON, where binary tensors follow it."""


def divide(body: bytes, length: bytes | None) -> tuple[memoryview, memoryview]:
    """The JSON of a request and the binary tensors behind it.

    Args:
        length: the header `LENGTH`, if the request has it.

    Raises:
        MalformedRequestError: the header is no number of bytes up to the body's.
    """
    view = memoryview(body)
    if length is None:
        return view, view[len(view) :]
    if not length.isdigit() or len(length) > 12 or int(length) > len(view):
        raise MalformedRequestError(
            f"Inference-Header-Content-Length: must be a whole number up to the body's "
            f"{len(view)} bytes, got {length[:20].decode('latin-1')!r}"
        )
    return view[: int(length)], view[int(length) :]


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
        raise MalformedRequestError("inputs: must be a list of at least one tensor")
    tensors: list[Tensor] = []
    at = 0
    for place, input in enumerate(inputs):
        if type(input) is not dict or type(name := input.get("name")) is not str:
            raise MalformedRequestError(f"inputs[{place}]: must be a tensor with a name")
        datatype, shape = _input_datatype(name, input), _shape(name, input, len(columns))
        check_rows(shape[0], max_rows, f"input {name}")
        size = _binary_size(name, input)
        if size is None:
            tensors.append(from_json(name, datatype, shape, input.get("data")))
            continue
        if "data" in input or at + size > len(binary):
            raise MalformedRequestError(
                f"input {name}: binary_data_size is {size}, but the body has "
                + ("data in its JSON" if "data" in input else f"{len(binary) - at} bytes left")
            )
        tensors.append(from_bytes(name, datatype, shape, binary[at : at + size]))
        at += size
    if at != len(binary):
        raise MalformedRequestError(
            f"the body has {len(binary) - at} bytes that belong to no input"
        )
    rows = tensors[0].shape[0]
    for tensor in tensors:
        if tensor.shape[0] != rows:
            raise MalformedRequestError(
                f"input {tensor.name}: has {tensor.shape[0]} rows, {tensors[0].name} has {rows}"
            )
    return tensors, rows


def _input_datatype(name: str, tensor: dict[str, Any]) -> str:
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


def parameters(name: str, content: dict[str, Any]) -> dict[str, Any]:
    """The parameters of a request, input or output; those without a meaning here are let be.

    Raises:
        MalformedRequestError: they are no object.
        RequestError: an extension is asked for that is not here.
    """
    parameters_found = content.get("parameters", {})
    if type(parameters_found) is not dict:
        raise MalformedRequestError(f"{name}: parameters must be an object")
    for key in ("shared_memory_region", "classification"):
        if parameters_found.get(key):
            raise RequestError(f"{name}: {key} is an extension this server does not have")
    return parameters_found


def _binary_size(name: str, tensor: dict[str, Any]) -> int | None:
    size = parameters(f"input {name}", tensor).get("binary_data_size")
    if size is not None and (type(size) is not int or size < 0):
        raise MalformedRequestError(f"input {name}: binary_data_size must be a number of bytes")
    return size


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
) -> PredictionRequest:
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
    return PredictionRequest(
        rows, None, columns, name, outputs=_requested_outputs(request, schema), matrix=matrix
    )


def write(
    answer: Answer, outputs: Iterable[tuple[str, bool]]
) -> tuple[bytes, list[tuple[bytes, bytes]]]:
    """An inference response, and the header that one with binary tensors needs.

    Args:
        outputs: those wanted, `Asked.outputs`.
    """
    columns = _outputs(answer)
    tensors: list[dict[str, Any]] = []
    tail: list[bytes] = []
    for name, binary in outputs:
        datatype, values = columns[name]
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


def _outputs(answer: Answer) -> dict[str, tuple[str, NDArray[Any] | Sequence[Any]]]:
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
    """Return the columns by name, and the matrix if they came as a single tensor."""
    columns: dict[str, Column] = {}
    floats = None
    tensors_by_name = {tensor.name: tensor for tensor in tensors}
    if len(tensors_by_name) < len(tensors):
        raise MalformedRequestError("inputs: a tensor occurs twice")
    foreign = [name for name in tensors_by_name if name not in inputs and name != entity]
    if len(foreign) == 1 and not inputs.keys() & tensors_by_name.keys():
        matrix = tensors_by_name.pop(foreign[0])
        if matrix.shape[1:] != (len(inputs),):
            raise RequestError(
                f"input {matrix.name}: not a column of the model; one tensor for all inputs has "
                f"the shape [rows, {len(inputs)}], got {list(matrix.shape)}"
            )
        columns, floats = to_matrix(matrix, dict(inputs))
    elif foreign and not ignore:
        raise RequestError(f"input {foreign[0]}: the model has no such input")
    elif missing := [
        n for n, spec in inputs.items() if n not in tensors_by_name and not spec.nullable
    ]:
        raise RequestError(f"input {missing[0]}: this tensor is missing")
    for name in foreign:
        if (other := tensors_by_name.pop(name, None)) is not None:
            columns[name] = other.values
    for name, tensor in tensors_by_name.items():
        if tensor.shape[1:] not in ((), (1,)):
            raise RequestError(
                f"input {name}: must have the shape [rows] or [rows, 1], got {list(tensor.shape)}"
            )
        columns[name] = to_column(tensor, inputs[name]) if name in inputs else tensor.values
    return columns, floats


def _requested_outputs(
    request: dict[str, Any], schema: BundleSchema
) -> tuple[tuple[str, bool], ...]:
    """Each output once; as JSON unless the request or the output says otherwise."""
    by_itself = parameters("the request", request).get("binary_data_output", False)
    names = [name for name, _ in output_datatypes(schema)]
    outputs = request.get("outputs", [])
    if type(outputs) is not list or not all(type(output) is dict for output in outputs):
        raise MalformedRequestError('outputs: must be a list of {"name": …}')
    requested: dict[str, bool] = {}
    for output in outputs or [{"name": name} for name in names]:
        name = output.get("name")
        if type(name) is not str or name not in names or name in requested:
            raise RequestError(
                f"output {str(name)[:100]!r}: the model has {', '.join(names)}, each once"
            )
        binary = parameters(f"output {name}", output).get("binary_data", by_itself)
        if type(binary) is not bool:
            raise MalformedRequestError(f"output {name}: binary_data must be true or false")
        requested[name] = binary
    return tuple(requested.items())


# What the Open Inference Protocol v2 tells of server and model: its GET paths.
#
# /v2, /v2/health/live, /v2/health/ready, /v2/models/{name}[/versions/{version}][/ready]

ENDS: tuple[list[str], ...] = ([], ["ready"])
"""What may follow a model."""


def page(
    path: str,
    model: ModelVersion,
    schema: BundleSchema,
    is_ready: bool = True,
    versions: Sequence[int] = (),
) -> bytes:
    """The answer of one of the protocol's GET paths, as JSON.

    An answer that says `"ready": false` goes with status 503.

    Args:
        path: decoded, from `/v2` on.
        versions: all that may be asked for; without them only this one.

    Raises:
        NotServedError: there is no such path, model or version.
    """
    match path.split("/")[1:]:
        case ["v2"]:
            return server_metadata()
        case ["v2", "health", "live"]:
            return b'{"live":true}'  # who gets it, reached a live server
        case ["v2", "health", "ready"]:
            return orjson.dumps({"ready": is_ready})
        case ["v2", "models", name, "versions", number, *tail] if number and tail in (
            [],
            ["ready"],
        ):
            check_model(name, number, model)
        case ["v2", "models", name, *tail] if tail in ENDS:
            check_model(name, "", model)
        case _:
            raise NotServedError("the Open Inference Protocol has no such path")
    if tail:
        return orjson.dumps({"name": model.name, "ready": is_ready})
    return model_metadata(model, schema, versions or (model.version,))


def names_version(path: str, number: int) -> bool:
    """Return whether a path below `/v2/models` names this version."""
    return path.split("/")[4:6] == ["versions", str(number)]


def check_model(name: str, number: str, model: ModelVersion) -> None:
    """Check that a path names this model, and its version if the path has one.

    Raises:
        NotServedError: the path names another model or version.
    """
    if name != model.name:
        raise NotServedError(f"no model {name[:60]!r} is served here; {model.name!r} is")
    if number and number != str(model.version):
        raise NotServedError(f"version {number[:20]!r} is not served; version {model.version} is")


@cache
def server_metadata() -> bytes:
    """Name, version and extensions of the server."""
    return orjson.dumps(
        {
            "name": "lifecycle",
            "version": version("lifecycle-flows"),
            "extensions": ["binary_tensor_data"],
        }
    )


def model_metadata(model: ModelVersion, schema: BundleSchema, versions: Sequence[int]) -> bytes:
    """The tensors that a request has and those of the answer; -1 is the number of rows."""
    outputs = [_tensor(name, kind, -1) for name, kind in output_datatypes(schema)]
    if schema.classes:
        outputs[1]["shape"].append(len(schema.classes))
    return orjson.dumps(
        {
            "name": model.name,
            "versions": [str(version) for version in versions],
            "platform": schema.model,
            "inputs": [
                _tensor(name, DATATYPES[spec.value_type], -1)
                for name, spec in schema.inputs.items()
            ],
            "outputs": outputs,
        }
    )


def _tensor(name: str, datatype: str, *shape: int) -> dict[str, Any]:
    return {"name": name, "datatype": datatype, "shape": list(shape)}
