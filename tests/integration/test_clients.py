"""Clients that we did not write, and ours, against the endpoint on a real Ray Serve."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import tritonclient.http as triton
import yaml
from tritonclient.utils import InferenceServerException

from lifecycle.client import Client
from lifecycle.errors import RequestError
from lifecycle.project.loader import load_project
from lifecycle.serving.deployment import deploy, undeploy
from lifecycle.settings import Settings
from tests.support.small import SMALL, small_frame
from tests.support.trained import train_small

DATATYPES = {"age": "FP64", "visits": "INT64", "city": "BYTES"}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, serve_port: int) -> Any:
    folder = tmp_path_factory.mktemp("clients")
    small_frame().to_csv(folder / "small.csv", index=False)
    (folder / "project.yaml").write_text(yaml.safe_dump(SMALL, sort_keys=False))
    settings = Settings(home=folder / "lifecycle", serve_port=serve_port)
    return train_small(load_project(folder / "project.yaml"), settings)


@pytest.fixture(scope="module")
def url(made: Any, ray_cluster: None) -> Iterator[str]:
    yield deploy(made.bundle.path, made.model, made.project, made.settings)
    undeploy(made.project.name)


@pytest.fixture(scope="module")
def rows(made: Any) -> Any:
    return made.holdout()[list(DATATYPES)].head(20)


@pytest.fixture
def server(url: str) -> Iterator[triton.InferenceServerClient]:
    with triton.InferenceServerClient(url.removeprefix("http://")) as client:
        yield client


def tensors(rows: Any, binary: bool) -> list[triton.InferInput]:
    made = []
    for name, datatype in DATATYPES.items():
        values = rows[name].to_numpy(object if datatype == "BYTES" else None)
        made.append(triton.InferInput(name, [len(rows)], datatype))
        made[-1].set_data_from_numpy(values, binary_data=binary)
    return made


@pytest.mark.system
def test_triton_learns_of_the_model(server: triton.InferenceServerClient) -> None:
    assert server.is_server_live()
    assert server.is_server_ready()
    assert server.is_model_ready("small")
    assert server.is_model_ready("small", "1")
    assert not server.is_model_ready("small", "7")
    assert "binary_tensor_data" in server.get_server_metadata()["extensions"]
    told = server.get_model_metadata("small")["inputs"]
    assert {one["name"]: one["datatype"] for one in told} == DATATYPES


@pytest.mark.parametrize("binary", [True, False])
@pytest.mark.parametrize("compression", [None, "gzip"])
def test_triton_predicts(
    made: Any, server: triton.InferenceServerClient, rows: Any, binary: bool, compression: Any
) -> None:
    output = triton.InferRequestedOutput("predict", binary_data=binary)
    result = server.infer(
        "small",
        tensors(rows, binary),
        model_version="1",
        outputs=[output],
        request_id="mine",
        request_compression_algorithm=compression,
    )
    np.testing.assert_array_equal(result.as_numpy("predict"), made.expected(rows))
    assert result.get_response()["id"] == "mine"


def test_triton_is_told_what_is_wrong(server: triton.InferenceServerClient, rows: Any) -> None:
    with pytest.raises(InferenceServerException, match=r"row 3: age: must be at most 120"):
        server.infer("small", tensors(rows.assign(age=[*rows["age"][:3], *[121.0] * 17]), True))
    for model in ("other", "../small"):
        with pytest.raises(InferenceServerException):
            server.infer(model, tensors(rows, True))


def test_mlflows_payloads(made: Any, url: str, rows: Any) -> None:
    from mlflow.models import convert_input_example_to_serving_input

    holes = rows.copy()
    holes.loc[holes.index[0], "age"] = np.nan  # which MLflow writes as NaN
    for kind, payload in [
        ("application/json", convert_input_example_to_serving_input(holes)),
        ("application/json", json.dumps({"inputs": json.loads(holes.to_json(orient="records"))})),
        ("text/csv", holes.to_csv(index=False)),
    ]:
        answer = httpx.post(f"{url}/invocations", content=payload, headers={"content-type": kind})
        assert answer.status_code == 200, answer.text
        np.testing.assert_array_equal(answer.json()["predictions"], made.expected(holes))
        assert answer.headers["x-model-version"] == "1"
        assert answer.headers["x-prediction-id"]
    assert httpx.get(f"{url}/ping").status_code == 200
    assert httpx.get(f"{url}/version").text.startswith("3.")


def test_our_client(made: Any, url: str, rows: Any) -> None:
    with Client(url) as client:
        assert client.ready()
        predictions = client.predict(rows, explain=True)
        np.testing.assert_array_equal(predictions.values, made.expected(rows))
        assert (predictions.model, predictions.version) == ("small", 1)
        given = predictions.explanations[0]
        margin = given["bias"] + sum(given["contributions"].values())
        assert 1 / (1 + np.exp(-margin)) == pytest.approx(predictions.values[0], abs=1e-5)
        assert list(client.model()["inputs"]) == list(DATATYPES)
        with pytest.raises(RequestError, match="row 0: city: must be one of"):
            client.predict([{"age": 1, "visits": 1, "city": "Bonn"}])


RELATED = """
[checks.negative_data_rejection]
expected-statuses = [400, 404, 405, 413, 415, 422]  # by itself it does not think of 413

[[operations]]  # columns of one length, a time that is not in the future: JSON Schema cannot say so
include-path-regex = "/(infer|invocations|labels)$"

[operations.checks.positive_data_acceptance]
enabled = false
"""


@pytest.mark.system
def test_schemathesis(url: str, tmp_path: Path) -> None:
    """Requests by the document and against it: every answer is one that it promises."""
    config = tmp_path / "schemathesis.toml"
    config.write_text(RELATED)
    command = [Path(sys.executable).with_name("schemathesis"), "--config-file", config, "run"]
    phases = ["--phases", "examples,coverage,fuzzing", "--max-examples", "20", "--seed", "1"]
    said = subprocess.run(
        [*command, f"{url}/openapi.json", *phases, "--no-color"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert said.returncode == 0, said.stdout + said.stderr
    assert "Operations:" in said.stdout
