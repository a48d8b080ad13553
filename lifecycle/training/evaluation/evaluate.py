"""Metrics with bootstrap confidence intervals; handed truth and predictions, never a model.

How the intervals are made is told in `lifecycle.training.evaluation.evaluate`.
"""

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import NormalDist

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from lifecycle.errors import FeatureError, TargetError
from lifecycle.features.encode import Floats
from lifecycle.project import METRICS, Metric, TaskKind, greater_is_better
from lifecycle.records import Estimate, Evaluation, Gain
from lifecycle.training.evaluation.metrics import Integers, families_of, family_of, family_of_own
from lifecycle.training.own_metrics import OwnMetric

Own = Mapping[Metric, OwnMetric]
"""The project's own metrics, as `own_metrics(project)` loads them."""

logger = logging.getLogger(__name__)

# Bootstrap resamples as weights, and the 95 % interval that follows from them.
#
# Up to `LARGE` rows the interval is the percentile bootstrap of 400 resamples (Efron and
# Tibshirani, 1993, chapter 13). Above, where a metric is as good as normal, it is the standard
# normal interval, value ± 1.96 standard errors, with the standard error from 100 resamples: 50 to
# 200 suffice for one (ibid., section 6.4), and a percentile would need many more.
#
# Where rows of one entity belong together, whole entities are drawn (the cluster bootstrap, Field
# and Welsh, 2007): single rows would make the interval too narrow.

CONFIDENCE = 0.95
LARGE = 20_000
"""Rows above which the standard error stands in for the percentiles."""
RESAMPLES, RESAMPLES_OF_LARGE = 400, 100


def resamples(rows: int, seed: int, groups: ArrayLike | None) -> Iterator[Integers]:
    """Yield, for each bootstrap resample, the number of times each row is drawn (rows,).

    Args:
        groups: (rows,), the entity of each row; None draws single rows.
    """
    codes = None if groups is None else pd.factorize(np.asarray(groups), use_na_sentinel=False)[0]
    units = rows if codes is None else int(codes.max()) + 1
    rng = np.random.default_rng(seed)
    for _ in range(RESAMPLES_OF_LARGE if rows > LARGE else RESAMPLES):
        drawn = np.bincount(rng.integers(0, units, units), minlength=units)
        yield drawn if codes is None else drawn[codes]


def interval(value: float, resampled: Floats, rows: int) -> Estimate:
    """The value with its interval; resamples in which the metric is undefined are left out.

    With fewer than two defined resamples nothing is known beyond the value itself.
    """
    defined = resampled[np.isfinite(resampled)]
    if len(defined) < 2:
        return Estimate(value=value, low=value, high=value)
    tail = (1 - CONFIDENCE) / 2
    if rows > LARGE:
        width = NormalDist().inv_cdf(1 - tail) * float(defined.std(ddof=1))
        return Estimate(value=value, low=value - width, high=value + width)
    low, high = np.quantile(defined, [tail, 1 - tail])
    return Estimate(value=value, low=min(float(low), value), high=max(float(high), value))


def lower_bound(value: float, resampled: Floats, rows: int, confidence: float) -> float:
    """The lower end of the one-sided interval, made as `interval` makes its two ends."""
    defined = resampled[np.isfinite(resampled)]
    if len(defined) < 2:
        return value
    if rows > LARGE:
        return value - NormalDist().inv_cdf(confidence) * float(defined.std(ddof=1))
    return min(float(np.quantile(defined, 1 - confidence)), value)


def method(rows: int, grouped: bool) -> str:
    """Describe the method behind the intervals, for people."""
    units = "whole entities" if grouped else "rows"
    if rows > LARGE:
        return (
            f"{CONFIDENCE:.0%} normal intervals, the standard error from {RESAMPLES_OF_LARGE} "
            f"bootstrap resamples of {units}"
        )
    return f"{CONFIDENCE:.0%} percentile intervals of {RESAMPLES} bootstrap resamples of {units}"


RANKING: tuple[Metric, ...] = ("roc_auc", "average_precision")
"""Built-in metrics that compare rows of several classes, so have no value where there is one."""


@dataclass(frozen=True)
class Measurement:
    """Settings with which the predictions of some rows are measured."""

    task: TaskKind
    seed: int
    """Seed of the resamples from which the intervals come."""
    groups: ArrayLike | None = None
    """(n,), the entity of each row; None treats rows as independent."""
    own: Own = field(default_factory=dict)
    threshold: float | None = None
    """Binary: the probability from which a row counts as positive; None is 0.5."""


def evaluate(
    truth: ArrayLike,
    prediction: ArrayLike,
    by: Measurement,
    holdout_digest: str,
    subject: str,
    *,
    partial: bool = False,
) -> Evaluation:
    """Every metric of the task and every own one, with its 95 % interval.

    Args:
        truth: (n,), 0 or 1 for binary, class codes from 0 for multiclass, else the target's unit.
        prediction: (n,), the probability of 1, or the value; multiclass (n, k), probabilities.
        partial: leave out what these rows do not define: metrics of ranking where all rows are of
            one class, and own metrics that fail.

    Raises:
        FeatureError: an own metric fails.
        TargetError: no rows, one class only, a negative count, or a prediction that is no number.
    """
    y, p = _checked(truth, prediction, by.task, one_class=partial)
    names: Sequence[Metric] = (*METRICS[by.task], *by.own)
    if partial:
        names = [name for name in names if _is_defined(name, y, p, by.task, by.own)]
    return Evaluation(
        subject=subject,
        metrics=_estimates(names, y, p, by),
        holdout=holdout_digest,
        rows=len(y),
        threshold=by.threshold,
        method=method(len(y), by.groups is not None),
    )


def estimate(metric: Metric, truth: ArrayLike, prediction: ArrayLike, by: Measurement) -> Estimate:
    """One metric with its 95 % interval.

    Raises:
        FeatureError, TargetError: as `evaluate`.
    """
    y, p = _checked(truth, prediction, by.task)
    return _estimates((metric,), y, p, by)[metric]


def baseline(
    train_truth: ArrayLike, truth: ArrayLike, by: Measurement, holdout_digest: str
) -> Evaluation:
    """The trivial model on the same holdout: always the train part's mean, or its class shares.

    Raises:
        FeatureError, TargetError: as `evaluate`.
    """
    prediction = trivial_answers(train_truth, truth, by.task)
    always = "the class shares" if by.task == "multiclass" else f"{prediction[0]:.4g}"
    return evaluate(truth, prediction, by, holdout_digest, f"baseline (always {always})")


def trivial_answers(train_truth: ArrayLike, truth: ArrayLike, task: TaskKind) -> Floats:
    """The trivial model's predictions for a part: (n,), or (n, classes) for multiclass."""
    learned = np.asarray(train_truth, dtype=np.float64)
    rows = len(np.asarray(truth))
    if task != "multiclass":
        return np.full(rows, learned.mean())
    classes = int(np.max(np.r_[learned, np.asarray(truth, dtype=np.float64)])) + 1
    shares = np.bincount(learned.astype(np.intp), minlength=classes) / len(learned)
    return np.tile(shares, (rows, 1))


def compare(
    truth: ArrayLike,
    challenger: ArrayLike,
    champion: ArrayLike,
    metric: Metric,
    by: Measurement,
    confidence: float,
    thresholds: tuple[float | None, float | None] = (None, None),
) -> Gain:
    """Measure the gain of the challenger on the same rows; above 0 it is better.

    Paired: both are measured on the same resamples, so what makes the rows easy or hard cancels.

    Args:
        confidence: level of the gain's one-sided lower bound.
        thresholds: binary: the thresholds of challenger and champion, not `by.threshold`.

    Raises:
        FeatureError, TargetError: as `evaluate`.
    """
    task, own = by.task, by.own
    y, new = _checked(truth, challenger, task)
    _, old = _checked(truth, champion, task)
    sign = 1.0 if greater_is_better(metric) else -1.0
    values = [
        _value(metric, y, p, task, own, threshold)
        for p, threshold in zip((new, old), thresholds, strict=True)
    ]
    gain = sign * (values[0] - values[1])
    (y, new, old), groups = _by_score((y, new, old), by.groups, task)
    families = [
        family_of_own(metric, own[metric]) if metric in own else family_of(metric, task, threshold)
        for threshold in thresholds
    ]
    at = families[0].names.index(metric)
    new_family, old_family = families[0].prepare(y, new), families[1].prepare(y, old)
    gains = [
        sign * (new_family(weights)[at] - old_family(weights)[at])
        for weights in resamples(len(y), by.seed, groups)
    ]
    drawn = np.array(gains)
    least = lower_bound(gain, drawn, len(y), confidence)
    ends = interval(gain, drawn, len(y))
    return Gain(**ends.model_dump(), least=least, confidence=confidence)


def metric_value(
    metric: Metric,
    truth: ArrayLike,
    prediction: ArrayLike,
    task: TaskKind,
    own: Own | None = None,
    weights: Floats | None = None,
    threshold: float | None = None,
) -> float:
    """One metric, without an interval; `threshold` as in `Measurement`.

    Args:
        weights: (n,), of the rows, for a metric that is a mean over them, as the log loss is.

    Raises:
        FeatureError, TargetError: as `evaluate`.
    """
    return _value(metric, *_checked(truth, prediction, task), task, own or {}, threshold, weights)


def _value(
    metric: Metric,
    y: Floats,
    p: Floats,
    task: TaskKind,
    own: Own,
    threshold: float | None,
    weights: Floats | None = None,
) -> float:
    if metric in own:
        return own[metric](y, p)
    family = family_of(metric, task, threshold)
    counted = np.ones(len(y), dtype=np.int64) if weights is None else weights
    return family.prepare(y, p)(counted)[family.names.index(metric)]


def _estimates(
    names: Sequence[Metric], y: Floats, p: Floats, by: Measurement
) -> dict[Metric, Estimate]:
    task, own = by.task, by.own
    values = {name: own[name](y, p) for name in names if name in own}
    families = [f for f in families_of(task, by.threshold) if set(f.names) & set(names)]
    families += [family_of_own(name, own[name]) for name in values]
    (y, p), groups = _by_score((y, p), by.groups, task)
    measures = [family.prepare(y, p) for family in families]
    point_values = [measure(np.ones(len(y), dtype=np.int64)) for measure in measures]
    drawn: list[list[list[float]]] = [[] for _ in families]
    for weights in resamples(len(y), by.seed, groups):
        for sample, measure in zip(drawn, measures, strict=True):
            sample.append(measure(weights))
    estimates: dict[Metric, Estimate] = {}
    for family, value, sample in zip(families, point_values, drawn, strict=True):
        resampled = np.array(sample)  # (resamples, metrics of the family)
        for at, name in enumerate(family.names):
            estimate = values.get(name, value[at])
            estimates[name] = interval(estimate, resampled[:, at], len(y))
    return {name: estimates[name] for name in names}


def _by_score(
    arrays: tuple[Floats, ...], groups: ArrayLike | None, task: TaskKind
) -> tuple[tuple[Floats, ...], ArrayLike | None]:
    """Rows, highest first prediction first, so that ranking metrics need not move the weights.

    A small part keeps its order: which rows a seed draws must not hang on the model there, and
    costs nothing.
    """
    if task != "binary" or len(arrays[0]) <= LARGE:
        return arrays, groups
    order = np.argsort(-arrays[1], kind="stable")
    moved = None if groups is None else np.asarray(groups)[order]
    return tuple(values[order] for values in arrays), moved


def _is_defined(metric: Metric, y: Floats, p: Floats, task: TaskKind, own: Own) -> bool:
    """Return whether a metric is defined on these rows."""
    if metric not in own:
        one_class = task in ("binary", "multiclass") and bool((y == y[0]).all())
        return not (one_class and metric in RANKING)
    try:
        own[metric](y, p)
    except FeatureError as error:
        logger.warning("Left out: %s", error)
        return False
    return True


def _checked(
    truth: ArrayLike, prediction: ArrayLike, task: TaskKind, *, one_class: bool = False
) -> tuple[Floats, Floats]:
    y, p = np.asarray(truth, dtype=np.float64), np.asarray(prediction, dtype=np.float64)
    columns = p.ndim if task == "multiclass" else p.ndim + 1
    if y.ndim != 1 or len(y) != len(p) or columns != 2:
        raise TargetError(f"truth and prediction differ in shape: got {y.shape=} {p.shape=}")
    if not len(y):
        raise TargetError("no rows to evaluate: the part is empty")
    for name, values in (("truth", y), ("prediction", p)):
        if not np.isfinite(values).all():
            raise TargetError(f"{name}: {(~np.isfinite(values)).sum()} of {len(y)} are not numbers")
    if task == "binary":
        _two_classes(y, one_class)
    if task == "multiclass":
        _classes(y, p.shape[1], one_class)
    if task == "count" and (y < 0).any():
        raise TargetError(f"task count: {(y < 0).sum()} of {len(y)} values are negative")
    return y, p


def _two_classes(y: Floats, one_class: bool) -> None:
    zeros, ones = int((y == 0).sum()), int((y == 1).sum())
    if (one_class or (zeros and ones)) and zeros + ones == len(y):
        return
    classes = ", ".join(f"{value:g}" for value in np.unique(y)[:5])
    raise TargetError(
        f"a binary metric needs rows of both classes, 0 and 1; the {len(y)} rows have "
        f"{classes} only: evaluate a larger part"
    )


def _classes(y: Floats, classes: int, one_class: bool) -> None:
    if y.min() < 0 or y.max() >= classes or (y % 1).any():
        raise TargetError(
            f"truth: class codes go from 0 to {classes - 1}, as prediction has {classes} columns; "
            f"got {y.min():g} to {y.max():g}"
        )
    if (y == y[0]).all() and not one_class:
        raise TargetError(
            f"a multiclass metric needs rows of at least two classes; the {len(y)} rows have "
            f"{y[0]:g} only: evaluate a larger part"
        )
