"""What a booster learns from: a project's parts as matrices, opened where they are needed."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
import xgboost
from numpy.typing import NDArray

from lifecycle.errors import TargetError
from lifecycle.features.encode import (
    FeatureSchema,
    build_features,
    encode,
    fit_schema,
    labels,
    load_hook,
)
from lifecycle.lake import read_version
from lifecycle.project import Project
from lifecycle.records import DatasetVersion
from lifecycle.training.weights import class_counts, row_weights


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
    known = np.isfinite(truth)
    if not known.any():
        raise TargetError(
            f"{project.target}: no row of the {name} part has a value; check the source"
        )
    if known.all():
        return frame, truth
    return frame[known].reset_index(drop=True), truth[known]


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
    given: dict[str, Any] = {
        "label": truth,
        "weight": weights,
        "feature_types": list(schema.kinds),
        "enable_categorical": True,
        "nthread": threads,
    }
    if bins is None:
        return xgboost.DMatrix(values, **given)
    return xgboost.QuantileDMatrix(values, max_bin=bins, **given)
