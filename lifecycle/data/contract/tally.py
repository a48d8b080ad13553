"""What was found, counted by promise, with the first rows of each as examples."""

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from lifecycle.data.contract.promises import MISSING, Found
from lifecycle.project.contract import Severity
from lifecycle.records import Violation

EXAMPLES = 5
"""Rows shown of each promise."""
LENGTH = 80
"""Characters shown of a value."""
Kind = tuple[Severity, str, str]
Shown = Callable[[str, int], str]
"""The text of a column's raw value in a row of the batch, masked where it has to be."""


class Tally:
    """Counts of broken promises."""

    def __init__(self, at: Callable[[int], object]) -> None:
        """
        Args:
            at: where a row is, for people, by its number in the source.
        """
        self._at = at
        self._counts: dict[Kind, int] = {}
        self._examples: dict[Kind, list[str]] = {}

    def add(self, found: Sequence[Found], numbers: NDArray[np.int64], shown: Shown) -> None:
        """Take in what was found in a batch.

        Args:
            numbers: the rows' numbers in the source, from 1 (rows,).
        """
        for one in found:
            kind = (one.severity, one.column, one.problem)
            self._counts[kind] = self._counts.get(kind, 0) + int(one.rows.sum())
            examples = self._examples.setdefault(kind, [])
            if len(examples) < EXAMPLES:
                places = np.flatnonzero(one.rows)[: EXAMPLES - len(examples)]
                examples += [
                    _example(one, int(at), self._at(int(numbers[at])), shown) for at in places
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


def _example(found: Found, at: int, row: object, shown: Shown) -> str:
    if found.problem == MISSING:
        return str(row)
    if found.about == (found.column,):
        return f"{row}: {_short(shown(found.column, at))}"
    values = (f"{name} {_short(shown(name, at))}" for name in found.about)
    return f"{row}: {', '.join(values)}"


def _short(text: str) -> str:
    return text if len(text) <= LENGTH else f"{text[: LENGTH - 1]}…"
