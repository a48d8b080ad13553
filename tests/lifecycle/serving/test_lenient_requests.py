"""What clients send that is right but unusual is read; what is wrong is told in their words."""

import asyncio
import gzip
import json
from typing import Any

import pytest

from lifecycle.errors import MalformedRequestError, RequestError
from lifecycle.serving import body
from lifecycle.serving.body import load_json, read_body
from tests.support.replica import serving
from tests.support.small import SMALL

ROW = {"age": 30.0, "visits": 3, "city": "Rome"}


@pytest.mark.parametrize(
    "raw",
    [
        b'{"a": 1, "a": 2}',
        b'{"records": [{"age": 1, "city": "x"}, {"age": 1, "age": 1}]}',
        b'{"t": "10:30", "x": {"b": 1, "b": null}}',
        b'{"records": [1, {"a": 1, "a": 2}]}',
        b'{"a:b": ["x:", {"t": "1:2", "t": "1:2"}]}',
        b'{"t": "1\\u003a2", "b": 1, "b": 2}',
        b'{"t": "1\\u003A2", "b": 1, "b": 2}',
    ],
)
def test_a_name_that_comes_twice_is_refused(raw: bytes) -> None:
    with pytest.raises(MalformedRequestError, match="twice in one object"):
        load_json(raw)


@pytest.mark.parametrize(
    "value",
    [{"t": "10:30:00", "b": [{"a": ":"}, {"a": 1}]}, [1, {"a": {"a": 1}}], {}, [], "a:b", 7],
)
def test_other_json_is_read_as_ever(value: Any) -> None:
    assert load_json(json.dumps(value).encode()) == value


@pytest.mark.parametrize("rows", [1, 20])
def test_a_colon_in_a_text_costs_no_second_parse(
    rows: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(body, "_refuse_twice", None)
    value = {"records": [{"at": "2024-05-01T10:30:00", "x:y": [[":"], {"a": ":"}]}] * rows}
    assert load_json(json.dumps(value).encode()) == value


def _inflate(body: bytes, limit: int = 1000) -> bytes:
    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": body}

    return asyncio.run(read_body(receive, [(b"content-encoding", b"gzip")], limit))


def test_a_gzip_of_several_members_is_read_whole() -> None:
    members = gzip.compress(b'{"a": ') + gzip.compress(b"1") + gzip.compress(b"}")
    assert _inflate(members) == b'{"a": 1}'
    assert _inflate(members + b"\0" * 16) == b'{"a": 1}'
    with pytest.raises(RequestError, match="more than 7 bytes"):
        _inflate(members, limit=7)
    with pytest.raises(MalformedRequestError, match="not gzip"):
        _inflate(members + b"rubbish")


def test_a_nullable_field_may_be_left_out(small_model: Any) -> None:
    with serving(small_model) as (_, ask):
        whole = ask("/predict", {"records": [ROW | {"age": None}]})
        short = ask("/predict", {"records": [{"visits": 3, "city": "Rome"}]})
        assert short.status_code == 200
        assert short.json()["predictions"] == whole.json()["predictions"]
        missing = ask("/predict", {"records": [{"age": 3.0, "city": "Rome"}]})
        assert (missing.status_code, "visits: this field is missing" in missing.text) == (422, True)
        tensors = [
            {"name": "visits", "datatype": "INT64", "shape": [1], "data": [3]},
            {"name": "city", "datatype": "BYTES", "shape": [1], "data": ["Rome"]},
        ]
        for path in ("/v2/models/small/infer", "/v2/models/small/infer/"):
            inferred = ask(path, {"inputs": tensors})
            assert inferred.status_code == 200, inferred.text
            assert inferred.json()["outputs"][0]["data"] == whole.json()["predictions"]


def test_a_number_too_large_is_told_to_the_client(
    make_project: Any, train: Any, settings: Any
) -> None:
    columns = SMALL["contract"]["columns"]
    free = columns | {"age": {"type": "number", "nullable": True}}
    with serving(train(make_project(contract=SMALL["contract"] | {"columns": free}), settings)) as (
        _,
        ask,
    ):
        refused = ask("/predict", {"records": [ROW, ROW | {"age": 1e308}]})
        assert refused.status_code == 422
        assert refused.json()["error"] == "row 1: age: 1e+308 is too large for column 'age'"


def test_other_spellings_of_utf_8(small_model: Any) -> None:
    with serving(small_model) as (_, ask):
        content = {"dataframe_records": [ROW]}
        for charset in ("utf8", "UTF-8"):
            headers = {"content-type": f"application/json; charset={charset}"}
            assert ask("/invocations", json.dumps(content).encode(), **headers).status_code == 200
