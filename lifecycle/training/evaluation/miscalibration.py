"""Whether probabilities are off by more than chance explains at the size of the holdout.

Cox (1958): in `logit P(y = 1) = a + b · logit p` perfect probabilities have a slope b of 1. A slope
below 1 means answers too extreme, as of a model that learned the noise too; above 1 too timid, as
of one that stopped too soon. Next to it stands calibration in the large, the mean of y - p. Van
Calster et al. (2019) recommend both for models that are going to be used.

What is reported is an interval that lies outside a tolerance as a whole, so neither a small holdout
nor a tiny but certain error of a large one raises a warning.
"""

from statistics import NormalDist

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from lifecycle.project import Project
from lifecycle.records import Estimate
from lifecycle.training.calibration import log_odds, sigmoid
from lifecycle.training.evaluation.metrics import Floats

CONFIDENCE = 0.99
"""Of the intervals: a warning at every twentieth good model would soon be read by nobody."""
SLOPES = (0.8, 1.25)
"""Slopes that nobody needs to act on."""
SHARE = 0.1
"""So much of the rarer outcome's share the mean probability may be off."""
LEAST = 10
"""Rows of either outcome, below which nothing can be said."""
STEPS = 25
"""Newton's method takes five or so; where outcomes are separated perfectly it never ends."""


def miscalibration(
    project: Project, truth: Floats, prediction: Floats, groups: ArrayLike | None = None
) -> tuple[str, ...]:
    """A sentence for each way in which probabilities are off, with what to do.

    For multiclass the probability is that of the most probable class, and the outcome whether it
    is right (Guo et al., 2017).

    Args:
        truth: (n,), as `evaluate` takes it.
        prediction: (n,), multiclass (n, k).
        groups: (n,), the entity of each row; None treats rows as independent.
    """
    if project.task not in ("binary", "multiclass"):
        return ()
    y, p = truth, prediction
    if project.task == "multiclass":
        y, p = (p.argmax(axis=1) == y).astype(np.float64), p.max(axis=1)
    if min(y.sum(), len(y) - y.sum()) < LEAST:
        return ()
    found = []
    tolerated = SHARE * min(y.mean(), 1 - y.mean())
    error = mean_error(y, p, groups)
    if error.low > tolerated or error.high < -tolerated:
        found.append(
            f"Probabilities are too {'low' if error.value > 0 else 'high'}: {p.mean():.1%} on "
            f"average where {y.mean():.1%} is true, beyond chance on {len(y):,} rows"
        )
    slope = calibration_slope(y, p, groups)
    if slope and (slope.high < SLOPES[0] or slope.low > SLOPES[1]):
        found.append(
            f"Probabilities are too {'extreme' if slope.value < 1 else 'timid'}: calibration slope "
            f"{slope.value:.2f} [{slope.low:.2f}, {slope.high:.2f}] where 1 is right, beyond "
            f"chance on {len(y):,} rows"
        )
    return tuple(f"{sentence}. {_advice(project)}" for sentence in found)


def mean_error(y: Floats, p: Floats, groups: ArrayLike | None = None) -> Estimate:
    """Calibration in the large: the mean of y - p with its 99 % interval."""
    value = float((y - p).mean())
    scores = _summed((y - p - value)[:, None], groups)
    return _interval(value, float((scores**2).sum()) / len(y) ** 2)


def calibration_slope(y: Floats, p: Floats, groups: ArrayLike | None = None) -> Estimate | None:
    """Cox's slope with its 99 % interval; None where both outcomes are separated perfectly.

    The variance is the larger of the likelihood's own and the sandwich estimate over the groups
    (Liang and Zeger, 1986), which is too small for few rows.
    """
    rows = np.column_stack([np.ones(len(y)), log_odds(p)])
    at = np.array([0.0, 1.0])
    for _ in range(STEPS):
        q = sigmoid(rows @ at)
        information = rows.T @ (rows * (q * (1 - q))[:, None])
        try:
            inverse = np.linalg.inv(information)
        except np.linalg.LinAlgError:
            return None
        step = inverse @ (rows.T @ (y - q))
        at = at + step
        if not np.isfinite(at).all():
            return None
        if np.abs(step).max() < 1e-8:
            break
    else:
        return None
    scores = _summed(rows * (y - q)[:, None], groups)
    sandwich = inverse @ (scores.T @ scores) @ inverse
    return _interval(float(at[1]), float(max(inverse[1, 1], sandwich[1, 1])))


def _summed(scores: Floats, groups: ArrayLike | None) -> Floats:
    """(n, k) → (groups, k): rows of one entity count as one."""
    if groups is None:
        return scores
    codes = pd.factorize(np.asarray(groups), use_na_sentinel=False)[0]
    return np.column_stack([np.bincount(codes, column).astype(np.float64) for column in scores.T])


def _interval(value: float, variance: float) -> Estimate:
    width = NormalDist().inv_cdf((1 + CONFIDENCE) / 2) * variance**0.5
    return Estimate(value=value, low=value - width, high=value + width)


def _advice(project: Project) -> str:
    training = project.training
    if training.class_weight and training.calibration == "none":
        return "training.class_weight shifts them; training.calibration: sigmoid brings them back."
    if project.task == "binary" and training.calibration == "none":
        return "training.calibration: sigmoid may mend it; see the calibration plot."
    return "See the calibration plot, and whether the holdout is like the data before it."
