"""The life of a small project, stage by stage, each a run of its flow."""

import sys
import time
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from prefect import Task
from prefect.settings import PREFECT_FLOWS_HEARTBEAT_FREQUENCY, temporary_settings

import flows.release
import lifecycle.governance.retention
import tasks.rollout
from flows.erase import erase
from flows.monitor import monitor
from flows.prepare import prepare
from flows.release import release
from flows.retention import retention
from flows.score import score
from flows.train import train
from lifecycle.governance.requests import file_request
from lifecycle.project import Project
from lifecycle.project.loader import load_project
from lifecycle.records import Endpoint, ModelVersion
from lifecycle.settings import Settings
from tasks.exclusive import own_server
from tests.support.small import small_frame, write_project

PROJECT: dict[str, Any] = {
    "contract": {
        "max_rejected_share": 0.1,
        "retention": {"days": 1e-9},
        "columns": {
            "customer": {"type": "integer"},
            "age": {"type": "number", "nullable": True, "minimum": 0, "maximum": 120},
            "visits": {"type": "integer", "minimum": 0},
            "city": {"type": "category", "categories": ["Rome", "Oslo", "Lima"]},
            "bought": {"type": "integer", "minimum": 0, "maximum": 1},
        },
    },
    "checks": {"suites": []},
    "gate": {"gain_over_baseline": -1.0, "gain_over_champion": -1.0, "require_checks": False},
}
ROWS = (400, 480)
"""Rows of the source at first, and when new ones have arrived."""
ERASED = "1003"
INSTANT = "instant"
"""File with what retention takes for now: what is too old is the same when it runs again."""


class Lane:
    """An endpoint that serves at once: the flow's files, not Ray's, are looked at."""

    def __init__(self, project: Project, settings: Settings) -> None:
        self._served = settings.home.with_name("served")  # no part of the home

    def serving(self) -> ModelVersion | None:
        if not self._served.exists():
            return None
        return ModelVersion.model_validate_json(self._served.read_text())

    def rehearse(self, model: ModelVersion) -> None:
        """Nothing can fail."""

    def deploy(self, model: ModelVersion) -> Endpoint:
        scratch = self._served.with_suffix(".new")
        scratch.write_text(model.model_dump_json())
        scratch.rename(self._served)
        return Endpoint(
            url="http://none",
            application=model.name,
            model=model,
            smoke_rows=1,
            p50_milliseconds=1.0,
            p99_milliseconds=2.0,
            curl="",
        )

    def stop_candidate(self) -> None:
        """There is none: the small project goes straight."""


def write_source(folder: Path, rows: int) -> Project:
    """The project with so many rows, the last of them invalid."""
    frame = small_frame(rows)
    frame.loc[frame.index[-3:], "age"] = 200.0  # into quarantine
    return write_project(folder, frame, **PROJECT)


def hurry() -> None:
    """Take the pauses out of what is tried again; a full disk would wait for nothing."""
    for name, module in list(sys.modules.items()):
        for value in vars(module).values() if name.startswith("tasks.") else ():
            if isinstance(value, Task) and value.retries:
                value.retry_delay_seconds = 0


def replace_endpoint() -> None:
    """Release without Ray."""
    tasks.rollout.ServeLane = Lane  # type: ignore[misc,assignment]
    flows.release.ray_cluster = lambda settings: nullcontext()  # type: ignore[assignment]
    flows.release.require_port = lambda settings: None
    own_server.set(True)


FLOWS: dict[str, Callable[..., Any]] = {
    "prepare": prepare,
    "train": train,
    "release": release,
    "score": score,
    "monitor": monitor,
    "retention": retention,
    "erase": erase,
}


def before(stage: str, folder: Path) -> None:
    """What happens to the world before a stage."""
    if stage == "prepare":
        write_source(folder, ROWS[0])
    if stage == "prepare new rows":
        write_source(folder, ROWS[1])
    if stage == "retention":
        (folder / INSTANT).write_text(str(time.time()))
    if stage == "erase":
        project = load_project(folder / "project.yaml")
        file_request(project, Settings.load(None), [ERASED], "asked for", ())


def run(stage: str, folder: Path) -> None:
    """Run the flow of a stage, which its name begins with."""
    if stage == "retention":
        now = float((folder / INSTANT).read_text())
        lifecycle.governance.retention.time = SimpleNamespace(time=lambda: now)  # type: ignore[assignment]
    with temporary_settings({PREFECT_FLOWS_HEARTBEAT_FREQUENCY: None}):  # as scripts: 1 s a run
        FLOWS[stage.split()[0]](project=load_project(folder / "project.yaml"))
