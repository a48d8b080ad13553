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
    mean_absolute_error,
    mean_poisson_deviance,
    r2_score,
    root_mean_squared_error,
)

from lifecycle.specs import METRICS, Metric, TaskKind, greater_is_better
from lifecycle.training.evaluation.metrics import family_of

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
        return _of_probabilities(metric)
    return _of_values(_VALUES[metric])


def _of_values(function: Callable[[Any, Any], float]) -> Scorer:
    return lambda model, features, truth: float(function(truth, model.predict(features)))


def _of_probabilities(metric: Metric) -> Scorer:
    """A metric as evaluation measures it; what is undefined on a segment of one class is 0.5."""
    family = family_of(metric, "multiclass")
    sign = 1 if greater_is_better(metric) else -1

    def scored(model: Any, features: pd.DataFrame, truth: Any) -> float:
        try:
            answers = model.predict_proba(features)
        except ModelValidationError:
            # the simple and the perfect model know only the classes of their rows, and are certain
            answers = model.predict(features)
        measure = family.prepare(np.asarray(truth).argmax(axis=1), np.asarray(answers))
        value = measure(np.ones(len(answers), dtype=np.int64))[family.names.index(metric)]
        return 0.5 if np.isnan(value) else sign * value

    return scored


def _poisson_deviance(truth: Floats, prediction: Floats) -> float:
    return -float(mean_poisson_deviance(truth, np.maximum(prediction, LEAST_COUNT)))


_VALUES: dict[Metric, Callable[[Any, Any], float]] = {
    "rmse": lambda truth, value: -root_mean_squared_error(truth, value),
    "mae": lambda truth, value: -mean_absolute_error(truth, value),
    "r2": r2_score,
    "poisson_deviance": _poisson_deviance,
}
