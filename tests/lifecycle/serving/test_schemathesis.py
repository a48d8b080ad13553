"""What the OpenAPI document promises, tried by schemathesis on the protocols' own functions."""

import json
import re
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

import hypothesis
import numpy as np
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase
from schemathesis.checks import CheckFunction
from schemathesis.specs.openapi.checks import positive_data_acceptance

from lifecycle.errors import NotServedError, RequestError
from lifecycle.features.encode import FeatureSchema, most_probable
from lifecycle.project import ColumnSpec
from lifecycle.records import ModelVersion
from lifecycle.serving.openapi import document
from lifecycle.serving.protocols import mlflow, oip, plain
from lifecycle.serving.protocols import oip as oip_info
from lifecycle.serving.records import Answer, PredictionRequest, identity, to_frame
from lifecycle.training.bundle import BundleSchema

MODEL = ModelVersion(name="p", version=4, uri="models:/p/4", run_id="", digest="d", identity="i")
SCHEMA = BundleSchema(
    project="p",
    task="multiclass",
    target="y",
    positive=None,
    threshold=None,
    classes=("a", "b"),
    inputs={
        "age": ColumnSpec(type="integer", minimum=0, maximum=120),
        "income": ColumnSpec(type="number", nullable=True, minimum=0.5, maximum=1e6),
        "city": ColumnSpec(type="category", categories=("Rome", "Oslo")),
        "note": ColumnSpec(type="string", nullable=True),
        "since": ColumnSpec(type="datetime"),
        "member": ColumnSpec(type="boolean"),
    },
    features=FeatureSchema(names=("age", "income"), kinds=("q", "q"), levels={}),
    hook=None,
    hook_digest="",
)
MAX_ROWS = 5
DOCUMENT = document(MODEL, SCHEMA, MAX_ROWS)
INFER = {path for path in DOCUMENT["paths"] if path.endswith("/infer")}
RELATED = {"/invocations", *INFER}
"""Paths whose requests must fit together in ways that JSON Schema cannot say."""
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
Headers = list[tuple[bytes, bytes]]
JSON, TEXT = b"application/json", b"text/plain; charset=utf-8"


def answered(asked: PredictionRequest) -> Answer:
    """The rows are checked as in serving; what the model would say does not matter."""
    records = asked.records
    if records is None:
        columns = asked.columns or {}
        lists = [list(v.tolist() if isinstance(v, np.ndarray) else v) for v in columns.values()]
        records = [dict(zip(columns, row, strict=True)) for row in zip(*lists, strict=True)]
    to_frame(records, SCHEMA.inputs)
    values = np.full((asked.rows, 2), 0.5)
    explained = np.zeros((asked.rows, 2, 3)) if asked.explain else None
    chosen = most_probable(values, SCHEMA.classes).tolist()
    names = SCHEMA.features.names
    return Answer("a1", MODEL, values, SCHEMA.classes, chosen, names, explained, asked.name)


def post(path: str, body: bytes, headers: dict[bytes, bytes], query: bytes) -> Any:
    if path == "/predict":
        answer = answered(plain.read(body, MAX_ROWS, plain.wants_explanation(query)))
        return JSON, plain.write(answer), []
    if path == "/invocations":
        answer = answered(mlflow.read(body, headers, SCHEMA.inputs, MAX_ROWS))
        return JSON, mlflow.write(answer), mlflow.answer_headers(answer)
    asked = oip.read(body, headers, SCHEMA, MAX_ROWS)
    content, more = oip.write(answered(asked), asked.outputs)
    return oip.BINARY if more else JSON, content, more


def get(path: str) -> tuple[bytes, bytes, Headers]:
    model = identity(MODEL)
    pages: dict[str, tuple[bytes, bytes]] = {
        "/health": (JSON, json.dumps({"status": "ok", "model": model}).encode()),
        "/model": (JSON, b"{}"),
        "/metrics": (TEXT, b""),
        "/ping": (TEXT, mlflow.ping()),
        "/version": (TEXT, mlflow.mlflow_version()),
    }
    if path.startswith("/v2"):
        return JSON, oip_info.page(path, MODEL, SCHEMA), []
    if path not in pages:
        raise NotServedError("no such path")
    return *pages[path], []


def reply(scope: Any, body: bytes) -> tuple[int, bytes, bytes, Headers]:
    path = scope["path"].removeprefix("/p")
    allowed = [method.upper() for method in DOCUMENT["paths"].get(path, {})]
    if allowed and scope["method"] not in allowed:
        return 405, JSON, b'{"error": "method"}', [(b"allow", ", ".join(allowed).encode())]
    try:
        if path == "/predict" or path == "/invocations" or path in INFER:
            headers = dict(scope["headers"])
            return 200, *post(path, body, headers, scope["query_string"])
        return 200, *get(path)
    except RequestError as error:
        return error.status, JSON, json.dumps({"error": str(error)}).encode(), []


async def app(scope: Any, receive: Callable[[], Awaitable[Any]], send: Send) -> None:
    if scope["type"] != "http":
        return
    body, more = b"", True
    while more:
        message = await receive()
        body += message.get("body", b"")
        more = message.get("more_body", False)
    status, kind, content, headers = reply(scope, body)
    headers = [(b"content-type", kind), *headers]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": content})


REFUSED = ["400", "404", "405", "413", "415", "422"]
"""schemathesis does not think of 413 by itself, which says that there are too many rows."""
CONFIG = {"checks": {"negative_data_rejection": {"expected-statuses": REFUSED}}}

api = schemathesis.openapi.from_dict(DOCUMENT, config=schemathesis.Config.from_dict(CONFIG))
api.app = app


def operation_test(method: str, path: str) -> Callable[..., None]:
    """One operation's test. Cases that schemathesis makes of one test share a node id."""

    @api.include(method=method, path=path).parametrize()
    @hypothesis.settings(
        max_examples=60,
        deadline=None,
        derandomize=True,
        database=None,
        phases=[Phase.explicit, Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    def test(case: schemathesis.Case) -> None:
        excluded: list[CheckFunction] = []
        if case.operation.path in RELATED:
            excluded = [positive_data_acceptance]
        case.call_and_validate(excluded_checks=excluded)

    return test


for path, methods in DOCUMENT["paths"].items():
    for method in methods:
        name = re.sub(r"\W+", "_", f"test_{method}{path}_keeps_the_document")
        globals()[name] = operation_test(method.upper(), path)


def test_every_post_is_tried() -> None:
    assert {"/predict", "/invocations", "/v2/models/p/infer"} <= set(DOCUMENT["paths"])
    assert len(INFER) == 2


@pytest.mark.parametrize("path", sorted({"/predict", *RELATED}))
def test_the_example_is_answered(path: str) -> None:
    content = DOCUMENT["paths"][path]["post"]["requestBody"]["content"]["application/json"]
    scope = {"path": f"/p{path}", "method": "POST", "headers": [], "query_string": b""}
    status, _, body, _ = reply(scope, json.dumps(content["example"]).encode())
    assert status == 200, body
