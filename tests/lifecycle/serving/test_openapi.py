"""The OpenAPI document is one, and says what requests and answers really are."""

import json
import re
from typing import Any

import numpy as np
import pytest
from fastapi.openapi.models import OpenAPI

from lifecycle.errors import NotServedError
from lifecycle.features.encode import FeatureSchema
from lifecycle.project import ColumnSpec
from lifecycle.records import ModelVersion
from lifecycle.serving import openapi, pages
from lifecycle.serving.openapi import document
from lifecycle.serving.protocols import mlflow, oip, plain
from lifecycle.serving.records import to_frame
from lifecycle.training.bundle import BundleSchema

MODEL = ModelVersion(name="p", version=4, uri="models:/p/4", run_id="", digest="d", identity="i")
INPUTS = {
    "age": ColumnSpec(type="integer", minimum=0, maximum=120, description="years"),
    "income": ColumnSpec(type="number", nullable=True),
    "city": ColumnSpec(type="category", categories=("Rome", "Oslo"), nullable=True),
    "plan": ColumnSpec(type="category", categories=(1, 2)),
    "since": ColumnSpec(type="datetime"),
}


def made_of(task: str, **more: Any) -> BundleSchema:
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
    return BundleSchema.model_validate(given | more)


def described(task: str, **more: Any) -> dict[str, Any]:
    found = document(MODEL, made_of(task, **more), 50)
    OpenAPI.model_validate(found)
    return found


def prediction(found: dict[str, Any]) -> Any:
    answer = found["paths"]["/predict"]["post"]["responses"]["200"]["content"]["application/json"]
    return answer["schema"]["properties"]["predictions"]["items"]


def test_fields_of_a_record() -> None:
    found = described("regression")
    body = found["paths"]["/predict"]["post"]["requestBody"]["content"]["application/json"]
    records = body["schema"]["properties"]["records"]
    assert (records["minItems"], records["maxItems"]) == (1, 50)
    assert records["items"] == {"$ref": "#/components/schemas/Record"}
    record = found["components"]["schemas"]["Record"]
    assert record["required"] == [name for name, spec in INPUTS.items() if not spec.nullable]
    largest = float(np.finfo("f4").max)
    assert record["properties"] == {
        "age": {"type": "integer", "minimum": 0, "maximum": 120, "description": "years"},
        "income": {"type": ["number", "null"], "minimum": -largest, "maximum": largest},
        "city": {"type": ["string", "null"], "enum": ["Rome", "Oslo", None]},
        "plan": {"type": "integer", "enum": [1, 2]},
        "since": {
            "type": "string",
            "format": "date-time",
            "description": "ISO 8601 date or time",
        },
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


def test_the_example_row_is_one_the_contract_takes() -> None:
    inputs = INPUTS | {
        "low": ColumnSpec(type="integer", minimum=7),
        "top": ColumnSpec(type="number", maximum=-2.5),
        "narrow": ColumnSpec(type="integer", minimum=2.5, maximum=3.2),
        "any": ColumnSpec(type="integer"),
        "note": ColumnSpec(type="string"),
        "on": ColumnSpec(type="boolean"),
        "open": ColumnSpec(type="category"),
    }
    features = FeatureSchema(names=("open",), kinds=("c",), levels={"open": ("seen",)})
    schema = made_of("regression", inputs=inputs, features=features)
    row = openapi.example_row(schema)
    to_frame([row], inputs)
    assert row["open"] == "seen"
    predict = document(MODEL, schema, 50)["paths"]["/predict"]["post"]["requestBody"]
    assert predict["content"]["application/json"]["example"] == {"records": [row]}


def test_every_protocol_takes_its_example() -> None:
    found = described("regression")
    schema = made_of("regression")

    def example(path: str) -> bytes:
        body = found["paths"][path]["post"]["requestBody"]["content"]["application/json"]
        return json.dumps(body["example"]).encode()

    row = openapi.example_row(schema)
    assert plain.read(example("/predict"), 9).records == [row]
    scored = mlflow.read(example("/invocations"), {}, INPUTS, 9)
    inferred = oip.read(example("/v2/models/p/infer"), {}, schema, 9)
    for asked in (scored, inferred):
        assert asked.columns is not None
        assert {name: values[0] for name, values in asked.columns.items()} == row
    assert "/v2/models/p/versions/4/infer" in found["paths"]


def test_the_entity_may_be_in_a_record() -> None:
    about = ("customer", ColumnSpec(type="integer"))
    found = document(MODEL, made_of("regression"), 50, entity=about)
    record = found["components"]["schemas"]["Record"]
    assert record["required"] == [name for name, spec in INPUTS.items() if not spec.nullable]
    assert list(record["properties"]) == [*INPUTS, "customer"]


def test_keys() -> None:
    found = document(MODEL, made_of("regression"), 50, secured=True)
    OpenAPI.model_validate(found)
    assert found["security"] == [{"bearer": []}, {"key": []}]
    assert found["components"]["securitySchemes"]["key"]["name"] == "X-API-Key"
    for path in ("/predict", "/v2/models/p/infer", "/invocations"):
        assert {"400", "401", "413", "422", "429", "503"} <= set(
            found["paths"][path]["post"]["responses"]
        )
    assert "401" in found["paths"]["/model"]["get"]["responses"]
    assert found["paths"]["/health"]["get"]["security"] == []
    assert "security" not in described("regression")


def test_only_a_booster_explains() -> None:
    assert described("regression")["paths"]["/predict"]["post"]["parameters"]
    assert "parameters" not in described("regression", model="onnx")["paths"]["/predict"]["post"]


def test_the_page_has_no_other_host() -> None:
    page = pages.page("<p>").decode()
    assert "<title>&lt;p&gt;</title>" in page
    assert "http" not in page.replace("http-equiv", "")
    links = re.findall(r'(?:src|href)="(?:docs/static/)?([^"]+)"', page)
    assert sorted({*links, "openapi.json"}) == sorted([*pages.KINDS, "openapi.json"])
    for name, kind in pages.KINDS.items():
        found, content = pages.static(name)
        assert found == kind
        assert content


@pytest.mark.parametrize(
    "name",
    [
        "",
        ".",
        "..",
        "../__init__.py",
        "..%2f__init__.py",
        "/etc/passwd",
        "swagger-ui.css/",
        "./swagger-ui.css",
        "swagger-ui.css\x00",
        "index.html",
    ],
)
def test_files_that_are_not_there(name: str) -> None:
    with pytest.raises(NotServedError):
        pages.static(name)
