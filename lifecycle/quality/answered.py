"""Parts of the data with the model's answers, sampled and as deepchecks takes them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from lifecycle.data.classes import most_probable
from lifecycle.specs import Scalar, TaskKind

ROLES = {"(target)": "label", "(entity)": "index_name", "(time)": "datetime_name"}
"""Columns that are no features, by names no feature has → deepchecks' word for the role."""
SEED = 42
"""deepchecks' own `random_state`."""


@dataclass(frozen=True)
class Answered:
    """A part of the data, as the model sees it, with truth and the model's answers."""

    features: pd.DataFrame
    """(n, k): features after the hook; categories not encoded."""
    truth: NDArray[np.float64]
    """(n,): 0 or 1 for binary, the class's code for multiclass, otherwise the target's own unit;
    NaN where it is missing."""
    prediction: NDArray[np.float64]
    """(n,): probability of 1, or the value; (n, classes) for multiclass: probabilities."""
    entity: NDArray[Any] | None = None
    """(n,): who or what each row is about."""
    time: NDArray[Any] | None = None
    """(n,): the time column."""
    threshold: float = 0.5
    """Binary: the probability from which a row counts as positive."""


def draw(part: Answered, rows: int | None = None) -> Answered:
    """At most so many rows with a truth, drawn at random without replacement, in their order.

    The rows that deepchecks' checks would draw, each anew, and with a look at the whole index for
    every prediction they ask for; so they are drawn once, before deepchecks sees them.
    """
    known = np.flatnonzero(np.isfinite(part.truth))
    if rows is not None and len(known) > rows:
        known = np.sort(np.random.RandomState(SEED).choice(known, rows, replace=False))
    elif len(known) == len(part.truth):
        return part
    return Answered(
        features=part.features.iloc[known],
        truth=part.truth[known],
        prediction=part.prediction[known],
        entity=None if part.entity is None else part.entity[known],
        time=None if part.time is None else part.time[known],
        threshold=part.threshold,
    )


def as_given(
    train: Answered,
    holdout: Answered,
    task: TaskKind,
    categorical: Sequence[str],
    importances: Mapping[str, float],
    classes: Sequence[Scalar] = (),
) -> dict[str, Any]:
    """Arguments of deepchecks' `Suite.run`.

    Args:
        classes: multiclass: the classes' names in the order of their codes.
    """
    columns = list(train.features.columns)
    ranks = pd.Series({name: max(importances.get(name, 0.0), 0.0) for name in columns})
    given: dict[str, Any] = {
        "train_dataset": _dataset(train, 0, task, categorical, classes),
        "test_dataset": _dataset(holdout, len(train.features), task, categorical, classes),
        "feature_importance": ranks / ranks.sum() if ranks.sum() > 0 else None,
    }
    for name, part in (("train", train), ("test", holdout)):
        answers = part.prediction
        if task == "binary":
            given[f"y_pred_{name}"] = (answers >= part.threshold).astype(int)
            given[f"y_proba_{name}"] = np.column_stack([1 - answers, answers])
        elif task == "multiclass":
            order = sorted(range(len(classes)), key=lambda at: classes[at])  # deepchecks wants it
            given[f"y_pred_{name}"] = most_probable(answers, classes)
            given[f"y_proba_{name}"] = answers[:, order]
        else:
            given[f"y_pred_{name}"] = answers
    if task in ("binary", "multiclass"):
        given["model_classes"] = sorted(classes) if task == "multiclass" else [0, 1]
    return given


def _dataset(
    part: Answered,
    first: int,
    task: TaskKind,
    categorical: Sequence[str],
    classes: Sequence[Scalar],
) -> Any:
    """A deepchecks Dataset; rows are numbered from `first`, or it would rename them all."""
    from deepchecks.tabular import Dataset

    frame = part.features.set_axis(pd.RangeIndex(first, first + len(part.features)), axis=0)
    for name in frame.columns:  # it knows neither nullable integers nor nullable booleans
        if isinstance(frame[name].dtype, pd.api.extensions.ExtensionDtype):
            frame = frame.assign(**{name: _plain(frame[name], name in categorical)})
    features = list(frame.columns)
    columns = dict(zip(ROLES, (_label(part, task, classes), part.entity, part.time), strict=True))
    given = {column: values for column, values in columns.items() if values is not None}
    return Dataset(
        frame.assign(**given),
        **{ROLES[column]: column for column in given},
        features=features,
        cat_features=[name for name in categorical if name in features],
        label_type="regression" if task == "count" else task,
        convert_datetime=False,
    )


def _label(part: Answered, task: TaskKind, classes: Sequence[Scalar]) -> NDArray[Any]:
    if task == "multiclass":
        return most_probable(np.eye(len(classes))[part.truth.astype(int)], classes)
    return part.truth.astype(int) if task == "binary" else part.truth


def _plain(column: pd.Series, categorical: bool) -> pd.Series:
    """A nullable column as objects with None, or as floats with NaN."""
    if categorical:
        return column.astype(object).where(column.notna(), None)
    return column.astype("float64")
