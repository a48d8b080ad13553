"""Versions of the contract: each change with the step it needs, and what ingestion refuses."""

from typing import Any

import pytest

from lifecycle.data.contract import (
    changes,
    check_compatible,
    contract_note,
    contract_of,
    required_bump,
)
from lifecycle.errors import ContractError
from lifecycle.project import ContractSpec

COLUMNS: dict[str, Any] = {
    "id": {"type": "integer"},
    "age": {"type": "number", "unit": "years", "minimum": 0, "maximum": 120},
    "city": {"type": "category", "categories": ["Rome", "Oslo"]},
    "code": {"type": "string", "pattern": "[A-Z]+", "nullable": True},
}
CONTRACT: dict[str, Any] = {
    "version": "1.2.3",
    "columns": COLUMNS,
    "key": ["id"],
    "rules": [{"name": "grown", "expression": "age > 17"}],
}


def contract(column: str = "", **more: Any) -> ContractSpec:
    """The contract with some keys of a column, or of itself, changed."""
    if not column:
        return ContractSpec.model_validate(CONTRACT | more)
    columns = COLUMNS | {column: COLUMNS.get(column, {}) | more}
    return ContractSpec.model_validate(CONTRACT | {"columns": columns})


def without(name: str) -> ContractSpec:
    columns = {known: spec for known, spec in COLUMNS.items() if known != name}
    return ContractSpec.model_validate(CONTRACT | {"columns": columns})


@pytest.mark.parametrize(
    ("present", "bump", "text"),
    [
        (contract(version="1.2.4"), None, ""),
        (without("code"), "major", "columns.code: removed"),
        (contract("code", type="category"), "major", "columns.code.type: string → category"),
        (contract("age", type="integer"), "major", "columns.age.type: number → integer"),
        (contract("city", categories=[1, 2]), "major", "type: category of string → category of"),
        (contract("age", nullable=True), "major", "columns.age.nullable: may be missing"),
        (contract("age", minimum=-1), "major", "columns.age.minimum: 0 → -1"),
        (contract("age", minimum=None), "major", "columns.age.minimum: 0 → none"),
        (contract("age", maximum=130), "major", "columns.age.maximum: 120 → 130"),
        (contract("age", unit="days"), "major", "columns.age.unit: years → days"),
        (contract("age", severity="warning"), "major", "columns.age.severity: error → warning"),
        (contract("city", categories=["Rome", "Oslo", "Lima"]), "major", "may be 'Lima' too"),
        (contract("city", categories=None), "major", "columns.city.categories: any value now"),
        (contract("code", pattern="[A-Z]*"), "major", "columns.code.pattern: [A-Z]+ → [A-Z]*"),
        (contract("code", pii="hash"), "major", "columns.code.pii: keep → hash"),
        (contract(key=["id", "age"]), "major", "key: [id] → [id, age]"),
        (contract(key=[]), "major", "key: [id] → none"),
        (contract(rules=[]), "major", "rules.grown: removed"),
        (
            contract(rules=[{"name": "grown", "expression": "age > 20"}]),
            "major",
            "rules.grown: age > 17 → age > 20",
        ),
        (contract("new", type="string"), "minor", "columns.new: added"),
        (contract("code", nullable=False), "minor", "columns.code.nullable: is never missing"),
        (contract("code", unique=True), "minor", "columns.code.unique: never repeats"),
        (contract("age", minimum=18), "minor", "columns.age.minimum: 0 → 18"),
        (contract("id", maximum=9), "minor", "columns.id.maximum: none → 9"),
        (contract("city", categories=["Rome"]), "minor", "never 'Oslo' any more"),
        (contract("age", expect={"mean": [1, 2]}), "minor", "columns.age.expect: changed"),
        (contract(unique_together=[["age", "city"]]), "minor", "unique_together: [age, city]: add"),
        (contract(rows={"minimum": 1}), "minor", "rows: changed"),
        (contract(owner="us"), "patch", "owner: changed"),
        (contract("id", unit="1"), "patch", "columns.id.unit: none → 1"),
        (contract("id", description="x"), "patch", "columns.id.description: changed"),
        (contract("city", categories=["Oslo", "Rome"]), "patch", "in another order"),
        (contract("code", pii="keep", pii_class="direct"), "patch", "pii_class: changed"),
        (contract(max_rejected_share=0.1), "patch", "max_rejected_share: changed"),
    ],
)
def test_each_change_and_what_it_needs(present: ContractSpec, bump: str | None, text: str) -> None:
    former = contract()
    assert required_bump(former, present) == bump
    found = changes(former, present)
    assert len(found) == (bump is not None)
    assert text in "".join(change.difference for change in found)
    if bump == "major":
        with pytest.raises(ContractError, match=r"set contract.version: 2\.0\.0"):
            check_compatible(former, present)
    else:
        check_compatible(former, present)
    next_major = present.model_copy(update={"version": "2.0.0"})
    check_compatible(former, next_major)


def test_the_difference_can_be_read() -> None:
    columns = {name: spec for name, spec in COLUMNS.items() if name != "code"}
    columns |= {"age": COLUMNS["age"] | {"maximum": 150}, "zip": {"type": "string"}}
    present = contract(columns=columns, version="1.3.0", owner="us")
    with pytest.raises(ContractError) as caught:
        check_compatible(contract(), present)
    assert str(caught.value).splitlines() == [
        "contract.version: 1.3.0 breaks those who read the data as 1.2.3 promises them. "
        "contract 1.2.3 → 1.3.0:",
        "  − columns.code: removed (major)",
        "  ~ columns.age.maximum: 120 → 150 (major)",
        "  + columns.zip: added (minor)",
        "  ~ owner: changed (patch)",
        "Take the breaking changes back, or set contract.version: 2.0.0 and tell the readers",
    ]


def test_versions_only_grow() -> None:
    with pytest.raises(ContractError, match=r"1\.2\.2 is below 1\.2\.3"):
        check_compatible(contract(), contract(version="1.2.2"))
    check_compatible(contract(version="1.9.0"), contract(version="1.10.0"))


def test_below_one_anything_may_change() -> None:
    check_compatible(contract(version="0.1.0"), contract("age", type="integer", unit="days"))


def test_the_note_brings_the_contract_back() -> None:
    mixed = contract("zip", type="category", categories=[1, 2.5], expect={"distinct": [1, None]})
    for spec in (contract(), mixed, contract(freshness={"max_age_days": 1.5})):
        note = contract_note(spec)
        assert note["contract"] == "1.2.3"
        assert contract_of(note) == spec
        assert list(contract_of(note).columns) == list(spec.columns)  # type: ignore[union-attr]


def test_notes_without_a_contract_that_can_be_read(caplog: pytest.LogCaptureFixture) -> None:
    assert contract_of({"source": "x"}) is None
    assert contract_of({"contract_spec": '{"columns": {}, "later": 1}'}) is None
    assert "cannot be read" in caplog.text
