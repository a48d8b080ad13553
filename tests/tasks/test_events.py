"""Events of the stages: what they carry, quiet hours, and that none fails a run."""

import logging
import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from prefect.settings import PREFECT_API_URL, temporary_settings

from lifecycle.errors import SettingsError
from lifecycle.project import Project
from lifecycle.records import ModelVersion
from lifecycle.settings import Settings
from tasks import events
from tasks.events import TITLES, Details, Event, cause_of, send_event
from tests.support.events import sent_events
from tests.support.small import ROOT

MODEL = ModelVersion(
    name="small", version=3, uri="models:/small/3", run_id="r", digest="d" * 64, identity="i"
)
NIGHT = Settings(quiet_hours="22:00-07:00", timezone="Europe/Berlin")


def test_the_page_lists_the_events_of_the_code_in_their_order() -> None:
    text = (ROOT / "docs" / "how-to" / "notifications.md").read_text()
    assert re.findall(r"(?m)^\| `(lifecycle\.[\w.-]+)` \|", text) == [str(e) for e in Event]
    assert set(TITLES) == set(Event)


@pytest.mark.parametrize(
    ("clock", "hours"),
    [
        ("2026-01-10 21:59", 0),
        ("2026-01-10 22:00", 9),
        ("2026-01-11 04:30", 3),
        ("2026-01-11 06:59", 1),
        ("2026-01-11 07:00", 0),
        ("2026-03-28 22:30", 8),  # the clock goes forward at 2:00
        ("2026-10-24 22:30", 9),  # 9.5 hours, of a night that has one more
        ("2026-10-24 23:30", 9),
    ],
)
def test_hours_until_quiet_hours_end_by_the_clock_on_the_wall(clock: str, hours: int) -> None:
    zone = timedelta(hours=2 if clock.startswith("2026-10") else 1)
    now = datetime.fromisoformat(clock).replace(tzinfo=UTC) - zone
    assert NIGHT.quiet_hours_left(now) == hours


def test_without_quiet_hours_there_are_none() -> None:
    assert Settings().quiet_hours_left(datetime.now(UTC)) == 0
    assert NIGHT.quiet == timedelta(hours=9)


@pytest.mark.parametrize("value", ["22-7", "22:00-22:00", "25:00-07:00"])
def test_quiet_hours_that_are_none_are_refused(value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LIFECYCLE_QUIET_HOURS", value)
    with pytest.raises(SettingsError, match=f"LIFECYCLE_QUIET_HOURS: .*{value}"):
        Settings.load()


def test_the_same_again_has_the_same_cause_and_another_model_another() -> None:
    details = Details(MODEL, reasons=("worse",))
    assert cause_of(Event.MODEL_REJECTED, details) == cause_of(Event.MODEL_REJECTED, details)
    other = Details(MODEL.model_copy(update={"digest": "e" * 64}), reasons=("worse",))
    assert cause_of(Event.MODEL_REJECTED, details) != cause_of(Event.MODEL_REJECTED, other)


def test_an_event_that_cannot_be_sent_is_a_warning(
    make_project: Callable[..., Project],
    settings: Settings,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    def broken(*_: Any, **__: Any) -> None:
        raise OSError("no socket")

    monkeypatch.setattr(events, "emit_event", broken)
    url = {PREFECT_API_URL: "http://127.0.0.1:9/api"}
    with temporary_settings(url), caplog.at_level(logging.WARNING):
        send_event(Event.MODEL_RELEASED, make_project(), settings, Details(MODEL))
    assert "lifecycle.model.released was not sent: no socket" in caplog.text


def test_without_a_server_nothing_is_sent(
    make_project: Callable[..., Project], settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(events, "emit_event", pytest.fail)
    with temporary_settings({PREFECT_API_URL: None}):
        send_event(Event.MODEL_RELEASED, make_project(), settings, Details(MODEL))


@pytest.mark.usefixtures("prefect_server")
def test_what_an_event_carries_and_that_quiet_hours_hold_a_cause_once(
    make_project: Callable[..., Project], settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SOME_PASSWORD", "planted-pw")
    project = make_project(name="carried")
    hour = datetime.now(UTC)
    period = f"{hour - timedelta(hours=1):%H:%M}-{hour + timedelta(minutes=90):%H:%M}"
    quiet = settings.model_copy(update={"quiet_hours": period})
    details = Details(MODEL, "models:/small/3", ("worse than planted-pw",) * 30, {"rows": 5})
    send_event(Event.MODEL_REJECTED, project, quiet, details)
    sent_events("dev", "carried", hour, Event.MODEL_REJECTED)
    send_event(Event.MODEL_REJECTED, project, quiet, details)
    send_event(Event.MODEL_ROLLED_BACK, project, quiet, details)

    first, again, urgent = sent_events("dev", "carried", hour, Event.MODEL_ROLLED_BACK)
    assert [e.resource["lifecycle.held"] for e in (first, again, urgent)] == ["2", "again", "0"]
    assert first.resource["lifecycle.model-version"] == "3"
    assert first.payload == {
        "project": "carried",
        "environment": "dev",
        "title": "v3 did not pass",
        "model": {"name": "small", "version": 3, "digest": "d" * 64},
        "report": "models:/small/3",
        "reasons": ["worse than ***"] * 20,
        "numbers": {"rows": 5},
    }
