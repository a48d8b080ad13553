"""The real endpoint over HTTP: answers, refusals, a new version, a taken port, nothing left."""

import json
import os
import socket
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import psutil
import pytest

from lifecycle.errors import PortInUseError, ServingError, UnavailableError
from lifecycle.project import Project
from lifecycle.runtime.servers import free_port
from lifecycle.serving.deployment import deploy, undeploy
from lifecycle.serving.proxy import check_port
from lifecycle.serving.records import PredictionRequest, to_records
from lifecycle.serving.smoke import Offline, smoke_test
from lifecycle.settings import Settings

SHOP = "https://shop.example"


@pytest.fixture(scope="module")
def made(
    health: Project,
    train: Callable[..., Any],
    tmp_path_factory: pytest.TempPathFactory,
    serve_port: int,
) -> Any:
    settings = Settings(home=tmp_path_factory.mktemp("served"), serve_port=serve_port)
    serving = health.serving.model_copy(update={"allowed_origins": (SHOP,)})
    return train(health.model_copy(update={"serving": serving}), settings)


@pytest.fixture(scope="module")
def url(made: Any, ray_cluster: None) -> Iterator[str]:
    yield deploy(made.bundle.path, made.model, made.project, made.settings)
    undeploy(made.project.name)


def rows(made: Any, count: int = 50) -> Any:
    return made.holdout()[list(made.project.input_columns)].head(count)


@pytest.mark.component
def test_answers_equal_the_offline_model(made: Any, url: str) -> None:
    inputs = rows(made)
    smoke = smoke_test(
        url, made.model, Offline(inputs, made.expected(inputs)), max_p99_milliseconds=1e4
    )
    assert smoke.rows == 50
    limit = smoke.p50_milliseconds / 1000
    with pytest.raises(ServingError, match=rf"99th.*serving.max_p99_milliseconds is {limit:g}$"):
        smoke_test(
            url, made.model, Offline(inputs, made.expected(inputs)), max_p99_milliseconds=limit
        )

    answer = httpx.post(f"{url}/predict", json={"records": to_records(inputs.head(2))}).json()
    assert set(answer) == {"predictions", "model", "id"}
    assert answer["model"] == {
        "name": "health_visits",
        "version": 1,
        "digest": made.bundle.digest,
    }
    np.testing.assert_array_equal(answer["predictions"], made.expected(inputs.head(2)))


@pytest.mark.component
def test_one_serve_has_one_port(made: Any, url: str) -> None:
    elsewhere = made.settings.model_copy(update={"serve_port": made.settings.serve_port + 1})
    with pytest.raises(
        PortInUseError, match=f"set LIFECYCLE_SERVE_PORT={made.settings.serve_port}"
    ):
        deploy(made.bundle.path, made.model, made.project, elsewhere)


@pytest.mark.component
def test_health_and_model(made: Any, url: str) -> None:
    assert httpx.get(f"{url}/health").json()["status"] == "ok"
    described = httpx.get(f"{url}/model").json()
    assert list(described["inputs"]) == list(made.project.input_columns)
    assert described["inputs"]["xage"]["maximum"] == 120


@pytest.mark.component
def test_a_path_of_no_project_is_told_the_projects(made: Any, url: str) -> None:
    from ray import serve  # other files' models may be on this Ray

    assert os.environ["RAY_SERVE_ENABLE_HA_PROXY"] == "1"
    at = made.settings.serve_url
    answers = [httpx.get(f"{at}/"), httpx.get(f"{at}/nope"), httpx.post(f"{at}/predict", json={})]
    for answer in answers:
        assert answer.status_code == 404
        told = answer.json()
        assert told["projects"] == sorted(f"/{name}" for name in serve.status().applications)
        assert told["example"] == "/health_visits/predict"


@pytest.mark.component
def test_a_page_of_a_declared_origin_reads_answers_through_the_proxy(made: Any, url: str) -> None:
    body = {"records": to_records(rows(made, 1))}
    for origin, allowed in ((SHOP, SHOP), ("https://evil.example", None)):
        asks = {"Origin": origin, "Access-Control-Request-Method": "POST"}
        asked = httpx.options(f"{url}/predict", headers=asks)
        assert (asked.status_code, asked.headers.get("access-control-allow-origin")) == (
            200,
            allowed,
        )
        answer = httpx.post(f"{url}/predict", json=body, headers={"Origin": origin})
        assert (answer.status_code, answer.headers.get("access-control-allow-origin")) == (
            200,
            allowed,
        )


@pytest.mark.component
def test_bad_requests_get_422_with_the_reason(made: Any, url: str) -> None:
    good = to_records(rows(made, 1))[0]
    for content, status, reason in [
        (b"no json", 400, "not JSON"),
        (json.dumps({"records": []}).encode(), 422, "0 rows"),
        (json.dumps({"records": [good | {"xage": "old"}]}).encode(), 422, "row 0: xage: must be"),
        (json.dumps({"records": [good | {"shoe\ud800": 1}]}).encode(), 400, "not JSON"),
        (json.dumps({"records": [good | {"shoe": 1}]}).encode(), 422, "unknown field"),
        (json.dumps({"records": [{}]}).encode(), 422, "this field is missing"),
    ]:
        response = httpx.post(f"{url}/predict", content=content)
        assert response.status_code == status, response.text
        assert reason in response.json()["error"]
        assert "Traceback" not in response.text
    assert httpx.get(f"{url}/predict").status_code == 405
    assert "no such path" in httpx.get(f"{url}/nothing").json()["error"]


@pytest.mark.system
def test_another_version_takes_over_and_a_wrong_one_is_noticed(
    made: Any, url: str, train: Callable[..., Any]
) -> None:
    other = train(made.project, made.settings, seed=2)
    second = other.model.model_copy(update={"version": 2})
    inputs = rows(made, 5)
    deploy(other.bundle.path, second, made.project, made.settings)
    assert smoke_test(url, second, Offline(inputs, other.expected(inputs))).rows == 5
    with pytest.raises(ServingError, match=r"differ from the offline model's; row 0, asked"):
        smoke_test(url, second, Offline(inputs, made.expected(inputs)))

    deploy(made.bundle.path, made.model, made.project, made.settings)
    assert smoke_test(url, made.model, Offline(inputs, made.expected(inputs))).rows == 5


@pytest.mark.system
def test_a_changed_bundle_is_not_served_and_the_former_goes_on(
    made: Any, url: str, train: Callable[..., Any]
) -> None:
    other = train(made.project, made.settings, seed=3)
    file = other.bundle.path / "model.ubj"
    file.write_bytes(file.read_bytes() + b" ")
    with pytest.raises(ServingError, match=r"cannot be served as /health_visits: .*model\.ubj"):
        deploy(other.bundle.path, other.model, made.project, made.settings)
    deploy(made.bundle.path, made.model, made.project, made.settings)
    inputs = rows(made, 5)
    assert smoke_test(url, made.model, Offline(inputs, made.expected(inputs))).rows == 5


def test_a_port_that_is_taken() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        with pytest.raises(PortInUseError, match=rf"port {port} of .* is in use; .*_PORT"):
            check_port("127.0.0.1", port)
    check_port("127.0.0.1", port)
    with pytest.raises(PortInUseError, match="LIFECYCLE_SERVE_HOST"):
        check_port("192.0.2.1", port)


def test_no_endpoint(made: Any) -> None:
    with pytest.raises(UnavailableError, match="does not answer"):
        smoke_test(
            "http://127.0.0.1:1/x", made.model, Offline(rows(made, 1), np.zeros(1)), patience=0
        )


IMPORTS = """
import json, pickle, sys
model, project, bundle, asked = pickle.load(open(sys.argv[1], "rb"))
import lifecycle.serving.replicas
from lifecycle.serving.predictor import ServedModel
served = ServedModel.open(bundle, model, project)
heavy = {"prefect", "deepchecks", "mlflow", "optuna", "sklearn", "matplotlib", "pandera"}
answer = served.answer(asked, "id").predictions.tolist()
print(json.dumps([answer, sorted(heavy & set(sys.modules))]))
"""


def test_a_replica_is_light(made: Any, tmp_path: Path) -> None:
    import pickle

    asked = PredictionRequest(1, to_records(rows(made, 1)))
    file = tmp_path / "made.pickle"
    file.write_bytes(pickle.dumps((made.model, made.project, made.bundle.path, asked)))
    done = subprocess.run(
        [sys.executable, "-c", IMPORTS, str(file)], capture_output=True, text=True, check=True
    )
    answer, heavy = json.loads(done.stdout)
    assert heavy == []
    assert answer == made.expected(rows(made, 1)).tolist()


WHOLE_LIFE = textwrap.dedent("""
    import json, pickle, sys, time
    start = time.monotonic()
    import psutil
    from lifecycle.runtime.cluster import connect_ray
    from lifecycle.serving.deployment import deploy, undeploy
    from lifecycle.serving.smoke import Offline, smoke_test
    made, inputs, expected = pickle.load(open(sys.argv[1], "rb"))
    times = {}
    with connect_ray(made["settings"]):
        times["ray"] = time.monotonic() - start
        url = deploy(made["bundle"], made["model"], made["project"], made["settings"])
        smoke_test(url, made["model"], Offline(inputs, expected))
        times["answer"] = time.monotonic() - start
        children = psutil.Process().children(recursive=True)
        ports = [
            (p.name(), c.laddr.ip, c.laddr.port)
            for p in children
            for c in p.net_connections("inet")
            if c.status == psutil.CONN_LISTEN
        ]
        undeploy(made["project"].name)
        undeploy(made["project"].name)
    times["end"] = time.monotonic() - start
    print(json.dumps({"children": [p.pid for p in children], "ports": ports, "times": times}))
""")


@pytest.mark.system
def test_nothing_is_said_and_nothing_is_left(made: Any, tmp_path: Path) -> None:
    """What ends while it serves: `test_https_with_certificate_files` in test_attacks.py."""
    import pickle

    settings = made.settings.model_copy(update={"serve_port": free_port()})
    inputs = rows(made, 5)
    content = {
        "settings": settings,
        "bundle": made.bundle.path,
        "model": made.model,
        "project": made.project,
    }
    file = tmp_path / "made.pickle"
    file.write_bytes(pickle.dumps((content, inputs, made.expected(inputs))))
    done = subprocess.run(
        [sys.executable, "-c", WHOLE_LIFE, str(file)], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    said = json.loads(done.stdout)
    assert {ip for _, ip, _ in said["ports"]} <= {"127.0.0.1", "::1", "::ffff:127.0.0.1"}
    assert settings.serve_port in [port for *_, port in said["ports"]]
    psutil.wait_procs([psutil.Process(p) for p in said["children"] if psutil.pid_exists(p)], 10)
    assert not [p for p in said["children"] if psutil.pid_exists(p)]
    check_port("127.0.0.1", settings.serve_port)
    print(said["times"])  # noqa: T201 - the cold start, shown by `pytest -s`
