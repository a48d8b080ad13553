"""The rollout's gate: every condition for itself, what few answers may say, words with numbers."""

import numpy as np
import pytest

from lifecycle.profiling.compare import (
    cramers_v,
    cramers_v_by_chance,
    kolmogorov_smirnov,
    kolmogorov_smirnov_by_chance,
)
from lifecycle.project import RolloutSpec
from lifecycle.quality.canary_gate import Agreement, Check, Labelled, decide_canary
from lifecycle.records import Estimate, Observed


def seen(
    version: int,
    requests: int = 1000,
    errors: int = 0,
    p50: float = 0.002,
    p99: float = 0.008,
    predictions: tuple[float | str, ...] | None = None,
) -> Observed:
    uniform = tuple((i + 0.5) / requests for i in range(requests))
    return Observed(
        version=version,
        requests=requests,
        errors=errors,
        p50_seconds=p50,
        p99_seconds=p99,
        predictions=uniform if predictions is None else predictions,
        ids=(),
    )


def check(champion: Observed, candidate: Observed, **spec: object) -> Check:
    return decide_canary(champion, candidate, RolloutSpec.model_validate(spec))


def reason(found: Check, start: str) -> str:
    return next(words for words in found.reasons if words.startswith(start))


def test_alike_passes_and_says_all_numbers() -> None:
    found = check(seen(1), seen(2, 300))
    assert found.outcome == "pass"
    assert "v2 was asked 300 times" in reason(found, "Enough answers")
    assert "0 of 300 requests failed (0.00%)" in reason(found, "Errors within")
    assert "99th percentile 8 ms against 8 ms of v1" in reason(found, "Latency within")
    assert "Kolmogorov-Smirnov distance" in reason(found, "Like predictions")
    assert reason(found, "Quality: no labels")
    decision = found.decision("canary")
    assert (decision.gate, decision.passed, decision.reasons) == ("canary", True, found.reasons)


def test_too_few_answers_wait_and_waiting_is_not_passing() -> None:
    found = check(seen(1), seen(2, 19), min_requests=20)
    assert found.outcome == "wait"
    assert not found.decision("canary").passed
    assert check(seen(1), seen(2, 20), min_requests=20).outcome == "pass"
    assert check(seen(1, 0), seen(2, 0)).outcome == "wait"


@pytest.mark.parametrize(
    ("champion", "candidate", "outcome"),
    [
        ((1000, 0), (1000, 10), "pass"),  # 1 % is what may fail
        ((1000, 0), (1000, 11), "fail"),
        ((1000, 500), (1000, 505), "pass"),  # beyond the champion's own
        ((1000, 500), (1000, 520), "fail"),
        ((1000, 0), (5, 1), "wait"),  # one in five may be chance at 1 %: P = 0.049
        ((1000, 0), (5, 2), "fail"),  # two may not: P = 0.00098
        ((1000, 0), (2, 2), "fail"),
        ((0, 0), (100, 50), "fail"),  # without a champion's answers 0 % is what it does
    ],
)
def test_errors(champion: tuple[int, int], candidate: tuple[int, int], outcome: str) -> None:
    assert check(seen(1, *champion), seen(2, *candidate)).outcome == outcome


def test_latency_by_ratio_with_a_floor() -> None:
    assert check(seen(1, p99=0.008), seen(2, p99=0.0159)).outcome == "pass"
    slow = check(seen(1, p99=0.008), seen(2, p99=0.0161))
    assert slow.outcome == "fail"
    assert "16.1 ms against 8 ms of v1" in reason(slow, "Too slow")
    assert "allow 16 ms" in reason(slow, "Too slow")
    assert check(seen(1, p99=0.001), seen(2, p99=0.0099)).outcome == "pass", "under 10 ms"
    assert check(seen(1, p99=0.001), seen(2, p99=0.0101)).outcome == "fail"


def test_latency_of_few_answers_is_their_median() -> None:
    """The 99th percentile of 50 answers is the slowest, which may be any pause of the machine."""
    assert check(seen(1), seen(2, 50, p99=0.5)).outcome == "pass"
    slow = check(seen(1), seen(2, 50, p50=0.05))
    assert slow.outcome == "fail"
    assert "median" in reason(slow, "Too slow")
    assert check(seen(1), seen(2, 10, p50=0.05)).outcome == "wait"
    assert check(seen(1), seen(2, 100, p99=0.5)).outcome == "fail"


def test_predictions_shifted() -> None:
    shifted = tuple(min((i + 0.5) / 1000 + 0.3, 1.0) for i in range(1000))
    found = check(seen(1), seen(2, predictions=shifted))
    assert found.outcome == "fail"
    assert "0.3" in reason(found, "Other predictions")
    assert check(seen(1), seen(2, predictions=shifted), max_prediction_drift=0.31).outcome == "pass"


def test_few_predictions_may_differ_by_chance() -> None:
    """The same distance, 0.4, of 10 answers says nothing and of 200 all."""
    apart = tuple(0.4 + 0.6 * i / 10 for i in range(10))
    few = check(seen(1), seen(2, 10, predictions=apart), min_requests=10)
    assert few.outcome == "pass"
    assert "what chance makes of 10 and 1,000 answers" in reason(few, "Like predictions")
    many = tuple(0.4 + 0.6 * i / 200 for i in range(200))
    assert check(seen(1), seen(2, 200, predictions=many)).outcome == "fail"


def test_chance_fails_one_look_in_a_thousand_at_most() -> None:
    """Both bounds hold for samples of one distribution; and they are no looser than need be."""
    random = np.random.default_rng(3)
    distances, distances_v = [], []
    for _ in range(4000):
        a, b = random.random(400), random.random(40)
        distances.append(kolmogorov_smirnov(a, b))
        counts = [np.bincount((x * 3).astype(int), minlength=3) / len(x) for x in (a, b)]
        distances_v.append(cramers_v(*counts))
    for found, bound in (
        (distances, lambda alpha: kolmogorov_smirnov_by_chance(400, 40, alpha)),
        (distances_v, lambda alpha: cramers_v_by_chance(400, 40, 3, alpha)),
    ):
        assert np.mean(np.array(found) > bound(1e-3)) < 3e-3
        assert 0.5e-1 < np.mean(np.array(found) > bound(1e-1)) < 1.3e-1


def test_classes_are_compared_by_their_shares() -> None:
    champion = seen(1, predictions=("a", "b", "c", "a") * 250)
    spec = RolloutSpec()
    alike = seen(2, 300, predictions=("a", "c", "b", "a") * 75)
    assert decide_canary(champion, alike, spec, classes=True).outcome == "pass"
    other = seen(2, 300, predictions=("a",) * 280 + ("d",) * 20)
    found = decide_canary(champion, other, spec, classes=True)
    assert found.outcome == "fail"
    assert "Cramér's V" in reason(found, "Other predictions")
    one = seen(1, predictions=(7,) * 100)
    assert decide_canary(one, seen(2, predictions=(7,) * 50), spec, classes=True).outcome == "pass"


def labelled(ours: float, theirs: float, half: float, metric: str = "roc_auc") -> Labelled:
    def estimate(value: float) -> Estimate:
        return Estimate(value=value, low=value - half, high=value + half)

    return Labelled(metric, estimate(theirs), estimate(ours), (400, 300))


@pytest.mark.parametrize(
    ("values", "outcome", "start"),
    [
        (labelled(0.80, 0.82, 0.01), "pass", "Quality kept"),
        (labelled(0.70, 0.82, 0.01), "fail", "Quality lost"),
        (labelled(0.75, 0.82, 0.05), "pass", "Quality perhaps lower"),
        (labelled(0.50, 0.40, 0.01, "log_loss"), "fail", "Quality lost"),
        (labelled(20.8, 20.0, 0.01, "rmse"), "pass", "Quality kept"),  # 5 % of its own size
        (labelled(21.2, 20.0, 0.01, "rmse"), "fail", "Quality lost"),
        (labelled(0.40, 0.50, 0.01, "log_loss"), "pass", "Quality kept"),
        (labelled(float("nan"), 0.82, 0.01), "fail", "Quality lost"),
    ],
)
def test_quality_where_labels_have_come(values: Labelled, outcome: str, start: str) -> None:
    found = decide_canary(seen(1), seen(2), RolloutSpec(), labelled=values)
    assert found.outcome == outcome
    assert "300 labelled answers" in reason(found, start)


def test_a_loss_in_the_metrics_own_units() -> None:
    spec = RolloutSpec(max_quality_loss=3)
    worse = labelled(22.5, 20.0, 0.01, "rmse")
    assert decide_canary(seen(1), seen(2), spec, labelled=worse).outcome == "pass"
    worse = labelled(23.5, 20.0, 0.01, "rmse")
    assert decide_canary(seen(1), seen(2), spec, labelled=worse).outcome == "fail"


def test_a_shadow_tells_how_far_the_same_requests_were_answered_alike() -> None:
    spec = RolloutSpec()
    found = decide_canary(seen(1), seen(2), spec, agreement=Agreement(120, 0.0125, 0.05))
    assert found.outcome == "pass"
    assert "120 answers side by side, 5.00% other decisions" in found.reasons[-1]
    assert "difference 0.0125" in found.reasons[-1]


def test_a_shadow_waits_for_requests_that_both_have_answered() -> None:
    """The logs of the two are written at different moments."""
    apart = seen(2, predictions=(0.9,) * 1000)
    found = decide_canary(seen(1), apart, RolloutSpec(), agreement=Agreement(0, 0.0, None))
    assert found.outcome == "wait"
    assert found.reasons[-1] == "Same requests: none was answered by both so far."
    found = decide_canary(seen(1), apart, RolloutSpec(), agreement=Agreement(9, 0.4, None))
    assert found.outcome == "fail"


def test_one_failure_is_enough() -> None:
    found = check(seen(1), seen(2, 5, errors=5))
    assert found.outcome == "fail", "although there are too few answers"
