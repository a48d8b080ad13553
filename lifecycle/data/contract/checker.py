"""One pass over a source: every promise of the contract, batch by batch, in bounded memory."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from lifecycle.data.contract.column_checks import (
    ARROW,
    MISSING,
    BatchViolation,
    Cells,
    ColumnPromises,
    read_cells,
    schema_of,
)
from lifecycle.data.contract.quarantine import (
    Mask,
    join_reasons,
    records_of,
    rejected_batch,
    shown_value,
)
from lifecycle.data.contract.table_checks import RowCheck, TableChecks, UniqueCombination
from lifecycle.data.contract.terms import check_columns
from lifecycle.data.sources.base import At
from lifecycle.errors import ContractError
from lifecycle.project import ContractSpec, Project
from lifecycle.project.contract import Severity
from lifecycle.records import Violation, counted

# Violations, counted per check, with the first rows of each as examples.

EXAMPLES = 5
"""Rows shown of each promise."""
LENGTH = 80
"""Characters shown of a value."""
Kind = tuple[Severity, str, str]
CellText = Callable[[str, int], str]
"""The text of a column's raw value in a row of the batch, masked where it has to be."""


class Tally:
    """Counts of broken promises."""

    def __init__(self, at: Callable[[int], object]) -> None:
        """Start with no broken check.

        Args:
            at: gives the place of a row, for messages, by its number in the source.
        """
        self._at = at
        self._counts: dict[Kind, int] = {}
        self._examples: dict[Kind, list[str]] = {}

    def add(
        self, violations: Sequence[BatchViolation], numbers: NDArray[np.int64], cell_text: CellText
    ) -> None:
        """Take in what was found in a batch.

        Args:
            numbers: the rows' numbers in the source, from 1 (rows,).
        """
        for violation in violations:
            kind = (violation.severity, violation.column, violation.problem)
            self._counts[kind] = self._counts.get(kind, 0) + int(violation.rows.sum())
            examples = self._examples.setdefault(kind, [])
            if len(examples) < EXAMPLES:
                places = np.flatnonzero(violation.rows)[: EXAMPLES - len(examples)]
                examples += [
                    _example(violation, int(at), self._at(int(numbers[at])), cell_text)
                    for at in places
                ]

    def violations(self) -> tuple[Violation, ...]:
        """Everything found in rows: errors first, then by how many rows, then by name."""
        order = sorted(self._counts, key=lambda kind: (kind[0], -self._counts[kind], kind))
        return tuple(
            Violation(
                column=kind[1],
                problem=kind[2],
                severity=kind[0],
                rows=self._counts[kind],
                examples=tuple(self._examples[kind]),
            )
            for kind in order
        )


def _example(violation: BatchViolation, at: int, row: object, cell_text: CellText) -> str:
    if violation.problem == MISSING:
        return str(row)
    if violation.about == (violation.column,):
        return f"{row}: {_short(cell_text(violation.column, at))}"
    values = (f"{name} {_short(cell_text(name, at))}" for name in violation.about)
    return f"{row}: {', '.join(values)}"


def _short(text: str) -> str:
    return text if len(text) <= LENGTH else f"{text[: LENGTH - 1]}…"


FUTURE = "in the future"


class Checked(NamedTuple):
    """Every row that came is in one of the two."""

    accepted: pa.RecordBatch
    """Typed as the contract says, its columns only."""
    rejected: pa.RecordBatch
    """`row` (its number in the source, the first is 1), `reasons` (joined by `; `), `record` (the
    raw row as JSON, personal data masked)."""


class Divided(NamedTuple):
    """A batch of typed cells in two."""

    accepted: pa.RecordBatch
    bad: NDArray[np.int64]
    """Places of the other rows in the batch, ascending (bad,)."""
    reasons: NDArray[np.object_]
    """What is wrong with each of them (bad,)."""


class Checker:
    """Checks a source against a contract, whatever the batches it is cut into.

    What it holds does not grow with the rows, but for eight bytes a row and uniqueness that is
    promised: twenty million rows with a key take 160 MB.
    """

    def __init__(
        self,
        contract: ContractSpec,
        *,
        now: datetime,
        time: str | None = None,
        latest: datetime | None = None,
        mask: Mask | None = None,
        at: Callable[[int], At] | None = None,
    ) -> None:
        """Set up the checks of every column, of combinations, of rows and of the table.

        Args:
            now: the time from which `freshness.max_age_days` counts back, naive UTC.
            time: the time column, to which `freshness` applies.
            latest: rows with a later time are refused; naive UTC.
            mask: masks values of `pii: hash` columns in the quarantine and in examples; without it
                such values are omitted, as those of `pii: drop` always are.
            at: gives the place of a row, for messages, by its number in the source, from 1.
        """
        key = contract.key
        self.schema = schema_of(contract)
        self._contract, self._mask = contract, mask
        self._columns = {
            name: ColumnPromises(name, spec, key=key == (name,))
            for name, spec in contract.columns.items()
        }
        groups = dict.fromkeys(contract.unique_together, False)
        if len(key) > 1:
            groups[key] = True
        self._groups = [UniqueCombination(group, key=groups[group]) for group in sorted(groups)]
        self._rules = [RowCheck(spec, tuple(contract.columns)) for spec in contract.rules]
        self._time, self._latest = time, latest
        self._table_checks = TableChecks(contract, now, time)
        self._at = at or (lambda number: At("the source", "", number))
        self._tally = Tally(self._at)
        self.rejected = 0
        """Rows so far that break the contract."""
        self.first_rejected = 0
        """The first one's number in the source, from 1; 0 if there is none."""

    def check(self, batch: pa.RecordBatch, first_row: int | NDArray[np.int64]) -> Checked:
        """Divide a raw batch into rows that keep the contract and rows that don't.

        Args:
            first_row: number of its first row in the ingestion, from 0; or of each (rows,).

        Raises:
            ContractError: a column is missing, or there is one that the contract refuses.
        """
        if isinstance(first_row, int):
            numbers = np.arange(first_row + 1, first_row + 1 + batch.num_rows, dtype=np.int64)
        else:
            numbers = first_row + 1
        place = self._at(int(numbers[0]) if len(numbers) else 1).place
        check_columns(batch.schema.names, self._contract, place)
        cells = {
            name: read_cells(batch.column(name), spec)
            for name, spec in self._contract.columns.items()
        }

        def cell_text(name: str, at: int) -> str:
            return shown_value(name, batch.column(name)[at].as_py(), self._contract, self._mask)

        accepted, bad, reasons = self.divide(cells, numbers, cell_text)
        records = records_of(batch.take(pa.array(bad)), self._contract, self._mask)
        return Checked(accepted, rejected_batch(numbers[bad], reasons, records))

    def divide(
        self, cells: Mapping[str, Cells], numbers: NDArray[np.int64], cell_text: CellText
    ) -> Divided:
        """Do what `check` does, for cells that are typed already.

        Args:
            numbers: the rows' numbers in the source, from 1 (rows,).
            cell_text: returns the text of a raw value, by column and position.
        """
        violations: list[BatchViolation] = []
        if len(numbers):
            for name, promises in self._columns.items():
                violations += promises.broken(cells[name])
            violations += self._future(cells)
            for group in self._groups:
                violations += group.broken(cells)
            for rule in self._rules:
                violations += rule.broken(cells)
        self._tally.add(violations, numbers, cell_text)
        values = [cells[name].values for name in self.schema.names]
        errors = [violation.rows for violation in violations if violation.severity == "error"]
        bad, reasons = np.empty(0, dtype=np.int64), np.empty(0, dtype=object)
        if errors:
            broken = np.logical_or.reduce(errors)
            bad, kept_rows = np.flatnonzero(broken), pa.array(~broken)
            self.rejected += len(bad)
            self.first_rejected = self.first_rejected or int(numbers[bad[0]])
            values = [column.filter(kept_rows) for column in values]
            reasons = join_reasons(violations, bad)
        accepted = pa.RecordBatch.from_arrays(values, schema=self.schema)
        self._table_checks.add(len(numbers), accepted)
        return Divided(accepted, bad, reasons)

    def _future(self, cells: Mapping[str, Cells]) -> Iterator[BatchViolation]:
        """The rows of a batch whose time has yet to come."""
        if self._time is None or self._latest is None:
            return
        later = pc.greater(cells[self._time].values, pa.scalar(self._latest, ARROW["datetime"]))
        rows = later.fill_null(False).to_numpy(zero_copy_only=False)
        if rows.any():
            yield BatchViolation(self._time, FUTURE, "error", rows, (self._time,))

    @property
    def violations(self) -> tuple[Violation, ...]:
        """Row violations so far, worst first."""
        return self._tally.violations()

    @property
    def reasons(self) -> dict[str, int]:
        """Rejected rows a reason, most frequent first; a row counts under each of its reasons."""
        errors = (violation for violation in self.violations if violation.severity == "error")
        return {f"{error.column}: {error.problem}": error.rows for error in errors}

    @property
    def examples(self) -> dict[str, str]:
        """The first rows and values of each of `reasons`, personal data masked."""
        return {
            f"{violation.column}: {violation.problem}": violation.such_as
            for violation in self.violations
        }

    def finish(self) -> tuple[Violation, ...]:
        """Everything found, worst first, what the data as a whole do not keep included.

        Raises:
            ContractError: the data as a whole break a promise of severity error: too old, too few
                or too many rows, or a column that does not look as expected.
        """
        problems = list(self._table_checks.problems())
        lines = [
            f"{problem.key}: {problem.problem}"
            for problem in problems
            if problem.severity == "error"
        ]
        if lines:
            keys = sorted({problem.key for problem in problems if problem.severity == "error"})
            todo = f"; get other data or change {', '.join(keys)}"
            raise ContractError("\n".join(lines) + todo)
        table_violations = [
            Violation(
                column=problem.column, problem=problem.problem, severity=problem.severity, rows=0
            )
            for problem in problems
        ]
        return (*self.violations, *table_violations)


# The share of rows that may break the contract.

REASONS_SHOWN = 8


def check_share(
    project: Project,
    counts: Mapping[str, int],
    rejected: int,
    rows: int,
    first: object,
    place: str = "",
    examples: Mapping[str, str] | None = None,
) -> None:
    """Refuse a batch with too many rejected rows.

    Args:
        counts: rejected rows a reason.
        rejected: how many rows were rejected, of how many `rows`.
        first: where the first of them is, such as `row 3`.
        place: where the rejected rows are, as a sentence.
        examples: a value or two of each reason, personal data masked.

    Raises:
        ContractError: more are rejected than `max_rejected_share` allows; counted by reason.
    """
    allowed = project.contract.max_rejected_share
    share = rejected / rows if rows else 0.0
    if share <= allowed:
        return
    ordered = sorted(counts.items(), key=lambda item: -item[1])
    such = {reason: f", such as {text}" for reason, text in (examples or {}).items() if text}
    lines = [
        f"  {reason}: {counted(count, 'row')}{such.get(reason, '')}"
        for reason, count in ordered[:REASONS_SHOWN]
    ]
    more = len(ordered) - REASONS_SHOWN
    if more > 0:
        lines.append(f"  and {counted(more, 'more reason')}")
    ahead = any(reason.endswith(f": {FUTURE}") for reason in counts)
    future = "; or set time.future: allow, if those times are to come" if ahead else ""
    raise ContractError(
        f"{project.source.place}: {rejected:,} of {rows:,} rows ({share:.2%}) break the "
        f"contract, and contract.max_rejected_share allows {allowed:.2%}:\n"
        + "\n".join(lines)
        + f"\nThe first is {first}. {place}"
        f"Correct the data, or what the contract says of them{future}"
    )
