"""Numbers given the other columns: what a linear regression on these leaves of each.

Humidity varies from month to month with the season, and that hides a shift of its own. The season
is in other columns, too: what is left of humidity without them varies less, and shows the shift
(conditional distributions, after Kulinski, Bagchi and Inouye, Feature Shift Detection, NeurIPS
2020). It also shows a relation that is broken while each column looks as before.

The residuals of the reference come from regressions on its other parts, as those of a window do
from the reference: else chance would look smaller than it is.
"""

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any, NamedTuple, Self

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from lifecycle.monitoring.scored import OpenWindow
from lifecycle.monitoring.sketch import BINS, SKETCHED_ROWS, Floats, as_floats, levels_of
from lifecycle.project import DriftSpec

PARTS = 5
"""Parts of the reference: rows in time, or whole entities."""
RIDGE = 1e-3
"""Added to each variance, which is 1: columns may follow from others."""
MAX_LEVELS = 12
"""A category with more levels is not regressed on."""
ROWS_EACH = 20
"""Rows of either window for each column that is regressed on; with fewer there is no regression.

The columns of a short window are far from their means together, where a coefficient's error counts.
"""
MAX_TERMS = 500
"""With more columns to regress on there is no regression: its cost goes with their square."""
TOGETHER = 1 << 16
"""Rows that are multiplied at once."""


class Residuals(NamedTuple):
    """Remainder of a number, in its standard deviations; NaN where it is missing."""

    name: str
    before: Floats
    """(m,): of the reference."""
    after: Floats
    """(n,): of the window."""


def residuals(
    reference: OpenWindow, current: OpenWindow, categorical: Collection[str]
) -> Iterator[Residuals]:
    """Yield the residuals of each number of many values.

    Nothing is yielded with too few rows for a regression, or too many columns.
    """
    before, after = reference.features, current.features
    most = min(MAX_TERMS, min(len(before), len(after)) // ROWS_EACH)
    if len(before.columns) > most:
        return
    terms = [term for name in before.columns for term in _terms(before[name], name in categorical)]
    of_many = [at for at, term in enumerate(terms) if term.has_many]
    if not of_many or len(terms) > most:
        return
    part = _parts(reference)
    grams = np.zeros((PARTS, len(terms), len(terms)))
    for rows in _slices(len(before)):
        values = _matrix(before, rows, terms)
        for number in range(PARTS):
            own = values[part[rows] == number]
            grams[number] += own.T @ own
    sizes = np.bincount(part, minlength=PARTS)
    total = grams.sum(axis=0)
    left_out = [
        _coefficients(total - gram, len(before) - size, of_many)
        for gram, size in zip(grams, sizes, strict=True)
    ]
    sides = [np.empty((len(frame), len(of_many)), np.float32) for frame in (before, after)]
    for rows in _slices(len(before)):
        values = _matrix(before, rows, terms)
        for number, coefficients in enumerate(left_out):
            own = part[rows] == number
            sides[0][rows][own] = values[own] @ coefficients
    coefficients = _coefficients(total, len(before), of_many)
    for rows in _slices(len(after)):
        sides[1][rows] = _matrix(after, rows, terms) @ coefficients
    for at, term in enumerate(terms[index] for index in of_many):
        missing = (np.isnan(as_floats(frame[term.name])) for frame in (before, after))
        pair = (
            np.where(mask, np.nan, side[:, at]) for mask, side in zip(missing, sides, strict=True)
        )
        yield Residuals(term.name, *pair)


def shift_threshold(spec: DriftSpec) -> float:
    """The shift in standard deviations that is as large as the threshold of a number's test.

    Of a normal column, whose Kolmogorov-Smirnov distance from itself shifted by s is 2 Φ(s/2) - 1.
    """
    if spec.numeric_test == "wasserstein":
        return spec.numeric_threshold
    return 2 * NormalDist().inv_cdf((1 + min(spec.numeric_threshold, 0.999)) / 2)


@dataclass(frozen=True)
class _Term:
    """A column of the regressions: a number, or a level of a category."""

    name: str
    mean: float
    deviation: float
    level: str | None = None
    has_many: bool = False
    """Whether it is a number of more values than bins, whose residuals are compared."""

    @classmethod
    def of(
        cls, name: str, values: Floats, level: str | None = None, has_many: bool = False
    ) -> Self:
        present = values[~np.isnan(values)]
        if not len(present):
            return cls(name, 0.0, 1.0, level)
        return cls(name, float(present.mean()), float(present.std()) or 1.0, level, has_many)


def _terms(column: "pd.Series[Any]", is_category: bool) -> Iterator[_Term]:
    name = str(column.name)
    if is_category:
        texts = _texts(column)
        levels = sorted(set(texts))
        if len(levels) <= MAX_LEVELS:
            for level in levels[1:]:
                yield _Term.of(name, (texts == level).astype(float), level)
        return
    values = as_floats(column)
    sample = values[:: max(1, len(values) // SKETCHED_ROWS)]
    yield _Term.of(name, values, has_many=len(np.unique(sample[~np.isnan(sample)])) > BINS)


def _texts(column: "pd.Series[Any]") -> NDArray[np.object_]:
    codes, names = levels_of(column)
    return np.array(names, dtype=object)[codes]


def _matrix(frame: pd.DataFrame, rows: slice, terms: list[_Term]) -> Floats:
    """Rows (r, terms), each term with mean 0 and deviation 1 in the reference; missing is 0."""
    values = np.empty((rows.stop - rows.start, len(terms)))
    columns: dict[str, Any] = {}
    for at, term in enumerate(terms):
        if term.name not in columns:
            column = frame[term.name].iloc[rows]
            columns[term.name] = as_floats(column) if term.level is None else _texts(column)
        column = columns[term.name]
        numbers = column if term.level is None else (column == term.level).astype(float)
        values[:, at] = np.nan_to_num((numbers - term.mean) / term.deviation)
    return values


def _coefficients(gram: Floats, rows: int, of: list[int]) -> Floats:
    """Coefficients (terms, of) whose product with the terms is the residuals of some of them.

    Column j of the inverse of the covariances, divided by its j-th number, is 1 for j itself and
    minus the coefficients of the regression of j on the others.
    """
    inverse = np.linalg.inv(gram / rows + RIDGE * np.eye(len(gram)))
    coefficients: Floats = inverse[:, of] / inverse[of, of]
    return coefficients


def _parts(window: OpenWindow) -> NDArray[np.intp]:
    """The part (m,) of the reference that each row is in."""
    rows = len(window.features)
    if window.entity is not None:
        codes: NDArray[np.intp] = pd.factorize(window.entity, use_na_sentinel=False)[0] % PARTS
        return codes
    place = np.arange(rows)
    if window.time is not None:
        place[np.argsort(window.time, kind="stable")] = np.arange(rows)
    return place * PARTS // rows


def _slices(rows: int) -> Iterator[slice]:
    for start in range(0, rows, TOGETHER):
        yield slice(start, min(start + TOGETHER, rows))
