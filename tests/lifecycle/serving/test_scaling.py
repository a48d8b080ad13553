"""Replicas come with the load and go with it, between the declared bounds; no request is lost."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Event, Thread
from typing import Any

import pytest

from lifecycle.project import Project
from lifecycle.serving.deployment import deploy, undeploy
from lifecycle.serving.records import to_records
from lifecycle.settings import Settings
from tests.support.load import load

pytestmark = [pytest.mark.system, pytest.mark.alone]

FEWEST, MOST = 1, 3


@pytest.fixture(scope="module")
def made(
    health: Project,
    train: Callable[..., Any],
    tmp_path_factory: pytest.TempPathFactory,
    serve_port: int,
) -> Any:
    settings = Settings(home=tmp_path_factory.mktemp("scaled"), serve_port=serve_port)
    serving = health.serving.model_copy(
        update={
            "replicas": FEWEST,
            "max_replicas": MOST,
            "target_ongoing_requests": 1.0,
            "target_busy_share": 0.2,
            "upscale_delay_seconds": 1.0,
            "downscale_delay_seconds": 2.0,
        }
    )
    return train(health.model_copy(update={"features": None, "serving": serving}), settings)


@pytest.fixture(scope="module")
def records(made: Any) -> list[dict[str, Any]]:
    return to_records(made.holdout()[list(made.project.input_columns)].head(400))


@pytest.fixture
def url(made: Any, ray_cluster: None) -> Iterator[str]:
    yield deploy(made.bundle.path, made.model, made.project, made.settings)
    undeploy(made.project.name)


def running(project: Project) -> int:
    """Replicas that answer; those that are stopping do so no longer."""
    from ray import serve

    deployment = serve.status().applications[project.name].deployments["model"]
    return deployment.replica_states.get("RUNNING", 0)


@contextmanager
def watched(project: Project) -> Iterator[list[int]]:
    """The number of replicas, again and again while the block runs."""
    seen: list[int] = []
    ended = Event()

    def watch() -> None:
        while not ended.wait(0.1):
            seen.append(running(project))

    thread = Thread(target=watch)
    thread.start()
    try:
        yield seen
    finally:
        ended.set()
        thread.join()


def reached(project: Project, replicas: int, seconds: float = 60.0) -> bool:
    end = time.monotonic() + seconds
    while running(project) != replicas:
        if time.monotonic() > end:
            return False
        time.sleep(0.1)
    return True


def test_replicas_follow_the_load_between_the_bounds(
    made: Any, records: list[dict[str, Any]], url: str
) -> None:
    """Single rows are answered on the event loop, many rows beside it: each brings replicas."""
    assert running(made.project) == FEWEST
    with watched(made.project) as seen:
        with load(url, records, clients=8) as single:
            assert reached(made.project, MOST), seen
            single.wait_for(50)
        with load(url, records, clients=1, pause=0.1) as light:
            assert reached(made.project, FEWEST), seen
            light.wait_for(50)
        with load(url, records, clients=8, rows=len(records)) as many:
            assert reached(made.project, MOST), seen
            many.wait_for(50)
    assert set(seen) <= set(range(FEWEST, MOST + 1))
    for asked in (single, light, many):
        assert asked.failures == []
