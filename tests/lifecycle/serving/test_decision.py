"""A declared decision is answered as `predicted`, in every protocol that has room for it."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from lifecycle.client import Client
from lifecycle.lake.logged_predictions import read_log
from lifecycle.lake.read import read_version
from lifecycle.project import Project
from lifecycle.records import Window
from lifecycle.serving.batch import score
from lifecycle.serving.records import to_records
from lifecycle.settings import Settings
from lifecycle.training.bundle import load_bundle, write_bundle
from tests.support.client_server import GOOD, ROWS, Server
from tests.support.replica import serving

THRESHOLD = 0.37
INPUTS = ["age", "visits", "city"]


def decided(made: Any, labels: tuple[Any, Any]) -> Any:
    """The same model with a threshold of its own."""
    loaded = load_bundle(made.bundle.path, made.bundle.digest)
    schema = loaded.schema.model_copy(update={"threshold": THRESHOLD, "labels": labels})
    folder = made.settings.folder("bundles", "decided")
    return replace(made, bundle=write_bundle(loaded.model, schema, "identity", folder))


@pytest.fixture
def made(
    make_project: Callable[..., Project], train: Callable[..., Any], settings: Settings
) -> Any:
    return train(make_project(), settings)


@pytest.mark.parametrize(
    ("labels", "datatype"), [(("no", "yes"), "BYTES"), ((0, 1), "INT64"), ((False, True), "BOOL")]
)
def test_every_protocol(made: Any, labels: tuple[Any, Any], datatype: str) -> None:
    made = decided(made, labels)
    rows = made.holdout()[INPUTS]
    probability = made.expected(rows)
    expected = [labels[one] for one in (probability >= THRESHOLD).astype(int)]
    assert len(set(expected)) == 2
    with serving(made) as (_, ask):
        answer = ask("/predict", {"records": to_records(rows)}).json()
        np.testing.assert_array_equal(answer["predictions"], probability)
        assert answer["predicted"] == expected
        assert [type(one) for one in answer["predicted"]] == [type(one) for one in expected]
        described = ask("/model").json()["decision"]
        assert described == {
            "threshold": THRESHOLD,
            "negative": labels[0],
            "positive": labels[1],
        }
        paths = ask("/openapi.json").json()["paths"]
        content = paths["/predict"]["post"]["responses"]["200"]["content"]["application/json"]
        predicted = content["schema"]["properties"]["predicted"]["items"]
        assert predicted["enum"] == list(labels)
        assert f"{THRESHOLD}" in predicted["description"]

        one = {"city": "BYTES", "age": "FP64", "visits": "INT64"}
        tensors = [
            {"name": n, "shape": [len(rows)], "datatype": k, "data": rows[n].tolist()}
            for n, k in one.items()
        ]
        outputs = ask("/v2/models/small/infer", {"inputs": tensors}).json()["outputs"]
        assert [(o["name"], o["datatype"]) for o in outputs] == [
            ("predict", "FP64"),
            ("predicted", datatype),
        ]
        assert outputs[1]["data"] == expected
        wanted = {"inputs": tensors, "outputs": [{"name": "predicted"}]}
        assert [o["data"] for o in ask("/v2/models/small/infer", wanted).json()["outputs"]] == [
            expected
        ]
        told = ask("/v2/models/small").json()["outputs"]
        assert told[1] == {"name": "predicted", "datatype": datatype, "shape": [-1]}

        # MLflow's answer is what its own server gives for the model
        scored = ask("/invocations", {"dataframe_records": to_records(rows)}).json()
        assert list(scored) == ["predictions"]
    log = read_log(made.settings, "small", 0.0)
    assert set(log["predicted"]) == {str(label) for label in labels}
    assert ((log["prediction"] >= THRESHOLD) == (log["predicted"] == str(labels[1]))).all()


def test_without_a_decision_there_is_none(made: Any) -> None:
    with serving(made) as (_, ask):
        answer = ask("/predict", {"records": to_records(made.holdout()[INPUTS])}).json()
        assert set(answer) == {"predictions", "model", "id"}
        assert "decision" not in ask("/model").json()
        assert len(ask("/v2/models/small").json()["outputs"]) == 1


@pytest.mark.parametrize("labels", [("no", "yes"), (0, 1)])
def test_the_table_of_a_batch(made: Any, labels: tuple[Any, Any]) -> None:
    made = decided(made, labels)
    dataset = made.ingested.dataset
    scored = score(made.project, made.settings, dataset, Window(), made.model, made.bundle.path)
    table = read_version(scored.predictions)
    assert list(table) == ["customer", "row", "prediction", "predicted", "model_version"]
    chosen = (table["prediction"] >= THRESHOLD).astype(int)
    assert table["predicted"].tolist() == [labels[one] for one in chosen]


def test_the_client_has_it() -> None:
    import threading

    with Server() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        server.planned = [(200, GOOD | {"predicted": ["no", "yes"]}, {})]
        with Client(server.url) as client:
            assert client.predict(ROWS).chosen == ("no", "yes")
        server.shutdown()
        thread.join()
