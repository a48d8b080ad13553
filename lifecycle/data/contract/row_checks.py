"""What the contract promises of several columns of a row: keys, groups and rules."""

from collections.abc import Iterator, Mapping

import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray

from lifecycle.data.contract.column_checks import REPEATED, Cells, Found, present
from lifecycle.data.contract.unique import Seen, keys_of
from lifecycle.errors import ContractError
from lifecycle.lake.arrow import is_text
from lifecycle.project import RuleSpec
from lifecycle.project.expression import columns_of, holds


class Together:
    """Columns whose combination must not repeat; the first row with a value is kept."""

    def __init__(self, columns: tuple[str, ...], *, key: bool = False) -> None:
        """
        Args:
            key: a row with a missing value is then not compared, since it is refused anyway;
                otherwise missing values are equal to each other.
        """
        self._columns, self._key = columns, key
        self._label = f"{', '.join(columns)} together"
        self._seen = Seen()

    def broken(self, cells: Mapping[str, Cells]) -> Iterator[Found]:
        """The rows of a batch whose combination came before."""
        columns = [cells[name].values for name in self._columns]
        there = _complete(columns) if self._key else None
        if there is not None:
            columns = [column.filter(pa.array(there)) for column in columns]
        again = self._seen.repeated(keys_of(columns))
        if again is None:
            return
        rows = again
        if there is not None:
            rows = np.zeros(len(there), dtype=bool)
            rows[there] = again
        yield Found(self._label, REPEATED, "error", rows, self._columns)


class Rule:
    """A condition on each row; one with a missing value in it is let through."""

    def __init__(self, spec: RuleSpec, columns: tuple[str, ...]) -> None:
        """
        Args:
            columns: all that the contract has.
        """
        self._spec = spec
        self._columns = columns_of(spec.expression, columns)

    def broken(self, cells: Mapping[str, Cells]) -> Iterator[Found]:
        """The rows of a batch that do not meet the condition.

        Raises:
            ContractError: the expression cannot be evaluated on the values.
        """
        columns = {name: cells[name].values for name in self._columns}
        frame = pd.DataFrame({name: _filled(column) for name, column in columns.items()})
        try:
            rows = ~holds(self._spec.expression, frame)
        except ValueError as error:
            raise ContractError(f"contract.rules: {self._spec.name}: {error}") from None
        there = _complete(list(columns.values()))
        if there is not None:
            rows &= there
        if rows.any():
            problem = f"not {self._spec.expression}"
            yield Found(self._spec.name, problem, self._spec.severity, rows, self._columns)


def _complete(columns: list[pa.Array]) -> NDArray[np.bool_] | None:
    """Which rows miss nothing (rows,); None if all are complete."""
    gaps = [present(column) for column in columns if column.null_count]
    return np.logical_and.reduce(gaps) if gaps else None


def _filled(column: pa.Array) -> NDArray[np.generic]:
    """Values as numpy's plain types, whatever is missing: a rule's answer must not depend on how
    rows are cut into batches."""
    kind = column.type
    if column.null_count:
        if is_text(kind):
            column = column.fill_null("")
        elif pa.types.is_boolean(kind):
            column = column.fill_null(False)
        else:
            column = column.fill_null(pa.scalar(0, pa.int64()).cast(kind))
    values: NDArray[np.generic] = column.to_numpy(zero_copy_only=False)
    return values
