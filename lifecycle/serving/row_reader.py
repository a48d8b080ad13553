"""A request's rows as the model's matrix: the plain case without pandas, all others through it.

What is plainly right (`cells`) becomes the matrix at once. Everything else takes the way of
training, a frame through `protocol.to_frame`, the features hook and `encode`, which knows the whole
truth and words the refusals. A test compares both ways, bit by bit, over every row of a holdout.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from lifecycle.errors import RequestError
from lifecycle.features.encode import FeatureSchema
from lifecycle.lake.column_types import Constraint, Maximum, Minimum, constraints_of
from lifecycle.project import ColumnSpec
from lifecycle.serving.records import Column, PredictionRequest, Records, to_frame

# Values of a request as numbers of the matrix, if that they are right is plain to see.
#
# Plain are exact JSON or NumPy types, in range, with nothing unknown.

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
    kind, constraints = spec.value_type, constraints_of(spec)
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

    if is_number(spec, levels) or (kind == "boolean" and levels is None and not constraints):
        plain: dict[str, Cell] = {"number": number, "integer": integer, "boolean": boolean}
        return plain.get(kind, _never)
    if kind != "string" or spec.type != "category" or levels is None:
        return _never
    codes = {level: float(code) for code, level in enumerate(levels) if isinstance(level, str)}
    # training may have learned what a contract only warns of
    codes = {level: code for level, code in codes.items() if _allowed(level, constraints)}
    closed = bool(constraints)

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


class NumericRows:
    """All inputs at once, where all of them are numbers.

    Args:
        names: the features, which are the inputs in the model's order.
    """

    def __init__(self, inputs: Mapping[str, ColumnSpec], names: Sequence[str]) -> None:
        self._low, self._high = np.array([_bounds(spec) for spec in inputs.values()]).T
        self._integers = any(spec.value_type == "integer" for spec in inputs.values())
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
        elif self._integers:
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
    """Return whether the column is a number for which only bounds need to be checked.

    Columns with any other constraint take the slow path.
    """
    bounded = all(isinstance(check, Minimum | Maximum) for check in constraints_of(spec))
    return levels is None and bounded and spec.value_type in NUMERIC


def _allowed(value: Any, constraints: Sequence[Constraint]) -> bool:
    return all(check.allows(value) for check in constraints)


def _never(_value: Any) -> float:
    raise NotPlainError


def column_of(
    spec: ColumnSpec, levels: Sequence[Any] | None, cell: Cell
) -> Callable[[Column], NDArray[Any]]:
    """The conversion of many values of this column at once."""
    low, high = _bounds(spec)
    numeric = is_number(spec, levels)
    integer = spec.value_type == "integer"
    kinds, types = ("iu", {int}) if integer else ("fiu", {int, float})

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


class RowReader:
    """Rows of requests for one model.

    Args:
        inputs: the columns of a request, as the bundle has them.
        features: columns of the matrix; None if a hook makes them, then no row is plain.
        entity: column that a request may carry beside the inputs, for the canary and the log.
        ignore: whether other fields are left out; otherwise they are refused.
    """

    def __init__(
        self,
        inputs: Mapping[str, ColumnSpec],
        features: FeatureSchema | None,
        entity: str | None,
        ignore: bool = False,
    ) -> None:
        self._inputs = inputs
        self._ignore = ignore
        self._entity = entity if entity not in inputs else None
        self._cells: list[tuple[str, Cell]] = []
        self._columns: list[tuple[str, Callable[[Column], NDArray[Any]]]] = []
        self._numbers: NumericRows | None = None
        if features is not None and set(features.names) == set(inputs):
            levels = features.levels
            self._cells = [
                (name, cell_of(inputs[name], levels.get(name))) for name in features.names
            ]
            self._columns = [
                (name, column_of(inputs[name], levels.get(name), cell))
                for name, cell in self._cells
            ]
            if all(is_number(spec, levels.get(name)) for name, spec in inputs.items()):
                self._numbers = NumericRows(inputs, features.names)

    def entities(self, request: PredictionRequest) -> Column | None:
        """The entity of each row, where the request says it."""
        if self._entity is None:
            return None
        if request.columns is not None:
            return request.columns.get(self._entity)
        records = request.records or []
        if not any(self._entity in record for record in records):
            return None
        return [record.get(self._entity) for record in records]

    def plain(self, request: PredictionRequest) -> Matrix | None:
        """The matrix, shape (rows, features), if the request is plainly right; None if not."""
        if not self._cells:
            return None
        try:
            if request.matrix is not None and self._numbers is not None:
                return self._numbers.checked(request.matrix)
            if request.records is None:
                return self._from_columns(request.columns or {}, request.rows)
            if request.rows == 1:
                return self._from_record(request.records[0])
            return self._from_records(request.records)
        except (NotPlainError, KeyError):
            return None

    def frame(self, request: PredictionRequest) -> pd.DataFrame:
        """The frame of inputs that training saw.

        Raises:
            RequestError: a field is missing, unknown, or not what the contract promises.
        """
        if self._ignore and request.columns is not None:
            columns = {
                name: request.columns[name] for name in self._inputs if name in request.columns
            }
            request = request._replace(columns=columns)
        return to_frame(self._without_others(_records(request)), self._inputs)

    def _from_record(self, record: Mapping[str, Any]) -> Matrix:
        self._all_known(record)
        return np.array([[cell(record[name]) for name, cell in self._cells]], dtype=np.float32)

    def _from_records(self, records: Records) -> Matrix:
        for record in records:
            self._all_known(record)
        columns = {name: [record[name] for record in records] for name in self._inputs}
        return self._matrix(columns, len(records))

    def _from_columns(self, columns: Mapping[str, Column], rows: int) -> Matrix:
        self._all_known(columns)
        return self._matrix(columns, rows)

    def _matrix(self, columns: Mapping[str, Column], rows: int) -> Matrix:
        matrix = np.empty((rows, len(self._columns)), dtype=np.float32)
        for at, (name, convert) in enumerate(self._columns):
            matrix[:, at] = convert(columns[name])
        return matrix

    def _all_known(self, fields: Mapping[str, Any]) -> None:
        if self._ignore:
            return
        expected_count = len(self._inputs) + (self._entity in fields)
        if len(fields) != expected_count:
            raise NotPlainError

    def _without_others(self, records: Records) -> Records:
        """Return the records without the entity and without ignored fields."""
        if self._ignore:
            return [{k: v for k, v in record.items() if k in self._inputs} for record in records]
        name = self._entity
        if name is None:
            return records
        return [{k: v for k, v in record.items() if k != name} for record in records]


def _records(request: PredictionRequest) -> Records:
    if request.records is not None:
        return request.records
    columns = request.columns or {}
    lists = [c.tolist() if isinstance(c, np.ndarray) else c for c in columns.values()]
    if any(len(values) != request.rows for values in lists):
        raise RequestError(f"columns: every column needs {request.rows} values")
    return [dict(zip(columns, row, strict=True)) for row in zip(*lists, strict=True)]
