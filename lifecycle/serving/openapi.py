"""The endpoint's OpenAPI document, made from what the bundle says: its inputs and its answers."""

import math
from typing import Any

import numpy as np

from lifecycle.lake.column_types import constraints_of
from lifecycle.project import ColumnSpec, ColumnType, Scalar
from lifecycle.records import ModelVersion
from lifecycle.serving.auth import is_open
from lifecycle.serving.protocols.oip import output_datatypes
from lifecycle.serving.protocols.tensors import DATATYPES, DTYPES
from lifecycle.training.bundle import BundleSchema

# JSON schemas of what a model takes and gives, and an example row that it takes.

Json = dict[str, Any]

TYPES: dict[ColumnType, str] = {
    "integer": "integer",
    "number": "number",
    "boolean": "boolean",
    "string": "string",
    "category": "string",
    "datetime": "string",
}
LIMITS: dict[ColumnType, tuple[float, float]] = {
    "integer": (-(2**63), 2**63 - 1),
    "number": (float(np.finfo(np.float32).min), float(np.finfo(np.float32).max)),
}
"""What no contract widens: columns are 64-bit integers, the model's numbers 32-bit floats."""


def structure(*optional: str, **properties: Json) -> Json:
    """An object with these properties, no other allowed; all required but those named."""
    return {
        "type": "object",
        "properties": properties,
        "required": [name for name in properties if name not in optional],
        "additionalProperties": False,
    }


def text(description: str = "") -> Json:
    """A text."""
    return {"type": "string"} | ({"description": description} if description else {})


def listed(items: Json, least: int = 0, most: int | None = None) -> Json:
    """A list."""
    return {"type": "array", "items": items, "minItems": least} | (
        {} if most is None else {"maxItems": most}
    )


def record(
    schema: BundleSchema, entity: tuple[str, ColumnSpec] | None, ignore: bool = False
) -> Json:
    """One row by column: all inputs but those that may be null, and the entity if one likes.

    Args:
        entity: name and contract of the column that says whom a row is about.
        ignore: whether it may have other fields, which are left out.
    """
    others = {"additionalProperties": ignore}
    fields = {name: field(spec) for name, spec in schema.inputs.items()}
    nullable = [name for name, spec in schema.inputs.items() if spec.nullable]
    if entity is None or entity[0] in fields:
        return structure(*nullable, **fields) | others
    about = {
        "type": ["string", "integer", "number", "boolean", "null"],
        "description": entity[1].description or "whom the row is about; it is not predicted from",
    }
    return structure(entity[0], *nullable, **fields, **{entity[0]: about}) | others


def field(spec: ColumnSpec) -> Json:
    """One value of a record, as `protocol.to_frame` checks it."""
    kind = spec.value_type
    schema: Json = {"type": [TYPES[kind], "null"] if spec.nullable else TYPES[kind]}
    for constraint in constraints_of(spec):
        schema |= constraint.schema()
    if kind in LIMITS and "enum" not in schema:
        low, high = LIMITS[kind]
        schema["minimum"] = max(low, schema.get("minimum", low))
        schema["maximum"] = min(high, schema.get("maximum", high))
    if kind == "datetime":
        schema["format"] = "date-time"
    time = "ISO 8601 date or time" if kind == "datetime" else ""
    description = ", ".join(part for part in (spec.description, time) if part)
    return schema | ({"description": description} if description else {})


def prediction(schema: BundleSchema) -> Json:
    """One answer of `/predict`."""
    share = {"type": "number", "minimum": 0, "maximum": 1}
    if schema.task == "multiclass":
        example = {str(value): share for value in schema.classes}
        chosen = {"enum": list(schema.classes), "description": f"most probable {schema.target}"}
        return structure(**{"class": chosen, "probabilities": structure(**example)})
    if schema.task == "binary":
        return share | {"description": f"probability that {schema.target} is {schema.positive}"}
    if schema.task == "count":
        return {"type": "number", "minimum": 0, "description": f"expected {schema.target}"}
    return {"type": "number", "description": schema.target}


def predicted(schema: BundleSchema) -> Json:
    """One class of `/predict`, of a binary model with a `decision`."""
    negative, positive = schema.labels
    description = f"{positive} from a probability of {schema.threshold:.4g} on, else {negative}"
    return {"enum": [negative, positive], "description": description}


def score(schema: BundleSchema) -> Json:
    """One answer of `/invocations`: a number, or for multiclass the probabilities."""
    if schema.task == "multiclass":
        size = len(schema.classes)
        return listed({"type": "number", "minimum": 0, "maximum": 1}, size, size)
    return prediction(schema)


def explanation(schema: BundleSchema) -> Json:
    """Contributions to one answer, before the objective's transformation."""
    numbers = structure(**{name: {"type": "number"} for name in schema.features.names})
    item = structure(bias={"type": "number"}, contributions=numbers)
    return structure(**{str(value): item for value in schema.classes}) if schema.classes else item


def inference_request(schema: BundleSchema) -> Json:
    """An inference request, but for what JSON Schema cannot say: that shapes fit the data."""
    tensor = structure(
        "data",
        "parameters",
        name=text("a column, or any name for one tensor with all of them"),
        shape=listed({"type": "integer", "minimum": 0}, 1, 2),
        datatype={"enum": ["BYTES", *DTYPES]},
        parameters={"type": "object"},
        data={"type": "array"},
    )
    names = [name for name, _ in output_datatypes(schema)]
    output = structure("parameters", name={"enum": names}, parameters={"type": "object"})
    request = structure(
        "id",
        "parameters",
        "outputs",
        id=text(),
        parameters={"type": "object"},
        inputs=listed(tensor | {"additionalProperties": True}, 1),
        outputs=listed(output | {"additionalProperties": True}),
    )
    return request | {"additionalProperties": True}


def inference_response(schema: BundleSchema) -> Json:
    """An inference response whose tensors are in the JSON."""
    tensor = structure(
        name=text(), datatype=text(), shape=listed({"type": "integer"}), data={"type": "array"}
    )
    return structure(
        "id",
        model_name=text(),
        model_version=text(),
        id=text(),
        parameters=structure(id=text("prediction id")),
        outputs=listed(tensor, 1),
    )


def scoring_request(schema: BundleSchema, row: Json, max_rows: int) -> Json:
    """MLflow's shapes of a request, but for what JSON Schema cannot say: columns of one length.

    Args:
        row: schema of a record.
    """
    cell = {"type": ["string", "integer", "number", "boolean", "null"]}
    columns = len(schema.inputs)
    rows = listed(row, 1, max_rows)
    values = listed(listed(cell, columns, columns), 1, max_rows)
    split = structure(
        "index",
        columns=listed(text(), 1) | {"uniqueItems": True},
        data=listed(listed(cell), 1, max_rows),
        index={},
    )
    any_shape = {"anyOf": [rows, values, {"type": "object"}]}
    return {
        "oneOf": [
            structure(dataframe_split=split),
            structure(dataframe_records=rows),
            structure(instances=any_shape),
            structure(inputs=any_shape),
        ]
    }


def example_row(schema: BundleSchema) -> dict[str, Scalar]:
    """A row that the model takes: from the contract's ranges and categories, no real one."""
    levels = schema.features.levels
    return {name: _example(spec, levels.get(name, ())) for name, spec in schema.inputs.items()}


def example_inference(schema: BundleSchema) -> Json:
    """An inference request with the example row."""
    row = example_row(schema)
    tensors = [
        {"name": name, "shape": [1], "datatype": DATATYPES[spec.value_type], "data": [row[name]]}
        for name, spec in schema.inputs.items()
    ]
    return {"inputs": tensors}


def _example(spec: ColumnSpec, values: tuple[Scalar, ...]) -> Scalar:
    """A value the contract allows, in the middle of its range if it has one."""
    kind = spec.value_type
    if spec.categories is not None:
        return spec.categories[0]
    if kind in LIMITS:
        ends = [end for end in (spec.minimum, spec.maximum) if end is not None]
        middle = sum(ends) / len(ends) if ends else 1.0
        if kind == "number":
            return middle
        integer = math.floor(middle)
        return integer if spec.minimum is None or integer >= spec.minimum else math.ceil(middle)
    plain: dict[ColumnType, Scalar] = {"boolean": True, "datetime": "2024-01-31T12:00:00"}
    if kind in plain:
        return plain[kind]
    checks = constraints_of(spec)
    texts = [text for text in map(str, values) if all(check.allows(text) for check in checks)]
    return texts[0] if texts else "text"


REFUSALS = {
    400: "The body is not what the protocol says",
    401: "No API key or token, or an invalid one",
    404: "No such path, model or version",
    408: "The body did not come to its end in time",
    413: "Too many bytes or rows, or too deep",
    415: "The body is compressed otherwise than by gzip",
    422: "What is wrong, with row and field",
    429: "More requests than the key may send, or than there is room for",
    500: "The model could not answer",
    503: "Too much to do, or not ready",
}
PREDICTION_STATUSES = (400, 413, 415, 422, 429, 500, 503)
"""What a request for predictions may get, besides its answer."""
WAIT = {
    "Retry-After": {"description": "seconds to wait", "schema": {"type": "integer", "minimum": 0}}
}
TEXT = "text/plain"


def document(
    model: ModelVersion,
    schema: BundleSchema,
    max_rows: int,
    *,
    secured: bool = False,
    entity: tuple[str, ColumnSpec] | None = None,
    candidate: tuple[ModelVersion, BundleSchema] | None = None,
    ignore: bool = False,
    label: tuple[Json, Json] | None = None,
) -> Json:
    """An OpenAPI 3.1 document; classes, categories, ranges and the example are those of this model.

    Args:
        max_rows: records that one request may have, at most.
        secured: whether the endpoint asks for an API key.
        entity: name and contract of the column that a row may have besides the inputs.
        candidate: a version beside the champion that a path of its own answers for.
        ignore: whether unknown fields of a record are left out instead of refused.
        label: schema of a label, and an example.
    """
    document_: Json = {
        "openapi": "3.1.0",
        "info": {
            "title": schema.project,
            "version": str(model.version),
            "description": f"Predictions of {schema.target} by {model.name} {model.version}.",
        },
        "servers": [{"url": f"/{schema.project}"}],
        "paths": {
            "/predict": {"post": _predict(schema, max_rows)},
            **_inference(model, schema, candidate),
            "/invocations": {"post": _invocations(schema, max_rows)},
            **({"/labels": {"post": _labels(*label, max_rows)}} if label else {}),
            **_server_paths(),
        },
        "components": {
            "schemas": {
                "Record": record(schema, entity, ignore),
                "Model": structure(name=text(), version={"type": "integer"}, digest=text()),
                "Error": structure("id", error=text("what is wrong and where"), id=text()),
            }
        },
    }
    return _secured(document_) if secured else document_


def _predict(schema: BundleSchema, max_rows: int) -> Json:
    request = structure(records=listed(_ref("Record"), 1, max_rows))
    answer = structure(
        "explanations",
        predictions=listed(prediction(schema), 1, max_rows),
        **({"predicted": listed(predicted(schema), 1, max_rows)} if schema.labels else {}),
        model=_ref("Model"),
        id=text("prediction id"),
        explanations=listed(explanation(schema), 1, max_rows),
    )
    explain = {
        "name": "explain",
        "in": "query",
        "description": "whether the contributions of the features are added (SHAP values)",
        "schema": {"type": "boolean"},
    }
    return {
        "operationId": "predict",
        "summary": f"Predict {schema.target} for each record",
        "tags": ["records"],
        # only boosters tell contributions; others answer 404
        **({"parameters": [explain]} if schema.model == "xgboost" else {}),
        "requestBody": _body(request, {"records": [example_row(schema)]}),
        "responses": _responses("One prediction a record", _json(answer), *PREDICTION_STATUSES),
    }


def _invocations(schema: BundleSchema, max_rows: int) -> Json:
    row = example_row(schema)
    split = {"columns": list(row), "data": [list(row.values())]}
    request = scoring_request(schema, _ref("Record"), max_rows)
    body = _body(request, {"dataframe_split": split})
    body["content"]["text/csv"] = {"schema": text("a line of column names, then a line a row")}
    answer = structure(predictions=listed(score(schema), 1, max_rows))
    responses = _responses("One prediction a row", _json(answer), *PREDICTION_STATUSES)
    responses["200"]["headers"] = {
        "X-Model-Version": {"schema": {"type": "integer"}},
        "X-Prediction-Id": {"schema": text()},
    }
    return {
        "operationId": "invocations",
        "summary": "MLflow's scoring protocol",
        "tags": ["mlflow"],
        "requestBody": body,
        "responses": responses,
    }


def _labels(label: Json, example: Json, max_rows: int) -> Json:
    return {
        "operationId": "labels",
        "summary": "Take in what came true; sent twice, a label counts once",
        "tags": ["records"],
        "requestBody": _body(structure(labels=listed(label, 1, max_rows)), {"labels": [example]}),
        "responses": _responses(
            "They are in the ledger",
            _json(structure(labels={"type": "integer"})),
            *PREDICTION_STATUSES,
        ),
    }


def _inference(
    model: ModelVersion,
    schema: BundleSchema,
    candidate: tuple[ModelVersion, BundleSchema] | None,
) -> Json:
    """The Open Inference Protocol's paths, without a version and with each."""
    tensor = structure(
        name=text(), datatype=text(), shape=listed({"type": "integer", "minimum": -1})
    )
    structure_ = structure(
        name=text(),
        versions=listed(text()),
        platform=text(),
        inputs=listed(tensor),
        outputs=listed(tensor),
    )
    ready = structure(name=text(), ready={"type": "boolean"})
    server = structure(name=text(), version=text(), extensions=listed(text()))
    paths: Json = {
        "/v2": _get("server", "oip", "Name, version and extensions of the server", _json(server)),
        "/v2/health/live": _get(
            "live", "oip", "The server is there", _json(structure(live={"type": "boolean"}))
        ),
        "/v2/health/ready": _get(
            "ready", "oip", "It is ready", _json(structure(ready={"type": "boolean"})), 503
        ),
    }
    variants = [("", "", schema), (f"/versions/{model.version}", "_version", schema)]
    if candidate is not None:
        variants.append((f"/versions/{candidate[0].version}", "_candidate", candidate[1]))
    for version, suffix, takes in variants:
        path = f"/v2/models/{model.name}{version}"
        paths[path] = _get(
            f"model{suffix}", "oip", "Tensors of request and answer", _json(structure_)
        )
        paths[f"{path}/ready"] = _get(
            f"model_ready{suffix}", "oip", "The model is ready", _json(ready), 503
        )
        paths[f"{path}/infer"] = {"post": _infer(takes, f"infer{suffix}")}
    return paths


def _infer(schema: BundleSchema, name: str) -> Json:
    answer = _json(inference_response(schema))
    answer["application/octet-stream"] = {
        "schema": text("the JSON, then the binary tensors that were asked for")
    }
    return {
        "operationId": name,
        "summary": "Open Inference Protocol v2, with its binary tensor data extension",
        "tags": ["oip"],
        "requestBody": _body(inference_request(schema), example_inference(schema)),
        "responses": _responses("The output tensors", answer, 404, *PREDICTION_STATUSES),
    }


def _server_paths() -> Json:
    """Describe the paths about the server itself: health, model, metrics, version."""
    health = structure(status=text(), model=_ref("Model"))
    plain = {TEXT: {"schema": text()}}
    return {
        "/health": _get("health", "server", "Ready, and with which model", _json(health), 503),
        "/model": _get(
            "model_schema", "server", "What the model takes and gives", _json({"type": "object"})
        ),
        "/metrics": _get("metrics", "server", "Metrics in Prometheus' text format", plain),
        "/ping": _get("ping", "mlflow", "Ready, as MLflow's server says it", plain, 503),
        "/version": _get("version", "mlflow", "MLflow's version", plain),
    }


def _secured(document: Json) -> Json:
    """The document with the two ways to send a key, and what one gets without."""
    document["components"]["securitySchemes"] = {
        "bearer": {"type": "http", "scheme": "bearer"},
        "key": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
    }
    document["security"] = [{"bearer": []}, {"key": []}]
    for path, methods in document["paths"].items():
        for operation in methods.values():
            if is_open(path):
                operation["security"] = []
            else:
                operation["responses"] |= {
                    str(status): _refusal(status) for status in (401, 429, 503)
                }
    return document


def _ref(name: str) -> Json:
    return {"$ref": f"#/components/schemas/{name}"}


def _json(schema: Json) -> Json:
    return {"application/json": {"schema": schema}}


def _body(schema: Json, example: Any) -> Json:
    return {
        "required": True,
        "content": {"application/json": {"schema": schema, "example": example}},
    }


def _responses(description: str, content: Json, *refusals: int) -> Json:
    responses: Json = {"200": {"description": description, "content": content}}
    return responses | {str(status): _refusal(status) for status in sorted(refusals)}


def _refusal(status: int) -> Json:
    response = {"description": REFUSALS[status], "content": _json(_ref("Error"))}
    return response | ({"headers": WAIT} if status in (429, 503) else {})


def _get(name: str, tag: str, summary: str, content: Json, *refusals: int) -> Json:
    operation = {"operationId": name, "summary": summary, "tags": [tag]}
    return {"get": operation | {"responses": _responses(summary, content, *refusals)}}
