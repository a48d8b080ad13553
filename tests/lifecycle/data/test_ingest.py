"""Ingestion: rows add up, the rest is in quarantine, a rerun changes nothing."""

import time
from collections.abc import Callable
from pathlib import Path

import pytest

from lifecycle.audit.data_trail import data_chain, record_data
from lifecycle.data import ingest as ingestion
from lifecycle.data.ingest import ingest
from lifecycle.data.sources import read_source
from lifecycle.data.windows import first_window, periods
from lifecycle.errors import ContractError, SourceError
from lifecycle.lake.read import read_version
from lifecycle.lake.table import history, table_uri
from lifecycle.project import Project
from lifecycle.records import Window
from lifecycle.settings import Settings
from tests.support.small import small_frame

MakeProject = Callable[..., Project]


def test_rows_add_up(make_project: MakeProject, settings: Settings) -> None:
    frame = small_frame()
    frame.loc[[3, 7], "city"] = "Atlantis"
    frame.loc[7, "visits"] = -1
    done = ingest(make_project(frame), settings, Window())
    assert (done.rows_in, done.dataset.rows, done.rows_rejected) == (400, 398, 2)
    assert done.rejected
    quarantine = read_version(done.rejected)
    assert quarantine["row"].tolist() == [4, 8]
    assert quarantine["reasons"][1] == "visits: below 0; city: not one of the categories"


def test_again_is_the_same_and_writes_nothing(
    make_project: MakeProject, settings: Settings
) -> None:
    project = make_project()
    first = ingest(project, settings, Window())
    assert first.rejected is None
    assert ingest(project, settings, Window()) == first
    assert len(history(first.dataset.uri)) == 1


def test_a_line_that_a_killed_run_owes_is_written_once(
    make_project: MakeProject, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    project = make_project()

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(ingestion, "record_data", killed)
        with pytest.raises(KeyboardInterrupt):
            ingest(project, settings, Window())
    trail = data_chain(settings, project.name)
    assert trail.lines() == [], "the version is there, its line is not"
    for _ in range(2):
        done = ingest(project, settings, Window())
    [line] = trail.lines()
    assert (line.action, line.version, line.digest) == ("ingest", 0, done.dataset.digest)
    record_data(settings, project.name, "retention", "accepted", 0, reasons=("older",))
    ingest(project, settings, Window())
    assert [line.action for line in trail.lines()] == ["ingest", "retention"]


def test_new_data_make_a_new_version(make_project: MakeProject, settings: Settings) -> None:
    first = ingest(make_project(), settings, Window())
    second = ingest(make_project(small_frame(410)), settings, Window())
    assert (first.dataset.version, second.dataset.version) == (0, 1)
    assert first.source_digest != second.source_digest
    assert read_version(first.dataset).equals(read_version(second.dataset).iloc[:400])


def test_too_many_rejected_rows_refuse_the_batch_and_keep_them(
    make_project: MakeProject, settings: Settings
) -> None:
    frame = small_frame()
    frame.loc[:99, "city"] = "Atlantis"
    with pytest.raises(ContractError) as caught:
        ingest(make_project(frame), settings, Window())
    message = str(caught.value)
    assert "100 of 400 rows (25.00%) break the contract" in message
    assert "city: not one of the categories: 100 rows" in message
    quarantine = table_uri(settings, "small", "rejected")
    assert f"{quarantine}, version 0" in message
    assert history(quarantine)["rows"].tolist() == [100]
    assert history(table_uri(settings, "small", "accepted")).empty


def test_target_column_missing_in_the_data(make_project: MakeProject, settings: Settings) -> None:
    project = make_project(small_frame().rename(columns={"bought": "boughtt"}))
    with pytest.raises(ContractError, match=r"no column 'bought' \(did you mean 'boughtt'\?\)"):
        ingest(project, settings, Window())
    assert not Path(settings.lake).exists()


def test_time_column_missing_in_the_data(
    health: Project, settings: Settings, tmp_path: Path
) -> None:
    (tmp_path / "other.csv").write_text("a,b\n1,2\n")
    with pytest.raises(ContractError, match="has none of the contract's columns"):
        ingest(health.with_source(tmp_path / "other.csv"), settings, first_window(health))


def test_no_rows_in_the_window(health: Project, settings: Settings) -> None:
    with pytest.raises(SourceError, match="no rows in the window 9"):
        ingest(health, settings, Window(first=9, last=9), "current")


def test_health_visits(health: Project, settings: Settings) -> None:
    started = time.perf_counter()
    done = ingest(health, settings, first_window(health))
    seconds = time.perf_counter() - started
    assert (done.rows_in, done.rows_rejected) == (14_022, 1)
    assert seconds < 10  # 0.3 s on an idle machine; per-cell Python would take longer
    current = [
        ingest(health, settings, window, "current")
        for window in periods(health, read_source(health))
    ]
    assert [str(one.window) for one in current] == ["1979", "1980", "1981"]
    assert done.rows_in + sum(one.rows_in for one in current) == 20_190
    assert [one.dataset.version for one in current] == [0, 1, 2]
