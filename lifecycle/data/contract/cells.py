"""Cells in the types the contract promises; a column that has its type is taken as it is."""

import math
from typing import NamedTuple

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from lifecycle.lake.column_types import Coerced, coerce
from lifecycle.project import ColumnSpec, ColumnType, ContractSpec

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
    """What accepted rows look like in Arrow: whole numbers and booleans that the contract does not
    let miss are marked not nullable, as numpy's types are."""
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
    """What `coerce` made of a column, in Arrow; numbers keep their memory."""
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
    """Which cells are not missing (rows,)."""
    valid: NDArray[np.bool_] = values.is_valid().to_numpy(zero_copy_only=False)
    return valid
