"""Checks the cells of each column against the contract, batch by batch.

The kinds of checks are the table `CONSTRAINTS` in `lake.column_types`, which requests use, too.
"""

import math
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from lifecycle.data.contract.unique import UniqueKeys, keys_of
from lifecycle.lake.column_types import FAILURES, Coerced, coerce, constraints_of
from lifecycle.project import ColumnSpec, ColumnType, ContractSpec
from lifecycle.project.contract import Severity

# Cells in the types the contract promises; a column that has its type is taken as it is.

ARROW: dict[ColumnType, pa.DataType] = {
    "integer": pa.int64(),
    "number": pa.float64(),
    "boolean": pa.bool_(),
    "string": pa.string(),
    "datetime": pa.timestamp("us"),
}
EXACT: dict[ColumnType, tuple[pa.DataType, ...]] = {
    "integer": (pa.int8(), pa.int16(), pa.int32(), pa.uint8(), pa.uint16(), pa.uint32()),
    "number": (pa.float32(), pa.int64(), pa.int8(), pa.int16(), pa.int32(), pa.uint8()),
    "boolean": (),
    "string": (pa.large_string(), pa.string_view()),
    "datetime": (),
}
"""Arrow types that become the promised one as every value would by itself."""
NULLABLE = {kind: pd.Int64Dtype() for kind in (pa.int64(), *EXACT["integer"])} | {
    pa.bool_(): pd.BooleanDtype()
}
"""pandas' types that keep whole numbers whole where some are missing."""


class Cells(NamedTuple):
    """A column of a batch in its type; where a cell could not be, it is missing."""

    values: pa.Array
    failed: NDArray[np.bool_] | None
    """Which cells could not be of the type (rows,); None if all could."""


def schema_of(contract: ContractSpec) -> pa.Schema:
    """Return the Arrow schema of accepted rows.

    Integers and booleans that may not be missing are marked as not nullable, like NumPy's types.
    """
    fields = []
    for name, spec in contract.columns.items():
        kind = spec.value_type
        plain = kind in ("integer", "boolean") and not spec.nullable
        fields.append(pa.field(name, ARROW[kind], nullable=not plain))
    return pa.schema(fields)


def read_cells(raw: pa.Array, spec: ColumnSpec) -> Cells:
    """A raw column in the contract's type.

    A column of that type, or of one that is part of it, is taken over by Arrow as it is; another
    one goes cell by cell through `coerce`.
    """
    kind = spec.value_type
    if pa.types.is_dictionary(raw.type):
        raw = raw.dictionary_decode()
    if pa.types.is_null(raw.type):
        return Cells(pa.nulls(len(raw), ARROW[kind]), None)
    if raw.type in EXACT[kind]:
        raw = raw.cast(ARROW[kind], safe=False)
    if raw.type != ARROW[kind]:
        return coerced_cells(coerce(raw.to_pandas(types_mapper=NULLABLE.get), kind), kind)
    return _finite(raw) if kind == "number" else Cells(raw, None)


def coerced_cells(coerced: Coerced, kind: ColumnType) -> Cells:
    """Result of `coerce` as an Arrow array; numbers share their memory."""
    values = pa.array(coerced.values, type=ARROW[kind], from_pandas=True)
    if isinstance(values, pa.ChunkedArray):
        values = values.combine_chunks()
    return Cells(values, coerced.failed if coerced.failed.any() else None)


def _finite(values: pa.Array) -> Cells:
    """NaN is missing, and infinity fails; a sum that is finite has neither."""
    total = pc.sum(values).as_py()
    if total is None or math.isfinite(total):
        return Cells(values, None)
    floats = values.to_numpy(zero_copy_only=False)
    infinite = np.isinf(floats)
    values = pa.array(floats, mask=infinite | np.isnan(floats))
    return Cells(values, infinite if infinite.any() else None)


def present(values: pa.Array) -> NDArray[np.bool_]:
    """Mask of the cells that are not missing (rows,)."""
    valid: NDArray[np.bool_] = values.is_valid().to_numpy(zero_copy_only=False)
    return valid


MISSING = "missing"
REPEATED = "as in an earlier row"


class BatchViolation(NamedTuple):
    """Rows of a batch that violate one constraint."""

    column: str
    """The column, columns or rule it is about."""
    problem: str
    severity: Severity
    rows: NDArray[np.bool_]
    about: tuple[str, ...]
    """The columns whose values show it."""


class ColumnPromises:
    """One column's promises; it remembers what came before where values must not repeat."""

    def __init__(self, name: str, spec: ColumnSpec, *, key: bool = False) -> None:
        """Set up the constraints of a column.

        Args:
            key: whether the column alone identifies a row; a repeated key is an error whatever
                `severity` says.
        """
        self._name, self._spec = name, spec
        self._constraints = constraints_of(spec)
        self._keys = UniqueKeys() if spec.unique or key else None
        self._repeated: Severity = "error" if key else spec.severity

    def broken(self, cells: Cells) -> list[BatchViolation]:
        """The promises that cells of the batch break, each once, in alphabetical order."""
        violations: dict[tuple[str, Severity], BatchViolation] = {}
        for violation in self._broken(cells):
            earlier = violations.get((violation.problem, violation.severity))
            rows = violation.rows if earlier is None else violation.rows | earlier.rows
            violations[violation.problem, violation.severity] = violation._replace(rows=rows)
        return [violations[kind] for kind in sorted(violations)]

    def _broken(self, cells: Cells) -> Iterator[BatchViolation]:
        values, failed = cells
        if failed is not None:
            yield self._violation(FAILURES[self._spec.type], failed, "error")
        if values.null_count and not self._spec.nullable:
            missing = ~present(values) if failed is None else ~present(values) & ~failed
            if missing.any():
                yield self._violation(MISSING, missing, "error")
        if values.null_count == len(values):
            return
        if self._constraints:
            values_present = values.drop_null() if values.null_count else values
            for constraint in self._constraints:
                broken = constraint.broken(values_present)
                if broken is not None:
                    rows = _spread(broken, values)
                    yield self._violation(constraint.problem, rows, self._spec.severity)
        if self._keys is not None:
            yield from self._repeats(values, self._keys)

    def _repeats(self, values: pa.Array, keys: UniqueKeys) -> Iterator[BatchViolation]:
        present = values.drop_null() if values.null_count else values
        repeats = keys.repeated(keys_of([present]))
        if repeats is not None:
            yield self._violation(REPEATED, _spread(repeats, values), self._repeated)

    def _violation(
        self, problem: str, rows: NDArray[np.bool_], severity: Severity
    ) -> BatchViolation:
        return BatchViolation(self._name, problem, severity, rows, (self._name,))


def _spread(of_present: NDArray[np.bool_], values: pa.Array) -> NDArray[np.bool_]:
    """A mask of the cells that are there, as a mask of all."""
    if not values.null_count:
        return of_present
    spread = np.zeros(len(values), dtype=bool)
    spread[present(values)] = of_present
    return spread
