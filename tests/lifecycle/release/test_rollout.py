"""Straight: rehearsal first, alias last, champion back on failure, again is the same as once."""

from typing import Any

import pytest
from pydantic import ValidationError

from lifecycle.audit.model_trail import Trail
from lifecycle.errors import PortInUseError, ServingError, UnavailableError
from lifecycle.project import ServingSpec
from lifecycle.records import ModelVersion
from lifecycle.release.policies import roll_out
from lifecycle.release.registry import CHALLENGER, CHAMPION, by_alias
from lifecycle.release.rollout import straight
from lifecycle.settings import Settings
from tests.support.scripted import FakeLane, handover, trail

pytestmark = pytest.mark.component

Three = tuple[ModelVersion, ModelVersion, ModelVersion]


def test_the_alias_moves_after_the_deployment(three: Three, settings: Settings) -> None:
    one, two, _ = three
    lane = FakeLane(one, settings)
    outcome = straight(handover(lane, two, one))
    assert outcome.endpoint
    assert outcome.endpoint.model == by_alias("small", CHAMPION, settings) == two
    assert by_alias("small", CHALLENGER, settings) is None
    assert lane.champions == [1]
    assert lane.calls == ["rehearse v2", "deploy v2", "stop"]
    assert trail(settings) == ["deploy v2", "promote v1", "promote v2"]

    straight(handover(lane, two, two))
    assert by_alias("small", CHAMPION, settings) == two
    assert trail(settings).count("promote v2") == 1


def test_a_first_release_needs_no_rehearsal(three: Three, settings: Settings) -> None:
    lane = FakeLane(None, settings)
    straight(handover(lane, three[0], None))
    assert lane.calls == ["deploy v1", "stop"]
    assert trail(settings) == ["deploy v1", "promote v1"]


def test_what_crashes_at_load_never_touches_the_endpoint(three: Three, settings: Settings) -> None:
    one, two, _ = three
    lane = FakeLane(one, settings)
    lane.fails["rehearse v2"] = ServingError("it crashes its process")
    with pytest.raises(ServingError, match="takes its process down"):
        straight(handover(lane, two, one))
    assert lane.calls == []
    assert by_alias("small", CHAMPION, settings) == one
    assert by_alias("small", CHALLENGER, settings) == two
    assert trail(settings) == ["reject v2"]


def test_a_failure_puts_the_champion_back(three: Three, settings: Settings) -> None:
    one, two, _ = three
    lane = FakeLane(one, settings)
    lane.fails["deploy v2"] = ServingError("version 2 answers nonsense")
    with pytest.raises(ServingError, match="version 2 answers nonsense"):
        straight(handover(lane, two, one))
    assert lane.calls == ["rehearse v2", "deploy v1"]
    assert by_alias("small", CHAMPION, settings) == one
    assert by_alias("small", CHALLENGER, settings) == two
    assert trail(settings) == ["reject v2", "deploy v1"]


LATE = UnavailableError("the HTTP proxy was not ready\nTraceback (most recent call last):\n  …")


@pytest.mark.parametrize("call", ["rehearse v2", "deploy v2"])
def test_a_late_service_is_no_verdict(three: Three, settings: Settings, call: str) -> None:
    one, two, _ = three
    lane = FakeLane(one, settings)
    lane.fails[call] = LATE
    with pytest.raises(UnavailableError):
        straight(handover(lane, two, one))
    line = Trail(settings, "small", "").changes()[0]
    assert (line.action, line.version) == ("not released", 2)
    assert line.reasons[0].endswith("the HTTP proxy was not ready")
    assert lane.served == one

    del lane.fails[call]
    straight(handover(lane, two, one))
    assert by_alias("small", CHAMPION, settings) == two
    assert "reject v2" not in trail(settings)


def test_where_nothing_was_served_nothing_is_put_back(three: Three, settings: Settings) -> None:
    one, two, _ = three
    lane = FakeLane(None, settings)
    lane.fails["deploy v2"] = PortInUseError("another release listens there")
    with pytest.raises(PortInUseError):
        straight(handover(lane, two, one))
    assert (lane.calls, trail(settings)) == ([], ["not released v2"])


def test_the_first_error_is_told_if_the_champion_fails_too(
    three: Three, settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    one, two, _ = three
    lane = FakeLane(one, settings)
    lane.fails |= {"deploy v1": ServingError("v1"), "deploy v2": ServingError("version 2")}
    with pytest.raises(ServingError, match="version 2"):
        straight(handover(lane, two, one))
    assert "could not be put back" in caplog.text


@pytest.mark.parametrize("policy", ["canary", "shadow"])
def test_every_policy_is_straight_where_nothing_is_served(
    three: Three, settings: Settings, policy: str
) -> None:
    one, two, _ = three
    told: list[str] = []
    lane = FakeLane(None, settings)
    outcome = roll_out(handover(lane, two, one, told=told, policy=policy))
    assert told == [f"{policy}: nothing is served yet, so it goes straight"]
    assert outcome.endpoint
    assert lane.calls == ["deploy v2", "stop"]
    roll_out(handover(lane, two, two, told=told, policy=policy))
    assert told[1:] == [f"{policy}: v2 is champion already, so it goes straight"]


def test_a_policy_that_compares_needs_the_log() -> None:
    spec: dict[str, Any] = {"log_predictions": False, "rollout": {"policy": "canary"}}
    with pytest.raises(ValidationError, match="log_predictions: true"):
        ServingSpec.model_validate(spec)
    ServingSpec.model_validate(spec | {"rollout": {}})
    ServingSpec.model_validate(spec | {"log_predictions": True})
