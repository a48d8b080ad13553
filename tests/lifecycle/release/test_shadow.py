"""Shadow: nobody gets its answers; alike it goes straight, unlike it is sent back."""

import pytest

from lifecycle.quality.canary_gate import Agreement
from lifecycle.records import ModelVersion
from lifecycle.release.policies import roll_out
from lifecycle.release.registry import CHAMPION, by_alias
from lifecycle.release.rollout import Sight
from lifecycle.settings import Settings
from tests.support.scripted import FakeLane, Times, handover, observed, trail

pytestmark = pytest.mark.component

Three = tuple[ModelVersion, ModelVersion, ModelVersion]


def test_compared_then_straight(three: Three, settings: Settings) -> None:
    one, two, _ = three
    lane, times, told = FakeLane(one, settings), Times(), []

    def watch(since: float) -> Sight:
        assert since == 1000
        return Sight(observed(1), observed(2), None, Agreement(200, 0.01, 0.02))

    outcome = roll_out(
        handover(lane, two, one, times=times, watch=watch, told=told, policy="shadow")
    )
    assert outcome.decision.passed
    assert lane.calls == [
        "rehearse v2",
        "straight 0",
        "start v2",
        "shadow 0",
        "deploy v2",
        "stop",
    ]
    assert times.now == 1003
    assert "2.00% other decisions" in told[0]
    assert any("2.00% other decisions" in reason for reason in outcome.decision.reasons)
    assert by_alias("small", CHAMPION, settings) == two
    assert trail(settings) == ["shadow v2", "deploy v2", "promote v1", "promote v2"]


def test_other_answers_send_it_back(three: Three, settings: Settings) -> None:
    one, two, _ = three
    lane = FakeLane(one, settings)

    def watch(since: float) -> Sight:
        return Sight(observed(1), observed(2, predictions=[0.99] * 200), None, None)

    outcome = roll_out(handover(lane, two, one, watch=watch, policy="shadow"))
    assert outcome.endpoint is None
    assert outcome.decision.gate == "shadow"
    assert any("Other predictions" in reason for reason in outcome.decision.reasons)
    assert lane.calls[-2:] == ["straight 0", "stop"]
    assert by_alias("small", CHAMPION, settings) == one
    assert trail(settings) == ["shadow v2", "reject v2"]
