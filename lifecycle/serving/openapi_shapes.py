"""JSON schemas of what a model takes and gives, and an example row that it takes."""

import math
import re
from typing import Any

import numpy as np

from lifecycle.lake.column_types import storage_type
from lifecycle.project import ColumnSpec, ColumnType, Scalar
from lifecycle.serving.protocols.oip import output_datatypes
from lifecycle.serving.protocols.tensors import DATATYPES, DTYPES
from lifecycle.serving.records import form_problem
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
LIMITS: dict[ColumnType, tuple[float, float]] = {
    "integer": (-(2**63), 2**63 - 1),
    "number": (float(np.finfo(np.float32).min), float(np.finfo(np.float32).max)),
}
"""What no contract widens: columns are 64-bit integers, the model's numbers 32-bit floats."""

ONLY_RE2 = re.compile(r"\(\?[^:]|\\[AzpPQC]|\[\[:")
"""What RE2 reads and JavaScript, whose expressions a JSON schema has, does not or otherwise."""


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
    kind = storage_type(spec)
    made: Json = {"type": [TYPES[kind], "null"] if spec.nullable else TYPES[kind]}
    if spec.categories is not None:
        made["enum"] = [*spec.categories, *([None] if spec.nullable else [])]
    elif kind in LIMITS:
        low, high = LIMITS[kind]
        made["minimum"] = low if spec.minimum is None else max(low, spec.minimum)
        made["maximum"] = high if spec.maximum is None else min(high, spec.maximum)
    if kind == "datetime":
        made["format"] = "date-time"
    if spec.pattern is not None and not ONLY_RE2.search(spec.pattern):
        made["pattern"] = f"^(?:{spec.pattern})$"
    time = "ISO 8601 date or time" if kind == "datetime" else ""
    said = ", ".join(part for part in (spec.description, time) if part)
    return made | ({"description": said} if said else {})


def prediction(schema: BundleSchema) -> Json:
    """One answer of `/predict`."""
    share = {"type": "number", "minimum": 0, "maximum": 1}
    if schema.task == "multiclass":
        named = {str(value): share for value in schema.classes}
        chosen = {"enum": list(schema.classes), "description": f"most probable {schema.target}"}
        return structure(**{"class": chosen, "probabilities": structure(**named)})
    if schema.task == "binary":
        return share | {"description": f"probability that {schema.target} is {schema.positive}"}
    if schema.task == "count":
        return {"type": "number", "minimum": 0, "description": f"expected {schema.target}"}
    return {"type": "number", "description": schema.target}


def predicted(schema: BundleSchema) -> Json:
    """One class of `/predict`, of a binary model with a `decision`."""
    negative, positive = schema.labels
    said = f"{positive} from a probability of {schema.threshold:.4g} on, else {negative}"
    return {"enum": [negative, positive], "description": said}


def score(schema: BundleSchema) -> Json:
    """One answer of `/invocations`: a number, or for multiclass the probabilities."""
    if schema.task == "multiclass":
        size = len(schema.classes)
        return listed({"type": "number", "minimum": 0, "maximum": 1}, size, size)
    return prediction(schema)


def explanation(schema: BundleSchema) -> Json:
    """Contributions to one answer, before the objective's transformation."""
    numbers = structure(**{name: {"type": "number"} for name in schema.features.names})
    one = structure(bias={"type": "number"}, contributions=numbers)
    return structure(**{str(value): one for value in schema.classes}) if schema.classes else one


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
        {"name": name, "shape": [1], "datatype": DATATYPES[storage_type(spec)], "data": [row[name]]}
        for name, spec in schema.inputs.items()
    ]
    return {"inputs": tensors}


def _example(spec: ColumnSpec, seen: tuple[Scalar, ...]) -> Scalar:
    """A value the contract allows, in the middle of its range if it has one."""
    kind = storage_type(spec)
    if spec.categories is not None:
        return spec.categories[0]
    if kind in LIMITS:
        ends = [end for end in (spec.minimum, spec.maximum) if end is not None]
        middle = sum(ends) / len(ends) if ends else 1.0
        if kind == "number":
            return middle
        whole = math.floor(middle)
        return whole if spec.minimum is None or whole >= spec.minimum else math.ceil(middle)
    plain: dict[ColumnType, Scalar] = {"boolean": True, "datetime": "2024-01-31T12:00:00"}
    if kind in plain:
        return plain[kind]
    texts = [value for value in map(str, seen) if form_problem(value, spec) is None]
    return texts[0] if texts else "text"
