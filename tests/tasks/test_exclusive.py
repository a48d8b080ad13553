"""One run at a time per project and environment: on one machine, and on one Prefect server."""

import logging
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
from prefect.client.orchestration import get_client
from prefect.settings import PREFECT_API_URL

from lifecycle.project import Project
from lifecycle.settings import Settings
from tasks.exclusive import _alone_on_this_server, exclusive, limit_name

HOLD = """
import sys, time
from pathlib import Path
from lifecycle.project.loader import load_project
from lifecycle.settings import Settings
from tasks.exclusive import exclusive
with exclusive(load_project(Path(sys.argv[1])), Settings(home=Path(sys.argv[2]))):
    print("held", flush=True)
    time.sleep(60)
"""


@contextmanager
def held(project: Project, settings: Settings) -> Iterator["subprocess.Popen[str]"]:
    """Another process works on the project."""
    command = [sys.executable, "-c", HOLD, str(project.file), str(settings.home)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        assert process.stdout.readline() == "held\n"
        try:
            yield process
        finally:
            process.kill()


@pytest.fixture(autouse=True)
def without_server(monkeypatch: pytest.MonkeyPatch) -> None:
    if PREFECT_API_URL.value():
        monkeypatch.setattr("tasks.exclusive.PREFECT_API_URL.value", lambda: None)


def test_a_run_waits_for_another_and_says_so_and_a_dead_one_is_no_hindrance(
    make_project: Callable[..., Project], settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    project = make_project()
    with held(project, settings) as holder:
        killer = threading.Timer(2.0, holder.kill)
        killer.start()
        start = time.monotonic()
        with caplog.at_level(logging.INFO), exclusive(project, settings):
            waited = time.monotonic() - start
    assert 1.5 < waited < 20
    assert f"process {holder.pid}) works on this project" in caplog.text


def test_other_projects_and_environments_do_not_wait(
    make_project: Callable[..., Project], settings: Settings
) -> None:
    project = make_project()
    with held(project, settings):
        start = time.monotonic()
        other = project.model_copy(update={"name": "other"})
        staging = settings.model_copy(update={"env": "staging"})
        with exclusive(other, settings), exclusive(project, staging):
            pass
        assert time.monotonic() - start < 1


def test_a_flow_inside_a_flow_goes_on(
    make_project: Callable[..., Project], settings: Settings
) -> None:
    project = make_project()
    with exclusive(project, settings), exclusive(project, settings):
        pass


@pytest.mark.component
@pytest.mark.usefixtures("prefect_server")
def test_runs_on_two_machines_wait_at_the_server(
    make_project: Callable[..., Project], settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    name = limit_name(make_project(), settings)
    order: list[str] = []

    def first() -> None:
        with _alone_on_this_server(name):
            order.append("first begins")
            entered.set()
            time.sleep(2)
            order.append("first ends")

    entered = threading.Event()
    thread = threading.Thread(target=first)
    thread.start()
    assert entered.wait(60)
    with caplog.at_level(logging.INFO), _alone_on_this_server(name):
        order.append("second begins")
    thread.join()
    assert order == ["first begins", "first ends", "second begins"]
    assert "another machine works on this project" in caplog.text
    with _alone_on_this_server("lifecycle-dev-other"), get_client(sync_client=True) as client:
        limits = {limit.name: limit for limit in client.read_global_concurrency_limits()}
    assert limits[name].limit == 1
    assert limits[name].active_slots == 0
