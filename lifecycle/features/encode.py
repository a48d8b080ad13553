"""Features: the same inputs → hook → matrix in training, evaluation, scoring and serving."""

import re
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from lifecycle.errors import FeatureError
from lifecycle.lake.column_types import holds_texts
from lifecycle.project import ColumnSpec, Project, Scalar
from lifecycle.records import Record
from lifecycle.runtime.identity import file_digest, sha256
from lifecycle.runtime.plugins import load_plug, plug_file, where

Floats = NDArray[np.float64]

Hook = Callable[[pd.DataFrame], pd.DataFrame]
BLOCK_ROWS = 4096
Kind = Literal["q", "c"]
"""XGBoost's words: a quantity or a category."""


class FeatureSchema(Record):
    """Columns of the matrix, in order. They depend on the training part alone."""

    names: tuple[str, ...]
    kinds: tuple[Kind, ...]
    levels: dict[str, tuple[Scalar, ...]]
    """Values of each categorical feature; a value's code is its place."""

    @cached_property
    def codes(self) -> dict[str, "pd.Index[Any]"]:
        """The levels as indexes to look values up in; text is Python's, as in a request."""
        return {
            name: pd.Index(list(levels), dtype=object if str in map(type, levels) else None)
            for name, levels in self.levels.items()
        }


def load_hook(project: Project) -> Hook | None:
    """The function `features` names; None if the project names none.

    Raises:
        FeatureError: there is no such module or function, or the module fails.
    """
    if project.features is None:
        return None
    hook: Callable[..., Any] = load_plug(project, project.features, "features")
    return _reported(hook, plug_file(project, project.features, "features")[0])


def hook_digest(project: Project) -> str:
    """SHA-256 of the hook's file, empty if there is no hook.

    Raises:
        FeatureError: there is no such module.
    """
    if project.features is None:
        return ""
    return file_digest(plug_file(project, project.features, "features")[0])


def build_features(
    frame: pd.DataFrame, inputs: Project | Sequence[str], hook: Hook | None
) -> pd.DataFrame:
    """The features of a frame's rows: its inputs, through the hook if there is one.

    The hook sees no column but the inputs, as a frame of its own; numbers that may be missing are
    floats with NaN, and text is of pandas' type `str`, in training and in serving alike.

    Args:
        inputs: a project, whose target and leakage are then refused as features; or the names of
            the input columns, as a bundle has them.

    Raises:
        FeatureError: an input column is missing, the hook fails, or what it returns has other
            rows, names given twice, or a column that must not be a feature.
    """
    names = list(inputs.input_columns if isinstance(inputs, Project) else inputs)
    missing = [name for name in names if name not in frame.columns]
    if missing:
        raise FeatureError(f"features: the data have no input column {', '.join(missing)}")
    text = {name: "str" for name in names if holds_texts(frame[name])}  # as a request's is
    features = _plain(frame[names].astype(text))  # a copy, which a hook may change
    if hook is None:
        return features
    built = hook(features)
    if not isinstance(built, pd.DataFrame):
        raise FeatureError(f"features: the hook returned {type(built).__name__}, not a DataFrame")
    if not built.index.equals(frame.index):
        raise FeatureError(
            f"features: the hook must return the same rows with the same index: got {len(built)} "
            f"rows for {len(frame)}"
        )
    columns = list(map(str, built.columns))
    if not columns or len(set(columns)) < len(columns):
        raise FeatureError(
            "features: the hook must return at least one column, with distinct names"
        )
    if isinstance(inputs, Project):
        _refuse(columns, inputs)
    return _plain(built.set_axis(columns, axis=1))


def fit_schema(features: pd.DataFrame, columns: Mapping[str, ColumnSpec]) -> FeatureSchema:
    """Decide the kind of each feature: numbers and booleans are quantities, the others categories.

    A category of the contract has the contract's values; others have the values of `features`,
    sorted.

    Args:
        columns: the contract of the inputs, `Project.columns`.

    Raises:
        FeatureError: a feature is a time, free text, or a category without any value.
    """
    refuse_text_and_times(features, columns)
    kinds: dict[str, Kind] = {}
    levels: dict[str, tuple[Scalar, ...]] = {}
    for name in map(str, features.columns):
        values = features[name]
        spec = columns.get(name)
        is_category = spec is not None and spec.type == "category"
        if not is_category and pd.api.types.is_numeric_dtype(values.dtype):
            kinds[name] = "q"
            continue
        kinds[name] = "c"
        levels[name] = _levels(values, spec.categories if is_category and spec else None)
    return FeatureSchema(names=tuple(kinds), kinds=tuple(kinds.values()), levels=levels)


def refuse_text_and_times(features: pd.DataFrame, columns: Mapping[str, ColumnSpec]) -> None:
    """See that every feature is of a type that can be learned from; a few rows tell that.

    Raises:
        FeatureError: a feature is a time or free text.
    """
    for name in map(str, features.columns):
        spec = columns.get(name)
        if pd.api.types.is_datetime64_any_dtype(features[name].dtype):
            raise FeatureError(
                f"features: {name!r} is a time, which trees cannot learn from as it is: turn it "
                "into numbers in a features hook, or name it under `ignore`"
            )
        if spec and spec.type == "string":
            raise FeatureError(
                f"features: {name!r} is free text (contract type string): make its type category, "
                "turn it into numbers in a features hook, or name it under `ignore`"
            )


def encode(features: pd.DataFrame, schema: FeatureSchema) -> NDArray[np.float32]:
    """Features as a matrix (rows, features); categories are codes, missing and unknown ones NaN.

    Raises:
        FeatureError: a feature of the schema is missing, no number, or infinite.
    """
    columns = [
        _codes(features, name, schema) if kind == "c" else _numbers(features, name)
        for name, kind in zip(schema.names, schema.kinds, strict=True)
    ]
    matrix = np.empty((len(features), len(columns)), dtype=np.float32)
    # rows are filled in blocks that fit a cache: column by column would touch every line of the
    # whole matrix as often as there are columns
    for start in range(0, len(matrix), BLOCK_ROWS):
        block = matrix[start : start + BLOCK_ROWS]
        with np.errstate(over="ignore"):
            for at, column in enumerate(columns):
                block[:, at] = column[start : start + BLOCK_ROWS].astype(np.float64, copy=False)
        # beyond float32 a number becomes infinite too, and XGBoost refuses those without a name
        large = np.isinf(block)
        if large.any():
            row, at = np.argwhere(large)[0]
            raise FeatureError(
                f"features: {schema.names[at]!r} is infinite or beyond 3.4e38 in row "
                f"{start + row}: avoid division by zero in the features hook, or bound the column "
                "in the contract"
            )
    return matrix


def _codes(features: pd.DataFrame, name: str, schema: FeatureSchema) -> NDArray[np.float32]:
    codes = schema.codes[name].get_indexer(pd.Index(_column(features, name)))
    return np.where(codes < 0, np.float32(np.nan), codes.astype(np.float32))


def _numbers(features: pd.DataFrame, name: str) -> NDArray[Any]:
    """The values themselves where they are NumPy's numbers, else a copy as floats."""
    values = _column(features, name)
    if isinstance(values.dtype, np.dtype) and values.dtype.kind in "fiub":
        return values.to_numpy()
    try:
        return values.to_numpy(dtype=np.float64, na_value=np.nan)
    except (TypeError, ValueError):
        raise FeatureError(f"features: {name!r} was a number in training, but is not now") from None


def _column(features: pd.DataFrame, name: str) -> "pd.Series[Any]":
    if name not in features.columns:
        raise FeatureError(f"features: {name!r} existed in training and is missing now")
    return features[name]


def labels(frame: pd.DataFrame, project: Project) -> NDArray[np.float64]:
    """The target, shape (rows,): 1 where it is `positive` and 0 elsewhere (binary), the place of
    its class in `project.classes` (multiclass), or the value itself. A missing target is NaN.
    """
    target = frame[project.target]
    if project.task in ("regression", "count"):
        return target.to_numpy(dtype=np.float64, na_value=np.nan)
    if project.task == "multiclass":
        codes = pd.Index(list(project.classes)).get_indexer(pd.Index(target))
        return np.where(codes < 0, np.nan, codes.astype(np.float64))
    positive = 1 if project.positive is None else project.positive
    return np.where(target.isna(), np.nan, (target == positive).fillna(False).astype(np.float64))


def _reported(hook: Callable[..., Any], file: Path) -> Hook:
    """The hook, with its failures told as one message that names the line."""

    def build(inputs: pd.DataFrame) -> pd.DataFrame:
        try:
            built: pd.DataFrame = hook(inputs)
        except Exception as error:
            raise FeatureError(f"features: {where(error, file)}") from None
        return built

    return build


def _refuse(columns: list[str], project: Project) -> None:
    for role, names in (("the target", (project.target,)), ("leakage", project.leakage)):
        clashes = [name for name in columns if name in names]
        if clashes:
            raise FeatureError(
                f"features: the hook returned {', '.join(clashes)}, which is {role} and cannot be "
                "a feature; remove it from what the hook returns"
            )


def _plain(frame: pd.DataFrame) -> pd.DataFrame:
    """Numbers that may be missing become floats with NaN, instead of pandas' own types."""
    nullable = {
        name: "float64"
        for name, dtype in frame.dtypes.items()
        if pd.api.types.is_extension_array_dtype(dtype) and pd.api.types.is_numeric_dtype(dtype)
    }
    return frame.astype(nullable)


def _levels(values: "pd.Series[Any]", allowed: tuple[Scalar, ...] | None) -> tuple[Scalar, ...]:
    if allowed is not None:
        return allowed
    values_present = values.dropna().unique()
    if not len(values_present):
        raise FeatureError(f"features: category {values.name!r} has no value in training at all")
    return tuple(
        sorted((v.item() if isinstance(v, np.generic) else v for v in values_present), key=str)
    )


# Multiclass answers: the most probable class, and the names of the probability columns.


def most_probable(probabilities: NDArray[np.float64], classes: Sequence[Scalar]) -> NDArray[Any]:
    """The class with the highest probability, shape (n,); of equal ones the first.

    Args:
        probabilities: (n, k), columns in the order of `classes`.

    Returns:
        Values of `classes`: objects where they are text, otherwise numbers.
    """
    text = any(isinstance(value, str) for value in classes)
    values = np.array(list(classes), dtype=object if text else None)
    labels: NDArray[Any] = values[probabilities.argmax(axis=1)]
    return labels


def probability_columns(classes: Sequence[Scalar]) -> tuple[str, ...]:
    """A column name a class, `probability_<class>`, in the order of `classes`.

    What a Delta table does not take in a name becomes `_`; as it does not tell case apart either,
    a name that is taken already gets a number.
    """
    names: list[str] = []
    for value in classes:
        name = plain = "probability_" + re.sub(r"[\s,;{}()=.]+", "_", str(value))
        number = 2
        while name.lower() in map(str.lower, names):
            name, number = f"{plain}_{number}", number + 1
        names.append(name)
    return tuple(names)


# A model's use of its views: part of its bundle, and constant as long as it serves.


class ViewUse(Record):
    """Use of one view by a model; part of its bundle."""

    how: str
    """Digest of how the features are made: function, columns, features."""
    columns: tuple[str, ...]
    """Inputs of the model that the view makes, `<view>__<feature>`, in the order of its table."""
    max_age: float | None
    same_instant: bool


def view_uses(project: Project) -> dict[str, ViewUse]:
    """Describe how the project's model uses each of its views.

    Raises:
        FeatureError: the module of a function does not exist.
    """
    return {
        name: ViewUse(
            how=how_made(project, name),
            columns=tuple(f"{name}__{feature}" for feature in spec.features),
            max_age=spec.max_age,
            same_instant=spec.same_instant,
        )
        for name, spec in project.feature_views.items()
    }


def how_made(project: Project, name: str) -> str:
    """Digest of how a view's features are made: function, columns, features.

    Raises:
        FeatureError: the module of the function is not there.
    """
    spec = project.feature_views[name]
    function = plug_file(project, spec.function, f"feature_views.{name}.function")
    keys = {"type", "nullable", "categories"}  # what else is said of a column changes no value
    columns: list[Any] = [
        {name: column.model_dump(mode="json", include=keys) for name, column in columns.items()}
        for columns in (spec.columns, spec.features)
    ]
    return sha256([file_digest(function[0]), function[1], spec.key, spec.time, columns])
