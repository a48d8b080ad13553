"""What is said of a request, and what a browser gets without a key."""

import asyncio
import json
import logging
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from lifecycle.runtime.logs import begin_logs, end_logs
from lifecycle.runtime.traces import end_traces
from lifecycle.serving.access import RequestReports
from lifecycle.serving.auth import KeyStore
from lifecycle.serving.records import to_records
from tests.support.replica import endpoint_of
from tests.support.sinks import collector
from tests.support.trained import Made

pytestmark = pytest.mark.component

PARENT = f"00-{'a' * 32}-{'b' * 16}-01"


@pytest.fixture(autouse=True)
def _end() -> Iterator[None]:
    level, factory = logging.getLogger("lifecycle").level, logging.getLogRecordFactory()
    yield
    end_logs()
    logging.setLogRecordFactory(factory)
    end_traces()
    logging.getLogger("lifecycle").setLevel(level)


def ask(app: Any, *requests: tuple[str, str, dict[str, str], Any]) -> list[httpx.Response]:
    async def send() -> list[httpx.Response]:
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://replica") as client:
            return [
                await client.request(method, path, headers=headers, json=content)
                for method, path, headers, content in requests
            ]

    return asyncio.run(send())


def test_each_request_is_a_line_and_a_span(
    small_model: Made, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SHOP_TOKEN", "planted-4711")
    key = KeyStore(small_model.settings.keys_file).add("shop")
    rows = small_model.holdout()[list(small_model.project.input_columns)].head(2)
    body, sent = {"records": to_records(rows)}, {"X-API-Key": key}
    with collector() as (url, spans):
        settings = small_model.settings.model_copy(update={"env": "prod", "traces": url})
        begin_logs(settings, model="small", role="champion")
        reports = RequestReports.of(settings, small_model.model)
        with endpoint_of(small_model, keys=True, reports=reports) as app:
            good, bad, refused = ask(
                app,
                ("POST", "/predict", sent | {"traceparent": PARENT}, body),
                ("POST", "/predict", sent, {"records": [{}]}),
                ("GET", "/planted-4711/x", {}, None),
            )
        end_traces()
    lines = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    found = [line for line in lines if line["log.level"] == "info" and "url.path" in line]
    assert [line["http.response.status_code"] for line in found] == [200, 422, 401]
    line = found[0]
    assert line["message"] == "POST /predict 200"
    assert line["http.request.id"] == good.json()["id"]
    assert line["user.name"] == "shop"
    assert line["http.response.body.bytes"] == len(good.content)
    assert line["labels"] == {
        "model": "small",
        "model_version": "1",
        "role": "champion",
        "route": "/predict",
        "rows": "2",
    }
    assert line["trace.id"] == "a" * 32
    assert found[2]["url.path"] == "/***/x"
    assert bad.status_code == 422
    assert refused.status_code == 401
    span = spans[0]
    assert (span.name, span.trace_id.hex(), span.parent_span_id.hex()) == (
        "POST /predict",
        "a" * 32,
        "b" * 16,
    )
    assert good.headers["traceresponse"].split("-")[2] == span.span_id.hex() == line["span.id"]
    assert {a.key: a.value.int_value for a in span.attributes}["lifecycle.rows"] == 2
    assert "planted" not in str(spans) + str(lines)
    assert key not in str(spans) + str(lines)


def test_the_docs_page_opens_without_a_key_and_nothing_else_does(small_model: Made) -> None:
    key = KeyStore(small_model.settings.keys_file).add("reader")
    paths = ("/docs", "/docs/static/start.js", "/docs/static/nothing", "/docs/x", "/openapi.json")
    with endpoint_of(small_model, keys=True) as app:
        answers = ask(app, *[("GET", path, {}, None) for path in paths])
        (opened,) = ask(app, ("GET", "/openapi.json", {"Authorization": f"Bearer {key}"}, None))
    assert [answer.status_code for answer in answers] == [200, 200, 404, 401, 401]
    assert opened.json()["security"] == [{"bearer": []}, {"key": []}]
    assert "visits" not in answers[0].text, "the page says nothing of the model"
