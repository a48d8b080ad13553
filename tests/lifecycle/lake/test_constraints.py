"""A column's constraints mean the same in ingestion, in a request and in the OpenAPI schema."""

from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from jsonschema import Draft202012Validator
from numpy.typing import NDArray

from lifecycle.data.contract.column_checks import ARROW, ColumnPromises, read_cells
from lifecycle.errors import RequestError
from lifecycle.lake import column_types
from lifecycle.lake.column_types import CONSTRAINTS, Constraint
from lifecycle.project import ColumnSpec
from lifecycle.serving.openapi import field
from lifecycle.serving.records import to_frame
from lifecycle.serving.row_reader import NotPlainError, cell_of

CASES: list[tuple[dict[str, Any], list[Any], list[Any]]] = [
    ({"type": "integer", "minimum": 0}, [0, 7], [-1]),
    ({"type": "integer", "maximum": 5}, [5, -3], [6]),
    ({"type": "number", "minimum": 0.5, "maximum": 1}, [0.5, 1.0], [0.25, 1.5]),
    ({"type": "integer"}, [3], [None]),
    ({"type": "integer", "nullable": True}, [3, None], []),
    ({"type": "category", "categories": ("Rome", "Oslo")}, ["Rome"], ["rome", "Paris", ""]),
    ({"type": "category", "categories": (1, 2)}, [1, 2], [3]),
    ({"type": "category", "pattern": "[A-Z]{2}[0-9]+"}, ["AB1"], ["nonsense", "AB1 ", "xAB1"]),
    ({"type": "string", "pattern": "[a-z]+|[0-9]"}, ["abc", "1"], ["abc1", "12", "a b"]),
    ({"type": "string", "pattern": "x", "nullable": True}, ["x", None], ["xx"]),
    ({"type": "string", "pattern": "(?i)yes"}, ["YES", "yes"], ["no"]),
]
"""A column's constraints, values that keep them, values that do not."""
VALUES = [
    pytest.param(spec, value, good, id=f"{spec}-{value!r}")
    for spec, kept, broken in CASES
    for good, values in ((True, kept), (False, broken))
    for value in values
]


@pytest.mark.parametrize(("declared", "value", "good"), VALUES)
def test_every_reader_takes_the_same_values(
    declared: dict[str, Any], value: Any, good: bool
) -> None:
    spec = ColumnSpec(**declared)
    cells = read_cells(pa.array([value], ARROW[spec.value_type]), spec)
    assert (not ColumnPromises("x", spec).broken(cells)) == good
    if good:
        assert len(to_frame([{"x": value}], {"x": spec})) == 1
    else:
        with pytest.raises(RequestError, match="row 0: x: must"):
            to_frame([{"x": value}], {"x": spec})
    if "(?i)" not in declared.get("pattern", ""):  # RE2's flags are no JavaScript: left out
        assert Draft202012Validator(field(spec)).is_valid(value) == good


def test_the_quick_reader_leaves_what_breaks_a_pattern_to_the_wordy_one() -> None:
    spec = ColumnSpec(type="category", pattern="[A-Z]{2}[0-9]+", severity="warning")
    cell = cell_of(spec, ("AB1", "nonsense"))
    assert cell("AB1") == 0
    for value in ("nonsense", "other"):  # learned from rows that were only counted; never seen
        with pytest.raises(NotPlainError):
            cell(value)


def test_a_pattern_that_only_re2_reads_is_not_told_to_javascript() -> None:
    assert "pattern" not in field(ColumnSpec(type="string", pattern="(?i)yes"))
    assert field(ColumnSpec(type="string", pattern="(?:a|b)+"))["pattern"] == "^(?:(?:a|b)+)$"


def test_every_kind_of_constraint_has_cases() -> None:
    assert {kind.kind for kind in CONSTRAINTS} <= {
        key for declared, _, _ in CASES for key in declared
    }


class Even(Constraint):
    """A kind that is new: declared in a field of the contract, and nowhere else than here."""

    kind = "unit"
    problem = "odd"
    demand = "must be even,"

    def broken(self, values: pa.Array) -> NDArray[np.bool_] | None:
        odd: NDArray[np.bool_] = values.to_numpy() % 2 == 1
        return odd if odd.any() else None

    def allows(self, value: Any) -> bool:
        return bool(value % 2 == 0)

    def schema(self) -> dict[str, Any]:
        return {"multipleOf": 2}


def test_a_new_kind_of_constraint_is_known_to_every_reader(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Declared(ColumnSpec):
        unit: str | None = None  # type: ignore[assignment]  # declared by being there

    monkeypatch.setattr(column_types, "CONSTRAINTS", (*CONSTRAINTS, Even))
    spec = Declared(type="integer", unit="even", minimum=0)
    found = ColumnPromises("x", spec).broken(read_cells(pa.array([4, 3]), spec))
    assert [(one.problem, one.rows.tolist()) for one in found] == [("odd", [False, True])]
    with pytest.raises(RequestError, match="row 1: x: must be even, got 3"):
        to_frame([{"x": 4}, {"x": 3}], {"x": spec})
    assert [Draft202012Validator(field(spec)).is_valid(value) for value in (4, 3, -2)] == [
        True,
        False,
        False,
    ]
    with pytest.raises(NotPlainError):  # the quick reader leaves it to the wordy one
        cell_of(spec, None)(4)


def test_a_range_holds_next_to_categories_in_every_reader() -> None:
    spec = ColumnSpec(type="integer", categories=(1, 2, 9), maximum=5)
    assert field(spec) == {"type": "integer", "enum": [1, 2, 9], "maximum": 5}
    assert ColumnPromises("x", spec).broken(read_cells(pa.array([9]), spec))
    with pytest.raises(RequestError, match="must be at most 5, got 9"):
        to_frame([{"x": 9}], {"x": spec})
