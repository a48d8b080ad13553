"""Alarms after they were raised: computed again, acknowledged, told or not."""

from collections.abc import Callable

import pandas as pd
import pyarrow as pa
import pytest
from deltalake import DeltaTable

from lifecycle.audit.data_trail import data_chain
from lifecycle.cli import alarms as cli
from lifecycle.errors import DataError
from lifecycle.lake.table import table_uri
from lifecycle.monitoring.alarms import acknowledge, alarm_of, alarms_to_tell, stored_alarms
from lifecycle.monitoring.monitor import monitor_windows
from lifecycle.monitoring.reproduce import reproduce
from lifecycle.monitoring.results import ALARMS, METRICS
from lifecycle.project import Project
from lifecycle.records import Monitored
from lifecycle.settings import Settings
from tests.lifecycle.monitoring.test_monitor import released, scored
from tests.support.blocks import run_on
from tests.support.small import small_frame


def monitored(project: Project, settings: Settings, *windows: pd.DataFrame) -> Monitored:
    frame = small_frame(800)[:400]
    tables = [scored(settings, window, at) for at, window in enumerate(windows, 2)]
    reference = scored(settings, frame, 1)
    return monitor_windows(project, settings, reference, tables, released(project, frame))


def broken() -> pd.DataFrame:
    frame = small_frame(800)[400:].reset_index(drop=True)
    return frame.assign(age=frame["age"].where(frame.index % 2 == 0))


def fine() -> pd.DataFrame:
    return small_frame(800)[400:]


def test_an_alarm_is_computed_again_to_the_digit(
    make_project: Callable[..., Project], settings: Settings
) -> None:
    project = make_project()
    [alarm] = monitored(project, settings, fine(), broken()).alarms
    assert (alarm.cause, alarm.column) == ("missing or filled", "age")
    again = reproduce(project, settings, alarm.id[:6])
    assert again.same
    assert again.notes == ()
    assert again.result == alarm
    changed = make_project(monitoring={"drift": {"numeric_threshold": 0.9}})
    [note] = reproduce(changed, settings, alarm.id).notes
    assert "monitoring" in note
    assert reproduce(changed, settings, alarm.id).same


def test_the_tables_are_read_as_the_page_says(
    make_project: Callable[..., Project], settings: Settings
) -> None:
    [alarm] = monitored(make_project(), settings, broken()).alarms
    alarms = run_on("monitor.md", ALARMS, table_uri(settings, "small", ALARMS))["alarms"]
    assert list(alarms["id"]) == [alarm.id]
    moved = run_on("monitor.md", METRICS, table_uri(settings, "small", METRICS))["moved"]
    assert "age" in pa.table(moved)["column"].to_pylist()


def test_an_alarm_that_was_written_otherwise_is_different(
    make_project: Callable[..., Project], settings: Settings
) -> None:
    project = make_project()
    [alarm] = monitored(project, settings, broken()).alarms
    DeltaTable(table_uri(settings, "small", ALARMS)).update({"value": "value + 1e-12"})
    [difference] = reproduce(project, settings, alarm.id).differences
    assert difference.startswith("value: ")


def test_an_acknowledged_cause_is_not_told_again_and_stays_in_the_trail(
    make_project: Callable[..., Project], settings: Settings
) -> None:
    project = make_project()
    first = monitored(project, settings, broken())
    [alarm] = first.alarms
    windows = [drift.window for drift in first.drift]
    assert alarms_to_tell(project, settings, first.alarms, windows) == [alarm]
    acknowledge(project, settings, alarm.id, "the form lost a field")
    assert alarms_to_tell(project, settings, first.alarms, windows) == []
    later = monitored(project, settings, fine(), broken())
    [newest] = [each for each in later.alarms if each.window == later.drift[-1].window]
    assert newest.id != alarm.id
    assert alarms_to_tell(project, settings, later.alarms, [later.drift[-1].window]) == []
    assert all(
        "the form lost a field" in each.acknowledged for each in stored_alarms(project, settings)
    )
    [line] = data_chain(settings, "small").lines()
    assert (line.action, line.digest, line.who != "") == ("acknowledge", alarm.id, True)
    other = monitored(project, settings, broken().assign(visits=10, age=fine()["age"].to_numpy()))
    told = alarms_to_tell(project, settings, other.alarms, [other.drift[-1].window])
    assert [each.column for each in told] == ["visits"]


def test_a_cause_is_told_once_it_is_in_n_of_m_windows(
    make_project: Callable[..., Project], settings: Settings
) -> None:
    project = make_project(monitoring={"windows": 2, "violations": 2})
    once = monitored(project, settings, fine(), broken())
    windows = [drift.window for drift in once.drift]
    assert len(once.alarms) == 1
    assert alarms_to_tell(project, settings, once.alarms, windows) == []
    twice = monitored(project, settings, broken(), broken())
    assert len(alarms_to_tell(project, settings, twice.alarms, windows)) == 1


def test_what_is_wrong_is_said_in_a_line(
    make_project: Callable[..., Project], settings: Settings
) -> None:
    project = make_project()
    assert stored_alarms(project, settings) == []
    with pytest.raises(DataError, match="there is no alarm 'abc'; there are: none"):
        alarm_of(project, settings, "abc")
    [alarm] = monitored(project, settings, broken()).alarms
    with pytest.raises(DataError, match="add --reason"):
        acknowledge(project, settings, alarm.id, " ")
    with pytest.raises(DataError, match=f"no alarm 'abc'; there are: {alarm.id}"):
        reproduce(project, settings, "abc")


def test_the_commands_list_compute_again_and_acknowledge(
    make_project: Callable[..., Project],
    settings: Settings,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    project = make_project()
    [alarm] = monitored(project, settings, broken()).alarms
    monkeypatch.setattr(cli, "load_project", lambda path, env: project)
    monkeypatch.setattr(Settings, "load", classmethod(lambda kind, env: settings))
    cli.alarms()
    out = " ".join(capsys.readouterr().out.split())
    assert f"{alarm.id} window 2 v1 high {alarm.text}" in out
    assert "small: 1 alarm" in out
    cli.reproduce([alarm.id])
    assert "Computed again: the same, to the digit." in capsys.readouterr().out
    cli.alarms(["acknowledge", alarm.id], reason="seen to")
    cli.alarms()
    assert "small: 0 alarms, 1 more is acknowledged" in " ".join(capsys.readouterr().out.split())
    with pytest.raises(DataError, match="got 'forget it'"):
        cli.alarms(["forget", "it"])
