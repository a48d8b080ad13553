"""Rejected rows as they are kept: number, reasons, and the raw row without personal data."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray

from lifecycle.data.arrow import to_frame
from lifecycle.data.contract.promises import Found
from lifecycle.specs import ContractSpec

SEPARATOR = "; "
SCHEMA = pa.schema(
    [
        pa.field("row", pa.int64(), nullable=False),
        pa.field("reasons", pa.string()),
        pa.field("record", pa.string()),
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
    numbers: NDArray[np.int64], reasons: NDArray[np.object_], records: list[str]
) -> pa.RecordBatch:
    """Rows of the quarantine; all three have one value a row."""
    return pa.RecordBatch.from_arrays(
        [
            pa.array(numbers, pa.int64()),
            pa.array(reasons, pa.string()),
            pa.array(records, pa.string()),
        ],
        schema=SCHEMA,
    )


def raw_rows(batch: pa.RecordBatch, rows: NDArray[np.int64]) -> pd.DataFrame:
    """Some rows of a raw batch as a frame."""
    taken = pa.Table.from_batches([batch]).take(pa.array(rows))
    return to_frame(taken, lambda _, column: column.null_count > 0)


def records_of(raw: pd.DataFrame, contract: ContractSpec, mask: Mask | None) -> list[str]:
    """Each raw row as JSON: the contract's columns, personal data hashed or left out as declared.

    Args:
        mask: hashes a value; without it, columns to be hashed are left out.
    """
    columns: dict[str, Any] = {}
    for name, spec in contract.columns.items():
        if spec.pii == "drop" or (spec.pii == "hash" and mask is None):
            continue
        values = raw[name]
        if spec.pii == "hash" and mask is not None:
            missing = values.isna()
            values = pd.Series(
                [
                    None if gone else mask(name, value)
                    for value, gone in zip(values, missing, strict=True)
                ],
                index=raw.index,
                dtype=object,
            )
        columns[name] = values
    lines = pd.DataFrame(columns, index=raw.index).to_json(
        orient="records", lines=True, date_format="iso", double_precision=15, default_handler=str
    )
    return lines.splitlines()[: len(raw)]  # no rows make one empty line


def shown_value(name: str, value: object, contract: ContractSpec, mask: Mask | None) -> str:
    """A raw value as text for people, masked where the contract says it is personal data."""
    if value is None or value is pd.NA or value is pd.NaT or value != value:
        return "missing"
    pii = contract.columns[name].pii
    if pii == "hash" and mask is not None:
        return mask(name, value)
    return HIDDEN if pii in ("hash", "drop") else str(value)
