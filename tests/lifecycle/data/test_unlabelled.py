"""Rows without a label are scored as they are, and set aside where rows are learned from."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from lifecycle.data.contract import Table
from lifecycle.data.ingest import ingest
from lifecycle.data.preview import rehearse
from lifecycle.data.sources import open_source
from lifecycle.data.split import split_dataset
from lifecycle.data.windows import arriving, first_window
from lifecycle.errors import ContractError, SourceError, TargetError
from lifecycle.lake.read import read_version
from lifecycle.project import Project, SourceSpec
from lifecycle.records import Window
from lifecycle.settings import Settings
from tests.support.small import SMALL, small_frame

MakeProject = Callable[..., Project]
TARGETS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "integer": ({"type": "integer", "minimum": 0, "maximum": 1}, {}),
    "boolean": ({"type": "boolean"}, {"positive": True}),
    "category": ({"type": "category", "categories": ["0", "1"]}, {"positive": "1"}),
    "number": ({"type": "number"}, {"task": "regression"}),
}


def shop(
    make_project: MakeProject, frame: pd.DataFrame, kind: str = "integer", **more: Any
) -> Project:
    """`small` with a consequence of the target, `refund`, and a time."""
    target, task = TARGETS[kind]
    columns = SMALL["contract"]["columns"] | {
        "bought": target,
        "refund": {"type": "number", "minimum": 0},
        "day": {"type": "datetime"},
    }
    contract = SMALL["contract"] | {"columns": columns | more.pop("columns", {}), **more}
    time = {"column": "day", "period": "day", "arrives_from": "2024-01-09"}
    changes = {"leakage": ["refund"], "time": time, "contract": contract, "entity": None}
    return make_project(frame, **(task | changes | {"ignore": ["customer"]}))


def shop_frame() -> pd.DataFrame:
    frame = small_frame()
    return frame.assign(
        refund=frame["bought"] * 2.5,
        day=pd.Timestamp("2024-01-01") + pd.to_timedelta(frame.index // 40, unit="D"),
    )


@pytest.mark.parametrize("kind", TARGETS)
@pytest.mark.parametrize("gap", ["absent", "empty", "blank"])
def test_what_arrives_needs_no_target_and_no_leakage(
    make_project: MakeProject, settings: Settings, kind: str, gap: str
) -> None:
    frame = shop_frame()
    labels = ["bought", "refund"]
    if gap == "absent":
        frame = frame.drop(columns=labels)
    else:
        frame[labels] = None if gap == "empty" else "  "
    project = shop(make_project, frame, kind)
    windows = arriving(project, open_source(project))
    assert [window.first for window in windows] == ["2024-01-09", "2024-01-10"]
    done = ingest(project, settings, windows[-1], "current")
    assert (done.rows_in, done.rows_rejected, done.dataset.rows) == (40, 0, 40)
    stored = read_version(done.dataset)
    assert list(stored) == list(project.contract.columns)
    assert stored[labels].isna().all(axis=None)


def test_labels_that_came_are_kept_and_held_to_the_contract(
    make_project: MakeProject, settings: Settings
) -> None:
    frame = shop_frame()
    frame["bought"] = frame["bought"].astype(object)
    frame.loc[396:, "bought"] = [None, 1, "maybe", 7]
    project = shop(make_project, frame)
    done = ingest(project, settings, Window(first="2024-01-10"), "current")
    assert (done.rows_in, done.dataset.rows) == (40, 38)
    found = {f"{one.column}: {one.problem}": one.rows for one in done.violations}
    assert found == {"bought: not a whole number": 1, "bought: above 1": 1}
    assert read_version(done.dataset)["bought"].isna().sum() == 1


def test_other_columns_stay_required(make_project: MakeProject, settings: Settings) -> None:
    project = shop(make_project, shop_frame().drop(columns=["city", "bought"]))
    with pytest.raises(ContractError, match="has no column 'city'"):
        ingest(project, settings, Window(), "current")
    assert len(arriving(project, open_source(project))) == 2, "the time column says which"


@pytest.mark.parametrize("kind", TARGETS)
def test_newest_rows_without_a_label_are_set_aside_where_rows_are_learned_from(
    make_project: MakeProject, settings: Settings, kind: str
) -> None:
    frame = shop_frame()
    frame["bought"] = frame["bought"].astype("Int64")
    frame.loc[240:, ["bought", "refund"]] = None  # 80 of the 320 rows that come first
    project = shop(make_project, frame, kind)
    done = ingest(project, settings, first_window(project))
    assert (done.rows_in, done.rows_rejected) == (320, 0)
    parts = split_dataset(project, settings, done)
    assert parts.withheld == 80
    assert parts.rule.endswith("80 rows without target")
    held = [read_version(part) for part in (parts.train, parts.validation, parts.holdout)]
    assert sum(map(len, held)) == 240
    assert not any(part["bought"].isna().any() for part in held)
    plain = {"integer": "int64", "boolean": "bool", "category": "str", "number": "float64"}
    assert {str(part["bought"].dtype) for part in held} == {plain[kind]}
    assert max(part["day"].max() for part in held) == pd.Timestamp("2024-01-06")
    assert rehearse(project).unlabelled == 80


def test_the_column_of_the_target_is_needed_for_learning(
    make_project: MakeProject, settings: Settings
) -> None:
    for name in ("bought", "refund"):
        project = shop(make_project, shop_frame().drop(columns=name))
        with pytest.raises(ContractError, match=f"has no column '{name}'"):
            ingest(project, settings, first_window(project))
    project = shop(make_project, shop_frame().assign(bought=None))
    done = ingest(project, settings, first_window(project))
    with pytest.raises(TargetError, match="missing in every row"):
        split_dataset(project, settings, done)


def test_a_later_file_need_not_have_the_target(
    make_project: MakeProject, settings: Settings, tmp_path: Path
) -> None:
    """The newest of several files comes before its labels; a misspelt target is still told."""
    frame, days = shop_frame(), tmp_path / "days"
    days.mkdir()
    frame[:240].to_csv(days / "1.csv", index=False)
    newest = frame[240:320].drop(columns=["bought", "refund"])
    newest.to_csv(days / "2.csv", index=False)
    source = SourceSpec(path="days/*.csv")
    project = shop(make_project, frame).model_copy(update={"source": source})
    done = ingest(project, settings, first_window(project))
    assert (done.rows_in, done.rows_rejected) == (320, 0)
    assert split_dataset(project, settings, done).withheld == 80
    assert rehearse(project).unlabelled == 80
    newest.assign(Bought=1, refund=0).to_csv(days / "2.csv", index=False)
    with pytest.raises(SourceError, match="bought → Bought, perhaps"):
        ingest(project, settings, first_window(project))


def test_an_increment_need_not_have_the_target(
    make_project: MakeProject, settings: Settings, tmp_path: Path
) -> None:
    frame, days = shop_frame(), tmp_path / "days"
    days.mkdir()
    source = SourceSpec(path="days/*.csv", incremental={"by": "files"})
    project = shop(make_project, frame).model_copy(update={"source": source})
    newest = frame[240:320].drop(columns=["bought", "refund"])
    newest.to_csv(days / "1.csv", index=False)
    with pytest.raises(ContractError, match="has no column 'bought', 'refund'"):
        ingest(project, settings, first_window(project))
    frame[:240].to_csv(days / "1.csv", index=False)
    ingest(project, settings, first_window(project))
    newest.assign(Bought=1, refund=0).to_csv(days / "2.csv", index=False)
    with pytest.raises(ContractError, match="did you mean 'Bought'"):
        ingest(project, settings, first_window(project))
    newest.to_csv(days / "2.csv", index=False)
    done = ingest(project, settings, first_window(project))
    assert split_dataset(project, settings, done).withheld == 80


def test_expectations_of_the_target_limit_what_is_learned_from_only(
    make_project: MakeProject, settings: Settings
) -> None:
    frame = shop_frame()
    frame.loc[200:, "bought"] = None
    expect = {"missing_share": [0, 0.1], "mean": [0.1, 0.9]}
    columns = {"bought": TARGETS["integer"][0] | {"expect": expect}}
    project = shop(make_project, frame, columns=columns)
    with pytest.raises(ContractError, match=r"bought.expect: missing share 0\.375 is above 0\.1"):
        ingest(project, settings, first_window(project))
    assert ingest(project, settings, Window(first="2024-01-09"), "current").rows_rejected == 0


@pytest.mark.parametrize("table", ["accepted", "current"])
def test_json_lines_may_leave_the_target_out(
    make_project: MakeProject, settings: Settings, table: Table
) -> None:
    frame = shop_frame().astype({"day": str})
    project = shop(make_project, frame)
    lines = frame.to_dict("records")
    for line in lines[-10:]:
        del line["bought"], line["refund"]
    (project.folder / "rows.jsonl").write_text("\n".join(map(json.dumps, lines)))
    done = ingest(project.with_source(project.folder / "rows.jsonl"), settings, Window(), table)
    assert (done.rows_rejected, done.dataset.rows) == (0, 400)
    assert read_version(done.dataset)["bought"].isna().sum() == 10


def test_a_date_in_the_future_goes_to_quarantine_beside_the_newest_window(
    make_project: MakeProject, settings: Settings
) -> None:
    frame = shop_frame()
    odd = frame.iloc[[3]].assign(day=pd.Timestamp("2052-01-01"))
    project = shop(make_project, pd.concat([frame, odd]), max_rejected_share=0.01)
    windows = arriving(project, open_source(project))
    assert windows[-1] == Window(first="2024-01-10", last="2024-01-10", unplaced=True)
    done = ingest(project, settings, windows[-1], "current")  # 1 of 41 rows is above 1 %
    assert (done.rows_in, done.dataset.rows, done.rows_rejected) == (41, 40, 1)
    (found,) = done.violations
    assert str(found) == "day: in the future, 1 row (row 401: 2052-01-01 00:00:00)"
    assert done.rejected
    assert read_version(done.rejected)["reasons"].tolist() == ["day: in the future"]
    assert ingest(project, settings, windows[0], "current").rows_rejected == 0
    first = ingest(project, settings, first_window(project))
    assert (first.rows_in, first.rows_rejected) == (321, 1)
    assert rehearse(project).violations[0].problem == "in the future"


def test_times_to_come_may_be_what_the_rows_are_about(
    make_project: MakeProject, settings: Settings
) -> None:
    start = pd.Timestamp.now("UTC").tz_localize(None).normalize()
    frame = shop_frame()
    frame["day"] = start + pd.to_timedelta(frame.index // 40, unit="D")
    project = shop(make_project, frame, max_rejected_share=0.9)
    days = int(np.unique(frame["day"]).size)
    assert ingest(project, settings, Window(), "current").rows_rejected == (days - 2) * 40
    strict = shop(make_project, frame)
    with pytest.raises(ContractError, match=r"or set time\.future: allow"):
        ingest(strict, settings, Window())
    booked = project.model_copy(
        update={"time": project.time and project.time.model_copy(update={"future": "allow"})}
    )
    assert ingest(booked, settings, Window(), "current").rows_rejected == 0
