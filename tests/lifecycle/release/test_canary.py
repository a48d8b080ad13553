"""Canary: step by step, back at the first bad look, leases, kills at every point, by hand."""

from collections.abc import Callable
from typing import Any

import pytest

from lifecycle.audit.model_trail import Trail
from lifecycle.errors import BackendError, FeatureError, ServingError
from lifecycle.records import ModelVersion, Traffic
from lifecycle.release import policies, registry, rollout
from lifecycle.release.policies import roll_out
from lifecycle.release.registry import CHALLENGER, CHAMPION, by_alias
from lifecycle.release.rollout import Sight
from lifecycle.settings import Settings
from tests.support.scripted import (
    FakeLane,
    Killed,
    Times,
    handover,
    observed,
    trail,
)

pytestmark = pytest.mark.component

Three = tuple[ModelVersion, ModelVersion, ModelVersion]
STEPS = (0.1, 0.5, 1.0)


def run(lane: FakeLane, three: Three, **more: Any) -> rollout.RolloutOutcome:
    champion = by_alias("small", CHAMPION, lane.settings)
    return roll_out(
        handover(lane, three[1], champion, **{"policy": "canary", "steps": STEPS} | more)
    )


def test_every_step_then_the_challenger_takes_over(three: Three, settings: Settings) -> None:
    lane, times, told = FakeLane(three[0], settings), Times(), []
    started = times.now
    outcome = run(lane, three, times=times, told=told)
    assert outcome.decision.passed
    assert lane.calls == [
        "rehearse v2",
        "straight 0",
        "start v2",
        "canary 0.1",
        "canary 0.5",
        "canary 1",
        "deploy v2",
        "stop",
    ]
    assert times.now - started == pytest.approx(9), "three steps of 3 s"
    assert by_alias("small", CHAMPION, settings) == three[1]
    assert by_alias("small", CHALLENGER, settings) is None
    assert lane.champions == [1]
    assert (lane.served, lane.candidate, lane.traffic) == (three[1], None, Traffic())
    lines = Trail(settings, "small", "").changes()
    assert trail(settings) == [
        *["canary v2"] * 3,
        "deploy v2",
        "promote v1",
        "promote v2",
    ]
    assert lines[0].reasons == ("To 10 % of the entities.", "Better than champion v1.")
    assert lines[1].reasons[:2] == (
        "To 50 % of the entities.",
        "Held at 10 % of the entities for 3 s.",
    )
    assert any("Errors within bounds" in reason for reason in lines[-1].reasons)
    assert len(told) == 3


BAD: dict[str, Callable[[], Any]] = {
    "Too many errors": lambda: observed(2, 200, errors=40),
    "Too slow": lambda: observed(2, p99=0.2),
    "Other predictions": lambda: observed(2, predictions=[0.9] * 200),
}


@pytest.mark.parametrize("reason", BAD)
def test_the_first_bad_look_sends_it_back(three: Three, settings: Settings, reason: str) -> None:
    times = Times()
    lane = FakeLane(three[0], settings)
    bad_from = times.now + 4.5

    def watch(since: float) -> Sight:
        return Sight(observed(1), BAD[reason]() if times.now >= bad_from else observed(2))

    outcome = run(lane, three, times=times, watch=watch)
    assert times.now - bad_from <= 1.0, "the next look sees it"
    assert outcome.endpoint is None
    assert not outcome.decision.passed
    assert outcome.decision.gate == "canary"
    assert outcome.decision.reasons[0] == "Failed at 50 % of the entities after 2 s."
    assert any(said.startswith(reason) for said in outcome.decision.reasons)
    assert lane.calls[-2:] == ["straight 0", "stop"]
    assert (lane.served, lane.candidate) == (three[0], None)
    assert by_alias("small", CHAMPION, settings) == three[0]
    assert by_alias("small", CHALLENGER, settings) == three[1]
    last = Trail(settings, "small", "").changes()[-1]
    assert (last.action, last.version, last.reasons) == ("reject", 2, outcome.decision.reasons)


def test_a_step_waits_for_answers_and_not_for_ever(three: Three, settings: Settings) -> None:
    times, lane = Times(), FakeLane(three[0], settings)
    few = times.now + 8

    def slowly(since: float) -> Sight:
        return Sight(observed(1), observed(2, 100 if times.now >= few else 5))

    assert run(lane, three, times=times, watch=slowly, steps=(1.0,)).decision.passed
    assert times.now >= few

    registry.set_alias(three[0], CHAMPION, settings)
    times, lane = Times(), FakeLane(three[0], settings)

    def never(since: float) -> Sight:
        return Sight(observed(1), observed(2, 5))

    outcome = run(lane, three, times=times, watch=never, max_wait_seconds=30)
    assert not outcome.decision.passed
    assert outcome.decision.reasons[0].startswith("Too few answers at 10 %")
    assert times.now == pytest.approx(1030)


def test_the_lease_is_renewed_and_never_long(three: Three, settings: Settings) -> None:
    """Whoever is killed leaves a canary for two minutes at most, however long a step is."""
    times, lane = Times(), FakeLane(three[0], settings)
    ahead: list[float] = []

    def watch(since: float) -> Sight:
        ahead.append(lane.leases[-1] - times.now)
        return Sight(observed(1), observed(2))

    run(lane, three, times=times, watch=watch, bake_seconds=1000, steps=(0.5, 1.0))
    assert len(ahead) >= 2000
    assert max(ahead) <= 2 * policies.GRACE_SECONDS
    assert min(ahead) > 0, "it never runs out under a living release"


@pytest.mark.parametrize(
    ("error", "action"),
    [
        (BackendError("the lake is down"), "not released"),
        (KeyboardInterrupt(), "not released"),
        (ValueError("ours"), "not released"),
        (FeatureError("an own metric fails"), "reject"),
    ],
)
def test_a_look_that_fails_sends_it_back(
    three: Three, settings: Settings, error: BaseException, action: str
) -> None:
    lane = FakeLane(three[0], settings)

    def watch(since: float) -> Sight:
        raise error

    with pytest.raises(type(error)):
        run(lane, three, watch=watch)
    assert lane.calls[-2:] == ["straight 0", "stop"]
    assert trail(settings)[-1] == f"{action} v2"
    assert by_alias("small", CHAMPION, settings) == three[0]


def test_a_candidate_that_does_not_start_or_a_lane_that_fails(
    three: Three, settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    lane = FakeLane(three[0], settings)
    lane.fails["start v2"] = ServingError("no memory")
    with pytest.raises(ServingError, match="no memory"):
        run(lane, three)
    assert lane.calls[-1] == "stop"

    lane = FakeLane(three[0], settings)

    def watch(since: float) -> Sight:
        lane.fails["straight 0"] = ServingError("the replica does not follow")
        return Sight(observed(1), observed(2, errors=200))

    assert not run(lane, three, watch=watch).decision.passed
    assert lane.calls[-1] == "stop", "then at least nobody answers there"
    assert "does not follow" in caplog.text


KILLS = ["rehearse v2", "start v2", "canary 0.1", "canary 0.5", "canary 1", "deploy v2", "stop"]


@pytest.mark.parametrize("call", [*KILLS, "alias", "line", "challenger"])
@pytest.mark.parametrize("when", ["before", "after"])
def test_killed_anywhere_and_run_again_is_as_run_once(
    three: Three, settings: Settings, monkeypatch: pytest.MonkeyPatch, call: str, when: str
) -> None:
    """The process ends at a call, and nothing it would do at its end happens either."""
    lane = FakeLane(three[0], settings)
    dead = False

    def once(real: Callable[..., Any], hit: Callable[..., bool]) -> Callable[..., Any]:
        def act(*args: Any, **kwargs: Any) -> Any:
            nonlocal dead
            if dead:
                raise Killed
            if hit(*args):
                if when == "after":
                    real(*args, **kwargs)
                dead = True
                raise Killed
            return real(*args, **kwargs)

        return act

    with monkeypatch.context() as patch:
        for name in ("rehearse", "deploy", "start_candidate", "set_traffic", "stop_candidate"):
            real = getattr(lane, name)
            calls = {
                "rehearse": lambda m: f"rehearse v{m.version}",
                "deploy": lambda m: f"deploy v{m.version}",
                "start_candidate": lambda m: f"start v{m.version}",
                "set_traffic": lambda t: f"{t.policy} {t.share:g}",
                "stop_candidate": lambda: "stop",
            }[name]
            patch.setattr(lane, name, once(real, lambda *a, of=calls: of(*a) == call))
        patch.setattr(rollout, "set_alias", once(rollout.set_alias, lambda *a: call == "alias"))
        patch.setattr(
            rollout, "delete_alias", once(rollout.delete_alias, lambda *a: call == "challenger")
        )
        patch.setattr(
            Trail,
            "record",
            once(Trail.record, lambda *a: call == "line" and a[1:3] == ("promote", three[1])),
        )
        with pytest.raises(Killed):
            run(lane, three)
    assert dead
    assert lane.served in three[:2], "somebody answers"

    champion = by_alias("small", CHAMPION, settings)
    if (call == "challenger" and when == "after") or call == "stop":
        assert champion == three[1], "it is done but for the candidate's end"
        assert by_alias("small", CHALLENGER, settings) is None
    else:
        assert by_alias("small", CHALLENGER, settings) == three[1]
    assert run(lane, three).decision.passed
    assert by_alias("small", CHAMPION, settings) == three[1]
    assert by_alias("small", CHALLENGER, settings) is None
    assert (lane.served, lane.candidate, lane.traffic) == (three[1], None, Traffic())
    assert trail(settings).count("promote v2") == 1
    assert trail(settings).count("promote v1") == 1


def test_another_releases_leftovers_are_cleared_first(three: Three, settings: Settings) -> None:
    """v3 was served by a release that died before its alias, with a candidate beside it."""
    lane = FakeLane(three[2], settings)
    lane.candidate = three[2]
    run(lane, three)
    assert lane.calls[:4] == ["rehearse v2", "deploy v1", "straight 0", "start v2"]
    assert by_alias("small", CHAMPION, settings) == three[1]


def test_an_attempt_of_somebody_else_that_changed_nothing_does_not_end_it(
    three: Three, settings: Settings
) -> None:
    lane = FakeLane(three[0], settings)

    def watch(since: float) -> Sight:
        loser = Trail(settings, "small", "bert")
        loser.record("not released", three[1], (f"The port was in use at {since}.",))
        return Sight(observed(1), observed(2))

    assert run(lane, three, watch=watch).endpoint
    assert by_alias("small", CHAMPION, settings) == three[1]


def test_ended_by_hand_it_stops(three: Three, settings: Settings) -> None:
    lane = FakeLane(three[0], settings)
    looks = 0

    def watch(since: float) -> Sight:
        nonlocal looks
        looks += 1
        if looks == 4:
            Trail(settings, "small", "bert").record("reject", three[1], ("I saw complaints.",))
        return Sight(observed(1), observed(2))

    outcome = run(lane, three, watch=watch)
    assert looks == 4
    assert outcome.endpoint is None
    assert outcome.decision.reasons == ("Ended by bert: reject of v2.", "I saw complaints.")
    assert by_alias("small", CHAMPION, settings) == three[0]
    assert lane.traffic == Traffic()
    assert trail(settings).count("reject v2") == 1
