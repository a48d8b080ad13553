"""The gate of a rollout: what the candidate did beside the champion, against the project's limits.

It is asked about once a second, so it knows three answers: pass, wait (too few answers so far) and
fail. It fails as soon as the numbers leave no doubt, and otherwise when there are enough of them.
"""

import math
from collections import Counter
from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np
import scipy  # scipy loads `stats`, which takes a second, when it is used

from lifecycle.profiling.compare import DISTANCES, Comparison, compare_categories, compare_numbers
from lifecycle.project import Metric, RolloutSpec, allowed_loss, greater_is_better
from lifecycle.records import Decision, Estimate, Observed

ALPHA = 1e-3
"""How rarely chance alone may fail a look at few answers."""
TAIL = 100
"""Answers from which the 99th percentile is more than the slowest one; below, medians count."""

Outcome = Literal["pass", "wait", "fail"]
Verdict = tuple[Outcome, str]


class Labelled(NamedTuple):
    """The gate's metric on those answers whose labels have come."""

    metric: Metric
    champion: Estimate
    candidate: Estimate
    rows: tuple[int, int]
    """Labelled answers of champion and candidate."""


class Agreement(NamedTuple):
    """Both versions' answers to the same requests."""

    rows: int
    difference: float
    """Mean absolute difference of the predictions; multiclass: 0, as classes have none."""
    changed: float | None
    """Share of other decisions: another class, or the other side of the threshold; None for
    numbers."""


class Check(NamedTuple):
    """Result of one look at the canary."""

    outcome: Outcome
    reasons: tuple[str, ...]

    def decision(self, gate: str) -> Decision:
        """Return the result as a gate's decision; to wait is not to pass."""
        return Decision(gate=gate, passed=self.outcome == "pass", reasons=self.reasons)


def decide_canary(
    champion: Observed,
    candidate: Observed,
    spec: RolloutSpec,
    *,
    classes: bool = False,
    labelled: Labelled | None = None,
    agreement: Agreement | None = None,
) -> Check:
    """Hold the candidate's errors, latency, predictions and quality against the champion's.

    Args:
        classes: whether predictions are classes; otherwise they are numbers.
        labelled: None where no labels have come.
        agreement: of a shadow; it is told, and its distribution is what decides, once there are
            requests that both have answered (the two logs are not written at the same moment).
    """
    verdicts = [
        _enough(candidate, spec),
        _errors(champion, candidate, spec),
        _latency(champion, candidate, spec),
        _quality(labelled, spec),
    ]
    if agreement is None or agreement.rows:
        verdicts.append(_predictions(champion, candidate, spec, classes))
    if agreement is not None:
        verdicts.append(_same_requests(agreement))
    outcomes = [outcome for outcome, _ in verdicts]
    overall: Outcome = "fail" if "fail" in outcomes else "wait" if "wait" in outcomes else "pass"
    return Check(overall, tuple(words for _, words in verdicts))


def _enough(candidate: Observed, spec: RolloutSpec) -> Verdict:
    rule = f"min_requests asks for {spec.min_requests}"
    words = f"v{candidate.version} was asked {candidate.requests:,} times; {rule}."
    if candidate.requests < spec.min_requests:
        return "wait", f"Too few answers so far: {words}"
    return "pass", f"Enough answers: {words}"


def _errors(champion: Observed, candidate: Observed, spec: RolloutSpec) -> Verdict:
    """More failures than allowed; with few requests, more than chance makes of what is allowed.

    One-sided exact binomial test (Clopper and Pearson, 1934).
    """
    champion_rate, candidate_rate = _rate(champion), _rate(candidate)
    allowed = min(champion_rate + spec.max_error_rate, 1.0)
    words = (
        f"{candidate.errors:,} of {candidate.requests:,} requests failed ({candidate_rate:.2%}), "
        f"v{champion.version} {champion_rate:.2%}; max_error_rate allows {allowed:.2%}."
    )
    if candidate_rate <= allowed:
        return "pass", f"Errors within bounds: {words}"
    by_chance = float(scipy.stats.binom.sf(candidate.errors - 1, candidate.requests, allowed))
    if candidate.requests < spec.min_requests and by_chance >= ALPHA:
        return "wait", f"Errors, but few requests: {words}"
    return "fail", f"Too many errors: {words}"


def _latency(champion: Observed, candidate: Observed, spec: RolloutSpec) -> Verdict:
    if not champion.requests or not candidate.requests:
        return "pass", "Latency: nothing to compare yet."
    few = min(champion.requests, candidate.requests) < TAIL
    name = f"median (under {TAIL} answers have no 99th percentile)" if few else "99th percentile"
    champion_latency, candidate_latency = (
        1000 * (observed.p50_seconds if few else observed.p99_seconds)
        for observed in (champion, candidate)
    )
    limit = max(spec.max_p99_ratio * champion_latency, spec.max_p99_milliseconds)
    words = (
        f"{name} {candidate_latency:.3g} ms against {champion_latency:.3g} ms of "
        f"v{champion.version}; "
        f"max_p99_ratio and max_p99_milliseconds allow {limit:.3g} ms."
    )
    if candidate_latency <= limit:
        return "pass", f"Latency within bounds: {words}"
    if candidate.requests < spec.min_requests:
        return "wait", f"Slow, but few answers: {words}"
    return "fail", f"Too slow: {words}"


def _predictions(
    champion: Observed, candidate: Observed, spec: RolloutSpec, classes: bool
) -> Verdict:
    """Further apart than allowed, and further than two samples of one distribution would be."""
    n, m = len(champion.predictions), len(candidate.predictions)
    if not n or not m:
        return "pass", "Predictions: nothing to compare yet."
    measure = _classes_apart if classes else _numbers_apart
    title = DISTANCES["cramers_v" if classes else "kolmogorov_smirnov"].title
    name = title if classes else f"{title} distance"
    distance, by_chance = measure(champion.predictions, candidate.predictions)
    limit = max(spec.max_prediction_drift, by_chance)
    source = (
        f"what chance makes of {m:,} and {n:,} answers"
        if by_chance > spec.max_prediction_drift
        else "max_prediction_drift"
    )
    words = (
        f"{name} {distance:.3f} from v{champion.version}'s; the limit is {limit:.3g} ({source})."
    )
    if distance > limit:
        return "fail", f"Other predictions: {words}"
    return "pass", f"Like predictions: {words}"


def _numbers_apart(
    champion_values: Sequence[object], candidate_values: Sequence[object]
) -> Comparison:
    a, b = (np.asarray(values, dtype=np.float64) for values in (champion_values, candidate_values))
    return compare_numbers(a, b, ALPHA)


def _classes_apart(
    champion_values: Sequence[object], candidate_values: Sequence[object]
) -> Comparison:
    a, b = (Counter(map(str, values)) for values in (champion_values, candidate_values))
    levels = sorted(a | b)
    shares = [np.array([count[level] for level in levels]) / count.total() for count in (a, b)]
    return compare_categories(
        shares[0], shares[1], (len(champion_values), len(candidate_values)), ALPHA
    )


def _quality(labelled: Labelled | None, spec: RolloutSpec) -> Verdict:
    """Worse than allowed by more than the two intervals leave open.

    The half-width of a difference of independent estimates is √(a² + b²).
    """
    if labelled is None:
        return "pass", "Quality: no labels have come for both versions' answers."
    candidate_metric, champion_metric = labelled.candidate, labelled.champion
    sign = 1 if greater_is_better(labelled.metric) else -1
    loss = sign * (champion_metric.value - candidate_metric.value)
    allowed = allowed_loss(spec.max_quality_loss, champion_metric.value)
    doubt = math.hypot(
        (candidate_metric.high - candidate_metric.low) / 2,
        (champion_metric.high - champion_metric.low) / 2,
    )
    words = (
        f"{labelled.metric} {candidate_metric.value:.4g} on {labelled.rows[1]:,} labelled answers "
        "against "
        f"{champion_metric.value:.4g} on {labelled.rows[0]:,} of the champion's (±{doubt:.2g}); "
        f"the loss of {allowed:.4g} is allowed (max_quality_loss: {spec.max_quality_loss})."
    )
    if not loss <= allowed:  # what is not a number is lost
        if loss - doubt <= allowed:
            return "pass", f"Quality perhaps lower, which the labels do not show yet: {words}"
        return "fail", f"Quality lost: {words}"
    return "pass", f"Quality kept: {words}"


def _same_requests(agreement: Agreement) -> Verdict:
    if not agreement.rows:
        return "wait", "Same requests: none was answered by both so far."
    changed = "" if agreement.changed is None else f"{agreement.changed:.2%} other decisions, "
    return "pass", (
        f"Same requests: {agreement.rows:,} answers side by side, {changed}"
        f"mean absolute difference {agreement.difference:.3g}."
    )


def _rate(observed: Observed) -> float:
    return observed.errors / observed.requests if observed.requests else 0.0
