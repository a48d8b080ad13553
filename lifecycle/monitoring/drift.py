"""Drift between two windows, column by column: distances, not p-values.

The distances themselves, and what chance does to them, are in `profiling.compare`.

With many rows a p-value calls every small difference drift; a distance stays what it is. With few
rows chance alone makes large distances: each limit is the project's threshold or what chance
exceeds once in a hundred windows, whichever is more.
"""

from collections.abc import Collection

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from lifecycle.errors import DataError
from lifecycle.monitoring.scored import OpenWindow
from lifecycle.profiling.compare import compare_categories, compare_numbers, independent_rows
from lifecycle.project import DriftSpec
from lifecycle.records import ColumnDrift, DriftReport, LabelDrift, Window

CHANCE = 0.01
"""In how many windows without drift any column may be beyond its limit, at most: each column gets
an equal share (Bonferroni 1936)."""
PREDICTION = "prediction"
"""What the predictions are called among the columns."""


def drift_report(
    reference: OpenWindow,
    current: OpenWindow,
    spec: DriftSpec,
    window: Window,
    categorical: Collection[str],
) -> DriftReport:
    """Compare every feature, the predictions and the labels of a window with the reference.

    A missing value is a value of its own: a column that suddenly lacks half its values has drifted.
    Rows of one entity may all be alike, so chance is reckoned as if they were.

    Args:
        categorical: features that are categories; the others are numbers or times.

    Raises:
        DataError: a window has no rows, or the current one lacks a feature of the reference.
    """
    before, after = reference.features, current.features
    for name, frame in (("reference window", before), (f"window {window}", after)):
        if not len(frame):
            raise DataError(f"{name}: no rows to measure drift on")
    if missing := [name for name in before.columns if name not in after.columns]:
        raise DataError(f"window {window}: has no features {', '.join(missing)}")
    alpha = CHANCE / (len(before.columns) + 2)
    rows = (
        independent_rows(reference.entity, len(before)),
        independent_rows(current.entity, len(after)),
    )
    features = tuple(
        _column(
            str(name), before[name], after[name], rows, spec, alpha, category=name in categorical
        )
        for name in before.columns
    )
    answers = (reference.answer, current.answer)
    category = bool(reference.classes)
    predictions = _column(PREDICTION, *answers, rows, spec, alpha, category=category)
    return DriftReport(
        window=window,
        reference_rows=len(before),
        current_rows=len(after),
        features=features,
        predictions=predictions.model_copy(update={"threshold": spec.prediction_threshold}),
        labels=_labels(reference, current, spec, alpha),
    )


def _labels(
    reference: OpenWindow, current: OpenWindow, spec: DriftSpec, alpha: float
) -> LabelDrift | None:
    """The target where it is known; None if that is nowhere in one of the windows."""
    labelled = [~np.isnan(window.truth) for window in (reference, current)]
    if not all(mask.any() for mask in labelled):
        return None
    sides = list(zip((reference, current), labelled, strict=True))
    rows = [
        independent_rows(None if window.entity is None else window.entity[mask], int(mask.sum()))
        for window, mask in sides
    ]
    before, after = (window.label[mask].reset_index(drop=True) for window, mask in sides)
    category = reference.task in ("binary", "multiclass")
    column = _column(
        reference.target, before, after, (rows[0], rows[1]), spec, alpha, category=category
    )
    means = None if reference.classes else (float(before.mean()), float(after.mean()))
    return LabelDrift(**column.model_dump(), rows=len(after), means=means)


def _column(
    name: str,
    before: pd.Series,
    after: pd.Series,
    rows: tuple[float, float],
    spec: DriftSpec,
    alpha: float,
    *,
    category: bool,
) -> ColumnDrift:
    test: str
    if category:
        test, threshold = spec.categorical_test, spec.categorical_threshold
        table = shares(before, after)
        sides = table["reference"].to_numpy(), table["current"].to_numpy()
        statistic, chance = compare_categories(*sides, rows, alpha, spec.categorical_test)
    else:
        test, threshold = spec.numeric_test, spec.numeric_threshold
        numbers = as_floats(before), as_floats(after)
        statistic, chance = compare_numbers(*numbers, alpha, spec.numeric_test, rows)
    return ColumnDrift(
        column=name, test=test, statistic=statistic, threshold=threshold, chance=chance
    )


def as_floats(column: pd.Series) -> NDArray[np.float64]:
    """A column as floats, missing and infinite values as NaN; times in seconds since 1970."""
    if pd.api.types.is_datetime64_any_dtype(column.dtype):
        present = column.notna().to_numpy()
        seconds = column.astype("datetime64[us]").astype("int64").to_numpy() / 1e6
        return np.where(present, seconds, np.nan)
    values = column.to_numpy(dtype=np.float64, na_value=np.nan)
    return np.where(np.isinf(values), np.nan, values)


def shares(reference: pd.Series, current: pd.Series) -> pd.DataFrame:
    """Share of each level, columns `reference` and `current`; missing is a level of its own."""
    counted = {
        name: column.astype(object)
        .where(column.notna(), "(missing)")
        .map(str)
        .value_counts(normalize=True)
        for name, column in (("reference", reference), ("current", current))
    }
    return pd.DataFrame(counted).fillna(0.0).sort_index()
