"""What differs between two versions, against versions whose difference is known."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest

from lifecycle.errors import BackendError
from lifecycle.lake import row_hash
from lifecycle.lake.table import table_uri
from lifecycle.lake.write import write_version
from lifecycle.profiling import diff as moved
from lifecycle.profiling.diff import LEVELS, diff
from lifecycle.project import ContractSpec
from lifecycle.records import DatasetVersion
from lifecycle.records.data import ColumnDiff, VersionDiff
from lifecycle.settings import Settings

COLUMNS: dict[str, Any] = {
    "id": {"type": "integer"},
    "age": {"type": "number", "nullable": True},
    "city": {"type": "category"},
}
CONTRACT = ContractSpec.model_validate({"columns": COLUMNS, "key": ["id"]})
Write = Callable[[pd.DataFrame], DatasetVersion]


@pytest.fixture
def write(settings: Settings) -> Write:
    return lambda frame: write_version(frame, table_uri(settings, "small", "accepted"), note={})


def frame(rows: int = 1000) -> pd.DataFrame:
    index = pd.RangeIndex(rows)
    return pd.DataFrame(
        {
            "id": index + 7,
            "age": (index * 7 % 60 + 18).astype(float),
            "city": [("Rome", "Oslo", "Lima")[i % 3] for i in index],
        }
    )


def column(found: VersionDiff, name: str) -> ColumnDiff:
    return next(one for one in found.columns if one.column == name)


def test_rows_by_key(write: Write) -> None:
    before = frame()
    after = before.drop(index=[3, 5]).reset_index(drop=True)
    after.loc[[10, 11, 12], "age"] += 1
    after.loc[12, "city"] = "Bonn"
    extra = pd.DataFrame({"id": [5000], "age": [np.nan], "city": ["Rome"]})
    after = pd.concat([after.iloc[::-1], extra], ignore_index=True)  # order does not count
    found = diff(write(before), write(after), CONTRACT)
    rows = found.rows
    assert rows.key == ("id",)
    assert (rows.same, rows.added, rows.removed, rows.changed) == (995, 1, 2, 3)
    assert rows.changed_in == {"age": 3, "city": 1}
    assert rows.examples["added"] == (998,)
    assert rows.examples["removed"] == (3, 5)
    changed = after["id"].iloc[list(rows.examples["changed"])]
    assert sorted(changed) == sorted(before["id"].iloc[[12, 13, 14]])
    assert column(found, "city").new_levels == ("Bonn",)
    assert column(found, "age").present.missing == 1


def test_rows_without_a_key_are_compared_whole_and_counted(write: Write) -> None:
    before = pd.DataFrame({"age": [1.0, 1.0, 2.0, np.nan, 5.0]})
    after = pd.DataFrame({"age": [1.0, 2.0, 2.0, np.nan, np.nan]})
    rows = diff(write(before), write(after)).rows
    assert rows.key == ()
    assert (rows.same, rows.added, rows.removed, rows.changed) == (3, 2, 2, None)


def test_a_key_that_repeats_says_nothing(write: Write) -> None:
    before = frame(10)
    found = diff(write(before), write(before.assign(id=1)), CONTRACT)
    assert found.rows.key == ()
    assert "the key id repeats" in found.rows.note
    missing = diff(write(before), write(before.drop(columns="id")), CONTRACT)
    assert missing.rows.same == 10
    assert "the key id is not in both" in missing.rows.note


def test_the_schema(write: Write) -> None:
    before = frame()
    after = before.drop(columns="city").assign(id=before["id"].astype(float), new="x")
    found = diff(write(before), write(after))
    assert found.columns_diff.removed == {"city": "string?"}
    assert found.columns_diff.added == {"new": "string?"}
    assert found.columns_diff.changed == {"id": ("int64", "double?")}
    assert found.rows.same == 1000, "7 and 7.0 are one number"


def test_text_that_was_a_number_is_a_change_of_the_schema(write: Write) -> None:
    found = diff(write(frame()), write(frame().assign(id=frame()["id"].astype(str))))
    assert found.columns_diff.changed == {"id": ("int64", "string?")}
    assert [one.column for one in found.columns] == ["age", "city"]


def test_nothing_differs(write: Write) -> None:
    version = write(frame())
    found = diff(version, version, CONTRACT)
    assert (found.rows.same, found.rows.added, found.rows.changed) == (1000, 0, 0)
    assert {one.statistic for one in found.columns} == {0.0}


def test_distributions(write: Write) -> None:
    days = pd.Timestamp("2026-01-01") + pd.to_timedelta(frame()["id"], "D")
    before = frame().assign(day=days.astype("datetime64[us]"))
    after = before.assign(age=before["age"] + 100, city="Rome", day=before["day"])
    found = diff(write(before), write(after), CONTRACT)
    age, city, day = (column(found, name) for name in ("age", "city", "day"))
    assert age.statistic == 1.0
    assert age.former.mean == pytest.approx(before["age"].mean())
    assert age.former.deviation == pytest.approx(before["age"].std())
    assert (age.present.minimum, age.present.maximum) == (118.0, 177.0)
    assert city.test == "cramers_v"
    assert city.gone_levels == ("Oslo", "Lima")
    assert city.statistic
    assert day.statistic == 0.0
    assert day.former.minimum == "2026-01-08 00:00:00"


def test_personal_values_are_not_named(write: Write) -> None:
    columns = {name: spec | {"pii": "hash"} for name, spec in COLUMNS.items()}
    contract = ContractSpec.model_validate({"columns": columns})
    found = diff(write(frame()), write(frame().assign(city="Bonn", age=99.5)), contract)
    assert "Bonn" not in found.model_dump_json()
    age, city = column(found, "age"), column(found, "city")
    assert (age.present.minimum, age.former.maximum) == (None, None)
    assert age.statistic == 1.0
    assert city.statistic
    assert city.new_levels == city.gone_levels == ()


def test_text_of_many_values_is_no_category(write: Write) -> None:
    rows = LEVELS + 1
    before = pd.DataFrame({"name": [f"n{i}" for i in range(rows)]})
    found = diff(write(before), write(before + "x"))
    assert found.columns[0].statistic is None
    assert (found.rows.added, found.rows.removed) == (rows, rows)


def test_large_columns_are_sampled(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    before, after = frame(3000), frame(3000).assign(age=lambda f: f["age"] + 5)
    exact = column(diff(write(before), write(after)), "age").statistic
    monkeypatch.setattr(moved, "SAMPLE", 1000)
    sampled = column(diff(write(before), write(after)), "age").statistic
    assert sampled == pytest.approx(exact, abs=0.03)


def test_missing_is_not_a_value(write: Write) -> None:
    before = pd.DataFrame({"a": [None, "x"], "b": ["x", "x"]})
    exchanged = before.rename(columns={"a": "b", "b": "a"})[["a", "b"]]
    assert diff(write(before), write(exchanged)).rows.same == 1
    assert diff(write(before), write(before.fillna(""))).rows.same == 1


def test_hashes_tell_large_numbers_apart() -> None:
    import pyarrow as pa

    column = pa.chunked_array([[2**53, 2**53 + 1], [-(2**60), 2**60 + 1]])
    assert len(np.unique(row_hash.hashes_of(column, as_integers=True))) == 4


def test_a_version_that_is_not_there(write: Write) -> None:
    version = write(frame(5))
    gone = version.model_copy(update={"version": 9})
    with pytest.raises(BackendError, match="version 9"):
        diff(version, gone)
