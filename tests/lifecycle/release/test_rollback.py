"""Back by hand: to the champion before, twice as far the second time, or out of a canary."""

from collections.abc import Callable
from typing import Any

import pytest

from lifecycle.audit.model_trail import Trail
from lifecycle.errors import RegistryError, ServingError
from lifecycle.records import ModelVersion
from lifecycle.release import rollback
from lifecycle.release.registry import CHAMPION, by_alias, set_alias
from lifecycle.release.rollback import RolledBack, roll_back
from lifecycle.release.rollout import straight
from lifecycle.settings import Settings
from tests.support.scripted import FakeLane, Killed, handover, trail

pytestmark = pytest.mark.component

Three = tuple[ModelVersion, ModelVersion, ModelVersion]


@pytest.fixture
def lane(three: Three, settings: Settings) -> FakeLane:
    """All three have been champion, one after the other."""
    lane, champion = FakeLane(None, settings), None
    for model in three:
        straight(handover(lane, model, champion))
        champion = model
    lane.calls.clear()
    return lane


def back(lane: FakeLane, three: Three, reason: str = "", registered: Any = None) -> RolledBack:
    champion = by_alias("small", CHAMPION, lane.settings)
    known = {model.version: model for model in three} if registered is None else registered
    return roll_back(champion, known, lane, Trail(lane.settings, "small", "tester"), reason)


def test_to_the_one_before_and_further(lane: FakeLane, three: Three, settings: Settings) -> None:
    rolled = back(lane, three, "complaints")
    assert (rolled.away, rolled.champion) == (three[2], three[1])
    assert rolled.endpoint
    assert lane.served == by_alias("small", CHAMPION, settings) == three[1]
    assert lane.champions[-1] == 3, "the alias moved after the deployment"
    last = Trail(settings, "small", "").changes()[-1]
    assert (last.action, last.version) == ("rollback", 2)
    assert last.reasons == ("Back from v3, by hand.", "complaints")
    assert back(lane, three).champion == three[0]
    with pytest.raises(RegistryError, match="no version was champion before v1"):
        back(lane, three)
    assert lane.served == by_alias("small", CHAMPION, settings) == three[0]


def test_after_another_release_it_is_the_one_before_that(
    lane: FakeLane, three: Three, settings: Settings
) -> None:
    back(lane, three)
    straight(handover(lane, three[0], three[1]))
    assert back(lane, three).champion == three[1]


def test_a_champion_by_hand_goes_back_to_the_last_of_the_trail(
    lane: FakeLane, three: Three, settings: Settings
) -> None:
    set_alias(three[0], CHAMPION, settings)
    assert back(lane, three).champion == three[2]


def test_refused_where_there_is_none(three: Three, settings: Settings) -> None:
    lane = FakeLane(three[0], settings)
    with pytest.raises(RegistryError, match="nothing to go back to"):
        back(lane, three)
    assert lane.calls == []
    with pytest.raises(RegistryError, match="no champion"):
        roll_back(None, {}, lane, Trail(settings, "small", "tester"))


def test_not_to_another_bundle(lane: FakeLane, three: Three) -> None:
    changed = three[1].model_copy(update={"digest": "X" * 64})
    with pytest.raises(RegistryError, match="another bundle"):
        back(lane, three, registered={2: changed})
    with pytest.raises(RegistryError, match="not registered any more"):
        back(lane, three, registered={1: three[0]})
    assert lane.calls == []


def test_if_the_former_one_fails_the_champion_stays(
    lane: FakeLane, three: Three, settings: Settings
) -> None:
    lane.fails["deploy v2"] = ServingError("it does not load")
    with pytest.raises(ServingError, match="does not load"):
        back(lane, three)
    assert lane.served == by_alias("small", CHAMPION, settings) == three[2]
    assert "rollback v2" not in trail(settings)


@pytest.mark.parametrize("point", ["deploy", "record", "alias"])
def test_killed_and_run_again_it_goes_to_the_same_version(
    lane: FakeLane,
    three: Three,
    settings: Settings,
    monkeypatch: pytest.MonkeyPatch,
    point: str,
) -> None:
    def after(real: Callable[..., Any]) -> Callable[..., Any]:
        def act(*args: Any, **kwargs: Any) -> Any:
            if point != "alias":
                real(*args, **kwargs)
            raise Killed

        return act

    with monkeypatch.context() as patch:
        if point == "deploy":
            patch.setattr(lane, "deploy", after(lane.deploy))
        elif point == "record":
            patch.setattr(Trail, "record", after(Trail.record))
        else:
            patch.setattr(rollback, "set_alias", after(set_alias))
        with pytest.raises(Killed):
            back(lane, three)
    assert back(lane, three).champion == three[1]
    assert by_alias("small", CHAMPION, settings) == lane.served == three[1]
    assert trail(settings).count("rollback v2") == 1


@pytest.mark.parametrize("action", ["canary", "shadow"])
def test_what_is_under_way_is_ended_and_the_champion_stays(
    three: Three, settings: Settings, action: Any
) -> None:
    lane = FakeLane(three[0], settings)
    lane.candidate = three[1]
    Trail(settings, "small", "release").record(action, three[1], ("To 10 %.",))
    rolled = back(lane, three, "complaints")
    assert (rolled.away, rolled.champion, rolled.endpoint) == (three[1], three[0], None)
    assert lane.calls == ["straight 0", "stop"]
    assert by_alias("small", CHAMPION, settings) == three[0]
    last = Trail(settings, "small", "").changes()[-1]
    assert (last.action, last.version) == ("reject", 2)
    assert last.reasons == (f"{action} ended by hand.", "complaints")
