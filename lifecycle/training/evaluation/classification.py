"""Metrics of the classes that a binary model's threshold makes, with intervals."""

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lifecycle.project import CostsSpec
from lifecycle.records import Estimate
from lifecycle.training.evaluation.evaluate import interval, resamples
from lifecycle.training.evaluation.metrics import Floats, Whole

COST = "cost per row"
NAMES = (
    "share of positives",
    "share predicted positive",
    "precision",
    "recall",
    "false positive rate",
    "f1",
    COST,
)


def at_threshold(
    truth: Floats,
    prediction: Floats,
    threshold: float,
    seed: int,
    groups: ArrayLike | None = None,
    costs: CostsSpec | None = None,
) -> dict[str, Estimate]:
    """Each of `NAMES` with its 95 % interval; the cost only where `costs` are declared.

    A metric that has no value, such as the precision of a model that calls no row positive, is
    left out.

    Args:
        truth: (n,), 0 or 1.
        prediction: (n,), the probability of 1.
        groups: (n,), the entity of each row; None treats rows as independent.
    """
    cells = (2 * truth + (prediction >= threshold)).astype(np.intp)

    def measure(weights: Whole) -> list[float]:
        return _values(np.bincount(cells, weights, 4).astype(np.float64), costs)

    values = measure(np.ones(len(truth), dtype=np.int64))
    drawn = np.array([measure(weights) for weights in resamples(len(truth), seed, groups)])
    return {
        name: interval(value, drawn[:, at], len(truth))
        for at, (name, value) in enumerate(zip(NAMES, values, strict=True))
        if math.isfinite(value)
    }


def _values(counts: NDArray[np.float64], costs: CostsSpec | None) -> list[float]:
    """The metrics in the order of `NAMES`.

    Args:
        counts: (4,): true negatives, false positives, false negatives, true positives.
    """
    negative, alarms, missed, hits = counts.tolist()
    rows = negative + alarms + missed + hits
    cost = math.nan
    if costs is not None:
        cost = (costs.false_positive * alarms + costs.false_negative * missed) / rows
    return [
        (missed + hits) / rows,
        (alarms + hits) / rows,
        _share(hits, hits + alarms),
        _share(hits, hits + missed),
        _share(alarms, alarms + negative),
        _share(2 * hits, 2 * hits + alarms + missed),
        cost,
    ]


def _share(part: float, whole: float) -> float:
    return part / whole if whole else math.nan
