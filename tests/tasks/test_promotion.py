"""How long a promotion may wait, and who may approve it."""

from collections.abc import Callable
from contextlib import nullcontext
from types import SimpleNamespace
from typing import Any
from uuid import uuid4

import pytest
from prefect.client.schemas.objects import FlowRun
from prefect.context import FlowRunContext

from lifecycle.errors import SettingsError
from lifecycle.project import Project
from lifecycle.records import Approval
from lifecycle.settings import Settings
from tasks.promotion import (
    ask_approval,
    longest_steps,
    require_approver,
    require_origin,
    spoken_time,
)

pytestmark = pytest.mark.unit


def test_the_worst_case_follows_from_the_settings(
    make_project: Callable[..., Project], settings: Settings
) -> None:
    plain = dict(longest_steps(make_project(checks={"suites": []}), settings))
    assert list(plain) == ["the other environment", "endpoint", "smoke test"]
    rollout = {"policy": "canary", "steps": [0.1, 1.0], "bake_seconds": 60, "max_wait_seconds": 90}
    project = make_project(serving={"rollout": rollout})
    asked = settings.model_copy(update={"approval": "required", "approval_hours": 2.0})
    steps = dict(longest_steps(project, asked))
    more = {"checks": 900, "approval": 7200, "canary": 180}
    assert steps == plain | more
    assert dict(longest_steps(project, asked, is_approved=True)) == plain | {
        "checks": 900,
        "canary": 180,
    }


@pytest.mark.parametrize(
    ("seconds", "text"), [(90, "90 s"), (2.16, "2.16 s"), (900, "15 min"), (16200, "4.5 h")]
)
def test_times_are_spoken(seconds: float, text: str) -> None:
    assert spoken_time(seconds) == text


@pytest.mark.parametrize(
    ("started", "is_refused"),
    [
        ({}, False),
        ({"created_by": {"type": "USER"}}, False),
        ({"auto_scheduled": True}, True),
        ({"created_by": {"type": "AUTOMATION"}}, True),
    ],
)
def test_a_pipeline_brings_its_approval_and_a_schedule_does_not(
    settings: Settings, started: dict[str, Any], is_refused: bool
) -> None:
    """`.ci/deliver prod WHO WHY` starts the deployment with both as parameters."""
    run = FlowRun.model_validate({"flow_id": uuid4(), **started})
    asked = settings.model_copy(update={"approval": "required"})
    refusal = pytest.raises(SettingsError, match="nobody approves a run that a schedule")
    with FlowRunContext.model_construct(flow_run=run), refusal if is_refused else nullcontext():
        require_approver(asked, "Kim", "it is better")


def test_the_trail_says_that_an_approval_was_brought(
    settings: Settings, make_project: Callable[..., Project], monkeypatch: pytest.MonkeyPatch
) -> None:
    lines: list[tuple[str, ...]] = []
    monkeypatch.setattr("tasks.promotion.trail_of", lambda *_: SimpleNamespace(changes=tuple))
    monkeypatch.setattr("tasks.promotion._record", lambda *words: lines.append(words[3:]))
    monkeypatch.setattr("tasks.promotion.who", lambda: "deployment promote, flow run promote-small")
    asked = settings.model_copy(update={"approval": "required"})
    offer: Any = SimpleNamespace(offer=SimpleNamespace(model=SimpleNamespace(digest="d")))
    given = Approval(who="Kim", reason="it is better")
    assert ask_approval(make_project(), asked, offer, given) == given
    brought = "Brought to deployment promote, flow run promote-small."
    assert lines == [("approve", "Kim", "it is better", brought)]


def test_where_nobody_can_be_asked_the_approval_is_an_option(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tasks.promotion.PREFECT_API_URL.value", lambda: None)
    asked = settings.model_copy(update={"approval": "required"})
    require_approver(settings, "", "")
    require_approver(asked, "Eva", "it is better")
    with pytest.raises(SettingsError, match="run again with --approved-by NAME --because TEXT"):
        require_approver(asked, "", "")
    with pytest.raises(SettingsError, match="belong together"):
        require_approver(asked, "Eva", " ")
    with pytest.raises(SettingsError, match=r"LIFECYCLE_PROMOTES_FROM in deployments/dev\.env"):
        require_origin(settings, None)
    assert require_origin(settings.model_copy(update={"promotes_from": "lab"}), None) == "lab"
