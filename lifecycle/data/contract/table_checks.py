"""Checks of the table, its rows and column combinations: expectations, freshness, row count."""

from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import NamedTuple

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from lifecycle.data.contract.column_checks import REPEATED, BatchViolation, Cells, present
from lifecycle.data.contract.statistics import ColumnStatistics
from lifecycle.data.contract.unique import UniqueKeys, keys_of
from lifecycle.errors import ContractError
from lifecycle.lake.column_types import is_text
from lifecycle.project import ContractSpec, RuleSpec
from lifecycle.project.contract import OF_NUMBERS, Bounds, Severity
from lifecycle.project.expression import columns_of, holds


class Problem(NamedTuple):
    """One promise about the whole that is broken."""

    column: str
    problem: str
    severity: Severity
    key: str
    """Where the contract says it."""


class TableChecks:
    """Table checks; counts the rows batch by batch."""

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
                problem = _outside(statistic, statistics.value(statistic), bounds, unit)
                if expect and problem:
                    key = f"contract.columns.{name}.expect"
                    yield Problem(name, problem, expect.severity, key)
        if self._newest is not None:
            yield from self._age(self._newest)

    def _count(self) -> Iterator[Problem]:
        spec = self._contract.rows
        if spec and spec.minimum is not None and self._rows < spec.minimum:
            message = f"{self._rows:,} came, fewer than minimum: {spec.minimum:,}"
            yield Problem("rows", message, spec.severity, "contract.rows")
        if spec and spec.maximum is not None and self._rows > spec.maximum:
            message = f"{self._rows:,} came, more than maximum: {spec.maximum:,}"
            yield Problem("rows", message, spec.severity, "contract.rows")

    def _age(self, newest: datetime | int) -> Iterator[Problem]:
        freshness, column = self._contract.freshness, self._time or ""
        if freshness is None:
            return
        if isinstance(newest, int):
            if freshness.at_least is not None and newest < freshness.at_least:
                message = f"the newest {column} is {newest}, below at_least: {freshness.at_least}"
                yield Problem(column, message, freshness.severity, "contract.freshness")
        elif freshness.max_age_days is not None:
            age = (pd.Timestamp(self._now) - pd.Timestamp(newest)) / pd.Timedelta(days=1)
            if age > freshness.max_age_days:
                message = (
                    f"the newest {column} is {newest}, {age:.1f} days old, more than "
                    f"max_age_days: {freshness.max_age_days:g}"
                )
                yield Problem(column, message, freshness.severity, "contract.freshness")


def _outside(statistic: str, value: float | None, bounds: Bounds, unit: str) -> str | None:
    """Return the message about a statistic that is out of bounds; None if it is within."""
    if value is None:
        return f"too few values for a {statistic}"
    low, high = bounds
    name, in_unit = statistic.replace("_", " "), f" {unit}" if unit else ""
    if low is not None and not value >= low:
        return f"{name} {value:.6g} is below {low:g}{in_unit}"
    if high is not None and not value <= high:
        return f"{name} {value:.6g} is above {high:g}{in_unit}"
    return None


# Checks of several columns of a row: keys, groups and rules.


class UniqueCombination:
    """Columns whose combination must not repeat; the first row with a value is kept."""

    def __init__(self, columns: tuple[str, ...], *, key: bool = False) -> None:
        """Start with no rows.

        Args:
            key: whether the columns identify a row. If so, rows with a missing value are not
                compared, because they are refused anyway; otherwise missing values count as equal.
        """
        self._columns, self._key = columns, key
        self._label = f"{', '.join(columns)} together"
        self._keys = UniqueKeys()

    def broken(self, cells: Mapping[str, Cells]) -> Iterator[BatchViolation]:
        """The rows of a batch whose combination came before."""
        columns = [cells[name].values for name in self._columns]
        complete = _complete(columns) if self._key else None
        if complete is not None:
            columns = [column.filter(pa.array(complete)) for column in columns]
        repeats = self._keys.repeated(keys_of(columns))
        if repeats is None:
            return
        rows = repeats
        if complete is not None:
            rows = np.zeros(len(complete), dtype=bool)
            rows[complete] = repeats
        yield BatchViolation(self._label, REPEATED, "error", rows, self._columns)


class RowCheck:
    """A condition on each row; one with a missing value in it is let through."""

    def __init__(self, spec: RuleSpec, columns: tuple[str, ...]) -> None:
        """Parse nothing but the names of the columns in the expression.

        Args:
            columns: all columns of the contract.
        """
        self._spec = spec
        self._columns = columns_of(spec.expression, columns)

    def broken(self, cells: Mapping[str, Cells]) -> Iterator[BatchViolation]:
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
        complete = _complete(list(columns.values()))
        if complete is not None:
            rows &= complete
        if rows.any():
            problem = f"not {self._spec.expression}"
            yield BatchViolation(self._spec.name, problem, self._spec.severity, rows, self._columns)


def _complete(columns: list[pa.Array]) -> NDArray[np.bool_] | None:
    """Return a mask of the rows without a missing value (rows,); None if all are complete."""
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
