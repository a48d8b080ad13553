"""The checker: the same however the rows are cut, and the same as plain pandas on messy data."""

import itertools
import json
import re
from collections.abc import Iterable
from datetime import datetime
from pathlib import Path
from typing import Any

import hypothesis
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from lifecycle.data.contract import Checker
from lifecycle.data.sources.base import At
from lifecycle.errors import ContractError
from lifecycle.lake.column_types import FAILURES, FALSE, MISSING, TRUE, to_arrow
from lifecycle.project import ContractSpec
from lifecycle.project.loader import load_project
from lifecycle.records import Violation
from tests.support.frames import apply_contract

NOW = datetime(2026, 1, 10)
EXAMPLES = Path(__file__).parents[4] / "examples"
EVERYTHING = ContractSpec.model_validate(
    {
        "key": ["id"],
        "unique_together": [["city", "day"]],
        "rules": [
            {"name": "paid", "expression": "spent <= budget or member"},
            {"name": "named", "expression": "code.str.len() > 2", "severity": "warning"},
        ],
        "rows": {"minimum": 1_000, "severity": "warning"},
        "columns": {
            "id": {"type": "integer", "minimum": 0},
            "spent": {
                "type": "number",
                "nullable": True,
                "minimum": -5,
                "maximum": 1e6,
                "expect": {
                    "mean": [1e9, None],
                    "deviation": [1e9, None],
                    "median": [1e9, None],
                    "missing_share": [1, 1],
                    "severity": "warning",
                },
            },
            "budget": {"type": "number", "maximum": 50, "severity": "warning"},
            "city": {"type": "category", "categories": ["Rome", "Oslo"], "nullable": True},
            "day": {"type": "datetime", "expect": {"distinct": [99, 99], "severity": "warning"}},
            "member": {"type": "boolean"},
            "code": {"type": "string", "pattern": "[A-Z]+[0-9]*", "unique": True, "nullable": True},
            "size": {"type": "category", "categories": [1, 2, 3]},
        },
    }
)
WORDS = ["", " ", "NA", "nan", "x", "1", " 2 ", "-3", "4.0", "5.5", "1e3", "inf", "-inf", "+7"]
CELLS: dict[str, list[str | None]] = {
    "id": [None, *WORDS, *map(str, range(40))],
    "spent": [None, *WORDS, "1e400", "99999999999999999999", "9007199254740993"],
    "budget": ["10", "60", "0.1", *WORDS],
    "city": [None, "Rome", "Oslo", "rome", ""],
    "day": [
        None,
        "2026-01-01",
        "2026-01-01T10:00:00+02:00",
        "20260103",
        "1.1.2026",
        "NaT",
        "NA",
        " ",
    ],
    "member": [None, "yes", "No", "TRUE", "0", "2", "maybe"],
    "code": [None, "A1", "B", "AB1", "ABC22", "ab", "", "Ä1", "A1\nB"],
    "size": ["1", "2", "3.0", "4", "x", None],
}
ROW = st.fixed_dictionaries({name: st.sampled_from(cells) for name, cells in CELLS.items()})


def run(
    contract: ContractSpec, batches: Iterable[pa.RecordBatch], **more: Any
) -> tuple[pa.Table, pa.Table, tuple[Violation, ...]]:
    checker = Checker(contract, now=NOW, **more)
    accepted, rejected, row = [], [], 0
    for batch in batches:
        done = checker.check(batch, row)
        row += batch.num_rows
        accepted.append(done.accepted)
        rejected.append(done.rejected)
    assert sum(b.num_rows for b in accepted) + sum(b.num_rows for b in rejected) == row
    tables = pa.Table.from_batches(accepted, checker.schema), pa.Table.from_batches(rejected)
    return *tables, checker.finish()


def whole(frame: pd.DataFrame) -> pa.RecordBatch:
    return pa.RecordBatch.from_pandas(frame, preserve_index=False)


def one(frame: dict[str, Any], columns: dict[str, Any], **more: Any) -> tuple[Violation, ...]:
    contract = ContractSpec.model_validate({"columns": columns, **more})
    return run(contract, [whole(pd.DataFrame(frame))])[2]


def typed(values: "pd.Series[Any]", kind: str) -> list[Any]:
    """Each text as a value of the type; None where it is missing or cannot be one."""
    if kind == "integer":
        whole = (re.fullmatch(r"([+-]?\d{1,18})(\.0*)?", text or "") for text in values)
        return [int(match[1]) if match else None for match in whole]
    if kind == "number":
        numbers = pd.to_numeric(values, errors="coerce").astype(float)
        return [float(value) if np.isfinite(value) else None for value in numbers]
    if kind == "boolean":
        known = dict.fromkeys(TRUE, True) | dict.fromkeys(FALSE, False)
        return [known.get(text.lower()) if text else None for text in values]
    if kind == "datetime":
        times = pd.to_datetime(values, format="ISO8601", utc=True, errors="coerce")
        return [None if time is pd.NaT else time for time in times]
    return list(values)


def again(values: list[Any]) -> list[bool]:
    return pd.Series(values, dtype=object).duplicated().tolist()


def reference(frame: pd.DataFrame, contract: ContractSpec) -> dict[int, str]:
    """The errors of each row of a frame of texts that has some, by its number, in plain Python."""
    reasons: dict[int, list[str]] = {}

    def tell(text: str, broken: Iterable[object]) -> None:
        for number, is_broken in enumerate(broken, 1):
            if is_broken:
                reasons.setdefault(number, []).append(text)

    table: dict[str, list[Any]] = {}
    for name, spec in contract.columns.items():
        raw = frame[name]
        if spec.value_type != "string":
            raw = raw.str.strip()
            raw = raw.mask(raw.isin(MISSING), None)
        values = table[name] = typed(raw, spec.value_type)
        there = [value is not None for value in values]
        failed = [
            text is not None and value is None for text, value in zip(raw, values, strict=True)
        ]
        cells = list(zip(values, there, strict=True))
        hard = {FAILURES[spec.type]: failed}
        if not spec.nullable:
            hard["missing"] = [not a and not b for a, b in zip(there, failed, strict=True)]
        soft: dict[str, list[Any]] = {}
        if spec.minimum is not None:
            soft[f"below {spec.minimum:g}"] = [ok and v < spec.minimum for v, ok in cells]
        if spec.maximum is not None:
            soft[f"above {spec.maximum:g}"] = [ok and v > spec.maximum for v, ok in cells]
        if spec.categories is not None:
            soft[FAILURES["category"]] = [ok and v not in spec.categories for v, ok in cells]
        if (pattern := spec.pattern) is not None:
            like = (ok and not re.fullmatch(pattern, v) for v, ok in cells)
            soft[f"not of the form {pattern}"] = list(like)
        if spec.unique or contract.key == (name,):
            repeats = zip(again(values), there, strict=True)
            soft["as in an earlier row"] = [a and b for a, b in repeats]
        found = list(hard.items())
        for problem, broken in soft.items():
            if spec.severity == "error" or (contract.key == (name,) and "earlier" in problem):
                found.append((problem, broken))
        for problem, broken in sorted(found, key=lambda pair: pair[0]):
            tell(f"{name}: {problem}", broken)
    for group in sorted(contract.unique_together):
        rows = list(zip(*(table[name] for name in group), strict=True))
        tell(f"{', '.join(group)} together: as in an earlier row", again(rows))
    for rule in contract.rules:
        if rule.name == "paid":
            rows = zip(table["spent"], table["budget"], table["member"], strict=True)
            tell(
                f"paid: not {rule.expression}",
                (None not in row and not (row[0] <= row[1] or row[2]) for row in rows),
            )
    return {number: "; ".join(reasons[number]) for number in sorted(reasons)}


@hypothesis.settings(deadline=None, max_examples=60)
@given(
    rows=st.lists(ROW, min_size=1, max_size=40),
    cuts=st.lists(st.integers(0, 40), max_size=5),
)
def test_however_rows_are_cut_and_as_plain_pandas(
    rows: list[dict[str, str | None]], cuts: list[int]
) -> None:
    frame = pd.DataFrame(rows, dtype=object)
    schema = pa.schema(dict.fromkeys(CELLS, pa.string()))
    batch = pa.RecordBatch.from_pylist(rows, schema=schema)
    accepted, rejected, violations = run(EVERYTHING, [batch])
    ends = sorted({0, len(rows), *(cut for cut in cuts if cut < len(rows))})
    parts = [batch.slice(a, b - a) for a, b in itertools.pairwise(ends)]
    cut = run(EVERYTHING, parts)
    assert cut[0].equals(accepted)
    assert cut[1].equals(rejected)
    assert cut[2] == violations
    told = dict(zip(rejected["row"].to_pylist(), rejected["reasons"].to_pylist(), strict=True))
    assert told == reference(frame, EVERYTHING)
    as_frame = apply_contract(frame, EVERYTHING, now=NOW)
    assert to_arrow(as_frame.accepted).equals(accepted)
    assert as_frame.rejected.equals(rejected.to_pandas())


@hypothesis.settings(deadline=None, max_examples=60)
@given(
    values=st.lists(
        st.one_of(st.none(), st.floats(), st.integers(-(2**60), 2**60).map(float)), min_size=1
    ),
    cut=st.integers(0, 50),
)
def test_columns_of_another_type_do_not_depend_on_the_cut(
    values: list[float | None], cut: int
) -> None:
    columns = {
        "text": {"type": "string", "nullable": True},
        "whole": {"type": "integer", "nullable": True},
        "number": {"type": "number", "nullable": True},
        "time": {"type": "datetime", "nullable": True},
    }
    contract = ContractSpec.model_validate({"columns": columns})
    floats = pa.array(values, pa.float64())
    whole_numbers = [None if v is None or not abs(v) < 2**60 else int(v) for v in values]
    times = pa.array(whole_numbers, pa.int64()).cast(pa.timestamp("ns"))
    batch = pa.RecordBatch.from_arrays([floats, floats, floats, times], names=list(columns))
    accepted, rejected, violations = run(contract, [batch])
    parts = [batch.slice(0, cut), batch.slice(cut)]
    apart = run(contract, [part for part in parts if part.num_rows])
    assert apart[0].equals(accepted)
    assert apart[1].equals(rejected)
    assert apart[2] == violations


@pytest.mark.parametrize("name", ["telco_churn", "bike_sharing"])
def test_real_data_with_mistakes_as_plain_pandas(shared_data: Path, name: str) -> None:
    file = {"bike_sharing": "bike_sharing_hour.csv"}.get(name, f"{name}.csv")
    frame = pd.read_csv(shared_data / file, dtype=str, keep_default_na=False, na_values=[""])
    contract = load_project(EXAMPLES / name / "project.yaml").contract
    random = np.random.default_rng(7)
    frame = pd.concat([frame, frame.sample(40, random_state=7)], ignore_index=True)
    for column in contract.columns:  # what people do to data
        for bad in (None, "NA", "?", "-1", "1e9", " 1 ", "2011-13-01"):
            frame.loc[random.integers(0, len(frame), 3), column] = bad
    frame = frame.astype(object).where(frame.notna(), None)
    batch = whole(frame)
    cuts = [batch.slice(start, 1_000) for start in range(0, len(frame), 1_000)]
    accepted, rejected, _ = run(contract, cuts)
    expected = reference(frame, contract)
    assert len(expected) > 100
    told = dict(zip(rejected["row"].to_pylist(), rejected["reasons"].to_pylist(), strict=True))
    assert told == expected
    assert accepted.num_rows == len(frame) - len(expected)


def test_what_has_its_type_is_taken_as_it_is() -> None:
    columns = {"a": pa.array([1.5, 2.5]), "b": pa.array([1, None]), "c": pa.array(["x", "y"])}
    batch = pa.RecordBatch.from_pydict(columns)
    spec = {
        "a": {"type": "number", "minimum": 0},
        "b": {"type": "integer", "nullable": True},
        "c": {"type": "string"},
    }
    contract = ContractSpec.model_validate({"columns": spec})
    done = Checker(contract, now=NOW).check(batch, 0)
    for name in columns:
        mine, theirs = done.accepted.column(name).buffers(), batch.column(name).buffers()
        assert [b and b.address for b in mine] == [b and b.address for b in theirs]


def test_accepted_rows_have_the_types_of_the_lake() -> None:
    frame = pd.DataFrame(
        {"a": [1], "b": [2.0], "c": [True], "d": ["x"], "e": pd.to_datetime(["2026-01-01"])}
    )
    kinds = dict(zip(frame, ("integer", "number", "boolean", "string", "datetime"), strict=True))
    for nullable in (False, True):
        columns = {name: {"type": kind, "nullable": nullable} for name, kind in kinds.items()}
        contract = ContractSpec.model_validate({"columns": columns})
        stored = to_arrow(apply_contract(frame, contract, now=NOW).accepted)
        assert Checker(contract, now=NOW).schema.equals(stored.schema)


@pytest.mark.parametrize(
    ("raw", "kind", "kept"),
    [
        (pa.array([1, 300], pa.int16()), "integer", [1, 300]),
        (pa.array([1, 2**64 - 1], pa.uint64()), "integer", [1]),
        (pa.array([1.0, 2.5, float("nan")]), "integer", [1]),
        (pa.array([1, 2], pa.int32()), "number", [1.0, 2.0]),
        (pa.array([1.5, float("inf")], pa.float32()), "number", [1.5]),
        (pa.array(["a", "b"]).dictionary_encode(), "string", ["a", "b"]),
        (pa.array(["a"], pa.large_string()), "string", ["a"]),
        (pa.array([7.0, 7.5, None]), "string", ["7", "7.5"]),
        (pa.array([None, None]), "number", []),
        (pa.array([0], pa.date32()), "datetime", [datetime(1970, 1, 1)]),
        (pa.array([0], pa.timestamp("ns", "Europe/Rome")), "datetime", [datetime(1970, 1, 1)]),
    ],
)
def test_types_that_sources_have(raw: pa.Array, kind: str, kept: list[object]) -> None:
    contract = ContractSpec.model_validate({"columns": {"a": {"type": kind}}})
    batch = pa.RecordBatch.from_arrays([raw], names=["a"])
    accepted, rejected, _ = run(contract, [batch])
    assert accepted["a"].to_pylist() == kept
    assert rejected.num_rows == len(raw) - len(kept)


def test_a_warning_rejects_no_row_but_what_cannot_be_stored_does() -> None:
    spec = {"type": "integer", "maximum": 9, "severity": "warning", "unique": True}
    found = one({"a": ["1", "10", "x", None, "11", "1"]}, {"a": spec})
    assert [(v.problem, v.severity, v.rows) for v in found] == [
        ("missing", "error", 1),
        ("not a whole number", "error", 1),
        ("above 9", "warning", 2),
        ("as in an earlier row", "warning", 1),
    ]
    contract = ContractSpec.model_validate({"columns": {"a": spec}})
    frame = pd.DataFrame({"a": ["1", "10", "11", "1"]})
    assert run(contract, [whole(frame)])[0]["a"].to_pylist() == [1, 10, 11, 1]


def test_violations_have_counts_and_the_first_rows_as_examples() -> None:
    spec = {"a": {"type": "integer", "minimum": 0}, "b": {"type": "string"}}
    rules = [{"name": "even", "expression": "a % 2 == 0"}]
    data = {"a": [-2, -4, -6, -8, -10, -12, 3], "b": ["x" * 200] + [None] * 3 + ["y"] * 3}
    below, missing, even = one(data, spec, rules=rules)
    assert (below.column, below.problem, below.rows) == ("a", "below 0", 6)
    assert below.examples == tuple(f"row {n}: {-2 * n}" for n in range(1, 6))
    assert missing.examples == ("row 2", "row 3", "row 4")
    assert (even.column, even.problem) == ("even", "not a % 2 == 0")
    assert even.examples == ("row 7: a 3",)


def test_personal_data_are_masked_in_quarantine_and_examples() -> None:
    columns = {
        "mail": {"type": "string", "pii": "hash", "pattern": ".+@.+"},
        "phone": {"type": "string", "pii": "drop", "unique": True},
        "age": {"type": "integer", "pii": "keep", "minimum": 0},
    }
    contract = ContractSpec.model_validate({"columns": columns})
    rows = {"mail": ["ada", None, "b@b"], "phone": ["1", "555", "555"], "age": [-1, 2, 3]}
    rows["note"] = ["ada again", "x", "y"]  # not in the contract: nobody said what it is
    masked = run(contract, [whole(pd.DataFrame(rows))], mask=lambda name, _: f"<{name}>")
    assert list(map(json.loads, masked[1]["record"].to_pylist())) == [
        {"mail": "<mail>", "age": -1},
        {"mail": None, "age": 2},
        {"mail": "<mail>", "age": 3},
    ]
    texts = [example for violation in masked[2] for example in violation.examples]
    assert sorted(texts) == ["row 1: -1", "row 1: <mail>", "row 2", "row 3: (personal data)"]
    plain = run(contract, [whole(pd.DataFrame(rows))])
    assert json.loads(plain[1]["record"].to_pylist()[0]) == {"age": -1}
    assert "ada" not in str(plain)


def test_keys_across_batches() -> None:
    contract = ContractSpec.model_validate(
        {
            "columns": {"a": {"type": "integer"}, "b": {"type": "string"}},
            "key": ["a", "b"],
        }
    )
    frame = pd.DataFrame({"a": [1, 1, 1, 2, 1, None], "b": ["x", "y", "x", "x", "y", None]})
    batch = whole(frame.astype({"a": "Int64"}))
    _, rejected, _ = run(contract, [batch.slice(at, 1) for at in range(6)])
    assert dict(zip(rejected["row"].to_pylist(), rejected["reasons"].to_pylist(), strict=True)) == {
        3: "a, b together: as in an earlier row",
        5: "a, b together: as in an earlier row",
        6: "a: missing; b: missing",
    }


def test_the_whole_is_refused_with_every_reason() -> None:
    columns = {
        "y": {"type": "integer", "expect": {"mean": [None, 3], "median": [0, 10]}},
        "z": {"type": "number", "nullable": True, "expect": {"mean": [0, 1]}},
    }
    with pytest.raises(ContractError) as caught:
        one({"y": [1, 9], "z": [None, None]}, columns, rows={"minimum": 3})
    assert str(caught.value).splitlines() == [
        "contract.rows: 2 came, fewer than minimum: 3",
        "contract.columns.y.expect: mean 5 is above 3",
        "contract.columns.z.expect: too few values for a mean; get other data or change "
        "contract.columns.y.expect, contract.columns.z.expect, contract.rows",
    ]


def test_the_whole_as_a_warning() -> None:
    expect = {"missing_share": [0, 0.4], "distinct": [2, 2], "severity": "warning"}
    spec = {"type": "number", "nullable": True, "expect": expect}
    found = one({"z": [1.0, None]}, {"z": spec}, rows={"maximum": 1, "severity": "warning"})
    assert [(v.column, v.problem, v.rows) for v in found] == [
        ("rows", "2 came, more than maximum: 1", 0),
        ("z", "missing share 0.5 is above 0.4", 0),
        ("z", "distinct 1 is below 2", 0),
    ]


@pytest.mark.parametrize("severity", ["error", "warning"])
def test_old_rows_refuse_or_are_told(severity: str) -> None:
    fresh = {"at_least": 5, "severity": severity}
    checker = Checker(
        ContractSpec.model_validate({"columns": {"y": {"type": "integer"}}, "freshness": fresh}),
        now=NOW,
        time="y",
    )
    checker.check(pa.RecordBatch.from_pydict({"y": [3, 4]}), 0)
    if severity == "error":
        with pytest.raises(ContractError, match="the newest y is 4, below at_least: 5; get other"):
            checker.finish()
    else:
        (found,) = checker.finish()
        assert (found.column, found.severity) == ("y", "warning")


INTEGER = {"type": "integer"}


def test_examples_name_a_row_as_the_source_does() -> None:
    checker = Checker(
        ContractSpec.model_validate({"columns": {"x": INTEGER, "y": INTEGER}}),
        now=NOW,
        at=lambda number: At("in/b.csv", "b.csv", number - 10),
    )
    checker.check(pa.RecordBatch.from_pydict({"x": [1, 2, 3], "y": ["3", "x", None]}), 10)
    assert {one.examples for one in checker.violations} == {
        ("row 2 of b.csv: x",),
        ("row 3 of b.csv",),
    }
    with pytest.raises(ContractError, match=r"^contract\.columns: in/b\.csv has no column 'y'"):
        checker.check(pa.RecordBatch.from_pydict({"x": [1]}), 13)


def test_without_rows_only_their_number_is_judged() -> None:
    spec = {"type": "number", "expect": {"mean": [1, 2]}}
    assert one({"z": pd.Series([], dtype=float)}, {"z": spec}) == ()
    with pytest.raises(ContractError, match="0 came, fewer than minimum: 1"):
        one({"z": pd.Series([], dtype=float)}, {"z": spec}, rows={"minimum": 1})


def test_units_are_said() -> None:
    expect = {"mean": [0, 1], "distinct": [5, None], "severity": "warning"}
    spec = {"type": "number", "unit": "kg", "maximum": 5, "expect": expect}
    found = one({"a": [3.0, 4.0, 6.0]}, {"a": spec})
    assert [v.problem for v in found] == [
        "above 5 kg",
        "distinct 2 is below 5",
        "mean 3.5 is above 1 kg",
    ]


def test_bounds_of_large_whole_numbers_are_exact() -> None:
    large = 2**53 + 1
    spec = {"type": "integer", "maximum": 2**53}
    (found,) = one({"a": [2**53, large]}, {"a": spec})
    assert found.examples == (f"row 2: {large}",)


def test_a_source_that_changes_its_columns_midway() -> None:
    contract = ContractSpec.model_validate({"columns": {"amount": {"type": "number"}}})
    checker = Checker(contract, now=NOW)
    checker.check(pa.RecordBatch.from_pydict({"amount": [1.0]}), 0)
    with pytest.raises(ContractError, match="~ amount → amounts"):
        checker.check(pa.RecordBatch.from_pydict({"amounts": [1.0]}), 1)


def test_a_batch_without_rows() -> None:
    empty = pa.schema(dict.fromkeys(CELLS, pa.string())).empty_table().combine_chunks()
    batch = pa.RecordBatch.from_arrays([c.combine_chunks() for c in empty.columns], list(CELLS))
    accepted, rejected, _ = run(EVERYTHING, [batch])
    assert (accepted.num_rows, rejected.num_rows) == (0, 0)


def test_the_contract_of_the_how_to_page() -> None:
    page = (EXAMPLES.parent / "docs" / "how-to" / "contract.md").read_text()
    declared = yaml.safe_load(page.split("```yaml\n")[1].split("```")[0])["contract"]
    contract = ContractSpec.model_validate(declared | {"rows": None})
    row = {"order": "IT7", "customer": 4, "ordered": "2026-01-03", "shipped": None, "weight": 2200}
    rows = pd.DataFrame([row | {"country": "IT", "late": "no"}] * 2).assign(order=["IT7", "it-7"])
    found = run(contract, [whole(rows)])[2]
    assert contract.freshness
    assert contract.freshness.severity == "warning"
    assert [(one.column, one.problem, one.severity) for one in found if one.rows] == [
        ("customer, ordered together", "as in an earlier row", "error"),
        ("order", "not of the form [A-Z]{2}[0-9]+", "error"),
        ("weight", "above 1000 kg", "warning"),
    ]
