"""Which run a flow, its tasks and the flows in it are, as `lifecycle` sees it."""

import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import current_thread
from typing import Any

import pytest
from prefect import tags, task
from prefect.runtime import flow_run, task_run

from lifecycle.environments import Environment
from lifecycle.project import Project
from lifecycle.project.loader import ProjectFile
from lifecycle.runtime import identity
from lifecycle.runtime.identity import code_digest
from lifecycle.runtime.run import current_run
from tasks import policies, runs
from tasks.runs import flow

pytestmark = [pytest.mark.component, pytest.mark.usefixtures("prefect_server")]


@task
def seen() -> tuple[str, str, str]:
    return current_run().id, current_run().name, current_thread().name


@flow(flow_run_name="inner-{project.name}")
def inner(project: ProjectFile, env: Environment | None = None) -> Any:
    return seen(), str(flow_run.id)


@flow(flow_run_name="outer-{project.name}")
def outer(project: ProjectFile, env: Environment | None = None, fail: bool = False) -> Any:
    """Says who it is."""
    if fail:
        raise ValueError("as asked")
    return seen(), seen.submit().result(), inner(project, env), seen(), str(flow_run.id)


@policies.task()
def tags_here() -> tuple[list[str], list[str]]:
    return list(flow_run.tags), list(task_run.tags)


@flow(flow_run_name="tagged-{project.name}")
def tagged(project: ProjectFile, env: Environment | None = None) -> Any:
    return tags_here()


def test_a_task_waits_for_no_slot_of_a_tag_of_its_flow(
    make_project: Callable[..., Project],
) -> None:
    with tags("ours"):
        of_flow, of_task = tagged(make_project())
    assert "ours" in of_flow
    assert of_task == []


def test_tasks_know_their_run_on_threads_too(make_project: Callable[..., Project]) -> None:
    called, submitted, (inside, inner_id), after, id = outer(make_project())
    assert called[:2] == submitted[:2] == after[:2] == (id, "outer-small")
    assert submitted[2] != called[2], "another thread"
    assert inside[:2] == (inner_id, "inner-small")
    assert current_run().id == "", "outside a flow there is none"


def test_it_stays_a_flow_like_any_other() -> None:
    assert outer.name == "outer"
    assert outer.description == "Says who it is."
    assert set(outer.parameters.properties) == {"project", "env", "fail"}
    assert outer.version != inner.with_options(version="other").version
    assert outer._entrypoint.endswith("test_runs:outer")


@flow(flow_run_name="patient-{project.name}", is_exclusive=True)
def patient(project: ProjectFile, env: Environment | None = None) -> str:
    return code_digest("model")


def test_what_it_makes_is_of_the_code_that_it_began_with(
    make_project: Callable[..., Project], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    copy = tmp_path / "lifecycle"
    shutil.copytree(identity.PACKAGE, copy, ignore=shutil.ignore_patterns("__pycache__"))

    @contextmanager
    def upgrade(*of: object) -> Iterator[None]:
        with (copy / "training" / "fit.py").open("a") as file:
            file.write("# the next version\n")
        yield

    monkeypatch.setattr(identity, "PACKAGE", copy)
    monkeypatch.setattr(runs, "exclusive", upgrade)
    try:
        code_digest.cache_clear()
        before = code_digest("model")
        code_digest.cache_clear()
        assert patient(make_project()) == before, "it was upgraded while it waited for its turn"
        code_digest.cache_clear()
        assert code_digest("model") != before, "a new process has the new code"
    finally:
        code_digest.cache_clear()
        identity.lock_digest.cache_clear()


def test_it_tells_how_it_ended(
    make_project: Callable[..., Project], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    file = tmp_path / "events.ndjson"
    monkeypatch.setenv("LIFECYCLE_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("LIFECYCLE_OPENLINEAGE", str(file))
    project = make_project()
    outer(project)
    with pytest.raises(ValueError, match="as asked"):
        outer(project, fail=True)
    events = [json.loads(line) for line in file.read_text().splitlines()]
    told = [(event["job"]["name"].rpartition(".")[2], event["eventType"]) for event in events]
    ended = [("inner", "START"), ("inner", "COMPLETE"), ("outer", "START"), ("outer", "COMPLETE")]
    assert told == [*ended, ("outer", "START"), ("outer", "FAIL")]
