"""The client against a small real server: answers, refusals, and what it asks for twice."""

import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd
import pytest

from lifecycle.client import Client
from lifecycle.errors import (
    AccessError,
    BackendError,
    LifecycleError,
    MalformedRequestError,
    NotServedError,
    RateLimitError,
    RequestError,
    RequestTooLargeError,
    ServingError,
)
from tests.support.client_server import GOOD, ROWS, SLOW, Server


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as made:
        thread = threading.Thread(target=made.serve_forever, args=(0.01,))
        thread.start()
        yield made
        made.shutdown()
        thread.join()


def test_rows_and_frames(server: Server) -> None:
    with Client(f"{server.url}/", key="secret") as client:
        predictions = client.predict(ROWS)
        client.predict(pd.DataFrame({"age": [1.0, np.nan], "since": pd.Timestamp("2024-05-01")}))
    np.testing.assert_array_equal(predictions.values, [0.25, 0.75])
    assert (predictions.classes, predictions.chosen, predictions.explanations) == ((), (), ())
    assert (predictions.model, predictions.version, predictions.id) == ("p", 4, "a1")
    since = {"since": "2024-05-01T00:00:00"}
    assert server.asked == [
        ("/p/predict", "Bearer secret", {"records": ROWS}),
        ("/p/predict", "Bearer secret", {"records": [{"age": 1} | since, {"age": None} | since]}),
    ]


def test_classes_and_explanations(server: Server) -> None:
    row = {"class": "b", "probabilities": {"a": 0.25, "b": 0.75}}
    why = {"bias": 0.5, "contributions": {"age": 1.0}}
    server.planned = [(200, GOOD | {"predictions": [row], "explanations": [why]}, {})]
    with Client(server.url) as client:
        predictions = client.predict(ROWS[:1], explain=True)
    np.testing.assert_array_equal(predictions.values, [[0.25, 0.75]])
    assert predictions.classes == ("a", "b")
    assert predictions.chosen == ("b",)
    assert predictions.explanations == (why,)
    assert server.asked[0][:2] == ("/p/predict?explain=true", None)


def test_model_and_ready(server: Server) -> None:
    server.planned = [(200, {"task": "binary"}, {}), (200, {}, {}), (503, {}, {})]
    with Client(server.url) as client:
        assert client.model() == {"task": "binary"}
        assert client.ready()
        assert not client.ready()
    assert [path for path, *_ in server.asked] == ["/p/model"] + ["/p/v2/health/ready"] * 2
    with Client("http://127.0.0.1:1/p") as client:
        assert not client.ready()


@pytest.mark.parametrize("first", [(None, b"", {}), (503, {}, {}), (429, {}, {"Retry-After": "0"})])
def test_it_asks_once_more(server: Server, first: Any) -> None:
    server.planned = [first, (200, GOOD, {})]
    with Client(server.url) as client:
        assert client.predict(ROWS).id == "a1"
    assert [asked[2] for asked in server.asked] == [{"records": ROWS}] * 2


def test_it_waits_as_told(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    waited: list[float] = []
    monkeypatch.setattr(time, "sleep", waited.append)
    server.planned = [(503, {}, {"Retry-After": "7"}), (200, GOOD, {})]
    with Client(server.url) as client:
        client.predict(ROWS)
    assert waited == [7]

    server.planned = [(429, {"error": "slower"}, {"Retry-After": "3600"})]
    with Client(server.url) as client, pytest.raises(RateLimitError, match=r"^slower$"):
        client.predict(ROWS)
    assert waited == [7]


def test_it_asks_no_third_time(server: Server) -> None:
    server.planned = [(503, {"error": "too much"}, {})]
    with Client(server.url) as client, pytest.raises(ServingError, match="answered 503: too much"):
        client.predict(ROWS)
    server.planned = [(None, b"", {})]
    with Client(server.url) as client, pytest.raises(BackendError, match="no answer"):
        client.predict(ROWS)
    assert len(server.asked) == 4
    server.planned = [(None, SLOW, {})]
    with Client(server.url, timeout=0.2) as client, pytest.raises(BackendError, match="timed out"):
        client.predict(ROWS)
    assert len(server.asked) == 5


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (400, MalformedRequestError),
        (401, AccessError),
        (404, NotServedError),
        (413, RequestTooLargeError),
        (422, RequestError),
        (500, ServingError),
    ],
)
def test_refusals_keep_their_message(
    server: Server, status: int, error: type[LifecycleError]
) -> None:
    server.planned = [(status, {"error": "row 0: age: must be …"}, {})]
    with Client(server.url) as client, pytest.raises(error, match="row 0: age: must be …") as said:
        client.predict(ROWS)
    assert type(said.value) is error
    assert len(server.asked) == 1


@pytest.mark.parametrize(
    "answer", [b"<html>", [], {}, GOOD | {"predictions": ["x"]}, GOOD | {"predictions": []}]
)
def test_answers_of_another_shape(server: Server, answer: Any) -> None:
    server.planned = [(200, answer, {})]
    with Client(server.url) as client, pytest.raises(ServingError):
        client.predict(ROWS)


def test_it_needs_no_pandas() -> None:
    code = "import sys, lifecycle.client; print('pandas' in sys.modules)"
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert said.stdout == "False\n"
