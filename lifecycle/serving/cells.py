"""Values of a request as numbers of the matrix, if that they are right is plain to see.

Plain are exact JSON or NumPy types, in range, with nothing unknown.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from lifecycle.lake.column_types import matches, storage_type
from lifecycle.project import ColumnSpec
from lifecycle.serving.wire import Column

Matrix = NDArray[np.float32]
Cell = Callable[[Any], float]
"""A value as its number in the matrix; raises `NotPlainError` if that is not plain to see."""

EXACT = 2**53
"""Whole numbers beyond it are not all floats of 64 bits."""
LARGEST = float(np.finfo(np.float32).max)
NUMERIC = ("number", "integer")


class NotPlainError(Exception):
    """The slow way has to look at it."""


def cell_of(spec: ColumnSpec, levels: Sequence[Any] | None) -> Cell:
    """The conversion of one value of this column."""
    low, high = _bounds(spec)
    kind = storage_type(spec)
    missing = math.nan if spec.nullable else None

    def number(value: Any) -> float:
        if value.__class__ is float or (value.__class__ is int and -EXACT < value < EXACT):
            if low <= value <= high:  # false for NaN too
                return value
        elif value is None and missing is not None:
            return missing
        raise NotPlainError

    def integer(value: Any) -> float:
        if value.__class__ is int and low <= value <= high and -EXACT < value < EXACT:
            return value
        if value is None and missing is not None:
            return missing
        raise NotPlainError

    def boolean(value: Any) -> float:
        if value.__class__ is bool:
            return 1.0 if value else 0.0
        if value is None and missing is not None:
            return missing
        raise NotPlainError

    if levels is None and spec.categories is None:
        plain: dict[str, Cell] = {"number": number, "integer": integer, "boolean": boolean}
        return plain.get(kind, _never)
    if kind != "string" or spec.type != "category" or levels is None:
        return _never
    codes = {level: float(code) for code, level in enumerate(levels) if isinstance(level, str)}
    if spec.pattern is not None:  # training may have learned what a contract only warns of
        kept = matches(pa.array(list(codes), pa.string()), spec.pattern).to_pylist()
        codes = {
            level: code for (level, code), good in zip(codes.items(), kept, strict=True) if good
        }
    closed = spec.categories is not None or spec.pattern is not None

    def category(value: Any) -> float:
        if value.__class__ is str:
            code = codes.get(value)
            if code is not None:
                return code
            if not closed:  # what training has not seen is missing to the model
                return math.nan
        elif value is None and missing is not None:
            return missing
        raise NotPlainError

    return category


class Numbers:
    """All inputs at once, where all of them are numbers.

    Args:
        names: the features, which are the inputs in the model's order.
    """

    def __init__(self, inputs: Mapping[str, ColumnSpec], names: Sequence[str]) -> None:
        self._low, self._high = np.array([_bounds(spec) for spec in inputs.values()]).T
        self._whole = any(storage_type(spec) == "integer" for spec in inputs.values())
        places = [list(inputs).index(name) for name in names]
        self._places = None if places == sorted(places) else places

    def checked(self, cells: NDArray[Any]) -> Matrix:
        """Cells (rows, inputs) as the matrix.

        Raises:
            NotPlainError: a cell is beyond its column's range, or no whole number by its type.
        """
        if cells.dtype.kind != "f":
            if len(cells) and np.abs(cells).max() >= EXACT:
                raise NotPlainError
        elif self._whole:
            raise NotPlainError
        if not bool(((cells >= self._low) & (cells <= self._high)).all()):
            raise NotPlainError
        matrix: Matrix = cells.astype(np.float32)
        return matrix if self._places is None else matrix[:, self._places]


def _bounds(spec: ColumnSpec) -> tuple[float, float]:
    """Least and greatest value that is plainly right."""
    low = -math.inf if spec.minimum is None else spec.minimum
    high = math.inf if spec.maximum is None else spec.maximum
    return max(low, -LARGEST), min(high, LARGEST)


def is_number(spec: ColumnSpec, levels: Sequence[Any] | None) -> bool:
    return levels is None and spec.categories is None and storage_type(spec) in NUMERIC


def _never(_value: Any) -> float:
    raise NotPlainError


def column_of(
    spec: ColumnSpec, levels: Sequence[Any] | None, cell: Cell
) -> Callable[[Column], NDArray[Any]]:
    """The conversion of many values of this column at once."""
    low, high = _bounds(spec)
    numeric = is_number(spec, levels)
    whole = storage_type(spec) == "integer"
    kinds, types = ("iu", {int}) if whole else ("fiu", {int, float})

    def convert(values: Column) -> NDArray[Any]:
        if numeric and isinstance(values, np.ndarray) and values.dtype.kind in kinds:
            return _checked(values)
        if numeric and not isinstance(values, np.ndarray) and set(map(type, values)) <= types:
            return _checked(np.array(values))
        plain = values.tolist() if isinstance(values, np.ndarray) else values
        return np.array([cell(value) for value in plain], dtype=np.float64)

    def _checked(values: NDArray[Any]) -> NDArray[Any]:
        if values.ndim != 1 or values.dtype == object:
            raise NotPlainError
        if values.dtype.kind in "iu" and len(values) and np.abs(values).max() >= EXACT:
            raise NotPlainError
        if not bool(((values >= low) & (values <= high)).all()):
            raise NotPlainError
        return values.astype(np.float64, copy=False)

    return convert
