"""Weighted metrics of the four tasks: a weight of k counts the row k times.

Metrics that share their work are one family: it is prepared once for truth and prediction, and then
measures every resample from its weights alone.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from statistics import NormalDist
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from lifecycle.errors import FeatureError
from lifecycle.features.encode import Floats
from lifecycle.project import Metric, Project, TaskKind
from lifecycle.records import Estimate
from lifecycle.training.calibration import log_odds, sigmoid
from lifecycle.training.own_metrics import OwnMetric

Integers = NDArray[np.int64]
Measure = Callable[[NDArray[Any]], list[float]]
"""How often each row counts (n,) → the family's metrics; NaN where one is undefined.

Whole numbers; means over the rows take any weights.
"""

EPSILON = float(np.finfo(np.float64).eps)
"""Probabilities are clipped by it for the log loss, as scikit-learn does; so are predicted counts,
which scikit-learn's Poisson deviance refuses at 0: a forest may well predict exactly 0."""


class Family(NamedTuple):
    """Metrics that share their work."""

    names: tuple[Metric, ...]
    prepare: Callable[[Floats, Floats], Measure]
    """truth (n,), prediction (n,), multiclass (n, k) → how to measure weights."""


def families_of(task: TaskKind, threshold: float | None = None) -> tuple[Family, ...]:
    """Return the families of a task's built-in metrics.

    Args:
        threshold: binary: the probability from which accuracy counts a row as positive; None
            is 0.5.
    """
    if task != "binary" or threshold is None:
        return FAMILIES[task]
    losses = _means(partial(_binary_losses, threshold=threshold))
    return tuple(
        family._replace(prepare=losses) if "accuracy" in family.names else family
        for family in FAMILIES[task]
    )


def family_of(metric: Metric, task: TaskKind, threshold: float | None = None) -> Family:
    """Return the family of a built-in metric; `threshold` as in `families_of`."""
    return next(family for family in families_of(task, threshold) if metric in family.names)


def _dot(a: Floats, b: Floats) -> float:
    """Compute a dot product without BLAS, whose threads are slower here and change last digits."""
    return float(np.einsum("i,i", a, b))


def _means(
    rows: Callable[[Floats, Floats], list[Floats]],
    finish: Callable[[list[float]], list[float]] = lambda means: means,
) -> Callable[[Floats, Floats], Measure]:
    """Metrics that follow from weighted means of values a row."""

    def prepare(y: Floats, p: Floats) -> Measure:
        values = rows(y, p)

        def measure(weights: Integers) -> list[float]:
            drawn = weights.astype(np.float64)
            total = float(drawn.sum())
            return finish([_dot(drawn, value) / total for value in values])

        return measure

    return prepare


def _binary_losses(y: Floats, p: Floats, threshold: float = 0.5) -> list[Floats]:
    clipped = np.clip(p, EPSILON, 1 - EPSILON)
    log_loss = -np.log(np.where(y == 1, clipped, 1 - clipped))
    return [log_loss, (y - p) ** 2, ((p >= threshold) == (y == 1)).astype(np.float64)]


def _class_losses(y: Floats, p: Floats) -> list[Floats]:
    of_truth = p[np.arange(len(y)), y.astype(np.intp)]
    return [-np.log(np.clip(of_truth, EPSILON, 1 - EPSILON))]


def _squares(y: Floats, p: Floats) -> list[Floats]:
    centred = y - y.mean()  # r2 does not change, and the squares keep their digits
    return [(y - p) ** 2, np.abs(y - p), centred**2, centred]


def _errors(means: list[float]) -> list[float]:
    """rmse, mae, and r2 as 1 − residual / total; where the truth is constant 0, or 1 without error.

    (scikit-learn's convention: r2 has no value there, and a report needs one.)
    """
    squared, absolute, total, centre = means
    variance = total - centre**2
    r2 = 1 - squared / variance if variance > 0 else float(squared == 0)
    return [squared**0.5, absolute, r2]


def _count_losses(y: Floats, p: Floats) -> list[Floats]:
    """Unit Poisson deviance 2 (y log(y / p) − y + p), 0 log 0 = 0 (McCullagh and Nelder, 1989)."""
    positive = np.maximum(p, EPSILON)
    ratio = np.where(y > 0, y, 1) / np.where(y > 0, positive, 1)
    return [2 * (y * np.log(ratio) - y + positive), (y - p) ** 2, np.abs(y - p)]


def losses(metric: Metric, y: Floats, p: Floats) -> Floats:
    """Loss of each row (n,), whose mean makes a metric of regression or counts."""
    deviance, squared, absolute = _count_losses(y, p)
    return {"poisson_deviance": deviance, "mae": absolute}.get(metric, squared)


def _count_errors(means: list[float]) -> list[float]:
    deviance, squared, absolute = means
    return [deviance, squared**0.5, absolute]


class _Ranked(NamedTuple):
    """Weights at each distinct score that a positive has, highest first; each (scores,)."""

    positives: Integers
    """At this score."""
    hits: Integers
    """Positives at this score or above."""
    drawn: Integers
    """Rows at this score or above."""
    above: Integers
    """Rows above this score."""
    negatives: int
    """All of them."""


def _rank(y: Floats, p: Floats) -> Callable[[Integers], _Ranked]:
    """Sorted once; rows that come highest score first already are not moved.

    Both ranking metrics are sums over the positives, so only their scores are looked at.
    """
    descending = bool((p[:-1] >= p[1:]).all())
    order = None if descending else np.argsort(-p, kind="stable")
    if order is not None:
        y, p = y[order], p[order]
    starts = np.flatnonzero(np.r_[True, p[1:] != p[:-1]])
    ends = np.r_[starts[1:], len(p)]
    positive = np.flatnonzero(y == 1)
    hit = np.r_[0, np.cumsum(y == 1)][ends]  # positives at or above each distinct score
    with_hit = np.flatnonzero(np.diff(hit, prepend=0))
    starts, ends, hit = starts[with_hit], ends[with_hit], hit[with_hit]

    def ranked(weights: Integers) -> _Ranked:
        if order is not None:
            weights = weights[order]
        summed = _from_zero(weights)
        hits = _from_zero(weights[positive])
        negatives = int(summed[-1] - hits[-1])
        hits = hits[hit] if len(hit) < len(positive) else hits[1:]
        positives = hits.copy()
        positives[1:] -= hits[:-1]
        return _Ranked(positives, hits, summed[ends], summed[starts], negatives)

    return ranked


def _from_zero(weights: Integers) -> Integers:
    """Running sums, with 0 before the first."""
    summed = np.zeros(len(weights) + 1, dtype=np.int64)
    np.cumsum(weights, out=summed[1:])
    return summed


def _area(ranked: _Ranked) -> float:
    """Chance that a positive scores above a negative, ties counting half (Mann and Whitney)."""
    pairs = int(ranked.hits[-1]) * ranked.negatives if len(ranked.hits) else 0
    if not pairs:
        return float("nan")
    # negatives at this score or above, and above it: 2 rows − 2 hits + positives at it
    twice_above = ranked.drawn + ranked.above - 2 * ranked.hits + ranked.positives
    below_or_tied = 2 * ranked.negatives - twice_above
    return int(ranked.positives @ below_or_tied) / (2 * pairs)


def _average_precision(ranked: _Ranked) -> float:
    """Precision at each distinct score, weighted by the recall gained there."""
    if not ranked.hits[-1]:
        return float("nan")
    precision = ranked.hits / np.maximum(ranked.drawn, 1)  # where nothing is drawn, nothing is hit
    return _dot(ranked.positives.astype(np.float64), precision) / float(ranked.hits[-1])


def _ranking(y: Floats, p: Floats) -> Measure:
    rank = _rank(y, p)

    def measure(weights: Integers) -> list[float]:
        ranked = rank(weights)
        return [_area(ranked), _average_precision(ranked)]

    return measure


def _one_vs_rest(y: Floats, p: Floats) -> Measure:
    """The mean over the classes of each one's area against the others (Provost and Domingos, 2000).

    Classes without a row in the resample are left out of the mean.
    """
    ranks = [_rank((y == code).astype(np.float64), p[:, code]) for code in np.unique(y).astype(int)]

    def measure(weights: Integers) -> list[float]:
        areas = np.array([_area(rank(weights)) for rank in ranks])
        defined = areas[np.isfinite(areas)]
        return [float(defined.mean()) if len(defined) else float("nan")]

    return measure


def _labelled(y: Floats, p: Floats) -> Measure:
    """Accuracy, and the mean of the F1 of each class that is in truth or prediction."""
    classes = p.shape[1]
    cells = y.astype(np.intp) * classes + p.argmax(axis=1)

    def measure(weights: Integers) -> list[float]:
        table = np.bincount(cells, weights, classes**2).reshape(classes, classes)
        right, margins = np.diagonal(table), table.sum(axis=0) + table.sum(axis=1)
        f1 = 2 * right[margins > 0] / margins[margins > 0]
        return [float(right.sum() / table.sum()), float(f1.mean())]

    return measure


FAMILIES: Mapping[TaskKind, tuple[Family, ...]] = {
    "binary": (
        Family(("roc_auc", "average_precision"), _ranking),
        Family(("log_loss", "brier", "accuracy"), _means(_binary_losses)),
    ),
    "multiclass": (
        Family(("log_loss",), _means(_class_losses)),
        Family(("accuracy", "f1_macro"), _labelled),
        Family(("roc_auc",), _one_vs_rest),
    ),
    "regression": (Family(("rmse", "mae", "r2"), _means(_squares, _errors)),),
    "count": (Family(("poisson_deviance", "rmse", "mae"), _means(_count_losses, _count_errors)),),
}


# The project's own metrics: functions of truth and prediction that the user writes.


def family_of_own(name: Metric, metric: OwnMetric) -> Family:
    """Wrap an own metric for the bootstrap, which calls it on the drawn rows.

    A resample on which it fails, as a metric without its second class may, is undefined.
    """

    def prepare(y: Floats, p: Floats) -> Measure:
        def measure(weights: Integers) -> list[float]:
            rows = np.repeat(np.arange(len(y)), weights)
            try:
                return [metric(y[rows], p[rows])]
            except FeatureError:
                return [math.nan]

        return measure

    return Family((name,), prepare)


# Reliability: predicted against observed values in bins of equal size.

BINS = 10


@dataclass(frozen=True)
class Reliability:
    """Bins of equally many rows, in order of the prediction; each (bins,)."""

    predicted: Floats
    """Mean prediction."""
    observed: Floats
    """Mean truth, or the share of positives, or of right answers (multiclass)."""
    rows: Floats

    @property
    def error(self) -> float:
        """Mean distance of predicted and observed over the rows.

        For probabilities this is the expected calibration error (Naeini et al., 2015), with bins of
        equal size as Nguyen and O'Connor (2015) have them: bins of equal width may be almost empty.
        """
        return float(np.average(np.abs(self.predicted - self.observed), weights=self.rows))


def reliability(truth: ArrayLike, prediction: ArrayLike, task: TaskKind) -> Reliability:
    """Compute the bins of a reliability diagram.

    For multiclass the prediction is the probability of the most probable class, and the truth is
    whether that class is right (Guo et al., 2017).

    Args:
        truth: (n,), as `evaluate` takes it.
        prediction: (n,), multiclass (n, k).
    """
    y, p = np.asarray(truth, dtype=np.float64), np.asarray(prediction, dtype=np.float64)
    if task == "multiclass":
        y, p = (p.argmax(axis=1) == y).astype(np.float64), p.max(axis=1)
    bins = [rows for rows in np.array_split(np.argsort(p, kind="stable"), BINS) if len(rows)]
    return Reliability(
        predicted=np.array([p[rows].mean() for rows in bins]),
        observed=np.array([y[rows].mean() for rows in bins]),
        rows=np.array([len(rows) for rows in bins], dtype=np.float64),
    )


# Calibration error beyond what chance explains at the size of the holdout.
#
# Cox (1958): in `logit P(y = 1) = a + b · logit p` perfect probabilities have a slope b of 1. A
# slope below 1 means answers too extreme, as of a model that learned the noise too; above 1 too
# timid, as of one that stopped too soon. Next to it stands calibration in the large, the mean of y
# - p. Van Calster et al. (2019) recommend both for models that are going to be used.
#
# What is reported is an interval that lies outside a tolerance as a whole, so neither a small
# holdout nor a tiny but certain error of a large one raises a warning.

CONFIDENCE = 0.99
"""Of the intervals: a warning at every twentieth good model would soon be ignored."""
SLOPES = (0.8, 1.25)
"""Slopes that need no action."""
SHARE = 0.1
"""So much of the rarer outcome's share the mean probability may be off."""
LEAST = 10
"""Rows of either outcome, below which nothing can be said."""
STEPS = 25
"""Newton's method takes five or so; where outcomes are separated perfectly it never ends."""


def miscalibration(
    project: Project, truth: Floats, prediction: Floats, groups: ArrayLike | None = None
) -> tuple[str, ...]:
    """Describe each kind of miscalibration in a sentence, with the remedy.

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
    gaps = []
    tolerated = SHARE * min(y.mean(), 1 - y.mean())
    error = mean_error(y, p, groups)
    if error.low > tolerated or error.high < -tolerated:
        gaps.append(
            f"Probabilities are too {'low' if error.value > 0 else 'high'}: {p.mean():.1%} on "
            f"average where {y.mean():.1%} is true, beyond chance on {len(y):,} rows"
        )
    slope = calibration_slope(y, p, groups)
    if slope and (slope.high < SLOPES[0] or slope.low > SLOPES[1]):
        gaps.append(
            f"Probabilities are too {'extreme' if slope.value < 1 else 'timid'}: calibration slope "
            f"{slope.value:.2f} [{slope.low:.2f}, {slope.high:.2f}] where 1 is right, beyond "
            f"chance on {len(y):,} rows"
        )
    return tuple(f"{sentence}. {_advice(project)}" for sentence in gaps)


def mean_error(y: Floats, p: Floats, groups: ArrayLike | None = None) -> Estimate:
    """Measure calibration in the large: the mean of y - p with its 99 % interval."""
    value = float((y - p).mean())
    scores = _summed((y - p - value)[:, None], groups)
    return _interval(value, float((scores**2).sum()) / len(y) ** 2)


def calibration_slope(y: Floats, p: Floats, groups: ArrayLike | None = None) -> Estimate | None:
    """Measure Cox's slope with its 99 % interval; None if the outcomes are separated perfectly.

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
