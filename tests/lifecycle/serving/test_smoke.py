"""How equal the smoke test asks answers to be, on a real booster behind a scripted endpoint."""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pandas as pd
import pytest
import xgboost
from numpy.typing import NDArray

from lifecycle.errors import ServingError
from lifecycle.records import ModelVersion
from lifecycle.serving.predictor import FEW, Trees
from lifecycle.serving.probe import ProbeAnswer
from lifecycle.serving.smoke import Offline, smoke_test

MODEL = ModelVersion(
    name="rentals", version=3, uri="models:/rentals/3", run_id="r", digest="d", identity="i"
)
Predict = Callable[[NDArray[np.float32]], NDArray[np.float64]]


class Endpoint:
    """Answers as the served application does, by a function of the rows."""

    url = "http://endpoint/rentals"

    def __init__(self, predict: Predict, columns: list[str]) -> None:
        self._predict, self._columns = predict, columns

    def __enter__(self) -> "Endpoint":
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def ask(self, path: str, content: dict[str, Any] | None = None) -> ProbeAnswer:
        model = {"version": MODEL.version, "digest": MODEL.digest}
        if content is None:
            kinds = [{"name": name, "datatype": "FP32"} for name in self._columns]
            return ProbeAnswer({"model": model, "inputs": kinds}, {}, 0.001)
        if "inputs" in content:
            data = np.array([one["data"] for one in content["inputs"]], dtype="f4").T
        else:
            records = content.get("records") or content["dataframe_records"]
            data = np.array([list(record.values()) for record in records], dtype="f4")
        values = self._predict(data).tolist()
        answer: dict[str, Any] = {"predictions": values, "model": model}
        if path.endswith("/infer"):
            output = {"name": "predict", "data": values}
            answer = {"outputs": [output], "model_version": str(MODEL.version)}
        return ProbeAnswer(answer, {"x-model-version": str(MODEL.version)}, 0.001)


@pytest.fixture(scope="module")
def rentals() -> tuple[pd.DataFrame, xgboost.Booster]:
    """Counts of 0 to 600 around 150: answers near 0 are sums of large leaves."""
    draw = np.random.default_rng(7)
    inputs = pd.DataFrame(draw.uniform(size=(6000, 6)).astype("f4"), columns=list("abcdef"))
    target = 600 * inputs["a"] ** 3 * (1 + np.sin(7 * inputs["b"])) / 2
    rows = xgboost.DMatrix(inputs, target)
    parameters = {"eta": 0.2, "max_depth": 5, "nthread": 1}
    return inputs, xgboost.train(parameters, rows, num_boost_round=300)


@pytest.fixture
def serve(
    monkeypatch: pytest.MonkeyPatch, rentals: tuple[pd.DataFrame, xgboost.Booster]
) -> Iterator[Callable[[Predict], None]]:
    columns = list(rentals[0].columns)

    def by(predict: Predict) -> None:
        monkeypatch.setattr("lifecycle.serving.smoke.Probe", lambda *_: Endpoint(predict, columns))

    return by


def test_an_answer_near_zero_is_measured_by_the_largest(
    rentals: tuple[pd.DataFrame, xgboost.Booster], serve: Callable[[Predict], None]
) -> None:
    inputs, booster = rentals
    trees = Trees(booster)
    offline = booster.predict(xgboost.DMatrix(inputs)).astype(float)
    single = trees.predict(inputs.to_numpy())
    # rows whose two engines are furthest apart for their own size
    order = np.argsort(-np.abs(single - offline) / np.maximum(np.abs(offline), 1e-9))
    rows = inputs.iloc[order[:25]].reset_index(drop=True)
    expected, alone = offline[order[:25]], single[order[:25]]
    assert (np.abs(alone - expected) > 1e-6 + 1e-5 * np.abs(expected)).any()

    def engines(data: NDArray[np.float32]) -> NDArray[np.float64]:
        if len(data) <= FEW:
            return trees.predict(data)
        frame = pd.DataFrame(data, columns=inputs.columns)
        return booster.predict(xgboost.DMatrix(frame)).astype(float)

    serve(engines)
    assert (
        smoke_test(Endpoint.url, MODEL, Offline(rows, expected, largest=offline.max())).rows == 25
    )


@pytest.mark.parametrize("wrong", [lambda value: value + 0.5, lambda value: value * np.nan])
def test_an_answer_of_another_model_is_told(
    rentals: tuple[pd.DataFrame, xgboost.Booster],
    serve: Callable[[Predict], None],
    wrong: Callable[[float], float],
) -> None:
    inputs, booster = rentals
    rows = inputs.head(25)
    expected = booster.predict(xgboost.DMatrix(rows)).astype(float)
    third = rows.to_numpy()[3]

    def off(data: NDArray[np.float32]) -> NDArray[np.float64]:
        frame = pd.DataFrame(data, columns=inputs.columns)
        values = booster.predict(xgboost.DMatrix(frame)).astype(float)
        return np.where((data == third).all(axis=1), wrong(values), values)

    serve(off)
    with pytest.raises(ServingError, match=r"1 of 25 answers differ .* row 3, asked with 24"):
        smoke_test(Endpoint.url, MODEL, Offline(rows, expected, largest=600.0))
