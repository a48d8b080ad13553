"""Metrics with bootstrap confidence intervals; handed truth and predictions, never a model.

The interval is the percentile bootstrap (Efron and Tibshirani, 1993, chapter 13). Where rows of one
entity belong together, whole entities are drawn (the cluster bootstrap, Field and Welsh, 2007):
single rows would make the interval too narrow.
"""

from collections.abc import Callable, Iterator

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from lifecycle.errors import TargetError
from lifecycle.records import Estimate, Evaluation
from lifecycle.specs import METRICS, Metric, TaskKind, greater_is_better

RESAMPLES = 400
CONFIDENCE = 0.95
BLOCK = 4_000_000
"""Weights held at the same time, at most: bounds memory on large holdouts."""

Floats = NDArray[np.float64]
WeightedMetric = Callable[[Floats, Floats, Floats], Floats]
"""truth (n,), prediction (n,), weights (resamples, n) → value a resample (resamples,)."""


def evaluate(
    truth: ArrayLike,
    prediction: ArrayLike,
    task: TaskKind,
    holdout_digest: str,
    subject: str,
    seed: int,
    groups: ArrayLike | None = None,
) -> Evaluation:
    """Every metric of the task, with its 95 % interval.

    Args:
        truth: (n,), 0 or 1 for binary, the target's own unit for regression.
        prediction: (n,), the probability of 1, or the value.
        groups: (n,), the entity of each row; None treats rows as independent.

    Raises:
        TargetError: no rows, one class only (binary), or a prediction that is no number.
    """
    y, p = _checked(truth, prediction, task)
    resampled: dict[Metric, list[Floats]] = {metric: [] for metric in METRICS[task]}
    for weights in _resamples(len(y), seed, groups):
        for metric, values in resampled.items():
            values.append(_WEIGHTED[metric](y, p, weights))
    metrics = {
        metric: _estimate(_value(metric, y, p), np.concatenate(values))
        for metric, values in resampled.items()
    }
    return Evaluation(subject=subject, metrics=metrics, holdout=holdout_digest, rows=len(y))


def baseline(
    train_truth: ArrayLike,
    truth: ArrayLike,
    task: TaskKind,
    holdout_digest: str,
    seed: int,
    groups: ArrayLike | None = None,
) -> Evaluation:
    """The trivial model on the same holdout: always the training part's share of 1, or its mean.

    Raises:
        TargetError: as `evaluate`.
    """
    constant = float(np.mean(np.asarray(train_truth, dtype=np.float64)))
    prediction = np.full(len(np.asarray(truth)), constant)
    subject = f"baseline (always {constant:.4g})"
    return evaluate(truth, prediction, task, holdout_digest, subject, seed, groups)


def compare(
    truth: ArrayLike,
    challenger: ArrayLike,
    champion: ArrayLike,
    task: TaskKind,
    metric: Metric,
    seed: int,
    groups: ArrayLike | None = None,
) -> Estimate:
    """By how much the challenger is better on the same rows; above 0 means better.

    Paired: both are measured on the same resamples, so what makes the rows easy or hard cancels.

    Raises:
        TargetError: as `evaluate`.
    """
    y, new = _checked(truth, challenger, task)
    _, old = _checked(truth, champion, task)
    sign = 1.0 if greater_is_better(metric) else -1.0
    weighted = _WEIGHTED[metric]
    gain = sign * (_value(metric, y, new) - _value(metric, y, old))
    gains = [
        sign * (weighted(y, new, block) - weighted(y, old, block))
        for block in _resamples(len(y), seed, groups)
    ]
    return _estimate(gain, np.concatenate(gains))


def metric_value(metric: Metric, truth: ArrayLike, prediction: ArrayLike, task: TaskKind) -> float:
    """One metric, without an interval.

    Raises:
        TargetError: as `evaluate`.
    """
    return _value(metric, *_checked(truth, prediction, task))


def _value(metric: Metric, y: Floats, p: Floats) -> float:
    return float(_WEIGHTED[metric](y, p, np.ones((1, len(y))))[0])


def _checked(truth: ArrayLike, prediction: ArrayLike, task: TaskKind) -> tuple[Floats, Floats]:
    y, p = np.asarray(truth, dtype=np.float64), np.asarray(prediction, dtype=np.float64)
    if y.ndim != 1 or y.shape != p.shape:
        raise TargetError(f"truth and prediction differ in shape: got {y.shape=} {p.shape=}")
    if not len(y):
        raise TargetError("no rows to evaluate: the part is empty")
    for name, values in (("truth", y), ("prediction", p)):
        if not np.isfinite(values).all():
            raise TargetError(f"{name}: {(~np.isfinite(values)).sum()} of {len(y)} are no number")
    if task == "binary" and (len(found := np.unique(y)) != 2 or tuple(found) != (0, 1)):
        classes = ", ".join(f"{value:g}" for value in found[:5])
        raise TargetError(
            f"a binary metric needs rows of both classes, 0 and 1; the {len(y)} rows have "
            f"{classes} only: evaluate a larger part"
        )
    return y, p


def _resamples(rows: int, seed: int, groups: ArrayLike | None) -> Iterator[Floats]:
    """How often each row is drawn: blocks of (resamples, rows), RESAMPLES in all."""
    codes = None if groups is None else pd.factorize(np.asarray(groups), use_na_sentinel=False)[0]
    units = rows if codes is None else int(codes.max()) + 1
    rng = np.random.default_rng(seed)
    size = max(1, BLOCK // rows)
    for start in range(0, RESAMPLES, size):
        count = min(size, RESAMPLES - start)
        drawn = np.stack(
            [np.bincount(rng.integers(0, units, units), minlength=units) for _ in range(count)]
        )
        yield (drawn if codes is None else drawn[:, codes]).astype(np.float64)


def _estimate(value: float, resampled: Floats) -> Estimate:
    """Resamples in which the metric is undefined (one class only) are left out."""
    tail = (1 - CONFIDENCE) / 2
    defined = resampled[np.isfinite(resampled)]
    if not len(defined):  # a few rows only: nothing is known beyond the value itself
        return Estimate(value=value, low=value, high=value)
    low, high = np.quantile(defined, [tail, 1 - tail])
    return Estimate(value=value, low=min(float(low), value), high=max(float(high), value))


def _mean(loss: Callable[[Floats, Floats], Floats]) -> WeightedMetric:
    """A metric that is the mean of a loss a row."""

    def weighted(y: Floats, p: Floats, weights: Floats) -> Floats:
        total: Floats = weights @ loss(y, p) / weights.sum(axis=1)
        return total

    return weighted


def _log_loss(y: Floats, p: Floats) -> Floats:
    epsilon = np.finfo(np.float64).eps  # as scikit-learn clips
    clipped = np.clip(p, epsilon, 1 - epsilon)
    loss: Floats = -np.where(y == 1, np.log(clipped), np.log1p(-clipped))
    return loss


def _rmse(y: Floats, p: Floats, weights: Floats) -> Floats:
    root: Floats = np.sqrt(_mean(lambda a, b: (a - b) ** 2)(y, p, weights))
    return root


def _r2(y: Floats, p: Floats, weights: Floats) -> Floats:
    """1 − residual / total sum of squares; where the truth is constant 0, or 1 without residual.

    (scikit-learn's convention: the metric has no value there, and a report needs one.)
    """
    centred = y - y.mean()  # r2 does not change, and the squares keep their digits
    total = weights @ centred**2 - (weights @ centred) ** 2 / weights.sum(axis=1)
    residual = weights @ (y - p) ** 2
    constant = total <= 0
    explained: Floats = 1 - residual / np.where(constant, 1, total)
    return np.where(constant, np.where(residual == 0, 1.0, 0.0), explained)


def _counts(y: Floats, p: Floats, weights: Floats) -> tuple[Floats, Floats]:
    """Weight of positives and negatives at each distinct score, highest score first."""
    order = np.argsort(-p, kind="stable")
    starts = np.flatnonzero(np.r_[True, np.diff(p[order]) != 0])
    ordered = weights[:, order]
    positives = np.add.reduceat(ordered * y[order], starts, axis=1)
    return positives, np.add.reduceat(ordered, starts, axis=1) - positives


def _roc_auc(y: Floats, p: Floats, weights: Floats) -> Floats:
    """Chance that a positive scores above a negative, ties counting half (Mann and Whitney)."""
    positives, negatives = _counts(y, p, weights)
    above = positives.cumsum(axis=1) - positives / 2
    pairs = positives.sum(axis=1) * negatives.sum(axis=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        area: Floats = (above * negatives).sum(axis=1) / pairs
    return area


def _average_precision(y: Floats, p: Floats, weights: Floats) -> Floats:
    """Precision at each distinct score, weighted by the recall gained there."""
    positives, negatives = _counts(y, p, weights)
    hits = positives.cumsum(axis=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        precision = np.nan_to_num(hits / (hits + negatives.cumsum(axis=1)))
        mean: Floats = (positives * precision).sum(axis=1) / hits[:, -1]
    return mean


_WEIGHTED: dict[Metric, WeightedMetric] = {
    "roc_auc": _roc_auc,
    "average_precision": _average_precision,
    "log_loss": _mean(_log_loss),
    "brier": _mean(lambda y, p: (y - p) ** 2),
    "accuracy": _mean(lambda y, p: ((p >= 0.5) == (y == 1)).astype(np.float64)),
    "rmse": _rmse,
    "mae": _mean(lambda y, p: np.abs(y - p)),
    "r2": _r2,
}
