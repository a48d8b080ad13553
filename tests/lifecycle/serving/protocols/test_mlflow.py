"""MLflow's scoring protocol: the same payloads, through MLflow's own server and through ours."""

import json
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest

from lifecycle.errors import MalformedRequestError, RequestError, RequestTooLargeError
from lifecycle.project import ColumnSpec, Project
from lifecycle.records import ModelVersion
from lifecycle.serving.protocols import mlflow as invocations
from lifecycle.serving.records import Answer, PredictionRequest
from lifecycle.settings import Settings
from tests.support.graded import graded_project

MODEL = ModelVersion(name="p", version=4, uri="models:/p/4", run_id="", digest="d", identity="i")
INPUTS = {
    "age": ColumnSpec(type="number", nullable=True),
    "visits": ColumnSpec(type="integer"),
    "city": ColumnSpec(type="category", categories=("Rome", "Oslo")),
    "member": ColumnSpec(type="boolean", nullable=True),
}
RECORDS: list[dict[str, Any]] = [
    {"age": 41.5, "visits": 3, "city": "Rome", "member": True},
    {"age": None, "visits": 0, "city": "Oslo", "member": None},
]
COLUMNS = {name: [record[name] for record in RECORDS] for name in INPUTS}
LISTS = [list(record.values()) for record in RECORDS]
CSV = b"age,visits,city,member\r\n41.5,3,Rome,true\r\n,0,Oslo,\r\n"


def read(content: Any, kind: bytes = b"application/json") -> PredictionRequest:
    body = content if isinstance(content, bytes) else json.dumps(content).encode()
    return invocations.read(body, {b"content-type": kind}, INPUTS, 10)


def records(asked: PredictionRequest) -> list[dict[str, Any]]:
    if asked.records is not None:
        return asked.records
    rows = zip(*(asked.columns or {}).values(), strict=True)
    return [dict(zip(asked.columns or {}, row, strict=True)) for row in rows]


@pytest.mark.parametrize(
    "content",
    [
        {"dataframe_records": RECORDS},
        {"dataframe_split": {"columns": list(INPUTS), "data": LISTS}},
        {"dataframe_split": {"columns": list(INPUTS), "data": LISTS, "index": [0, 1]}},
        {"instances": RECORDS},
        {"instances": LISTS},
        {"instances": COLUMNS},
        {"inputs": RECORDS},
        {"inputs": LISTS},
        {"inputs": COLUMNS},
    ],
)
def test_every_shape_is_the_same_rows(content: Any) -> None:
    asked = read(content)
    assert asked.rows == 2
    assert records(asked) == RECORDS
    nan = json.dumps(content).replace("null", "NaN").encode()  # as MLflow's clients write it
    assert records(read(nan)) == RECORDS


def test_one_row_as_an_object() -> None:
    assert records(read({"inputs": RECORDS[0]})) == RECORDS[:1]


def test_csv() -> None:
    for kind in (b"text/csv", b"text/csv; charset=UTF-8"):
        assert records(read(CSV, kind)) == RECORDS
    assert records(read(b"\xef\xbb\xbf" + CSV, b"text/csv")) == RECORDS  # as a spreadsheet saves
    odd = read(b'visits,city,more\n"3.5","a ""b""",x\n', b"text/csv")
    assert records(odd) == [{"visits": "3.5", "city": 'a "b"', "more": "x"}]


@pytest.mark.parametrize("kind", [b"", b"application/json; charset=utf-8", b"APPLICATION/JSON"])
def test_content_types_of_json(kind: bytes) -> None:
    assert read({"instances": RECORDS}, kind).rows == 2
    assert invocations.read(json.dumps({"inputs": RECORDS}).encode(), {}, INPUTS, 2).rows == 2


def test_a_text_that_says_nan_stays_one() -> None:
    text = b'{"inputs": [{"a": "NaN", "b": "\\"NaN", "c": "\\\\", "d": NaN, "NaN": [NaN]}]}'
    with pytest.raises(RequestError, match="row 0: NaN: must be a single value"):
        read(text)
    found = records(read(text.replace(b"[NaN]", b"1")))
    assert found == [{"a": "NaN", "b": '"NaN', "c": "\\", "d": None, "NaN": 1}]


def test_many_quotes_do_not_take_long() -> None:
    started = time.perf_counter()
    with pytest.raises(MalformedRequestError, match="not JSON"):
        read(b"NaN" + b'\\"' * 1_000_000)
    with pytest.raises(MalformedRequestError, match="not JSON"):
        read(b'NaN"' + b'\\"' * 1_000_000)
    assert time.perf_counter() - started < 5


@pytest.mark.parametrize(
    ("content", "error", "says"),
    [
        (b"", MalformedRequestError, "not JSON"),
        (b'{"inputs": [{"a": Infinity}]}', MalformedRequestError, "not JSON"),
        (b'{"inputs": [{"a": NaN, "b": -Infinity}]}', MalformedRequestError, "not JSON"),
        (b"[" * 9999, RequestTooLargeError, "too deeply"),
        ([], MalformedRequestError, "the body must be an object with one of dataframe_split"),
        ({}, MalformedRequestError, "got an empty one"),
        ({"records": RECORDS}, MalformedRequestError, "got records"),
        ({"inputs": LISTS, "instances": LISTS}, MalformedRequestError, "got inputs, instances"),
        ({"inputs": LISTS, "params": {}}, RequestError, "params: the model has none"),
        ({"dataframe_records": {}}, MalformedRequestError, "list of objects"),
        ({"dataframe_records": LISTS}, MalformedRequestError, "row 0 is not an object"),
        ({"dataframe_split": LISTS}, MalformedRequestError, "dataframe_split: must be"),
        ({"dataframe_split": {"data": LISTS}}, MalformedRequestError, "dataframe_split: must be"),
        (
            {"dataframe_split": {"columns": ["age"], "data": [[1]], "dtypes": 1}},
            MalformedRequestError,
            "unknown key 'dtypes'",
        ),
        (
            {"dataframe_split": {"columns": ["a", "a"], "data": [[1, 2]]}},
            MalformedRequestError,
            "named twice",
        ),
        ({"dataframe_split": {"columns": [1], "data": [[1]]}}, MalformedRequestError, "names"),
        ({"inputs": [[1, 2]]}, MalformedRequestError, r"row 0: must be 4 values \(age, visits,"),
        ({"inputs": [LISTS[0], 1]}, MalformedRequestError, "row 1: must be 4 values .* no list"),
        ({"inputs": [[1, 2, [3], 4]]}, RequestError, "row 0: city: must be a single value"),
        ({"inputs": COLUMNS | {"age": [1]}}, MalformedRequestError, "visits: has 2 values, .* 1$"),
        ({"inputs": COLUMNS | {"age": 1}}, MalformedRequestError, "age: must be a list"),
        ({"inputs": 7}, MalformedRequestError, "list of objects"),
        ({"inputs": []}, RequestError, "got 0 rows"),
        ({"inputs": {"age": []}}, RequestError, "got 0 rows"),
        ({"inputs": LISTS * 6}, RequestTooLargeError, "got 12 rows"),
        ({"inputs": {"age": [1] * 11}}, RequestTooLargeError, "got 11 rows"),
    ],
)
def test_requests_that_are_refused(content: Any, error: type[RequestError], says: str) -> None:
    with pytest.raises(RequestError, match=says) as caught:
        read(content)
    assert type(caught.value) is error


@pytest.mark.parametrize(
    ("body", "kind", "says"),
    [
        (b"", b"text/csv", "first line must name the columns"),
        (b"a,b\n1\n", b"text/csv", "row 0: must be 2 values"),
        (b"a,a\n1,2\n", b"text/csv", "named twice"),
        (b'a\n"x', b"text/csv", "not CSV"),
        (b"a\n" + b"x" * 200_000, b"text/csv", "not CSV"),
        (b"a\n\xff\n", b"text/csv", "not UTF-8"),
        (b"a\n", b"text/csv", "got 0 rows"),
        (b"a\n" + b"1\n" * 11, b"text/csv", "got 11 rows"),
        (b"a\n1\n", b"text/csv; charset=latin-1", "only utf-8"),
        (b"PAR1", b"application/vnd.apache.parquet", "must be application/json or text/csv"),
        (b"{}", b"\xff/\xff; x", "must be application/json"),
    ],
)
def test_bodies_that_are_refused(body: bytes, kind: bytes, says: str) -> None:
    with pytest.raises(RequestError, match=says):
        read(body, kind)


def test_answers() -> None:
    numbers = Answer("a1", MODEL, np.array([0.1, 1 / 3]))
    assert json.loads(invocations.write(numbers)) == {"predictions": [0.1, 1 / 3]}
    classes = Answer("a1", MODEL, np.array([[0.25, 0.75]]), ("a", "b"), ["b"])
    assert json.loads(invocations.write(classes)) == {"predictions": [[0.25, 0.75]]}
    headers = dict(invocations.answer_headers(numbers))
    assert headers == {b"x-model-version": b"4", b"x-prediction-id": b"a1"}
    assert invocations.ping() == b"\n"
    assert invocations.mlflow_version().startswith(b"3.")


@pytest.mark.component
@pytest.mark.parametrize("make", [lambda make: make(), graded_project])
def test_the_same_answers_as_mlflow(
    make: Callable[[Any], Project],
    make_project: Callable[..., Project],
    train: Callable[..., Any],
    settings: Settings,
) -> None:
    """Through `mlflow models serve`'s own code, for the model as it is registered."""
    import mlflow
    from mlflow.models import convert_input_example_to_serving_input
    from mlflow.pyfunc import scoring_server

    made = train(make(make_project), settings)
    mlflow.set_tracking_uri(settings.tracking_uri)
    model = mlflow.pyfunc.load_model(made.register().model.uri)
    frame = made.holdout()[list(made.project.input_columns)].head(9)
    frame.loc[frame.index[3], "age"] = np.nan
    payloads = [
        convert_input_example_to_serving_input(frame),
        json.dumps({"dataframe_records": json.loads(frame.to_json(orient="records"))}),
        json.dumps({"inputs": json.loads(frame.to_json(orient="records"))}),
    ]
    kinds = ["application/json"] * 3 + ["text/csv"]
    for payload, kind in zip([*payloads, frame.to_csv(index=False)], kinds, strict=True):
        theirs = scoring_server.invocations(payload, kind, model, model.metadata.get_input_schema())
        assert theirs.status == 200
        inputs = made.project.contract.columns
        named = {name: inputs[name] for name in made.project.input_columns}
        asked = invocations.read(payload.encode(), {b"content-type": kind.encode()}, named, 10)
        ours = made.expected(pd.DataFrame(records(asked)))
        answer = invocations.write(Answer("a1", made.model, ours))
        assert json.loads(answer) == json.loads(theirs.response)
