"""A column's constraints mean the same in ingestion, in a request and in the OpenAPI schema."""

from typing import Any

import pyarrow as pa
import pytest
from jsonschema import Draft202012Validator

from lifecycle.data.contract.column_checks import ARROW, ColumnPromises, read_cells
from lifecycle.errors import RequestError
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
