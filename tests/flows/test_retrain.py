"""Which way a retraining that nobody watches takes: stages are stand-ins, guards are real."""

from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from flows.retrain import retrain
from lifecycle.audit.model_trail import Trail
from lifecycle.lake.table import table_uri
from lifecycle.lake.write import write_version
from lifecycle.monitoring.retraining import read_attempts
from lifecycle.project import Project
from lifecycle.records import Decision, RetrainingRequest, Window
from lifecycle.settings import Settings
from tests.lifecycle.monitoring.test_monitor import MODEL
from tests.support.small import small_frame

FELL = RetrainingRequest(version=1, triggers=("quality",), reasons=("auc is 0.2 worse.",))
QUIET = Decision(gate="retraining", passed=True, reasons=("Nothing to do.",))


class Stages:
    """Stand-ins of the stages: what they are called with, and what they find."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.calls: list[str] = []
        self.passes = True
        self.fails = False
        self.alarms: tuple[Any, ...] = ()
        self.events: list[str] = []
        self.version = 1
        self.learned: int | None = None
        holdout = write_version(small_frame(90), table_uri(settings, "small", "holdout"), note={})
        self.split = SimpleNamespace(holdout=holdout)

    def current_champion(self, *_: Any) -> Any:
        model = MODEL.model_copy(update={"version": self.version})
        return SimpleNamespace(model=model, split=self.split)

    def monitor(self, *_: Any) -> Any:
        self.calls.append("monitor")
        drift = [SimpleNamespace(window=Window(first=7, last=7))]
        return SimpleNamespace(decision=QUIET, drift=drift, alarms=self.alarms, report="page.html")

    def train(self, *_: Any, **__: Any) -> str:
        self.calls.append("train")
        if self.fails:
            raise OSError("the disk is full")
        return "trained"

    def release(
        self, *_: Any, rollback: bool = False, reason: str = "", unattended: bool = False
    ) -> Any:
        self.calls.append("rollback" if rollback else "release")
        self.unattended = unattended
        self.reason = reason
        decision = Decision(gate="promotion", passed=self.passes, reasons=("as measured",))
        learned = self.learned or self.version + 1
        challenger = SimpleNamespace(version=self.version if rollback else learned)
        return SimpleNamespace(decision=decision, challenger=challenger)


@pytest.fixture
def stages(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Iterator[Stages]:
    monkeypatch.setenv("LIFECYCLE_HOME", str(settings.home))
    stages = Stages(settings)
    for name in ("monitor", "train", "release", "current_champion"):
        monkeypatch.setattr(f"flows.retrain.{name}", getattr(stages, name))
    monkeypatch.setattr("flows.retrain.prepare", lambda *_: "prepared")
    monkeypatch.setattr("flows.retrain.window_through", lambda *_: Window(last=7))
    monkeypatch.setattr("flows.retrain.choose_window", lambda *_: ("prepared", "From all rows."))
    monkeypatch.setattr(
        "tasks.retraining.send_event", lambda event, *_: stages.events.append(str(event))
    )
    return stages


def run(project: Project, **changes: Any) -> Any:
    return retrain.fn(**({"project": project, "request": FELL, "unattended": True} | changes))


def outcomes(stages: Stages) -> list[str]:
    return [attempt.outcome for attempt in read_attempts(stages.settings, "small")]


Make = Callable[..., Project]


def test_a_request_is_carried_out_once_and_the_next_one_waits(
    make_project: Make, stages: Stages
) -> None:
    project = make_project(time={"column": "visits"})
    assert run(project).decision.passed
    assert stages.calls == ["monitor", "train", "release"]
    assert stages.unattended
    (attempt,) = read_attempts(stages.settings, "small")
    assert (attempt.outcome, attempt.version, attempt.triggers) == ("released", 2, ("quality",))
    assert attempt.reasons == ("auc is 0.2 worse.", "From all rows.", "as measured")
    assert run(project) is None, "too soon"
    assert len(stages.calls) == 3, "and not even monitored"


def test_useless_tries_stop_it_until_a_person_forces_one(
    make_project: Make, stages: Stages
) -> None:
    project = make_project(retraining={"cooldown": "0 minutes", "give_up_after": 2})
    stages.passes = False
    assert not run(project).decision.passed, "kept as a finding"
    stages.fails = True
    with pytest.raises(OSError, match="full"):
        run(project)
    assert outcomes(stages) == ["finding", "failed"]
    assert run(project) is None
    assert stages.events == ["lifecycle.retraining.stopped"], "a person is called"
    stages.passes, stages.fails = True, False
    assert run(project, unattended=False, request=None, force=True).decision.passed
    assert not stages.unattended
    assert run(project)
    assert outcomes(stages) == ["finding", "failed", "released", "released"]


def test_a_model_that_is_the_champion_again_is_no_release(
    make_project: Make, stages: Stages
) -> None:
    stages.learned = 1
    run(make_project())
    assert outcomes(stages) == ["finding"]


def test_nothing_is_learned_from_broken_data(make_project: Make, stages: Stages) -> None:
    text = "broken data: unit changed in age"
    stages.alarms = (SimpleNamespace(window=Window(first=7, last=7), broken=True, text=text),)
    assert run(make_project()) is None
    assert (stages.calls, outcomes(stages)) == (["monitor"], [])
    assert stages.events == ["lifecycle.retraining.stopped"]


def test_a_request_about_a_former_champion_is_none(make_project: Make, stages: Stages) -> None:
    stages.version = 2
    assert run(make_project()) is None
    assert stages.calls == []


def test_without_a_request_monitoring_decides(make_project: Make, stages: Stages) -> None:
    assert run(make_project(), request=None) is None
    assert stages.calls == ["monitor"]
    assert run(make_project(retraining={"every": "0 minutes"}), request=None)
    assert stages.calls[1:] == ["monitor", "train", "release"]
    (attempt,) = read_attempts(stages.settings, "small")
    assert attempt.triggers == ("schedule",)


def test_quality_that_falls_after_a_release_takes_the_version_before(
    make_project: Make, stages: Stages
) -> None:
    project = make_project()
    trail = Trail(stages.settings, "small", "the machine")
    trail.record("promote", MODEL, ["first"])
    run(project)
    stages.version = 2
    trail.record("promote", MODEL.model_copy(update={"version": 2}), ["better"])
    stages.calls.clear()
    assert run(project, request=FELL.model_copy(update={"version": 2}))
    assert stages.calls == ["rollback"], "neither cooldown nor budget holds it back"
    assert "auc is 0.2 worse." in stages.reason
    assert outcomes(stages) == ["rolled back"]
