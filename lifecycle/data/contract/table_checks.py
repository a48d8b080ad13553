"""What the contract promises of the data as a whole: expectations, freshness, how many rows."""

from collections.abc import Iterator
from datetime import datetime
from typing import NamedTuple

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from lifecycle.data.contract.statistics import ColumnStatistics
from lifecycle.project import ContractSpec
from lifecycle.project.contract import OF_NUMBERS, Bounds, Severity


class Problem(NamedTuple):
    """One promise about the whole that is broken."""

    column: str
    problem: str
    severity: Severity
    key: str
    """Where the contract says it."""


class Whole:
    """What is counted of the rows as they pass."""

    def __init__(self, contract: ContractSpec, now: datetime, time: str | None) -> None:
        self._contract, self._now = contract, now
        self._time = time if contract.freshness else None
        self._newest: datetime | int | None = None
        self._rows = 0
        self._statistics = {
            name: ColumnStatistics(spec.expect)
            for name, spec in contract.columns.items()
            if spec.expect
        }

    def add(self, rows: int, accepted: pa.RecordBatch) -> None:
        """Take in a batch.

        Args:
            rows: how many came, rejected ones included.
        """
        self._rows += rows
        for name, statistics in self._statistics.items():
            statistics.add(accepted.column(name))
        if self._time is not None and accepted.num_rows:
            newest = pc.max(accepted.column(self._time)).as_py()
            self._newest = newest if self._newest is None else max(newest, self._newest)

    def problems(self) -> Iterator[Problem]:
        """The promises about the whole that are broken; without rows, only how many is one."""
        yield from self._count()
        if not self._rows:
            return
        for name, statistics in self._statistics.items():
            expect = self._contract.columns[name].expect
            for statistic, bounds in expect.statistics() if expect else ():
                unit = self._contract.columns[name].unit if statistic in OF_NUMBERS else ""
                said = _outside(statistic, statistics.value(statistic), bounds, unit)
                if expect and said:
                    key = f"contract.columns.{name}.expect"
                    yield Problem(name, said, expect.severity, key)
        if self._newest is not None:
            yield from self._age(self._newest)

    def _count(self) -> Iterator[Problem]:
        spec = self._contract.rows
        if spec and spec.minimum is not None and self._rows < spec.minimum:
            said = f"{self._rows:,} came, fewer than minimum: {spec.minimum:,}"
            yield Problem("rows", said, spec.severity, "contract.rows")
        if spec and spec.maximum is not None and self._rows > spec.maximum:
            said = f"{self._rows:,} came, more than maximum: {spec.maximum:,}"
            yield Problem("rows", said, spec.severity, "contract.rows")

    def _age(self, newest: datetime | int) -> Iterator[Problem]:
        freshness, column = self._contract.freshness, self._time or ""
        if freshness is None:
            return
        if isinstance(newest, int):
            if freshness.at_least is not None and newest < freshness.at_least:
                said = f"the newest {column} is {newest}, below at_least: {freshness.at_least}"
                yield Problem(column, said, freshness.severity, "contract.freshness")
        elif freshness.max_age_days is not None:
            age = (pd.Timestamp(self._now) - pd.Timestamp(newest)) / pd.Timedelta(days=1)
            if age > freshness.max_age_days:
                said = (
                    f"the newest {column} is {newest}, {age:.1f} days old, more than "
                    f"max_age_days: {freshness.max_age_days:g}"
                )
                yield Problem(column, said, freshness.severity, "contract.freshness")


def _outside(statistic: str, value: float | None, bounds: Bounds, unit: str) -> str | None:
    """What is wrong with a statistic, if anything is."""
    if value is None:
        return f"too few values for a {statistic}"
    low, high = bounds
    name, in_unit = statistic.replace("_", " "), f" {unit}" if unit else ""
    if low is not None and not value >= low:
        return f"{name} {value:.6g} is below {low:g}{in_unit}"
    if high is not None and not value <= high:
        return f"{name} {value:.6g} is above {high:g}{in_unit}"
    return None
