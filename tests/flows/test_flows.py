"""The flows on other projects: real data of other kinds, a closed gate, a taken port."""

import re
import socket
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest

from flows.end_to_end import command as end_to_end_command
from flows.end_to_end import end_to_end
from flows.monitor import monitor
from flows.monitor_live import monitor_live
from flows.release import command as release_command
from flows.release import release
from flows.retrain import retrain
from flows.score import score
from flows.train import train
from lifecycle.errors import GateError
from lifecycle.lake.logged_predictions import read_log
from lifecycle.monitoring.retraining import read_attempts
from lifecycle.project import Project
from lifecycle.project.loader import load_project
from lifecycle.records import RetrainingRequest, Trained
from lifecycle.release.registry import by_alias
from lifecycle.settings import Settings
from tasks.events import Event
from tests.support.events import sent_events
from tests.support.prefect_server import wait_for
from tests.support.small import SMALL, small_frame

ROOT = Path(__file__).parents[2]

NO_SUITES: dict[str, Any] = {"suites": []}
"""Checks take longer than all else, and are tried by the tests that are about them."""

pytestmark = pytest.mark.usefixtures("prefect_server", "ray_cluster")


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, serve_port: int) -> Settings:
    """Settings as the flows will load them: from the environment."""
    monkeypatch.setenv("LIFECYCLE_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("LIFECYCLE_SERVE_PORT", str(serve_port))
    return Settings.load()


def example(name: str, source: Path) -> Project:
    project = load_project(ROOT / "examples" / name / "project.yaml").with_source(source)
    tuning = project.tuning.model_copy(update={"trials": 3})
    checks = project.checks.model_copy(update={"sample_rows": 1000})
    return project.model_copy(update={"tuning": tuning, "checks": checks})


def in_words(trained: Trained) -> str:
    return "\n".join(trained.decision.reasons)


@pytest.mark.system
def test_telco_churn_trains(settings: Settings, shared_data: Path) -> None:
    """Binary with text labels and many categories."""
    trained = train(example("telco_churn", shared_data / "telco_churn.csv"))
    assert trained.decision.passed, in_words(trained)
    assert trained.evaluation.metrics["roc_auc"].low > 0.8
    assert trained.baseline.metrics["roc_auc"].value == 0.5
    assert trained.model == by_alias("telco_churn", "challenger", settings)


@pytest.mark.system
def test_bike_sharing_trains(settings: Settings, shared_data: Path) -> None:
    """Counts over time: the holdout is the newest part, never a random one."""
    trained = train(example("bike_sharing", shared_data / "bike_sharing_hour.csv"))
    assert trained.decision.passed, in_words(trained)
    rmse, trivial = trained.evaluation.metrics["rmse"], trained.baseline.metrics["rmse"]
    assert rmse.high < trivial.low
    assert trained.checks.not_run, "what deepchecks cannot run must be listed"


@pytest.mark.system
def test_the_stages_one_by_one(settings: Settings, make_project: Callable[..., Project]) -> None:
    """Each flow finds what it needs in the stores; a worse model does not replace the champion."""
    began = datetime.now(UTC)
    lax: dict[str, Any] = {"gain_over_baseline": -1.0, "require_checks": False}
    # 94 holdout rows: two samples of one distribution are often more than 0.1 apart
    calm = {"drift": {"prediction_threshold": 0.3, "numeric_threshold": 0.3}}
    project = make_project(gate=lax, checks=NO_SUITES, monitoring=calm)
    trained = train(project)
    released = release(project)
    assert released.champion == trained.model
    assert released.endpoint
    assert released.endpoint.smoke_rows == 25
    assert by_alias("small", "champion", settings) == trained.model
    assert train(project).cached, "the same identity is not trained again"

    scored = score(project)
    assert scored.model == trained.model
    assert scored.predictions.rows == 400
    assert monitor(project).decision.passed, "the same rows do not drift"
    assert retrain(project) is None
    live = {"live": "150 rows", "live_delay": "0 minutes"}
    watched = make_project(gate=lax, checks=NO_SUITES, monitoring=calm | live)
    check_live(watched, settings, released.endpoint.url)

    training = {"rounds": 1, "parameters": {"max_depth": 1}}
    worse = make_project(gate=lax, checks=NO_SUITES, monitoring=calm, training=training)
    challenger = train(worse)
    refused = release(worse, trained=challenger)
    assert not refused.decision.passed
    assert refused.endpoint is None
    assert refused.champion == trained.model == by_alias("small", "champion", settings)
    assert any("champion" in reason for reason in refused.decision.reasons)
    check_events(began, trained, challenger)


def check_live(project: Project, settings: Settings, url: str) -> None:
    """Answers of the endpoint become a window, its labels come, and retraining runs by itself."""
    began = datetime.now(UTC)
    frame = small_frame(225).query("city != 'Rome'").reset_index(drop=True)
    records = frame[["age", "visits", "city"]].to_dict("records")
    answer = httpx.post(f"{url}/predict", json={"records": records}).json()
    wait_for(lambda: len(read_log(settings, "small", began.timestamp())) == 150, 20, "the log")
    (found,) = monitor_live(project)
    assert {column.column for column in found.drift[0].drifted} == {"city"}
    assert found.quality == (None,)

    labels = [
        {"prediction_id": f"{answer['id']}-{at}", "bought": int(1 - value)}
        for at, value in enumerate(frame["bought"])
    ]
    assert httpx.post(f"{url}/labels", json={"labels": labels}).status_code == 200
    (found,) = monitor_live(project)
    assert found.quality[0]
    assert {alarm.cause for alarm in found.alarms} == {"covariate shift", "quality"}
    assert "lifecycle_live_alarms" in httpx.get(f"{url}/metrics").text
    events = sent_events("dev", "small", began, Event.RETRAINING_ASKED)
    asked = next(each for each in events if each.event == Event.RETRAINING_ASKED).payload
    request = RetrainingRequest(
        version=asked["model"]["version"],
        triggers=asked["numbers"]["triggers"],
        reasons=asked["reasons"],
    )
    assert request.triggers == ("quality",), "drift alone is no reason here"
    kept = retrain(project, request=request, unattended=True)
    assert kept, "the same rows make the same model"
    (attempt,) = read_attempts(settings, "small")
    assert (attempt.outcome, attempt.triggers) == ("finding", request.triggers)
    assert retrain(project, request=request, unattended=True) is None, "too soon"


def check_events(began: datetime, champion: Trained, challenger: Trained) -> None:
    """Each stage has reported what it did, and only that."""
    events = sent_events("dev", "small", began, Event.MODEL_REJECTED)
    names = [event.event.removeprefix("lifecycle.") for event in events]
    assert names[:3] == ["data.ingested", "model.registered", "model.released"]
    assert names[-2:] == ["model.registered", "model.rejected"]
    assert {"scoring.finished", "monitoring.finished"} < set(names)
    released, rejected = events[2], events[-1]
    assert released.payload["model"]["digest"] == champion.model.digest
    assert rejected.resource["lifecycle.model-version"] == str(challenger.model.version)
    assert any("champion" in reason for reason in rejected.payload["reasons"])
    assert "flow-run" in {related.role for related in rejected.related}


@pytest.mark.system
def test_checks_that_could_not_run_are_run_by_the_next_training(
    settings: Settings, make_project: Callable[..., Project], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not from the cache, and not with the model of the registry; the model stays the same."""
    project = make_project(gate={"gain_over_baseline": -1.0})
    with monkeypatch.context() as patch:
        patch.setenv("LIFECYCLE_CHECKS_PYTHON", str(settings.home / "nowhere"))
        unchecked = train(project)
    assert not unchecked.checks.ran
    assert not unchecked.decision.passed
    assert "No check ran (no interpreter for the checks at" in in_words(unchecked)
    checked = train(project)
    assert checked.checks.ran
    assert checked.model.digest == unchecked.model.digest
    assert train(project).model == checked.model


@pytest.mark.system
def test_a_changed_hook_is_compared_with_the_champion_as_it_was(
    settings: Settings, make_project: Callable[..., Project], tmp_path: Path
) -> None:
    lax: dict[str, Any] = {"gain_over_baseline": -1.0, "require_checks": False}
    hook = tmp_path / "features.py"
    hook.write_text("def build(inputs):\n    return inputs\n")
    project = make_project(gate=lax, checks=NO_SUITES, features="features:build")
    first = release(project, trained=train(project))
    hook.write_text("def build(inputs):\n    return inputs.assign(old=inputs['age'] > 60)\n")
    trained = train(project)
    assert trained.model != first.champion
    second = release(project, trained=trained)
    assert second.champion_evaluation
    assert second.champion_evaluation.metrics == first.evaluation.metrics, "same rows, same model"


@pytest.mark.system
def test_a_blocked_first_model_ends_with_the_summary(
    settings: Settings, make_project: Callable[..., Project]
) -> None:
    frame = small_frame(600)
    frame = frame.assign(paid=frame["bought"] * 100.0 + frame["age"] / 100)
    contract = SMALL["contract"]
    columns = contract["columns"] | {"paid": {"type": "number"}}
    project = make_project(frame, contract=contract | {"columns": columns})
    with pytest.raises(GateError, match="the summary above says what blocked"):
        end_to_end(project)
    report = settings.folder("reports", "small") / "summary.html"
    text = report.read_text()
    assert "not passed: nothing is served" in text
    assert "leakage: [paid]" in text
    assert "Feature Label Correlation&#34;: why it is fine" in text
    assert re.search(r'href="[^"]*/evaluation\.html"', text), "the page of the blocked version"
    assert by_alias("small", "champion", settings) is None


def test_port_in_use(
    settings: Settings,
    make_project: Callable[..., Project],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
) -> None:
    make_project()
    monkeypatch.setattr("tasks.release.is_connected", lambda: False)  # other tests' Ray is here
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        monkeypatch.setenv("LIFECYCLE_SERVE_PORT", str(port))
        file = str(tmp_path / "project.yaml")
        assert end_to_end_command.run([file]) == 2  # before any work
        first = capfd.readouterr().err
        assert release_command.run([file, "--rollback"]) == 2
        for message in (first, capfd.readouterr().err):
            assert f"port {port} of 127.0.0.1 is in use" in message
            assert "LIFECYCLE_SERVE_PORT" in message
    assert by_alias("small", "champion", settings) is None


def test_a_first_model_behind_its_gate_ends_the_cycle(
    settings: Settings,
    make_project: Callable[..., Project],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
) -> None:
    make_project(gate={"floor": 0.999, "require_checks": False}, checks=NO_SUITES)
    assert end_to_end_command.run([str(tmp_path / "project.yaml")]) == 2
    out, err = capfd.readouterr()
    assert "gate.floor" in out
    assert "so nothing is served" in err
    assert "evaluation.html" in out, "the page to look at"


@pytest.mark.system
def test_seeds_tell_chance_and_belong_to_the_same_model(
    settings: Settings, make_project: Callable[..., Project]
) -> None:
    lax = {"gain_over_baseline": -1.0, "require_checks": False}
    parameters = {"max_depth": 3, "subsample": 0.5}
    training = {"rounds": 10, "parameters": parameters, "seed": 5}
    project = make_project(gate=lax, training=training, tuning={}, checks=NO_SUITES)
    one = train(project)
    assert one.noise is None
    several = train(project, seeds=3)
    assert several.noise
    assert list(several.noise.values) == [5, 6, 7]
    assert several.noise.values[5] == several.evaluation.metrics["roc_auc"].value
    assert several.noise.deviation > 0
    assert several.model == one.model, "other seeds say something of a model, and make no new one"
    again = train(project, seeds=3)
    assert again.cached
    assert again.noise == several.noise
