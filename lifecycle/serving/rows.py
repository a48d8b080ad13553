"""A request's rows as the model's matrix: the plain case without pandas, all others through it.

What is plainly right (`cells`) becomes the matrix at once. Everything else takes the way of
training, a frame through `protocol.to_frame`, the features hook and `encode`, which knows the whole
truth and words the refusals. A test compares both ways, bit by bit, over every row of a holdout.
"""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from lifecycle.errors import RequestError
from lifecycle.features.encode import FeatureSchema
from lifecycle.project import ColumnSpec
from lifecycle.serving.cells import (
    Cell,
    Matrix,
    NotPlainError,
    Numbers,
    cell_of,
    column_of,
    is_number,
)
from lifecycle.serving.protocol import to_frame
from lifecycle.serving.wire import Asked, Column, Records


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
        self._numbers: Numbers | None = None
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
                self._numbers = Numbers(inputs, features.names)

    def entities(self, asked: Asked) -> Column | None:
        """The entity of each row, where the request says it."""
        if self._entity is None:
            return None
        if asked.columns is not None:
            return asked.columns.get(self._entity)
        records = asked.records or []
        if not any(self._entity in record for record in records):
            return None
        return [record.get(self._entity) for record in records]

    def plain(self, asked: Asked) -> Matrix | None:
        """The matrix, shape (rows, features), if the request is plainly right; None if not."""
        if not self._cells:
            return None
        try:
            if asked.matrix is not None and self._numbers is not None:
                return self._numbers.checked(asked.matrix)
            if asked.records is None:
                return self._from_columns(asked.columns or {}, asked.rows)
            if asked.rows == 1:
                return self._from_record(asked.records[0])
            return self._from_records(asked.records)
        except (NotPlainError, KeyError):
            return None

    def frame(self, asked: Asked) -> pd.DataFrame:
        """The frame of inputs that training saw.

        Raises:
            RequestError: a field is missing, unknown, or not what the contract promises.
        """
        if self._ignore and asked.columns is not None:
            known = {name: asked.columns[name] for name in self._inputs if name in asked.columns}
            asked = asked._replace(columns=known)
        return to_frame(self._without_others(_records(asked)), self._inputs)

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
        known = len(self._inputs) + (self._entity in fields)
        if len(fields) != known:
            raise NotPlainError

    def _without_others(self, records: Records) -> Records:
        """Without the entity, and without what is ignored."""
        if self._ignore:
            return [{k: v for k, v in record.items() if k in self._inputs} for record in records]
        name = self._entity
        if name is None:
            return records
        return [{k: v for k, v in record.items() if k != name} for record in records]


def _records(asked: Asked) -> Records:
    if asked.records is not None:
        return asked.records
    columns = asked.columns or {}
    lists = [c.tolist() if isinstance(c, np.ndarray) else c for c in columns.values()]
    if any(len(values) != asked.rows for values in lists):
        raise RequestError(f"columns: every column needs {asked.rows} values")
    return [dict(zip(columns, row, strict=True)) for row in zip(*lists, strict=True)]
