"""The decision threshold of a binary model: given, by what errors cost, or by a target rate."""

import logging
import math

import numpy as np
from numpy.typing import NDArray

from lifecycle.errors import TrainingError
from lifecycle.project import CostsSpec, DecisionSpec
from lifecycle.training.calibration import calibrate

log = logging.getLogger(__name__)

Floats = NDArray[np.float64]
DEFAULT = 0.5
"""The threshold of a project that declares no decision."""


def decision_threshold(
    spec: DecisionSpec | None, probability: Floats, truth: Floats, calibrated: bool = False
) -> float:
    """The probability from which a row counts as positive: 0 to 1, or just above it for no row.

    Args:
        probability: (n,), the model's answers for the validation part.
        truth: (n,), 0 or 1.
        calibrated: whether `training.calibration` has made the probabilities.

    Raises:
        TrainingError: a threshold has to be found, and there are no rows to find it on.
    """
    if spec is None:
        return DEFAULT
    if spec.threshold is not None:
        return spec.threshold
    if not len(probability):
        raise TrainingError(
            "decision: the validation part has no row with a target to find the threshold on; "
            "make split.validation larger, or give decision.threshold"
        )
    if spec.rate is not None:
        return threshold_of_rate(probability, spec.rate)
    assert spec.costs is not None  # noqa: S101 - exactly one of the three is given
    cheapest = cheapest_probability(spec.costs)
    return cheapest if calibrated else _on_model_scale(cheapest, probability, truth)


def cheapest_probability(costs: CostsSpec) -> float:
    """The true probability from which calling a row positive costs less than not doing so.

    Elkan (2001), "The foundations of cost-sensitive learning", equation 2, right answers free.
    """
    return costs.false_positive / (costs.false_positive + costs.false_negative)


def threshold_of_rate(probability: Floats, rate: float) -> float:
    """The threshold that calls a share of rows positive, as near to `rate` as ties allow.

    It lies midway between two predictions, so that no row changes sides by a float's last digit.
    """
    falling = -np.sort(-probability)
    counts = np.r_[0, np.flatnonzero(np.diff(falling)) + 1, len(falling)]
    count = int(counts[np.abs(counts / len(falling) - rate).argmin()])
    above = float(falling[count - 1]) if count else math.nextafter(1, 2)
    below = float(falling[count]) if count < len(falling) else 0.0
    middle = (above + below) / 2
    return middle if middle > below else above  # neighbouring floats have none between them


def _on_model_scale(wanted: float, probability: Floats, truth: Floats) -> float:
    """What the model answers where the true probability is `wanted`.

    By Platt's sigmoid on the validation part: class weights and some learners put probabilities
    off. Answers of 0 and 1 count as no more certain than the rows can show (Laplace's rule).
    """
    bound = 1 / (len(truth) + 2)
    try:
        sigmoid = calibrate("sigmoid", probability.clip(bound, 1 - bound), truth)
    except TrainingError:  # one class only, or ranked upside down
        log.warning(
            "decision.costs: the validation part cannot tell whether probabilities are right; "
            "the threshold takes them as they are"
        )
        return wanted
    slope, intercept = sigmoid.values
    log_odds = (math.log(wanted) - math.log1p(-wanted) - intercept) / slope
    return 0.5 * (1 + math.tanh(0.5 * log_odds))
