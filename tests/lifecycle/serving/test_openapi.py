"""The OpenAPI document is one, and says what requests and answers really are."""

from typing import Any

import pytest
from fastapi.openapi.models import OpenAPI

from lifecycle.data.features import FeatureSchema
from lifecycle.records import ModelVersion
from lifecycle.serving.openapi import document
from lifecycle.specs import ColumnSpec
from lifecycle.training.schema import BundleSchema

MODEL = ModelVersion(name="p", version=4, uri="models:/p/4", run_id="", digest="d", identity="i")
INPUTS = {
    "age": ColumnSpec(type="integer", minimum=0, maximum=120, description="years"),
    "income": ColumnSpec(type="number", nullable=True),
    "city": ColumnSpec(type="category", categories=("Rome", "Oslo"), nullable=True),
    "plan": ColumnSpec(type="category", categories=(1, 2)),
    "since": ColumnSpec(type="datetime"),
}


def described(task: str, **more: Any) -> dict[str, Any]:
    given = {
        "project": "p",
        "task": task,
        "target": "y",
        "positive": None,
        "threshold": None,
        "inputs": INPUTS,
        "features": FeatureSchema(names=(), kinds=(), levels={}),
        "hook": None,
        "hook_digest": "",
    }
    found = document(MODEL, BundleSchema.model_validate(given | more), 50)
    OpenAPI.model_validate(found)
    return found


def prediction(found: dict[str, Any]) -> Any:
    answer = found["paths"]["/predict"]["post"]["responses"]["200"]["content"]["application/json"]
    return answer["schema"]["properties"]["predictions"]["items"]


def test_fields_of_a_record() -> None:
    predict = described("regression")["paths"]["/predict"]["post"]
    body = predict["requestBody"]["content"]["application/json"]["schema"]
    records = body["properties"]["records"]
    assert (records["minItems"], records["maxItems"]) == (1, 50)
    assert records["items"]["required"] == list(INPUTS)
    assert records["items"]["properties"] == {
        "age": {"type": "integer", "minimum": 0, "maximum": 120, "description": "years"},
        "income": {"type": ["number", "null"]},
        "city": {"type": ["string", "null"], "enum": ["Rome", "Oslo", None]},
        "plan": {"type": "integer", "enum": [1, 2]},
        "since": {"type": "string", "description": "ISO 8601 date or time"},
    }


@pytest.mark.parametrize(
    ("task", "more", "expected"),
    [
        ("binary", {"positive": "yes"}, {"type": "number", "minimum": 0, "maximum": 1}),
        ("regression", {}, {"type": "number"}),
        ("count", {}, {"type": "number", "minimum": 0}),
    ],
)
def test_an_answer_that_is_a_number(
    task: str, more: dict[str, Any], expected: dict[str, Any]
) -> None:
    found = prediction(described(task, **more))
    assert {key: value for key, value in found.items() if key != "description"} == expected


def test_an_answer_that_is_a_class() -> None:
    found = prediction(described("multiclass", classes=(1, 2, 30)))
    assert found["properties"]["class"]["enum"] == [1, 2, 30]
    assert found["properties"]["probabilities"]["required"] == ["1", "2", "30"]
    assert found["required"] == ["class", "probabilities"]
