"""`lifecycle rejected` shows why rows were rejected, and no personal value."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from typer.testing import CliRunner

from lifecycle.cli.main import app
from lifecycle.data.contract import quarantine_view as reading
from lifecycle.data.contract.quarantine import RECORD
from lifecycle.data.ingest import ingest
from lifecycle.errors import ContractError, DataError
from lifecycle.project import Project
from lifecycle.records import Window
from lifecycle.settings import Settings
from tests.support.small import SMALL, small_frame

COLUMNS: dict[str, Any] = SMALL["contract"]["columns"]
PLANTED = "planted@example.org"
SEMICOLON = {"name": "few", "expression": "visits < 9 or city == 'Rome; Oslo: all'"}


def contract(mail: dict[str, Any] | None = None, **changes: Any) -> dict[str, Any]:
    columns = COLUMNS | ({"mail": {"type": "string"} | mail} if mail is not None else {})
    return SMALL["contract"] | {"columns": columns} | changes


def bad_frame() -> pd.DataFrame:
    """Rows 4, 8 and 12 break the contract; all have the planted mail, row 8 a bad customer, too."""
    frame = small_frame().assign(mail="p@example.org").astype({"customer": object})
    frame.loc[[3, 7, 11], "mail"] = PLANTED
    frame.loc[[3, 7], "city"] = "[red]\x1b[1m"
    frame.loc[7, "age"] = -1
    frame.loc[7, "customer"] = "Ms Plain"
    frame.loc[11, "age"] = 500
    frame.loc[11, "customer"] = 987654
    return frame


@pytest.fixture
def show(
    make_project: Callable[..., Project], settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., str]:
    """The command's output in one line, without the table's frame."""
    monkeypatch.setenv("LIFECYCLE_HOME", str(settings.home))

    def show(project: Project, *arguments: str) -> str:
        done = CliRunner().invoke(app, ["rejected", str(project.file), *arguments])
        if done.exception and not isinstance(done.exception, SystemExit):
            raise done.exception
        return " ".join(done.output.replace("│", " ").split())

    return show


def test_reasons_are_counted_and_the_first_rows_shown(
    show: Callable[..., str], make_project: Callable[..., Project], settings: Settings
) -> None:
    project = make_project(bad_frame(), contract=contract({"pii": "hash"}))
    ingest(project, settings, Window())
    text = show(project, "--rows", "2")
    for said in (
        "small rejected@0: 3 rows, written",
        "The other rows are accepted@0.",
        "city not one of the categories 2",
        "age below 0 1",
        "age above 120 1",
        "The first 2 of 3 rows",
        r'city "[red]\u001b[1m"',
        "customer (not shown)",
        "mail ",
    ):
        assert said in text
    assert "age 500" not in text
    assert "age 500" in show(project)
    assert "The first" not in show(project)
    assert "as it was read" not in show(project, "--rows", "0")


@pytest.mark.parametrize("pii", ["hash", "drop"])
def test_personal_values_are_never_shown(
    pii: str, show: Callable[..., str], make_project: Callable[..., Project], settings: Settings
) -> None:
    """Nor what was no personal data when it was rejected, and is now."""
    plain = make_project(bad_frame(), contract=contract({}))
    ingest(plain, settings, Window())
    assert PLANTED in show(plain)
    masked = make_project(bad_frame(), contract=contract({"pii": pii}, version="2.0.0"))
    then = show(masked)
    ingest(masked, settings, Window())
    now = show(masked)
    assert "rejected@1" in now
    for text in (then, now):
        assert PLANTED not in text
        assert "Ms Plain" not in text
        assert "987654" not in text
    assert "mail (personal data)" in then
    assert ("mail" in now) == (pii == "hash")
    hashed = COLUMNS["customer"] | {"pii": "hash"}
    columns = COLUMNS | {"customer": hashed}
    entity = make_project(bad_frame(), contract=contract(columns=columns, version="3.0.0"))
    ingest(entity, settings, Window())
    text = show(entity)
    assert "Ms Plain" not in text
    assert "987654" not in text
    assert "…, " in text[text.index("customer: not a whole number") :]


def test_which_version_and_what_came_of_it(
    show: Callable[..., str], make_project: Callable[..., Project], settings: Settings
) -> None:
    project = make_project()
    assert "nothing was ingested yet" in show(project)
    ingest(project, settings, Window())
    assert "no row was rejected so far" in show(project)
    with pytest.raises(DataError, match=r"no version 0 in .*; it has none"):
        show(project, "--version", "0")
    refused = make_project(small_frame().assign(age=500))
    with pytest.raises(ContractError, match=r"lifecycle rejected .*project\.yaml shows them"):
        ingest(refused, settings, Window())
    assert "No version was made." in show(refused)
    some = make_project(bad_frame())
    ingest(some, settings, Window())
    ingest(make_project(small_frame(300)), settings, Window())
    text = show(some)
    assert "rejected@1: 3 rows" in text
    assert "The other rows are accepted@1. accepted@2 is newer; nothing was rejected" in text
    assert "rejected@0: 400 rows" in show(some, "--version", "0")
    with pytest.raises(DataError, match=r"no version 7 in .*; it has 0, 1"):
        show(some, "--version", "7")


def test_reasons_that_hold_the_separator_and_groups(
    make_project: Callable[..., Project], settings: Settings
) -> None:
    frame = small_frame(100)
    frame.loc[50] = frame.loc[20]
    frame.loc[50, "age"] = -1
    spec = contract(key=["customer", "visits"], rules=[SEMICOLON], max_rejected_share=0.9)
    project = make_project(frame, contract=spec)
    ingest(project, settings, Window())
    found = reading.quarantine(project, settings, rows=100)
    assert found
    assert {one.column for one in found.reasons} == {
        "age",
        "customer, visits together",
        "few",
    }
    row = next(one for one in found.first if one.number == 51)
    assert set(row.about) == {"age", "customer", "visits"}
    ruled = next(one for one in found.first if one.number != 51)
    assert set(ruled.about) == {"visits", "city"}


def test_records_are_not_read_to_count(
    make_project: Callable[..., Project], settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    project = make_project(bad_frame())
    ingest(project, settings, Window())
    asked: list[list[str] | None] = []

    def watched(ref: Any, columns: list[str] | None = None) -> Any:
        asked.append(columns)
        return open_version(ref, columns)

    open_version = reading.open_version
    monkeypatch.setattr(reading, "open_version", watched)
    found = reading.quarantine(project, settings, rows=0)
    assert found
    assert found.rows == 3
    assert asked == [["reasons"]]


@pytest.mark.parametrize("command", ["profile", "diff"])
def test_a_profile_and_a_diff_show_no_record(
    command: str,
    make_project: Callable[..., Project],
    settings: Settings,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    monkeypatch.setenv("LIFECYCLE_HOME", str(settings.home))
    frame = pd.concat([bad_frame()] * 40, ignore_index=True)  # records that repeat are levels
    project = make_project(frame, contract=contract({}))
    ingest(project, settings, Window())
    other = make_project(frame.assign(mail="other@example.org"), contract=contract({}))
    ingest(other, settings, Window())
    page = tmp_path / "page.html"
    arguments = ["0", "1"] if command == "diff" else ["--output", str(page), "--against", "0"]
    done = CliRunner().invoke(app, [command, str(project.file), "rejected", *arguments])
    assert done.exit_code == 0, done.output
    text = done.output + (page.read_text(encoding="utf-8") if command == "profile" else "")
    assert "reasons" in text
    for planted in (PLANTED, "other@example.org", "987654", "Ms Plain"):
        assert planted not in text
    if command == "profile":
        assert f"without {RECORD}" in text
