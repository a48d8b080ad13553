"""The endpoint's OpenAPI document, made from what the bundle says: its inputs and its answers."""

from typing import Any

from lifecycle.project import ColumnSpec
from lifecycle.records import ModelVersion
from lifecycle.serving import openapi_shapes
from lifecycle.serving.auth import OPEN
from lifecycle.serving.openapi_shapes import Json, listed, structure, text
from lifecycle.training.schema import BundleSchema

REFUSALS = {
    400: "The body is not what the protocol says",
    401: "No API key, or one that does not hold",
    404: "No such path, model or version",
    408: "The body did not come to its end in time",
    413: "Too many bytes or rows, or too deep",
    415: "The body is compressed otherwise than by gzip",
    422: "What is wrong, with row and field",
    429: "More requests than the key may send, or than there is room for",
    500: "The model could not answer",
    503: "Too much to do, or not ready",
}
ASKED = (400, 413, 415, 422, 429, 500, 503)
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
) -> Json:
    """An OpenAPI 3.1 document; classes, categories, ranges and the example are those of this model.

    Args:
        max_rows: records that one request may have, at most.
        secured: whether the endpoint asks for an API key.
        entity: name and contract of the column that a row may have besides the inputs.
        candidate: a version beside the champion that a path of its own answers for.
        ignore: whether unknown fields of a record are left out instead of refused.
    """
    made: Json = {
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
            **_told(),
        },
        "components": {
            "schemas": {
                "Record": openapi_shapes.record(schema, entity, ignore),
                "Model": structure(name=text(), version={"type": "integer"}, digest=text()),
                "Error": structure("id", error=text("what is wrong and where"), id=text()),
            }
        },
    }
    return _secured(made) if secured else made


def _predict(schema: BundleSchema, max_rows: int) -> Json:
    request = structure(records=listed(_ref("Record"), 1, max_rows))
    answer = structure(
        "explanations",
        predictions=listed(openapi_shapes.prediction(schema), 1, max_rows),
        **(
            {"predicted": listed(openapi_shapes.predicted(schema), 1, max_rows)}
            if schema.labels
            else {}
        ),
        model=_ref("Model"),
        id=text("prediction id"),
        explanations=listed(openapi_shapes.explanation(schema), 1, max_rows),
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
        "requestBody": _body(request, {"records": [openapi_shapes.example_row(schema)]}),
        "responses": _responses("One prediction a record", _json(answer), *ASKED),
    }


def _invocations(schema: BundleSchema, max_rows: int) -> Json:
    row = openapi_shapes.example_row(schema)
    split = {"columns": list(row), "data": [list(row.values())]}
    request = openapi_shapes.scoring_request(schema, _ref("Record"), max_rows)
    body = _body(request, {"dataframe_split": split})
    body["content"]["text/csv"] = {"schema": text("a line of column names, then a line a row")}
    answer = structure(predictions=listed(openapi_shapes.score(schema), 1, max_rows))
    responses = _responses("One prediction a row", _json(answer), *ASKED)
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


def _inference(
    model: ModelVersion,
    schema: BundleSchema,
    candidate: tuple[ModelVersion, BundleSchema] | None,
) -> Json:
    """The Open Inference Protocol's paths, without a version and with each."""
    tensor = structure(
        name=text(), datatype=text(), shape=listed({"type": "integer", "minimum": -1})
    )
    told = structure(
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
    named = [("", "", schema), (f"/versions/{model.version}", "_version", schema)]
    if candidate is not None:
        named.append((f"/versions/{candidate[0].version}", "_candidate", candidate[1]))
    for version, suffix, takes in named:
        path = f"/v2/models/{model.name}{version}"
        paths[path] = _get(f"model{suffix}", "oip", "Tensors of request and answer", _json(told))
        paths[f"{path}/ready"] = _get(
            f"model_ready{suffix}", "oip", "The model is ready", _json(ready), 503
        )
        paths[f"{path}/infer"] = {"post": _infer(takes, f"infer{suffix}")}
    return paths


def _infer(schema: BundleSchema, name: str) -> Json:
    answer = _json(openapi_shapes.inference_response(schema))
    answer["application/octet-stream"] = {
        "schema": text("the JSON, then the binary tensors that were asked for")
    }
    return {
        "operationId": name,
        "summary": "Open Inference Protocol v2, with its binary tensor data extension",
        "tags": ["oip"],
        "requestBody": _body(
            openapi_shapes.inference_request(schema), openapi_shapes.example_inference(schema)
        ),
        "responses": _responses("The output tensors", answer, 404, *ASKED),
    }


def _told() -> Json:
    """What the endpoint says of itself."""
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


def _secured(made: Json) -> Json:
    """The document with the two ways to send a key, and what one gets without."""
    made["components"]["securitySchemes"] = {
        "bearer": {"type": "http", "scheme": "bearer"},
        "key": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
    }
    made["security"] = [{"bearer": []}, {"key": []}]
    for path, methods in made["paths"].items():
        for operation in methods.values():
            if path in OPEN:
                operation["security"] = []
            else:
                operation["responses"] |= {"401": _refusal(401), "429": _refusal(429)}
    return made


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
    made: Json = {"200": {"description": description, "content": content}}
    return made | {str(status): _refusal(status) for status in sorted(refusals)}


def _refusal(status: int) -> Json:
    said = {"description": REFUSALS[status], "content": _json(_ref("Error"))}
    return said | ({"headers": WAIT} if status in (429, 503) else {})


def _get(name: str, tag: str, summary: str, content: Json, *refusals: int) -> Json:
    made = {"operationId": name, "summary": summary, "tags": [tag]}
    return {"get": made | {"responses": _responses(summary, content, *refusals)}}
