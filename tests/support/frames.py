"""The contract on a frame in memory, through pandas: what the batches are held against."""

from datetime import datetime
from typing import NamedTuple

import numpy as np
import pandas as pd
import pyarrow as pa

from lifecycle.data.contract.checker import Checker
from lifecycle.data.contract.column_checks import coerced_cells
from lifecycle.data.contract.quarantine import records_of, rejected_batch, shown_value
from lifecycle.data.contract.terms import check_columns
from lifecycle.data.sources.columns import column_of
from lifecycle.lake.column_types import coerce, narrow
from lifecycle.project import ContractSpec


class InFrames(NamedTuple):
    """As `Checked`, in frames."""

    accepted: pd.DataFrame
    rejected: pd.DataFrame


def apply_contract(
    frame: pd.DataFrame, contract: ContractSpec, *, now: datetime, time: str | None = None
) -> InFrames:
    """Divide a raw frame into rows that keep the contract and rows that don't.

    Accepted rows have index 0..n-1, and are to be read only: a column that had its type already is
    the raw frame's. Personal data that are to be hashed are left out of the rejected rows' records.

    Args:
        now: what `freshness.max_age_days` counts back from; naive UTC.
        time: the time column, which `freshness` is about.

    Raises:
        ContractError: a column is missing, the newest accepted row is too old, or the data as a
            whole are not as expected.
    """
    check_columns(frame, contract)
    checker = Checker(contract, now=now, time=time)
    coerced = {
        name: coerce(frame[name], spec.value_type) for name, spec in contract.columns.items()
    }
    cells = {
        name: coerced_cells(column, contract.columns[name].value_type)
        for name, column in coerced.items()
    }

    def shown(name: str, at: int) -> str:
        return shown_value(name, frame[name].iloc[at], contract, None)

    numbers = frame.index.to_numpy(dtype=np.int64) + 1
    _, bad, reasons = checker.divide(cells, numbers, shown)
    typed = pd.DataFrame({name: column.values for name, column in coerced.items()}, copy=False)
    typed.index = pd.RangeIndex(len(typed))
    if len(bad):
        typed = typed.drop(index=bad.tolist())
        typed.index = pd.RangeIndex(len(typed))
    accepted = pd.DataFrame(
        {name: narrow(typed[name], spec) for name, spec in contract.columns.items()}, copy=False
    )
    checker.finish()
    raw = {name: column_of(frame[name].iloc[bad].tolist()) for name in contract.columns}
    records = records_of(pa.RecordBatch.from_pydict(raw), contract, None)
    return InFrames(accepted, rejected_batch(numbers[bad], reasons, records).to_pandas())
