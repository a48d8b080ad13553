"""Training matrices: a project's parts, opened in the process that needs them."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
import xgboost
from numpy.typing import NDArray

from lifecycle.errors import ProjectError, TargetError
from lifecycle.features.encode import (
    FeatureSchema,
    Floats,
    build_features,
    encode,
    fit_schema,
    labels,
    load_hook,
)
from lifecycle.lake.read import read_version
from lifecycle.project import Project
from lifecycle.records import DatasetVersion

# Class weights as weights of rows, the same for every trainer.


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
    class_weight = project.training.class_weight
    if class_weight is None:
        return None
    if class_weight == "balanced":
        rows = class_counts(project, truth) if counts is None else counts
        present = rows > 0
        by_class = np.divide(
            rows.sum(), present.sum() * rows, out=np.ones_like(rows), where=present
        )
    else:
        by_class = np.ones(len(project.classes) or 2)
        for name, weight in class_weight.items():
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
        f"training.class_weight: {name!r} is not a value of {project.target!r}; "
        f"use {str(positive)!r} and {' or '.join(map(repr, others))}"
    )


@dataclass(frozen=True)
class Matrices:
    """Train and validation part under one schema, which the train part alone decides."""

    schema: FeatureSchema
    train: NDArray[np.float32]
    """(rows, features); categories as codes, missing as NaN."""
    train_labels: NDArray[np.float64]
    validation: NDArray[np.float32]
    validation_labels: NDArray[np.float64]
    train_weights: NDArray[np.float64] | None = None
    """(rows,): of `training.class_weight`; None weighs all rows alike."""
    validation_weights: NDArray[np.float64] | None = None
    """(rows,): the same, by the classes of the train part."""


def pool(project: Project, data: Matrices) -> Matrices:
    """The same with the validation part's rows after those of the train part, to learn from all."""
    truth = np.concatenate([data.train_labels, data.validation_labels])
    return replace(
        data,
        train=np.concatenate([data.train, data.validation]),
        train_labels=truth,
        train_weights=row_weights(project, truth),
    )


def open_matrices(project: Project, train: DatasetVersion, validation: DatasetVersion) -> Matrices:
    """Read both parts, build their features and encode them; rows without a target are left out.

    Raises:
        BackendError: a part cannot be read.
        FeatureError: the hook cannot be loaded or fails.
        TargetError: no row of a part has a target.
    """
    hook = load_hook(project)
    # one part after the other, so that no more than one frame is held beside the matrices
    learned, train_labels = _labelled(project, train, "train")
    features = build_features(learned, project, hook)
    del learned
    schema = fit_schema(features, project.columns)
    matrix = encode(features, schema)
    del features
    checked, validation_labels = _labelled(project, validation, "validation")
    counts = class_counts(project, train_labels) if project.training.class_weight else None
    return Matrices(
        schema=schema,
        train=matrix,
        train_labels=train_labels,
        validation=encode(build_features(checked, project, hook), schema),
        validation_labels=validation_labels,
        train_weights=row_weights(project, train_labels),
        validation_weights=row_weights(project, validation_labels, counts),
    )


def _labelled(
    project: Project, part: DatasetVersion, name: str
) -> tuple[pd.DataFrame, NDArray[np.float64]]:
    frame = read_version(part, columns=[*project.input_columns, project.target])
    truth = labels(frame, project)
    has_truth = np.isfinite(truth)
    if not has_truth.any():
        raise TargetError(
            f"{project.target}: no row of the {name} part has a value; check the source"
        )
    if has_truth.all():
        return frame, truth
    return frame[has_truth].reset_index(drop=True), truth[has_truth]


def as_dmatrix(
    values: NDArray[np.float32],
    truth: NDArray[np.float64],
    schema: FeatureSchema,
    threads: int,
    weights: NDArray[np.float64] | None = None,
    bins: int | None = None,
) -> xgboost.DMatrix:
    """A matrix and its labels as XGBoost takes them.

    Args:
        bins: hold only this many bins a feature instead of the values (`max_bin`).
    """
    options: dict[str, Any] = {
        "label": truth,
        "weight": weights,
        "feature_types": list(schema.kinds),
        "enable_categorical": True,
        "nthread": threads,
    }
    if bins is None:
        return xgboost.DMatrix(values, **options)
    return xgboost.QuantileDMatrix(values, max_bin=bins, **options)
