"""The promotion flow: nobody answers, somebody approves in Prefect, and once more."""

import re
import time
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import FlowRunFilter
from prefect.flow_runs import resume_flow_run

import flows.promote
import tasks.promotion
from flows.promote import command, promote
from lifecycle.audit.model_trail import Trail, history
from lifecycle.errors import GateError
from lifecycle.project import Project
from lifecycle.records import Decision, Duel, Release, Trained
from lifecycle.release.registry import (
    CHALLENGER,
    CHAMPION,
    by_alias,
    delete_alias,
    set_alias,
    versions,
)
from lifecycle.settings import Settings
from tests.support.trained import Made, train_small

pytestmark = [pytest.mark.system, pytest.mark.usefixtures("prefect_server")]


@pytest.fixture
def environments(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`staging`, and beside it `prod`, which asks for an approval."""
    folder = tmp_path / "work" / "deployments"
    folder.mkdir(parents=True)
    (folder / "staging.env").write_text(f"LIFECYCLE_HOME={tmp_path / 'staging'}\n")
    (folder / "prod.env").write_text(
        f"LIFECYCLE_HOME={tmp_path / 'prod'}\nLIFECYCLE_PROMOTES_FROM=staging\n"
        "LIFECYCLE_APPROVAL=required\nLIFECYCLE_APPROVAL_HOURS=0.0006\n"
    )
    monkeypatch.chdir(folder.parent)
    for name in ("LIFECYCLE_ENV", "LIFECYCLE_HOME"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def made(environments: None, make_project: Callable[..., Project]) -> Made:
    """A champion in `staging`."""
    project = make_project(
        checks={"suites": []}, gate={"gain_over_baseline": -1.0, "require_checks": False}
    )
    made = train_small(project, Settings.load("staging"))
    trained = made.register()
    set_alias(trained.model, CHAMPION, made.settings)
    Trail(made.settings, "small", "anna").record("promote", trained.model)
    return made


def released(
    project: Project, settings: Settings, trained: Trained, duel: Duel, reason: str
) -> Release:
    """A release that serves nothing."""
    model = trained.model
    set_alias(model, CHAMPION, settings)
    Trail(settings, project.name, "ben").record("promote", model, duel.decision.reasons)
    delete_alias(model, CHALLENGER, settings)
    return Release(
        decision=Decision(gate="promotion", passed=True, reasons=duel.decision.reasons),
        challenger=model,
        champion=model,
        evaluation=duel.challenger_evaluation,
        champion_evaluation=None,
        endpoint=None,
    )


def approve(answer: dict[str, Any]) -> None:
    """Resume the paused promotion, as the page of Prefect does."""
    paused = FlowRunFilter.model_validate({"state": {"name": {"any_": ["Paused"]}}})
    with get_client(sync_client=True) as client:
        for _ in range(300):
            runs = client.read_flow_runs(flow_run_filter=paused)
            if runs and runs[0].name == "promote-small":
                break
            time.sleep(0.2)
    time.sleep(0.5)  # the form is saved after the state
    resume_flow_run(runs[0].id, run_input=answer)


def test_nobody_answers_then_somebody_approves_and_again_is_as_once(
    made: Made, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tasks.promotion, "POLL_S", 0.2)
    monkeypatch.setattr(flows.promote, "roll_out", released)
    monkeypatch.setattr(flows.promote, "require_port", lambda settings: None)
    monkeypatch.setattr(flows.promote, "ray_cluster", lambda settings: nullcontext())
    prod, staging = Settings.load("prod"), made.settings

    with pytest.raises(GateError, match=r"staging v1 .* Nobody answered within 2\.16 s, which"):
        promote(made.project, env="prod")
    assert versions("small", prod) == {}
    assert [line.action for line in history(prod, "small")] == ["decline"]
    assert [line.action for line in history(staging, "small")] == ["promote", "decline"]

    monkeypatch.setenv("LIFECYCLE_APPROVAL_HOURS", "1")
    said_yes = {"approved": True, "who": "Eva Berg", "reason": "better in the north"}
    thread = Thread(target=approve, args=(said_yes,))
    thread.start()
    promoted = promote(made.project, env="prod")
    thread.join()
    assert promoted.model is not None
    assert promoted.model.digest == made.bundle.digest
    assert promoted.approval is not None
    assert promoted.approval.who == "Eva Berg"
    assert by_alias("small", CHAMPION, prod) == promoted.champion == promoted.model
    lines = history(prod, "small")[1:]
    assert [line.action for line in lines] == ["approve", "import", "promote"]
    assert (lines[0].who, lines[0].reasons[0]) == ("Eva Berg", "better in the north")
    assert re.fullmatch(r"Answered in .*, flow run promote-small\.", lines[0].reasons[1])
    assert "approved by: Eva Berg, better in the north" in lines[1].reasons
    exported = history(staging, "small")[-1]
    assert exported.reasons == (
        "prod",
        "As v1, champion there",
        "Approved by Eva Berg: better in the north",
    )

    again = promote(made.project, env="prod")
    assert again.model == promoted.model
    assert [line.action for line in history(prod, "small")[1:]] == [line.action for line in lines]
    assert history(staging, "small")[-1] == exported
    assert by_alias("small", CHALLENGER, prod) is None


def test_a_script_says_at_once_what_it_lacks(
    environments: None,
    make_project: Callable[..., Project],
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr("tasks.promotion.PREFECT_API_URL.value", lambda: None)
    file = str(make_project().file)
    for options, message in (
        (["--to", "prod"], "run again with --approved-by NAME --because TEXT"),
        (["--to", "prod", "--approved-by", "Eva"], "--because TEXT belong together"),
        (["--to", "prod", "--from", "prod"], "is the environment to promote to, too"),
        (["--to", "staging"], "set LIFECYCLE_PROMOTES_FROM in deployments/staging.env"),
    ):
        assert command.run([file, *options]) == 2
        assert message in capfd.readouterr().err
