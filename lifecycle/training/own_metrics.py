"""Metrics of the user's own: functions that the project file names under `metrics`."""

import math
from collections.abc import Callable
from numbers import Real
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lifecycle.errors import FeatureError
from lifecycle.features.encode import Floats
from lifecycle.project import Metric, Project
from lifecycle.runtime.plugins import load_plug, plug_file, where

OwnMetric = Callable[[Floats, Floats], float]
"""truth (n,), prediction (n,), multiclass (n, k) → value, greater is better."""


def own_metrics(project: Project) -> dict[Metric, OwnMetric]:
    """The functions under the project's `metrics`, their failures told with function and line.

    Raises:
        FeatureError: there is no such module or function, or the module fails. So does a metric
            when it is called, if the function fails or returns no finite number.
    """
    return {name: _own(project, name, place) for name, place in project.metrics.items()}


def _own(project: Project, name: Metric, reference: str) -> OwnMetric:
    key = f"metrics.{name}"
    function = load_plug(project, reference, key)
    file, _ = plug_file(project, reference, key)

    def metric(truth: NDArray[Any], prediction: NDArray[Any]) -> float:
        try:
            value = function(truth.copy(), prediction.copy())  # it may change its arguments
        except Exception as error:
            raise FeatureError(f"{key}: {where(error, file)}") from None
        return _number(value, key, reference, function, file)

    return metric


def _number(
    value: object, key: str, reference: str, function: Callable[..., Any], file: Path
) -> float:
    number = value.item() if isinstance(value, np.ndarray) and value.size == 1 else value
    if isinstance(number, Real | np.number) and math.isfinite(float(number)):
        return float(number)
    code = getattr(function, "__code__", None)
    line = f":{code.co_firstlineno}" if code else ""
    raise FeatureError(
        f"{key}: {file}{line}: {reference} returned {value!r}, not a finite number: "
        "return one float"
    )
