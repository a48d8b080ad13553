"""Rejected rows as they are kept: number, reasons, and the raw row without personal data."""

import json
from collections.abc import Callable, Sequence

import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray

from lifecycle.data.contract.json_rows import json_rows
from lifecycle.data.contract.promises import Found
from lifecycle.data.sources.columns import plain
from lifecycle.project import ContractSpec

TABLE = "rejected"
RECORD = "record"
SEPARATOR = "; "
SCHEMA = pa.schema(
    [
        pa.field("row", pa.int64(), nullable=False),
        pa.field("reasons", pa.string()),
        pa.field(RECORD, pa.string()),
    ]
)
"""`row` is the row's number in the source, the first is 1; `reasons` are joined by `; `."""
Mask = Callable[[str, object], str]
"""What is told of a value of personal data: of a column and a value, the keyed hash."""
HIDDEN = "(personal data)"


def join_reasons(found: Sequence[Found], rows: NDArray[np.int64]) -> NDArray[np.object_]:
    """The reasons of some rows of a batch, all that are errors, in the order they were found.

    Args:
        rows: places in the batch, each with at least one error (rows,).
    """
    errors = [one for one in found if one.severity == "error"]
    words = [f"{one.column}: {one.problem}" for one in errors]
    flags = np.column_stack([one.rows[rows] for one in errors])
    # rows with the same reasons share one text: there are few such combinations
    patterns, of_row = np.unique(np.packbits(flags, axis=1), axis=0, return_inverse=True)
    chosen = np.unpackbits(patterns, axis=1, count=len(words)).astype(bool)
    texts = [SEPARATOR.join(np.array(words, dtype=object)[row]) for row in chosen]
    told: NDArray[np.object_] = np.array(texts, dtype=object)[of_row.reshape(-1)]
    return told


def rejected_batch(
    numbers: NDArray[np.int64], reasons: NDArray[np.object_], records: pa.Array
) -> pa.RecordBatch:
    """Rows of the quarantine; all three have one value a row."""
    return pa.RecordBatch.from_arrays(
        [pa.array(numbers, pa.int64()), pa.array(reasons, pa.string()), records], schema=SCHEMA
    )


def records_of(raw: pa.RecordBatch, contract: ContractSpec, mask: Mask | None) -> pa.Array:
    """Each raw row as JSON: the contract's columns, personal data hashed or left out as declared.

    Args:
        mask: hashes a value; without it, columns to be hashed are left out.

    Returns:
        Texts (rows,).
    """
    columns: dict[str, pa.Array] = {}
    for name, spec in contract.columns.items():
        if spec.pii == "drop" or (spec.pii == "hash" and mask is None):
            continue
        values = raw.column(name)
        if spec.pii == "hash" and mask is not None:
            told = [None if v is None or v != v else mask(name, v) for v in values.to_pylist()]
            values = pa.array(told, pa.string())
        columns[name] = plain(values)
    if not columns:
        return pa.repeat(pa.scalar("{}"), raw.num_rows)
    return json_rows(pa.RecordBatch.from_pydict(columns))


def shown_value(name: str, value: object, contract: ContractSpec, mask: Mask | None) -> str:
    """A raw value as text for people, masked where the contract says it is personal data."""
    if value is None or value is pd.NA or value is pd.NaT or value != value:
        return "missing"
    pii = contract.columns[name].pii
    if pii == "hash" and mask is not None:
        return mask(name, value)
    return HIDDEN if pii in ("hash", "drop") else printable(str(value))


def printable(text: str) -> str:
    """A text with whatever a terminal would obey spelled out as JSON has it."""
    return "".join(char if char.isprintable() else json.dumps(char)[1:-1] for char in text)
