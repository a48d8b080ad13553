"""Multiclass from request to answer: class and probabilities, over HTTP and in the table."""

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import httpx
import numpy as np
import pandas as pd
import pytest

from lifecycle.errors import ServingError
from lifecycle.lake.read import read_version
from lifecycle.project import Project
from lifecycle.records import Window
from lifecycle.serving.batch import score
from lifecycle.serving.deployment import deploy, undeploy
from lifecycle.serving.predictor import ServedModel
from lifecycle.serving.protocols import plain
from lifecycle.serving.records import PredictionRequest, to_records
from lifecycle.serving.smoke import Offline, smoke_test
from lifecycle.settings import Settings
from tests.support.graded import GRADES, graded_project

INPUTS = ["age", "visits", "city"]


@pytest.fixture
def graded(
    make_project: Callable[..., Project], train: Callable[..., Any], settings: Settings
) -> Any:
    return train(graded_project(make_project), settings)


def test_a_request_is_answered_with_class_and_probabilities(graded: Any) -> None:
    served = ServedModel.open(graded.bundle.path, graded.model, graded.project)
    rows = graded.holdout()[INPUTS]
    answer = served.answer(PredictionRequest(len(rows), to_records(rows)), "id")
    answers = json.loads(plain.write(answer))["predictions"]
    expected = graded.expected(rows)
    assert expected.shape == (len(rows), 3)
    for answer, row in zip(answers, expected, strict=True):
        assert answer == {
            "class": GRADES[row.argmax()],
            "probabilities": dict(zip(GRADES, row.tolist(), strict=True)),
        }
    assert served.describe()["classes"] == list(GRADES)


def test_counts_are_answered_as_numbers_that_are_not_negative(
    make_project: Callable[..., Project], train: Callable[..., Any], settings: Settings
) -> None:
    made = train(make_project(task="count", target="visits"), settings)
    served = ServedModel.open(made.bundle.path, made.model, made.project)
    rows = made.holdout()[list(made.project.input_columns)]
    answer = served.answer(PredictionRequest(len(rows), to_records(rows)), "id")
    answers = json.loads(plain.write(answer))["predictions"]
    assert answers == made.expected(rows).tolist()
    assert all(isinstance(value, float) and value >= 0 for value in answers)
    table = read_version(scored(made).predictions)
    assert (table["prediction"] >= 0).all()


def scored(made: Any, project: Project | None = None, ray_address: str = "local") -> Any:
    return score(
        project or made.project,
        made.settings.model_copy(update={"ray_address": ray_address}),
        made.ingested.dataset,
        Window(),
        made.model,
        made.bundle.path,
    )


COLUMNS = ["probability_poor", "probability_So-so", "probability_very_good"]


def check_table(made: Any, table: pd.DataFrame) -> None:
    assert list(table) == ["customer", "row", "prediction", *COLUMNS, "model_version"]
    expected = made.expected(read_version(made.ingested.dataset))
    np.testing.assert_array_equal(table[COLUMNS], expected)
    assert table["prediction"].tolist() == [GRADES[at] for at in expected.argmax(axis=1)]


def test_the_table_has_a_class_and_a_probability_a_class(graded: Any) -> None:
    check_table(graded, read_version(scored(graded).predictions))


def test_numbers_stay_numbers_in_the_table(
    make_project: Callable[..., Project], train: Callable[..., Any], settings: Settings
) -> None:
    columns = {
        "customer": {"type": "integer"},
        "age": {"type": "number"},
        "visits": {"type": "category", "categories": list(range(10, -1, -1))},
    }
    project = make_project(task="multiclass", target="visits", contract={"columns": columns})
    table = read_version(scored(train(project, settings)).predictions)
    assert table["prediction"].dtype == np.int64
    assert "probability_10" in table


@pytest.mark.component
@pytest.mark.usefixtures("ray_cluster")
def test_ray_data_gives_the_same_table(graded: Any) -> None:
    scoring = graded.project.scoring.model_copy(update={"ray_data_above_rows": 1})
    project = graded.project.model_copy(update={"scoring": scoring})
    found = scored(graded, project, "connected")
    assert found.engine == "ray_data"
    check_table(graded, read_version(found.predictions))


@pytest.mark.component
def test_over_http(graded: Any, ray_cluster: None, serve_port: int) -> None:
    settings = graded.settings.model_copy(update={"serve_port": serve_port})
    inputs = graded.holdout()[INPUTS].head(30)
    expected = graded.expected(inputs)
    url = deploy(graded.bundle.path, graded.model, graded.project, settings)
    try:
        assert smoke_test(url, graded.model, Offline(inputs, expected, GRADES)).rows == 30
        wrong = expected.copy()
        wrong[3, 1] += 0.01
        with pytest.raises(
            ServingError, match=r"1 of 30 answers .* row 3, class 'So-so', asked with 29"
        ):
            smoke_test(url, graded.model, Offline(inputs, wrong, GRADES))
        document = httpx.get(f"{url}/openapi.json").json()
    finally:
        undeploy(graded.project.name)
    answer = document["paths"]["/predict"]["post"]["responses"]["200"]["content"]
    items = answer["application/json"]["schema"]["properties"]["predictions"]["items"]
    assert items["properties"]["class"]["enum"] == list(GRADES)


@contextmanager
def answering(model: Any, predictions: Any) -> Iterator[str]:
    """An endpoint that answers each record of every request with these predictions."""
    identity = {"version": model.version, "digest": model.digest}

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            tensors = [{"name": "x", "datatype": "INT64"}]
            self.answer({"inputs": tensors} if "/v2/" in self.path else {"model": identity})

        def do_POST(self) -> None:
            asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            if self.path == "/predict":
                said = predictions * len(asked["records"])
                self.answer({"model": identity, "predictions": said})
                return
            tables = [list(one["probabilities"].values()) for one in predictions]
            if self.path == "/invocations":
                self.answer({"predictions": tables * len(asked["dataframe_records"])})
                return
            rows = asked["inputs"][0]["shape"][0]
            outputs = [
                {"name": "predict", "data": [one["class"] for one in predictions] * rows},
                {
                    "name": "probabilities",
                    "data": [value for table in tables for value in table] * rows,
                },
            ]
            self.answer({"model_version": str(model.version), "outputs": outputs})

        def answer(self, content: Any) -> None:
            body = json.dumps(content).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.send_header("X-Model-Version", str(model.version))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


GOOD = {"class": "a", "probabilities": {"a": 0.7, "b": 0.3}}


@pytest.mark.parametrize(
    ("predictions", "says"),
    [
        ([0.7], "not probabilities of a, b"),
        ([{"class": "a", "probabilities": {"a": 1.0}}], "not probabilities of a, b"),
        ([GOOD | {"class": "b"}], "not the most probable"),
        ([GOOD, GOOD], "not probabilities of a, b, one per row of 1"),
        (
            [{"class": "a", "probabilities": {"a": 0.6, "b": 0.4}}],
            "row 0, class 'a', asked alone, is 0.6 inst",
        ),
    ],
)
def test_answers_of_another_kind_are_noticed(small_model: Any, predictions: Any, says: str) -> None:
    offline = Offline(pd.DataFrame({"x": [1]}), np.array([[0.7, 0.3]]), ("a", "b"))
    with answering(small_model.model, [GOOD]) as url:
        assert smoke_test(url, small_model.model, offline).rows == 1
    with (
        answering(small_model.model, predictions) as url,
        pytest.raises(ServingError, match=says),
    ):
        smoke_test(url, small_model.model, offline)


def test_a_class_is_no_number(small_model: Any) -> None:
    row = pd.DataFrame({"x": [1]})
    with (
        answering(small_model.model, [GOOD]) as url,
        pytest.raises(ServingError, match="the predictions are not numbers"),
    ):
        smoke_test(url, small_model.model, Offline(row, np.array([0.7])))
