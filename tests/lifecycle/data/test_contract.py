"""The contract: each promise broken once, types of what is accepted, quarantine of the rest."""

import gc
import json
from datetime import datetime
from typing import Any

import hypothesis
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lifecycle.data.contract import check_columns
from lifecycle.errors import ContractError
from lifecycle.lake.column_types import to_frame
from lifecycle.project import ContractSpec
from tests.support.frames import InFrames, apply_contract

NOW = datetime(2026, 1, 10)


def check(data: dict[str, Any], columns: dict[str, Any], **more: Any) -> InFrames:
    time = more.pop("time", None)
    contract = ContractSpec.model_validate({"columns": columns, **more})
    return apply_contract(pd.DataFrame(data), contract, now=NOW, time=time)


def reasons(checked: InFrames) -> dict[int, str]:
    return dict(zip(checked.rejected["row"], checked.rejected["reasons"], strict=True))


@pytest.mark.parametrize(
    ("spec", "good", "dtype", "bad", "reason"),
    [
        ({"type": "integer"}, ["3", " 4 ", "5.0"], "int64", "x", "not a whole number"),
        ({"type": "integer"}, ["3", "4", "5"], "int64", "5.5", "not a whole number"),
        ({"type": "integer"}, ["3", "4", "5"], "int64", "", "missing"),
        ({"type": "number"}, ["3", "4e2", "-5.5"], "float64", "inf", "not a finite number"),
        ({"type": "number"}, ["3", "4", "5"], "float64", "1,000", "not a finite number"),
        ({"type": "number", "minimum": 0}, ["0", "1", "2"], "float64", "-0.1", "below 0"),
        ({"type": "integer", "maximum": 9}, ["0", "1", "9"], "int64", "10", "above 9"),
        ({"type": "boolean"}, ["yes", "FALSE", "1"], "bool", "2", "neither true nor false"),
        (
            {"type": "datetime"},
            ["2026-01-02", "2026-01-02T03:04:05", "2026-01-02T03:04:05.25+02:00"],
            "datetime64[us]",
            "02/01/2026",
            "not an ISO 8601 date or time",
        ),
        (
            {"type": "category", "categories": ["a", "b"]},
            ["a", "b", "a"],
            "str",
            "c",
            "not one of the categories",
        ),
        (
            {"type": "category", "categories": [1, 2]},
            ["1", "2", "1"],
            "int64",
            "3",
            "not one of the categories",
        ),
        (
            {"type": "category", "categories": [1, 2]},
            ["1", "2", "1"],
            "int64",
            "x",
            "not one of the categories",
        ),
        ({"type": "string", "unique": True}, ["a", "b", "c"], "str", "b", "as in an earlier"),
        ({"type": "string"}, ["a", "NA", "007"], "str", None, "missing"),
    ],
)
def test_each_promise(
    spec: dict[str, Any], good: list[str], dtype: str, bad: str | None, reason: str
) -> None:
    checked = check({"c": [*good, bad]}, {"c": spec})
    assert len(checked.accepted) == len(good)
    assert checked.accepted["c"].dtype == dtype
    (told,) = reasons(checked).items()
    assert told[0] == 4
    assert told[1].startswith(f"c: {reason}")


@pytest.mark.parametrize(
    ("kind", "dtype"),
    [
        ("integer", "Int64"),
        ("number", "float64"),
        ("boolean", "boolean"),
        ("string", "str"),
        ("datetime", "datetime64[us]"),
    ],
)
def test_nullable_columns_keep_missing_values(kind: str, dtype: str) -> None:
    value = {"datetime": "2026-01-01"}.get(kind, "1")
    checked = check({"c": [value, None, value]}, {"c": {"type": kind, "nullable": True}})
    assert checked.accepted["c"].dtype == dtype
    assert checked.accepted["c"].isna().tolist() == [False, True, False]


@pytest.mark.parametrize("word", ["", "  ", "NA", "nan", "NULL", "None"])
def test_words_for_missing_in_a_number_column(word: str) -> None:
    checked = check({"c": ["1", word]}, {"c": {"type": "number", "nullable": True}})
    assert checked.accepted["c"].isna().tolist() == [False, True]


def test_large_whole_numbers_keep_every_digit() -> None:
    large = 2**53 + 1
    checked = check({"c": [str(large), None]}, {"c": {"type": "integer", "nullable": True}})
    assert checked.accepted["c"][0] == large
    checked = check({"c": [float(2**60)]}, {"c": {"type": "integer"}})
    assert "not a whole number" in reasons(checked)[1]


def test_all_reasons_of_a_row_in_the_order_of_the_columns() -> None:
    checked = check(
        {"a": [1, -1], "b": ["x", None], "c": ["1", "y"]},
        {"a": {"type": "integer", "minimum": 0}, "b": {"type": "string"}, "c": {"type": "number"}},
    )
    assert reasons(checked) == {2: "a: below 0; b: missing; c: not a finite number"}
    assert json.loads(checked.rejected["record"][0]) == {"a": -1, "b": None, "c": "y"}


def test_columns_that_have_their_type_are_not_copied() -> None:
    frame = pd.DataFrame({"number": [0.5, np.nan], "whole": [1, 2], "flag": [True, False]})
    contract = ContractSpec.model_validate(
        {
            "columns": {
                "number": {"type": "number", "nullable": True, "minimum": 0},
                "whole": {"type": "integer", "unique": True},
                "flag": {"type": "boolean"},
            }
        }
    )
    accepted = apply_contract(frame, contract, now=NOW).accepted
    pd.testing.assert_frame_equal(accepted, frame)
    for name in frame:
        assert np.shares_memory(accepted[name].to_numpy(), frame[name].to_numpy())


def test_the_frame_is_freed_with_its_last_name() -> None:
    """Not when the garbage collector comes by: the next frame needs the room."""
    contract = ContractSpec.model_validate({"columns": {"a": {"type": "number"}}})
    before = pa.total_allocated_bytes()
    gc.disable()
    try:
        table = pa.table({"a": pa.array(range(1_000), type=pa.float64())})
        frame = to_frame(table, lambda *_: False, split_blocks=True)
        checked = apply_contract(frame, contract, now=NOW)
        del table, frame
        assert pa.total_allocated_bytes() > before
        del checked
        assert pa.total_allocated_bytes() == before
    finally:
        gc.enable()


def test_narrow_whole_numbers_become_int64() -> None:
    small = check({"a": np.array([1, 2], dtype=np.uint8)}, {"a": {"type": "integer"}})
    assert small.accepted["a"].dtype == "int64"


def test_unique_together_keeps_the_first_row() -> None:
    checked = check(
        {"a": [1, 1, 2, 1], "b": [1, 2, 1, 1]},
        {"a": {"type": "integer"}, "b": {"type": "integer"}},
        unique_together=[["a", "b"]],
    )
    assert reasons(checked) == {4: "a, b together: as in an earlier row"}


def test_missing_values_do_not_repeat_each_other() -> None:
    spec = {"type": "integer", "nullable": True, "unique": True}
    assert reasons(check({"a": [1, None, None, 1]}, {"a": spec})) == {4: "a: as in an earlier row"}


def test_rows_keep_their_number_in_the_source() -> None:
    frame = pd.DataFrame({"a": ["1", "x", "3"]}, index=[10, 20, 30])
    contract = ContractSpec.model_validate({"columns": {"a": {"type": "integer"}}})
    checked = apply_contract(frame, contract, now=NOW)
    assert checked.rejected["row"].tolist() == [21]
    assert checked.accepted["a"].tolist() == [1, 3]
    assert checked.accepted.index.tolist() == [0, 1]


def test_columns_that_are_missing_or_too_many() -> None:
    frame = pd.DataFrame({"agee": [1], "other": [2]})
    kinds = {key: {"type": "integer"} for key in ("age", "other")}
    contract = ContractSpec.model_validate({"columns": kinds})
    with pytest.raises(ContractError, match=r"no column 'age' \(did you mean 'agee'\?\)"):
        check_columns(frame, contract)
    strict = ContractSpec.model_validate(
        {"columns": {"agee": {"type": "integer"}}, "extra_columns": "refuse"}
    )
    with pytest.raises(ContractError, match="does not name: other"):
        check_columns(frame, strict)


def test_extra_columns_are_dropped() -> None:
    assert list(check({"a": [1], "b": [2]}, {"b": {"type": "integer"}}).accepted) == ["b"]


def test_freshness() -> None:
    year = {"data": {"y": [1, 2]}, "columns": {"y": {"type": "integer"}}, "time": "y"}
    check(**year, freshness={"at_least": 2})
    with pytest.raises(ContractError, match="newest y is 2, below at_least: 3"):
        check(**year, freshness={"at_least": 3})
    day = {"data": {"d": ["2026-01-05"]}, "columns": {"d": {"type": "datetime"}}, "time": "d"}
    check(**day, freshness={"max_age_days": 5})
    with pytest.raises(ContractError, match=r"5\.0 days old, more than max_age_days: 4"):
        check(**day, freshness={"max_age_days": 4})


def test_nothing_rejected_and_everything_rejected() -> None:
    columns = {"a": {"type": "integer"}}
    assert check({"a": [1, 2]}, columns).rejected.empty
    checked = check({"a": ["x", "y"]}, columns)
    assert checked.accepted.empty
    assert reasons(checked) == dict.fromkeys((1, 2), "a: not a whole number")


@hypothesis.settings(deadline=None)
@given(
    st.lists(
        st.one_of(st.none(), st.text(max_size=5), st.integers(-9, 9).map(str)),
        min_size=1,
        max_size=30,
    )
)
def test_every_row_is_in_exactly_one_place(cells: list[str | None]) -> None:
    columns = {"a": {"type": "integer", "minimum": 0}}
    checked = check({"a": np.array(cells, dtype=object)}, columns)
    assert len(checked.accepted) + len(checked.rejected) == len(cells)
    assert checked.rejected["row"].is_unique
    assert (checked.accepted["a"] >= 0).all()


def test_a_row_where_column_names_should_be_is_not_told() -> None:
    contract = ContractSpec.model_validate({"columns": {"mail": {"type": "string"}}})
    with pytest.raises(
        ContractError, match="none of the contract's columns, but 2 others"
    ) as caught:
        check_columns(["ada@example.org", "mail:ada"], contract)
    assert "ada" not in str(caught.value)
