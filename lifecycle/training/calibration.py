"""Probability calibration, fitted on the validation part: probabilities that mean what they say."""

from typing import Literal

import numpy as np

from lifecycle.errors import TrainingError
from lifecycle.features.encode import Floats
from lifecycle.records import Record

PRECISION = 1e-9
"""Of the gradient of the mean loss where the likelihood counts as greatest."""


class Calibration(Record):
    """A rising function of the model's probability, as data.

    `sigmoid` is `1 / (1 + exp(-(slope · log-odds + intercept)))` with `values` the slope and the
    intercept. `isotonic` goes straight from point to point, (`points`, `values`), flat outside.
    """

    method: Literal["sigmoid", "isotonic"]
    points: tuple[float, ...] = ()
    values: tuple[float, ...]

    def apply(self, probability: Floats) -> Floats:
        """(n,) probabilities of the model → (n,) calibrated ones."""
        if self.method == "isotonic":
            return np.interp(probability, self.points, self.values)
        slope, intercept = self.values
        return sigmoid(slope * log_odds(probability) + intercept)


def calibrate(
    method: Literal["sigmoid", "isotonic"], probability: Floats, truth: Floats
) -> Calibration:
    """Fit on rows the model did not learn from.

    Args:
        probability: (n,), the model's answers for the validation part.
        truth: (n,), 0 or 1.

    Raises:
        TrainingError: the validation part has one class only, or the model ranks it upside down.
    """
    positives = int(truth.sum())
    if positives in (0, len(truth)):
        raise TrainingError(
            "training.calibration: the validation part has one class only; "
            "make split.validation larger, or omit calibration"
        )
    return (_platt if method == "sigmoid" else _isotonic)(probability, truth)


def _platt(probability: Floats, truth: Floats) -> Calibration:
    """Platt (1999): maximum likelihood on the log-odds, his targets keeping off 0 and 1."""
    from scipy.optimize import minimize  # only where models are trained

    margin = log_odds(probability)
    positives = truth.sum()
    high, low = (positives + 1) / (positives + 2), 1 / (len(truth) - positives + 2)
    target = np.where(truth > 0, high, low)
    rows = np.column_stack([margin, np.ones_like(margin)])
    optimum = minimize(
        lambda at: _log_loss(rows @ at, target),
        [0.0, np.log(positives / (len(truth) - positives))],
        jac=lambda at: rows.T @ (sigmoid(rows @ at) - target) / len(truth),
        method="BFGS",
        options={"gtol": PRECISION},
    )
    slope, intercept = map(float, optimum.x)
    if slope <= 0:
        raise TrainingError(
            "training.calibration: on the validation part the model's probabilities do not rise "
            "with the truth; calibration cannot correct that: use none and look at the data"
        )
    return Calibration(method="sigmoid", values=(slope, intercept))


def _isotonic(probability: Floats, truth: Floats) -> Calibration:
    """Zadrozny and Elkan (2002): the rising steps closest to the truth, by pooling violators.

    No answer is further out than n rows can show, which is 1 / (n + 2) by Laplace's rule.
    """
    from scipy.optimize import isotonic_regression  # as above

    points, at = np.unique(probability, return_inverse=True)
    rows = np.bincount(at)
    rising = isotonic_regression(np.bincount(at, truth) / rows, weights=rows).x
    bound = 1 / (len(truth) + 2)
    steps = np.flatnonzero(np.diff(rising))
    ends = np.unique([0, *steps, *(steps + 1), len(rising) - 1])  # of every level stretch
    return Calibration(
        method="isotonic",
        points=tuple(points[ends].tolist()),
        values=tuple(rising[ends].clip(bound, 1 - bound).tolist()),
    )


def log_odds(probability: Floats) -> Floats:
    """(n,) probabilities, kept off 0 and 1 → (n,) logarithms of their odds."""
    inside = np.clip(probability, 1e-12, 1 - 1e-12)
    odds: Floats = np.log(inside) - np.log1p(-inside)
    return odds


def sigmoid(margin: Floats) -> Floats:
    """(n,) log-odds → (n,) probabilities."""
    probability: Floats = 0.5 * (1 + np.tanh(0.5 * margin))  # never overflows
    return probability


def _log_loss(margin: Floats, target: Floats) -> float:
    return float((np.logaddexp(0, margin) - target * margin).mean())
