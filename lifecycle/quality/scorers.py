"""The project's metrics as deepchecks takes them: functions of (model, features, truth), greater is
better.

For everything but binary they are functions of ours. Regression: scikit-learn's own scorers, from
1.4 on, refuse the stand-in that deepchecks makes of predictions, as it is no regressor by type.
Multiclass: deepchecks hands truth over as (n, classes) of 0 and 1, and a sample or a segment may
lack a class, where scikit-learn's scorers stop. Imported inside `checks.quiet()` only.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
from deepchecks.core.errors import ModelValidationError
from sklearn.metrics import (
    accuracy_score,
    f1_score,
    mean_absolute_error,
    mean_poisson_deviance,
    r2_score,
    root_mean_squared_error,
)

from lifecycle.specs import METRICS, Metric, TaskKind

Floats = np.ndarray[Any, np.dtype[np.float64]]
Scorer = str | Callable[[Any, pd.DataFrame, Any], float]

BINARY = {"log_loss": "neg_log_loss", "brier": "neg_brier_score"}
"""deepchecks' names of binary metrics where they differ from ours."""
LEAST_COUNT = 1e-9
"""A Poisson deviance needs expectations above 0."""


def compared_by(task: TaskKind, metric: Metric) -> Metric:
    """The metric deepchecks compares by: the deciding one, or for one of the project's own the
    first of the task."""
    return metric if metric in METRICS[task] else METRICS[task][0]


def scorer(task: TaskKind, metric: Metric) -> Scorer:
    """A metric of `METRICS[task]` as a deepchecks scorer."""
    if task == "binary":
        return BINARY.get(metric, metric)
    if task == "multiclass":
        return _of_probabilities(_MULTICLASS[metric])
    return _of_values(_VALUES[metric])


def _of_values(function: Callable[[Any, Any], float]) -> Scorer:
    return lambda model, features, truth: float(function(truth, model.predict(features)))


def _of_probabilities(function: Callable[[Any, Any], float]) -> Scorer:
    def scored(model: Any, features: pd.DataFrame, truth: Any) -> float:
        try:
            answers = model.predict_proba(features)
        except ModelValidationError:
            # the simple and the perfect model know only the classes of their rows, and are certain
            answers = model.predict(features)
        return float(function(np.asarray(truth), np.asarray(answers)))

    return scored


def _poisson_deviance(truth: Floats, prediction: Floats) -> float:
    return -float(mean_poisson_deviance(truth, np.maximum(prediction, LEAST_COUNT)))


def _log_loss(truth: Floats, probabilities: Floats) -> float:
    """Mean log of the true class's probability; negative."""
    epsilon = np.finfo(np.float64).eps  # as scikit-learn clips
    return float(np.log(np.clip((truth * probabilities).sum(axis=1), epsilon, 1)).mean())


def _roc_auc(truth: Floats, probabilities: Floats) -> float:
    """Mean over the classes (one against the rest) that the rows tell apart; 0.5 without any."""
    areas = []
    for positive, score in zip(truth.T == 1, probabilities.T, strict=True):
        ranks = pd.Series(score).rank().to_numpy()  # Mann and Whitney's U, ties counting half
        many, few = positive.sum(), (~positive).sum()
        if many and few:
            areas.append((ranks[positive].sum() - many * (many + 1) / 2) / (many * few))
    return float(np.mean(areas)) if areas else 0.5


_MULTICLASS: dict[Metric, Callable[[Any, Any], float]] = {
    "log_loss": _log_loss,
    "accuracy": lambda truth, p: accuracy_score(truth.argmax(axis=1), p.argmax(axis=1)),
    "roc_auc": _roc_auc,
    "f1_macro": lambda truth, p: f1_score(
        truth.argmax(axis=1), p.argmax(axis=1), average="macro", zero_division=0
    ),
}
_VALUES: dict[Metric, Callable[[Any, Any], float]] = {
    "rmse": lambda truth, value: -root_mean_squared_error(truth, value),
    "mae": lambda truth, value: -mean_absolute_error(truth, value),
    "r2": r2_score,
    "poisson_deviance": _poisson_deviance,
}
