"""The contract as a document of the Open Data Contract Standard: valid, and nothing gets lost."""

import json
import shutil
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner, Result

from lifecycle.cli.main import app
from lifecycle.errors import ContractError, ProjectError
from lifecycle.project import ContractSpec, Project
from lifecycle.project.contract import FreshnessSpec
from lifecycle.project.loader import load_project
from lifecycle.scaffold.odcs_export import odcs_document
from lifecycle.scaffold.odcs_import import ContractImport, read_document
from lifecycle.scaffold.project_edit import with_contract
from tests.support.small import ROOT

EXAMPLES = sorted((ROOT / "examples").glob("*/project.yaml"))
EVERYTHING = """\
# orders of the shop
name: orders
description: Which orders are late?
source: {path: orders.csv}
task: binary
target: late
time: {column: ordered}

contract:
  version: 0.3.0                 # not for others yet
  owner: data@shop.example
  description: Orders, one row each.
  key: [order]
  unique_together: [[customer, ordered]]
  max_rejected_share: 0.01
  extra_columns: refuse
  rows: {minimum: 1000, maximum: 5000000, severity: warning}
  freshness: {max_age_days: 7, severity: warning}
  retention: {days: 730}
  columns:
    # as the shop writes it
    order: {type: string, pattern: "[A-Z]{2}[0-9]+"}   # two letters
    customer: {type: integer, pii: hash, pii_class: direct}
    ordered: {type: datetime}
    shipped: {type: datetime, nullable: true}
    weight:
      type: number
      unit: kg
      minimum: 0
      maximum: 1000.5
      severity: warning
      expect: {mean: [1, 20], missing_share: [null, 0.07], severity: warning}
    country: {type: category, categories: ["IT", "NO", "PE"]}
    boxes: {type: integer, categories: [1, 2]}
    colour: {type: category}
    note: {type: string, pattern: "(?i)[a-z ]*", categories: [a, b]}
    late: {type: boolean, expect: {distinct: [2, null]}}
  rules:
    - {name: shipped_later, expression: ordered <= shipped, description: not before it is ordered}
training: {seed: 17}
"""
FOREIGN = """\
apiVersion: v3.0.2
kind: DataContract
id: 53581432-6c55-4ba2-a65f-72344a91553a
version: "1.1"
status: active
domain: seller
servers: [{server: lake, type: s3, location: "s3://orders"}]
description: {purpose: Orders., limitations: None known.}
team:
  - {username: ann, role: Data Scientist}
  - {username: bob, role: Owner}
price: {priceAmount: 9.95}
schema:
  - name: orders
    physicalType: table
    tags: [sales]
    quality:
      - {metric: rowCount, mustBeGreaterThan: 999}
      - {metric: duplicateValues, mustBe: 0, arguments: {properties: [id, day]}}
      - {type: sql, name: positive, query: SELECT 1, mustBe: 0}
    properties:
      - {name: id, physicalName: order_id, primaryKey: true, logicalType: string,
         physicalType: text, logicalTypeOptions: {pattern: "^[A-Z]{2}[0-9]+$", maxLength: 9}}
      - {name: day, logicalType: date, required: true, physicalType: date}
      - name: amount
        logicalType: integer
        classification: confidential
        required: true
        logicalTypeOptions: {exclusiveMinimum: 0, maximum: 100}
        quality:
          - {metric: nullValues, mustBeLessOrEqualTo: 5, unit: percent, severity: warning}
          - {metric: missingValues, mustBe: 0, arguments: {missingValues: ["", n/a]}}
      - name: state
        logicalType: string
        quality:
          - {metric: invalidValues, mustBe: 0, severity: warning,
             arguments: {validValues: [new, sent]}}
      - {name: lines, logicalType: array, items: {logicalType: string}}
      - {name: word, logicalType: string, logicalTypeOptions: {pattern: "(?=a)"}}
  - name: customers
    properties: [{name: id, logicalType: string}]
slaProperties:
  - {property: retention, value: 3, unit: y, element: orders.day}
  - {property: latency, value: 12, unit: h, element: orders.day}
  - {property: frequency, value: 1, unit: d, element: orders.day}
"""
NOTES = """\
schema customers: left out
id '53581432-6c55-4ba2-a65f-72344a91553a': left out
description.limitations: left out
team: left out but for the owner
name of orders.id: the column is called by its physicalName, order_id
logicalTypeOptions.maxLength of orders.id: left out
physicalType of orders.id, orders.day, orders: left out: `type` decides, whatever the source stores
logicalType date of orders.day: read as a datetime
rule missingValues of orders.amount: left out
classification of orders.amount: left out: `pii` and `pii_class` say how personal data are stored
logicalType array of orders.lines: the column is left out: no type of a contract
pattern (?=a) of orders.word: left out: not an expression of RE2
rule sql 'positive' of orders: left out
service level frequency orders.day: left out
tags of orders: left out
domain: left out
servers: left out: the project's `source` says where the data are
price: left out"""


def project_of(text: str, folder: Path) -> Project:
    file = folder / "project.yaml"
    file.write_text(text)
    return load_project(file)


def imported(document: str, text: str) -> ContractImport:
    return read_document(document, yaml.safe_load(text))


def without(text: str) -> str:
    """The project's text without its contract."""
    declared = yaml.safe_load(text)
    del declared["contract"]
    return str(yaml.safe_dump(declared, sort_keys=False))


@pytest.fixture(scope="module")
def validator(shared_schemas: Path) -> jsonschema.Draft201909Validator:
    schema = json.loads((shared_schemas / "odcs-v3.1.0.json").read_text())
    return jsonschema.Draft201909Validator(schema)


@pytest.mark.parametrize("file", EXAMPLES, ids=lambda file: file.parent.name)
def test_examples_are_valid_and_come_back(
    file: Path, validator: jsonschema.Draft201909Validator
) -> None:
    project = load_project(file)
    document = odcs_document(project).text
    validator.validate(yaml.safe_load(document))
    assert imported(document, file.read_text()) == (project.contract, ())
    assert imported(document, without(file.read_text())) == (project.contract, ())
    assert with_contract(file.read_text(), project.contract) == file.read_text()


def test_every_key_is_valid_and_comes_back(
    tmp_path: Path, validator: jsonschema.Draft201909Validator
) -> None:
    project = project_of(EVERYTHING, tmp_path)
    document = odcs_document(project)
    validator.validate(document.content)
    assert imported(document.text, without(EVERYTHING)) == (project.contract, ())
    assert document.custom == (
        "max_rejected_share",
        "extra_columns",
        "freshness",
        "rules",
        "columns.pii",
        "columns.unit",
        "columns.severity",
        "columns.expect.mean",
        "columns.type",
        "columns.pattern",
        "columns.expect.distinct",
    )


def test_the_check_finds_what_is_not_valid(validator: jsonschema.Draft201909Validator) -> None:
    content = odcs_document(load_project(EXAMPLES[0])).content
    content["schema"][0]["properties"][0]["maximum"] = 3
    with pytest.raises(jsonschema.ValidationError):
        validator.validate(content)


numbers = st.integers(-(10**6), 10**6) | st.floats(-1e9, 1e9).map(lambda value: value + 0.0)
words = st.text(st.characters(codec="utf-8", exclude_categories=["C", "Z"]), min_size=1, max_size=5)
shares = st.floats(0, 1)


@st.composite
def bounds(draw: st.DrawFn, values: st.SearchStrategy[Any]) -> list[Any]:
    low, high = sorted(draw(st.tuples(values, values)))
    return draw(st.sampled_from([[low, high], [low, None], [None, high]]))


@st.composite
def columns(draw: st.DrawFn) -> dict[str, Any]:
    kind = draw(st.sampled_from(["integer", "number", "boolean", "string", "category", "datetime"]))
    expect = {"missing_share": bounds(shares), "distinct": bounds(st.integers(0, 99))}
    column: dict[str, Any] = {"type": kind} | draw(
        st.fixed_dictionaries(
            {},
            optional={
                "nullable": st.booleans(),
                "unique": st.booleans(),
                "unit": words,
                "description": words,
                "pii": st.sampled_from(["keep", "hash", "drop"]),
                "severity": st.sampled_from(["error", "warning"]),
                "expect": st.fixed_dictionaries(expect, optional={"severity": st.just("warning")}),
            },
        )
    )
    if kind in ("integer", "number") and draw(st.booleans()):
        ends = draw(bounds(numbers))
        column |= dict(zip(("minimum", "maximum"), ends, strict=True))
    if kind in ("string", "category") and draw(st.booleans()):
        column["categories"] = draw(st.lists(words, min_size=1, max_size=3, unique=True))
    elif kind in ("category", "integer") and draw(st.booleans()):
        column["categories"] = draw(st.lists(st.integers(0, 9), min_size=1, unique=True))
    elif kind == "string":
        column["pattern"] = draw(st.sampled_from(["a|b", "^a$", "(?i)x", r"\d+", "(a)|(?:b)", "$"]))
    if "pii" in column:
        column["pii_class"] = draw(st.sampled_from([None, "direct", "sensitive"]))
    return column


@given(content=st.dictionaries(words, columns(), min_size=1, max_size=3))
@settings(max_examples=60, deadline=None)
def test_any_contract_comes_back(content: dict[str, Any]) -> None:
    names = {name.lower(): name for name in content}
    content = {name: content[name] for name in names.values() if not name.startswith("__")}
    if not content:
        return
    contract = ContractSpec.model_validate({"columns": content})
    project = load_project(EXAMPLES[0]).model_copy(update={"contract": contract})
    document = odcs_document(project).text
    assert imported(document, "name: bike_sharing\n" + _usage(project)) == (contract, ())
    text = "name: x\ncontract:\n  columns:\n    a: {type: string}\n"
    assert ContractSpec.model_validate(yaml.safe_load(with_contract(text, contract))["contract"])


def _usage(project: Project) -> str:
    return str(yaml.safe_dump({"description": project.description}))


def test_what_a_contract_has_no_place_for_is_named() -> None:
    declared = {"name": "orders", "time": {"column": "day"}}
    contract, notes = read_document(FOREIGN, declared)
    assert contract == ContractSpec.model_validate(
        {
            "version": "1.1.0",
            "owner": "bob",
            "description": "Orders.",
            "key": ["order_id"],
            "unique_together": [["order_id", "day"]],
            "rows": {"minimum": 1000},
            "retention": {"days": 3 * 365},
            "freshness": {"max_age_days": 0.5},
            "columns": {
                "order_id": {"type": "string", "pattern": "[A-Z]{2}[0-9]+"},
                "day": {"type": "datetime"},
                "amount": {
                    "type": "integer",
                    "minimum": 1,
                    "maximum": 100,
                    "expect": {"missing_share": [None, 0.05], "severity": "warning"},
                },
                "state": {
                    "type": "category",
                    "nullable": True,
                    "categories": ["new", "sent"],
                    "severity": "warning",
                },
                "word": {"type": "string", "nullable": True},
            },
        }
    )
    assert "\n".join(notes) == NOTES


def test_what_only_the_project_says_stays(tmp_path: Path) -> None:
    project = project_of(EVERYTHING, tmp_path)
    content = odcs_document(project).content
    del content["schema"][0]["customProperties"]
    for column in content["schema"][0]["properties"]:
        column.pop("customProperties", None)
        column["quality"] = [rule for rule in column.get("quality", ()) if "engine" not in rule]
    del content["slaProperties"], content["schema"][0]["properties"][7]
    contract, notes = imported(yaml.safe_dump(content), EVERYTHING)
    kept = project.contract
    assert contract.columns["weight"] == kept.columns["weight"]
    assert contract.columns["customer"] == kept.columns["customer"]
    assert contract.extra_columns == kept.extra_columns
    assert (contract.retention, contract.freshness) == (None, None)
    assert "colour" not in contract.columns
    assert not notes
    text = EVERYTHING.replace("max_age_days: 7", "at_least: 7")
    assert imported(yaml.safe_dump(content), text).contract.freshness == FreshnessSpec(
        at_least=7, severity="warning"
    )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"kind": "Contract"}, "got kind: Contract, apiVersion: v3.1.0"),
        ({"apiVersion": "v2.2.2"}, "got kind: DataContract, apiVersion: v2.2.2"),
        ({"schema": []}, "schema: has no table 'bike_sharing'"),
        ({"schema": 3}, "schema: must be a list: got 3"),
        ({"schema": [{"name": "a", "properties": [{"logicalType": "string"}]}]}, "a property 1"),
        (
            {"schema": [{"name": "a", "properties": [{"name": "b", "required": "yes"}]}]},
            "a.b.required: must be true or false: got 'yes'",
        ),
        ({"schema": [{"name": "a"}]}, "contract.columns: Dictionary should have at least 1 item"),
    ],
)
def test_a_wrong_document_is_a_message(change: dict[str, Any], message: str) -> None:
    project = load_project(EXAMPLES[0])
    document = yaml.safe_dump(odcs_document(project).content | change)
    with pytest.raises(ContractError) as caught:
        read_document(document, {"name": project.name})
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def run(*words: str | Path) -> Result:
    return CliRunner().invoke(app, ["contract", *map(str, words)])


def test_the_command_keeps_the_rest_of_the_file(tmp_path: Path) -> None:
    file = tmp_path / "project.yaml"
    file.write_text(EVERYTHING)
    document = tmp_path / "orders.odcs.yaml"
    assert "Only as custom properties" in run(file, "export", "--output", document).output
    assert "is the document's already" in run(file, "import", document).output
    text = document.read_text().replace("version: 0.3.0", "version: 0.4.0")
    document.write_text(text.replace("maximum: 1000.5", "maximum: 900"))
    tried = run(file, "import", document, "--dry-run")
    assert "columns.weight.maximum: 1000.5 → 900" in tried.output
    assert file.read_text() == EVERYTHING
    assert run(file, "import", document).exit_code == 0
    changed = file.read_text()
    assert changed.splitlines()[9] == "  version: 0.4.0                 # not for others yet"
    left = [line for line in EVERYTHING.splitlines() if line not in changed.splitlines()]
    assert left == [
        "  version: 0.3.0                 # not for others yet",
        "      maximum: 1000.5",
    ]
    assert load_project(file).contract.columns["weight"].maximum == 900


def test_the_command_refuses_what_the_project_cannot_have(tmp_path: Path) -> None:
    file, document = tmp_path / "project.yaml", tmp_path / "orders.yaml"
    file.write_text(EVERYTHING)
    content = odcs_document(load_project(file)).content
    content["schema"][0]["properties"].pop()
    document.write_text(yaml.safe_dump(content))
    failed = run(file, "import", document)
    assert isinstance(failed.exception, ProjectError)
    assert str(failed.exception).startswith(f"{file} with this contract:")
    assert file.read_text() == EVERYTHING
    assert isinstance(run(file, "imports", document).exception, ContractError)
    assert isinstance(run(file, "import", tmp_path / "none.yaml").exception, ContractError)
    assert "lifecycle init" in str(run(tmp_path / "no.yaml", "import", document).exception)
    file.write_text("name: orders\ncontract: {columns: {a: {type: text}}}\n")
    assert f"{file}:2: contract.columns.a.type" in str(run(file, "import", document).exception)


def test_a_project_gets_its_contract(tmp_path: Path) -> None:
    file = shutil.copy(EXAMPLES[-1], tmp_path / "project.yaml")
    document = tmp_path / "contract.yaml"
    assert run("export", file, "--output", document).exit_code == 0
    former = load_project(file).contract
    text = file.read_text()
    start, end = text.index("contract:"), text.index("feature_views:")
    file.write_text(text[:start] + text[end:])
    assert run(file, "import", document).exit_code == 0
    assert load_project(file).contract == former


@pytest.mark.parametrize(
    "text",
    [
        "name: x\ncontract: {columns: {a: {type: string}}}\n",
        "name: x\ncontract:\n  columns: {a: {type: string}}\nend: 1\n",
        "name: x\ncontract:\n  version: 2.0.0\n  columns:\n    a: {type: integer}\n\n# end\nend: 1",
        "name: x",
        "name: x\ncontract:\n",
    ],
)
def test_any_layout_can_be_edited(text: str) -> None:
    columns = {"a": {"type": "string"}, "b": {"type": "number", "expect": {"mean": [1, 2]}}}
    contract = ContractSpec.model_validate({"columns": columns, "rows": {"minimum": 1}})
    changed = yaml.safe_load(with_contract(text, contract))
    assert ContractSpec.model_validate(changed["contract"]) == contract


def test_what_cannot_be_edited_is_shown() -> None:
    text = "x: &a {type: string}\ncontract:\n  columns:\n    a: *a\n"
    contract = ContractSpec.model_validate({"columns": {"a": {"type": "number"}}})
    with pytest.raises(ProjectError, match="put this into it:\ncontract:"):
        with_contract(text, contract)
