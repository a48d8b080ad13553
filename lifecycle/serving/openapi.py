"""The endpoint's OpenAPI document, made from what the bundle says: its inputs and its answers."""

from typing import Any

from lifecycle.data.coerce import storage_type
from lifecycle.records import ModelVersion
from lifecycle.specs import ColumnSpec, ColumnType
from lifecycle.training.schema import BundleSchema

Json = dict[str, Any]

TYPES: dict[ColumnType, str] = {
    "integer": "integer",
    "number": "number",
    "boolean": "boolean",
    "string": "string",
    "category": "string",
    "datetime": "string",
}


def document(model: ModelVersion, schema: BundleSchema, max_rows: int) -> Json:
    """An OpenAPI 3.1 document; classes, categories and ranges are those of this model.

    Args:
        max_rows: records that one request may have, at most.
    """
    identity = _object(name=_text(), version={"type": "integer"}, digest=_text())
    record = _object(**{name: _field(spec) for name, spec in schema.inputs.items()})
    records = {"type": "array", "items": record, "minItems": 1, "maxItems": max_rows}
    predictions = {"type": "array", "items": _prediction(schema)}
    answer = _object(predictions=predictions, model=identity, id=_text())
    refusal = _object(error=_text(), id=_text())
    predict = {
        "summary": f"Predict {schema.target} for each record",
        "requestBody": {"required": True, "content": _json(_object(records=records))},
        "responses": {
            "200": {"description": "One prediction a record", "content": _json(answer)},
            "422": {"description": "What is wrong, with row and field", "content": _json(refusal)},
            "500": {"description": "The model could not answer", "content": _json(refusal)},
        },
    }
    return {
        "openapi": "3.1.0",
        "info": {"title": schema.project, "version": str(model.version)},
        "servers": [{"url": f"/{schema.project}"}],
        "paths": {
            "/predict": {"post": predict},
            "/health": _get("Ready, and with which model", _object(status=_text(), model=identity)),
            "/model": _get("What the model takes and gives", {"type": "object"}),
        },
    }


def _prediction(schema: BundleSchema) -> Json:
    """One answer, as `ServedModel.answer` gives it."""
    share = {"type": "number", "minimum": 0, "maximum": 1}
    if schema.task == "multiclass":
        named = {str(value): share for value in schema.classes}
        chosen = {"enum": list(schema.classes), "description": f"most probable {schema.target}"}
        return _object(**{"class": chosen, "probabilities": _object(**named)})
    if schema.task == "binary":
        return share | {"description": f"probability that {schema.target} is {schema.positive}"}
    if schema.task == "count":
        return {"type": "number", "minimum": 0, "description": f"expected {schema.target}"}
    return {"type": "number", "description": schema.target}


def _field(spec: ColumnSpec) -> Json:
    """A field of a record, as `protocol.to_frame` checks it."""
    kind = TYPES[storage_type(spec)]
    field: Json = {"type": [kind, "null"] if spec.nullable else kind}
    if spec.categories is not None:
        field["enum"] = [*spec.categories, *([None] if spec.nullable else [])]
    limits = {"minimum": spec.minimum, "maximum": spec.maximum}
    field |= {name: limit for name, limit in limits.items() if limit is not None}
    time = "ISO 8601 date or time" if spec.type == "datetime" else ""
    said = ", ".join(text for text in (spec.description, time) if text)
    return field | ({"description": said} if said else {})


def _object(**properties: Json) -> Json:
    """Every property required, no other allowed."""
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }


def _text() -> Json:
    return {"type": "string"}


def _json(schema: Json) -> Json:
    return {"application/json": {"schema": schema}}


def _get(summary: str, schema: Json) -> Json:
    return {
        "get": {
            "summary": summary,
            "responses": {"200": {"description": summary, "content": _json(schema)}},
        }
    }
