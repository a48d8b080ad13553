"""A canary on a real Serve, under load: its release is killed, and labels speak against it."""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from lifecycle.audit.model_trail import history, verify
from lifecycle.data.ingest import ingest
from lifecycle.data.windows import first_window
from lifecycle.project import Project
from lifecycle.release.registry import CHALLENGER, CHAMPION, by_alias
from lifecycle.serving.deployment import serving, stop_candidate, undeploy
from lifecycle.serving.records import to_records
from lifecycle.settings import Settings
from tests.support.load import Load, load
from tests.support.releaser import release
from tests.support.small import small_frame

pytestmark = [pytest.mark.system, pytest.mark.alone]

ROOT = Path(__file__).parents[3]
LEARNED = 400
"""Rows that training knows; those after them are asked for."""
LAX = {  # what these tests are not about: other predictions, and a machine that others share
    "policy": "canary",
    "steps": [0.5, 1.0],
    "bake_seconds": 3,
    "max_wait_seconds": 60,
    "max_prediction_drift": 1.0,
    "max_p99_milliseconds": 2000.0,
}


class Served(NamedTuple):
    project: Project
    settings: Settings
    url: str
    records: list[dict[str, Any]]

    def lines(self) -> list[tuple[str, int]]:
        return [(c.action, c.version) for c in history(self.settings, self.project.name)]


@pytest.fixture
def served(
    make_project: Callable[..., Project],
    train: Callable[..., Any],
    settings: Settings,
    serve_port: int,
    ray_cluster: None,
) -> Iterator[Served]:
    """Version 1 is champion and answers."""
    settings = settings.model_copy(update={"serve_port": serve_port})
    rows = small_frame(2 * LEARNED)
    project = make_project(rows.head(LEARNED), serving={"rollout": LAX})
    train(project, settings).register()
    try:
        outcome = release(project, settings, "first")
        assert outcome.endpoint
        asked = rows.tail(LEARNED)[["customer", *project.input_columns]]
        yield Served(project, settings, outcome.endpoint.url, to_records(asked))
    finally:
        stop_candidate(project.name)
        undeploy(project.name)


def wait_until(there: Callable[[], bool], seconds: float) -> None:
    end = time.monotonic() + seconds
    while not there():
        assert time.monotonic() < end, f"not within {seconds:g} s"
        time.sleep(0.05)


def latest(asked: Load, count: int = 50) -> set[int]:
    """The versions of the answers that come next."""
    at = len(asked.answers)
    asked.wait_for(asked.total + count)
    return {version for _, version in asked.answers[at:]}


def test_a_release_killed_in_a_canary_step_leaves_the_champion_and_runs_again(
    served: Served, train: Callable[..., Any]
) -> None:
    import ray

    project, settings = served.project, served.settings
    train(project, settings, seed=2).register()
    address = ray.get_runtime_context().gcs_address
    arguments = [project.file, settings.home, address, settings.serve_port]
    command = [sys.executable, "-m", "tests.support.releaser", *map(str, arguments)]
    with load(served.url, served.records, clients=2) as asked:
        process = subprocess.Popen(command, cwd=ROOT)
        try:
            wait_until(lambda: asked.versions[2] > 50, 60)
            assert process.poll() is None
        finally:
            os.kill(process.pid, signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL
        assert served.lines()[-1] == ("canary", 2)
        assert latest(asked) == {1, 2}, "the canary goes on, under its lease"
        wait_until(lambda: latest(asked) == {1}, 20)  # and comes back by itself
        assert serving(project.name) == by_alias(project.name, CHAMPION, settings)

        again = release(project, settings, "second")
        assert again.decision.passed, again.decision.reasons
        assert latest(asked) == {2}
    assert asked.failures == []
    assert set(asked.versions) == {1, 2}
    champion = by_alias(project.name, CHAMPION, settings)
    assert champion
    assert champion.version == 2
    assert by_alias(project.name, CHALLENGER, settings) is None
    lines = served.lines()
    assert lines[:2] == [("deploy", 1), ("promote", 1)]
    assert set(lines[2:-2]) == {("canary", 2)}
    assert lines[-2:] == [("deploy", 2), ("promote", 2)]
    assert {change.who for change in history(settings, project.name)} == {
        "first",
        "the killed one",
        "second",
    }
    assert verify(settings, project.name) is None


def test_labels_that_come_send_a_worse_candidate_back(
    served: Served, train: Callable[..., Any], make_project: Callable[..., Project]
) -> None:
    project, settings = served.project, served.settings
    rows = small_frame(2 * LEARNED)
    learned = rows.head(LEARNED)
    inverted = make_project(learned.assign(bought=1 - learned.bought), serving={"rollout": LAX})
    elsewhere = settings.model_copy(update={"home": settings.home / "elsewhere"})
    worse = train(inverted, elsewhere)
    shutil.copytree(elsewhere.home / "bundles", settings.home / "bundles", dirs_exist_ok=True)
    replace(worse, settings=settings).register()
    came: list[float] = []

    def label(text: str, stays: bool) -> None:
        """Called at each look: once there are answers, what became of them comes in."""
        if len(asked.answers) > begun + 2 * LEARNED and not came:
            make_project(rows, serving={"rollout": LAX})
            ingest(project, settings, first_window(project))
            came.append(time.monotonic())

    # long enough that nothing but the labels can end the step
    rollout = project.serving.rollout.model_copy(update={"bake_seconds": 120.0})
    held = project.model_copy(
        update={"serving": project.serving.model_copy(update={"rollout": rollout})}
    )
    with load(served.url, served.records, clients=2) as asked:
        begun = len(asked.answers)
        outcome = release(held, settings, "tester", label)
        ended = time.monotonic()
        assert latest(asked) == {1}
    assert came, "it ended before the labels came"
    assert asked.failures == []
    assert asked.versions[2] > 0
    last_bad = max(when for when, version in asked.answers if version == 2)
    assert last_bad < ended
    assert ended - came[0] < 10
    assert outcome.endpoint is None
    assert not outcome.decision.passed
    assert outcome.decision.gate == "canary"

    change = history(settings, project.name)[-1]
    assert (change.action, change.version, change.who) == ("reject", 2, "tester")
    assert change.reasons == outcome.decision.reasons
    assert change.reasons[0].startswith("Failed at 50 % of the entities")
    (why,) = [reason for reason in change.reasons if reason.startswith("Quality lost: roc_auc")]
    assert "is allowed (max_quality_loss: 5%)" in why
    champion = by_alias(project.name, CHAMPION, settings)
    assert champion
    assert champion.version == 1
    assert serving(project.name) == champion
    assert verify(settings, project.name) is None
