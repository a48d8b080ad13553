"""What the Open Inference Protocol v2 tells of server and model: its GET paths.

/v2, /v2/health/live, /v2/health/ready, /v2/models/{name}[/versions/{version}][/ready]
"""

from collections.abc import Sequence
from functools import cache
from importlib.metadata import version
from typing import Any

import orjson

from lifecycle.errors import NotServedError
from lifecycle.lake.column_types import storage_type
from lifecycle.records import ModelVersion
from lifecycle.serving.oip import output_datatypes
from lifecycle.serving.tensors import DATATYPES
from lifecycle.training.schema import BundleSchema

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
        case ["v2", "models", name, "versions", number, *rest] if number and rest in (
            [],
            ["ready"],
        ):
            check_model(name, number, model)
        case ["v2", "models", name, *rest] if rest in ENDS:
            check_model(name, "", model)
        case _:
            raise NotServedError("the Open Inference Protocol has no such path")
    if rest:
        return orjson.dumps({"name": model.name, "ready": is_ready})
    return model_metadata(model, schema, versions or (model.version,))


def names_version(path: str, number: int) -> bool:
    """Whether a path below `/v2/models` names this version."""
    return path.split("/")[4:6] == ["versions", str(number)]


def check_model(name: str, number: str, model: ModelVersion) -> None:
    """Whether a path names this model, and its version if it names one.

    Raises:
        NotServedError: it does not.
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
                _tensor(name, DATATYPES[storage_type(spec)], -1)
                for name, spec in schema.inputs.items()
            ],
            "outputs": outputs,
        }
    )


def _tensor(name: str, datatype: str, *shape: int) -> dict[str, Any]:
    return {"name": name, "datatype": datatype, "shape": list(shape)}
