"""How far two windows are apart, column by column: distances, not p-values.

With many rows a p-value calls every small difference drift; a distance stays what it is.
"""

from collections.abc import Collection
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from lifecycle.data.distance import cramers_v, kolmogorov_smirnov
from lifecycle.errors import DataError
from lifecycle.records import ColumnDrift, DriftReport, Window
from lifecycle.specs import DriftSpec


def drift(
    reference: pd.DataFrame,
    current: pd.DataFrame,
    reference_predictions: "ArrayLike | pd.Series[Any]",
    current_predictions: "ArrayLike | pd.Series[Any]",
    spec: DriftSpec,
    window: Window,
    categorical: Collection[str],
    *,
    classes: bool = False,
) -> DriftReport:
    """Compare every feature and the predictions of a current window with the reference.

    A missing value is a value of its own: a column that suddenly lacks half its values has drifted.

    Args:
        reference_predictions: (n,), numbers, or classes if `classes` says so.
        categorical: features that are categories; the others are numbers or times.
        classes: whether predictions are classes, which the categorical test compares.

    Raises:
        DataError: a window has no rows, or the current one lacks a feature of the reference.
    """
    for name, frame in (("reference window", reference), (f"window {window}", current)):
        if not len(frame):
            raise DataError(f"{name}: no rows to measure drift on")
    if missing := [name for name in reference.columns if name not in current.columns]:
        raise DataError(f"window {window}: lacks the features {', '.join(missing)}")
    features = tuple(
        _categories(str(name), reference[name], current[name], spec, spec.categorical_threshold)
        if name in categorical
        else _numbers(str(name), reference[name], current[name], spec, spec.numeric_threshold)
        for name in reference.columns
    )
    compare = _categories if classes else _numbers
    predictions = compare(
        "prediction",
        pd.Series(reference_predictions),
        pd.Series(current_predictions),
        spec,
        spec.prediction_threshold,
    )
    return DriftReport(
        window=window,
        reference_rows=len(reference),
        current_rows=len(current),
        features=features,
        predictions=predictions,
    )


def wasserstein(reference: NDArray[np.float64], current: NDArray[np.float64]) -> float:
    """Earth mover's distance in standard deviations of the reference.

    Of the values that are there; if the share of missing values moved by more, that share.
    A reference without spread is measured in standard deviations of both windows together.
    """
    present = [values[~np.isnan(values)] for values in (reference, current)]
    moved = abs(len(present[0]) / len(reference) - len(present[1]) / len(current))
    if not len(present[0]) or not len(present[1]):
        return moved
    scale = np.std(present[0]) or np.std(np.concatenate(present)) or 1.0
    return max(float(stats.wasserstein_distance(*present) / scale), moved)


def total_variation(reference: NDArray[np.float64], current: NDArray[np.float64]) -> float:
    """Half the sum of the differences of the levels' shares, 0 to 1."""
    return float(np.abs(reference - current).sum() / 2)


def _numbers(
    name: str, reference: pd.Series, current: pd.Series, spec: DriftSpec, threshold: float
) -> ColumnDrift:
    test = {"kolmogorov_smirnov": kolmogorov_smirnov, "wasserstein": wasserstein}[spec.numeric_test]
    statistic = test(as_floats(reference), as_floats(current))
    return ColumnDrift(
        column=name, test=spec.numeric_test, statistic=statistic, threshold=threshold
    )


def _categories(
    name: str, reference: pd.Series, current: pd.Series, spec: DriftSpec, threshold: float
) -> ColumnDrift:
    test = {"cramers_v": cramers_v, "total_variation": total_variation}[spec.categorical_test]
    counts = shares(reference, current)
    return ColumnDrift(
        column=name,
        test=spec.categorical_test,
        statistic=test(counts["reference"].to_numpy(), counts["current"].to_numpy()),
        threshold=threshold,
    )


def as_floats(column: pd.Series) -> NDArray[np.float64]:
    """A column as floats, missing and infinite values as NaN; times in seconds since 1970."""
    if pd.api.types.is_datetime64_any_dtype(column.dtype):
        known = column.notna().to_numpy()
        seconds = column.astype("datetime64[us]").astype("int64").to_numpy() / 1e6
        return np.where(known, seconds, np.nan)
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
