"""Class weights as weights of rows, the same for every trainer."""

import numpy as np
from numpy.typing import NDArray

from lifecycle.errors import ProjectError
from lifecycle.project import Project

Floats = NDArray[np.float64]


def class_counts(project: Project, truth: Floats) -> Floats:
    """(classes,): rows of each class; binary has two. Counts of shares of the rows add up."""
    classes = len(project.classes) or 2
    return np.bincount(truth.astype(np.int64), minlength=classes).astype(np.float64)


def row_weights(project: Project, truth: Floats, counts: Floats | None = None) -> Floats | None:
    """(rows,): each row's weight by its class; None if the project weighs no class.

    `balanced` is scikit-learn's: rows / (classes seen × rows of the class), from King and Zeng
    (2001), so weights are 1 on average.

    Args:
        truth: (rows,), the labels, 0/1 or the class codes.
        counts: rows of each class in the whole train part, where `truth` is only a share of it.

    Raises:
        ProjectError: `training.class_weight` names a class that is not the target's.
    """
    wanted = project.training.class_weight
    if wanted is None:
        return None
    if wanted == "balanced":
        rows = class_counts(project, truth) if counts is None else counts
        seen = rows > 0
        by_class = np.divide(rows.sum(), seen.sum() * rows, out=np.ones_like(rows), where=seen)
    else:
        by_class = np.ones(len(project.classes) or 2)
        for name, weight in wanted.items():
            by_class[_code(project, name)] = weight
    weights: Floats = by_class[truth.astype(np.int64)]
    return weights


def loss_weights(project: Project, weights: Floats | None) -> Floats | None:
    """Weights of the rows that a model is measured on while it is trained.

    A weighted model minimises the weighted log loss, so that is what stops it and ranks trials.
    Other metrics, chosen in spite of the weights, count every row alike.
    """
    return weights if project.training_metric == "log_loss" else None


def _code(project: Project, name: str) -> int:
    """The label of the class that a key of `training.class_weight` names."""
    if project.task == "multiclass":
        names = [str(value) for value in project.classes]
        return names.index(name)  # the project file is checked for names that are no class
    positive = 1 if project.positive is None else project.positive
    if name in (str(positive), str(positive).lower()):
        return 1
    spec = project.contract.columns[project.target]
    if spec.categories:
        others = [str(value) for value in spec.categories if value != positive]
    elif spec.type == "boolean":
        others = [str(not positive), str(not positive).lower()]
    else:
        others = ["0"] if positive == 1 else []
    # a target without declared categories may spell its other class in any way but one
    if name in others or (not others and name != str(positive)):
        return 0
    raise ProjectError(
        f"training.class_weight: {name!r} is no value of {project.target!r}; "
        f"use {str(positive)!r} and {' or '.join(map(repr, others))}"
    )
