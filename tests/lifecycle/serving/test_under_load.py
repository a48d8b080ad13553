"""What happens to a served model while requests keep coming: none may be lost."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from lifecycle.errors import ServingError
from lifecycle.project import Project
from lifecycle.serving.deployment import deploy, rehearse, serving, undeploy
from lifecycle.serving.records import to_records
from lifecycle.settings import Settings
from tests.support.load import load

pytestmark = [pytest.mark.system, pytest.mark.alone]


@pytest.fixture(scope="module")
def first(
    health: Project,
    train: Callable[..., Any],
    tmp_path_factory: pytest.TempPathFactory,
    serve_port: int,
) -> Any:
    settings = Settings(home=tmp_path_factory.mktemp("loaded"), serve_port=serve_port)
    plain = health.model_copy(update={"features": None})
    return train(plain, settings)


@pytest.fixture(scope="module")
def second(first: Any, train: Callable[..., Any]) -> Any:
    return train(first.project, first.settings, seed=2)


@pytest.fixture(scope="module")
def records(first: Any) -> list[dict[str, Any]]:
    return to_records(first.holdout()[list(first.project.input_columns)].head(200))


@pytest.fixture
def url(first: Any, ray_cluster: None) -> Iterator[str]:
    yield deploy(first.bundle.path, first.model, first.project, first.settings)
    undeploy(first.project.name)


def scaled(project: Project, **serving: Any) -> Project:
    return project.model_copy(update={"serving": project.serving.model_copy(update=serving)})


def test_no_request_is_lost_by_releases_and_scaling(
    first: Any, second: Any, records: list[dict[str, Any]], url: str
) -> None:
    project, settings = first.project, first.settings
    other = second.model.model_copy(update={"version": 2})
    broken = other.model_copy(update={"version": 3, "digest": "0" * 64})
    foreign = scaled(project).model_copy(update={"features": "nowhere:build"})
    with load(url, records) as made:
        made.wait_for(500)
        deploy(second.bundle.path, other, project, settings)
        time.sleep(1)
        with pytest.raises(ServingError, match="this is not bundle 0000"):
            deploy(second.bundle.path, broken, project, settings)  # wrong digest
        with pytest.raises(ServingError, match="nowhere"):
            deploy(second.bundle.path, other, foreign, settings)  # wrong code beside it
        deploy(first.bundle.path, first.model, project, settings)
        deploy(first.bundle.path, first.model, scaled(project, replicas=2), settings)
        time.sleep(1)
        deploy(first.bundle.path, first.model, project, settings)
        made.wait_for(10_000)
    assert made.failures == []
    assert set(made.versions) == {1, 2}
    assert made.total >= 10_000


CRASHING = """
import os
from pathlib import Path

if Path(__file__).with_name("armed").exists():
    os._exit(3)


def build(frame):
    return frame
"""


def test_a_model_that_crashes_at_load_does_not_reach_the_endpoint(
    make_project: Callable[..., Project],
    train: Callable[..., Any],
    tmp_path: Path,
    serve_port: int,
    ray_cluster: None,
) -> None:
    (tmp_path / "crash.py").write_text(CRASHING)
    project = make_project(features="crash:build")
    settings = Settings(home=tmp_path / "lifecycle", serve_port=serve_port)
    made, other = train(project, settings), train(project, settings, seed=2)
    second = other.model.model_copy(update={"version": 2})
    rows = made.holdout()[list(project.input_columns)].head(20)
    url = deploy(made.bundle.path, made.model, project, settings)
    with load(url, to_records(rows), clients=2) as requests:
        requests.wait_for(100)
        (tmp_path / "armed").touch()
        with pytest.raises(ServingError, match="it crashes its process"):
            rehearse(other.bundle.path, second, project, settings, rows)
        with pytest.raises(ServingError, match="cannot be served"):
            deploy(other.bundle.path, second, project, settings)
        requests.wait_for(requests.total + 500)
    undeploy(project.name)
    assert requests.failures == []
    assert set(requests.versions) == {1}


def test_a_killed_replica_costs_a_client_with_one_retry_nothing(
    first: Any, records: list[dict[str, Any]], url: str
) -> None:
    deploy(first.bundle.path, first.model, scaled(first.project, replicas=2), first.settings)
    with load(url, records, retries=1) as made:
        made.wait_for(300)
        kill(named("ServeReplica:health_visits")[0])
        made.wait_for(made.total + 3000)
        kill(named("ServeController")[0])
        made.wait_for(made.total + 3000)
    assert made.failures == []
    assert serving(first.project.name) == first.model


def test_a_killed_proxy_is_back_within_eight_seconds_and_says_nothing_wrong(
    first: Any, records: list[dict[str, Any]], url: str
) -> None:
    """Where a machine takes longer than 2.5 s to import Ray Serve, by so much later."""
    began = time.monotonic()
    subprocess.run([sys.executable, "-c", "import ray.serve"], check=True)
    late = max(0.0, time.monotonic() - began - 2.5)
    kill(named("haproxy", command=True)[0])
    killed = time.monotonic()
    seen: list[int] = []
    while True:
        try:
            seen.append(httpx.post(f"{url}/predict", json={"records": records[:1]}).status_code)
        except httpx.TransportError:
            time.sleep(0.05)
            continue
        if seen[-1] == 200:
            break
        time.sleep(0.05)
    assert time.monotonic() - killed < 8 + late
    assert set(seen) <= {200, 503}


def test_too_many_requests_are_told_to_come_again(
    first: Any, records: list[dict[str, Any]], url: str
) -> None:
    narrow = scaled(first.project, max_ongoing_requests=1, max_queued_requests=2)
    deploy(first.bundle.path, first.model, narrow, first.settings)
    # many rows are worked on beside the event loop; a single one is answered before it can queue
    with load(url, records, clients=24, rows=len(records)) as made:
        made.wait_for(3000)
    assert made.answers
    assert made.failures, "it was never too much"
    assert [one for one in made.failures if not one.startswith("503")] == []
    assert all("retry-after" in one for one in made.failures)


def named(text: str, command: bool = False) -> list[psutil.Process]:
    """Ray's processes with this in their title, or (command) running this program."""
    found = []
    for process in psutil.Process().children(recursive=True):
        try:
            line = process.cmdline()
        except psutil.Error:
            continue
        if line and text in (Path(line[0]).name if command else " ".join(line)):
            found.append(process)
    assert found, text
    return found


def kill(process: psutil.Process) -> None:
    os.kill(process.pid, signal.SIGKILL)
