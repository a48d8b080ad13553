"""The plain protocol: what it reads, refuses and writes."""

import json
from typing import Any

import numpy as np
import pytest

from lifecycle.errors import MalformedRequestError, RequestError, RequestTooLargeError
from lifecycle.records import ModelVersion
from lifecycle.serving.protocols import plain
from lifecycle.serving.records import Answer

MODEL = ModelVersion(name="p", version=4, uri="models:/p/4", run_id="", digest="d", identity="i")


def written(predictions: Any, **more: Any) -> Any:
    answer = Answer(id="a1", model=MODEL, predictions=np.asarray(predictions), **more)
    return json.loads(plain.write(answer))


def test_records() -> None:
    asked = plain.read('{"records": [{"city": "Zürich", "age": null}, {}]}'.encode(), 2, True)
    assert asked.rows == 2
    assert asked.records == [{"city": "Zürich", "age": None}, {}]
    assert asked.explain
    assert not plain.read(b'{"records": [{}]}', 2).explain


DEEP = b'{"records": [{"a": ' + b"[" * 900 + b"]" * 900 + b"}]}"


@pytest.mark.parametrize(
    ("body", "error", "says"),
    [
        (b"", MalformedRequestError, "not JSON"),
        (b"{", MalformedRequestError, "not JSON"),
        (b"\xff\xfe\xfd", MalformedRequestError, "not JSON"),
        (b'{"records": [{"a": NaN}]}', MalformedRequestError, "not JSON"),
        (b'{"records": [{"a": -Infinity}]}', MalformedRequestError, "not JSON"),
        (b'{"records": [{"a": 1e999}]}', MalformedRequestError, "not JSON.*infinity"),
        (b'{"records": [{"a\\ud800": 1}]}', MalformedRequestError, "not JSON"),
        (b"[" * 100_000, RequestTooLargeError, "too deeply"),
        (b'{"a":' * 100_000, RequestTooLargeError, "too deeply"),
        (b"[]", MalformedRequestError, "the body must be"),
        (b'{"rows": []}', MalformedRequestError, "the body must be"),
        (b'{"records": [], "more": 1}', MalformedRequestError, "the body must be"),
        (b'{"records": {}}', MalformedRequestError, "list of objects"),
        (b'{"records": [{}, 1]}', MalformedRequestError, "row 1 is not an object"),
        (b'{"records": []}', RequestError, "got 0 rows, allowed are 1 to 10"),
        (b'{"records": [' + b"{}," * 10 + b"{}]}", RequestTooLargeError, "got 11 rows"),
        (b'{"records": [{}, {"a": 1, "b": {}}]}', RequestError, "row 1: b: .* got an object"),
        (DEEP, RequestError, "row 0: a: must be a single value, got a list"),
    ],
)
def test_bodies_that_are_refused(body: bytes, error: type[RequestError], says: str) -> None:
    with pytest.raises(RequestError, match=says) as caught:
        plain.read(body, 10)
    assert type(caught.value) is error


@pytest.mark.parametrize(
    ("query", "asked"), [(b"", False), (b"explain=true", True), (b"explain=false", False)]
)
def test_explanations_are_asked_for_in_the_query(query: bytes, asked: bool) -> None:
    assert plain.wants_explanation(query) is asked


@pytest.mark.parametrize("query", [b"explian=true", b"explain=yes", b"explain", b"%ff=1"])
def test_a_query_that_is_mistaken(query: bytes) -> None:
    with pytest.raises(RequestError, match="explain"):
        plain.wants_explanation(query)


def test_numbers_keep_every_bit() -> None:
    values = np.random.default_rng(1).random(1000)
    assert written(values)["predictions"] == values.tolist()
    assert written(values[::2])["predictions"] == values[::2].tolist()  # not contiguous
    identity = {"name": "p", "version": 4, "digest": "d"}
    assert written([0.5]) == {"predictions": [0.5], "model": identity, "id": "a1"}


def test_classes() -> None:
    answer = written([[0.25, 0.75], [1, 0]], classes=("a", "b"), chosen=["b", "a"])
    assert answer["predictions"] == [
        {"class": "b", "probabilities": {"a": 0.25, "b": 0.75}},
        {"class": "a", "probabilities": {"a": 1.0, "b": 0.0}},
    ]
    numbers = written([[0.25, 0.75]], classes=(1, 2), chosen=[2])["predictions"]
    assert numbers == [{"class": 2, "probabilities": {"1": 0.25, "2": 0.75}}]


def test_explanations() -> None:
    given = np.array([[1.0, -2.0, 0.5]])
    answer = written([0.5], names=("age", "city"), contributions=given)
    assert answer["explanations"] == [{"bias": 0.5, "contributions": {"age": 1, "city": -2}}]

    by_class = {
        "classes": ("a", "b"),
        "chosen": ["b"],
        "names": ("age",),
        "contributions": np.array([[[1.0, 2.0], [3.0, 4.0]]]),
    }
    assert written([[0.25, 0.75]], **by_class)["explanations"] == [
        {
            "a": {"bias": 2, "contributions": {"age": 1}},
            "b": {"bias": 4, "contributions": {"age": 3}},
        }
    ]
