"""What asks for retraining by itself, and each guard that holds it back: real tables and trail."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest

from lifecycle.audit.model_trail import Trail
from lifecycle.lake.table import table_uri
from lifecycle.lake.write import write_version
from lifecycle.monitoring.retraining import (
    TABLE,
    change_time,
    newest_knowledge,
    permit,
    read_attempts,
    relapse,
    request_of,
    rows_since,
    write_attempt,
)
from lifecycle.project import Project, RetrainingSpec
from lifecycle.quality.gates import decide_retraining
from lifecycle.records import (
    Attempt,
    Change,
    Decision,
    Estimate,
    EstimatedQuality,
    Evaluation,
    Grade,
    RetrainingRequest,
    Window,
)
from lifecycle.settings import Settings
from tests.lifecycle.monitoring.test_monitor import MODEL, one_window
from tests.support.blocks import run_on
from tests.support.small import small_frame

NOW = datetime(2027, 3, 1, 12, tzinfo=UTC)
SPEC = RetrainingSpec()
FELL = RetrainingRequest(version=2, triggers=("quality",), reasons=("log_loss is 0.2 worse.",))


def tried(days_ago: float, outcome: Any = "released", **changes: Any) -> Attempt:
    time = NOW - timedelta(days=days_ago)
    return Attempt(
        id=str(days_ago), time=time, **({"by_hand": False, "outcome": outcome} | changes)
    )


@pytest.mark.parametrize(
    ("attempts", "reason"),
    [
        ([], ""),
        ([tried(2)], ""),
        ([tried(0.5)], "Too soon"),
        ([tried(0.5, by_hand=True)], "Too soon"),
        ([tried(days) for days in range(20, 10, -1)], "The budget is spent: 10 tries in 30 days"),
        ([tried(days) for days in range(45, 35, -1)], ""),
        ([tried(9, "finding"), tried(6, "failed"), tried(3, "running")], "Stopped: 3 tries"),
        ([tried(9, "finding"), tried(6, "rolled back"), tried(3, "failed")], "Stopped: 3 tries"),
        ([tried(9, "failed"), tried(6), tried(3, "failed"), tried(2, "failed")], ""),
        ([*(tried(9 - at, "failed") for at in range(3)), tried(2, by_hand=True)], ""),
    ],
)
def test_cooldown_budget_and_useless_tries_hold_the_machine_back(
    attempts: list[Attempt], reason: str
) -> None:
    decision = permit(attempts, SPEC, NOW)
    assert decision.passed == (not reason)
    assert decision.reasons[0].startswith(reason)


def test_it_says_when_it_may_try_again_and_how_a_person_goes_on() -> None:
    assert permit([tried(0.5)], SPEC, NOW).reasons[0].endswith("on 2027-03-02 00:00 UTC.")
    stopped = permit([tried(days, "finding", version=days) for days in (9, 6, 3)], SPEC, NOW)
    assert "(finding v9, finding v6, finding v3)" in stopped.reasons[0]
    assert stopped.reasons[0].endswith("retrain --force` by a person begins the count anew.")
    assert stopped.blocking == ("stopped",)


def changed(action: Any, version: int, days_ago: float) -> Change:
    model = MODEL.model_copy(update={"version": version})
    time = (NOW - timedelta(days=days_ago)).isoformat()
    fields = model.model_dump(include={"version", "digest", "identity"})
    return Change(time=time, who="ana", action=action, model="small", reasons=(), **fields)


@pytest.mark.parametrize(
    ("changes", "cause", "goes_back"),
    [
        ([changed("promote", 1, 90), changed("promote", 2, 3)], FELL, True),
        ([changed("promote", 1, 90), changed("promote", 2, 8)], FELL, False),
        ([changed("promote", 2, 3)], FELL, False),
        (
            [changed("promote", 1, 90), changed("promote", 2, 3)],
            FELL.model_copy(update={"triggers": ("drift",)}),
            False,
        ),
        (
            [
                changed("promote", 1, 90),
                changed("promote", 2, 30),
                changed("promote", 3, 3),
                changed("rollback", 2, 1),
            ],
            FELL,
            False,
        ),
        (
            [changed("promote", 1, 90), changed("promote", 2, 3), changed("reject", 3, 1)],
            FELL,
            True,
        ),
    ],
    ids=["soon", "late", "no version before", "drift alone", "after a rollback", "with a reject"],
)
def test_quality_that_falls_soon_after_a_release_goes_back(
    changes: list[Change], cause: RetrainingRequest, goes_back: bool
) -> None:
    reason = relapse(changes, cause, SPEC, NOW)
    assert (reason is not None) == goes_back
    if reason:
        assert "log_loss is 0.2 worse." in reason


def test_attempts_are_kept_and_one_that_is_taken_up_again_is_the_same(settings: Settings) -> None:
    assert read_attempts(settings, "small") == []
    first, second = tried(3, "running", triggers=("drift",), reasons=("city",)), tried(1)
    for attempt in (second, first, first.model_copy(update={"outcome": "failed", "seconds": 4.5})):
        write_attempt(settings, "small", attempt)
    kept = read_attempts(settings, "small")
    assert [attempt.outcome for attempt in kept] == ["failed", "released"]
    assert (kept[0].triggers, kept[0].reasons, kept[0].seconds) == (("drift",), ("city",), 4.5)
    tries = run_on("retraining.md", TABLE, table_uri(settings, "small", TABLE))["tries"]
    assert sorted(tries["outcome"]) == ["failed", "released"]


def test_new_rows_and_time_ask_as_well(
    make_project: Callable[..., Project],
    settings: Settings,
    trained: Any,
) -> None:
    spec = RetrainingSpec(new_rows=300, every="30 days")
    project, champion = make_project(), trained
    quiet = Decision(gate="retraining", passed=True, reasons=("Nothing to do.",))

    def scored(window: str, table: str, rows: int) -> None:
        frame = small_frame(rows)
        rows_of = write_version(frame, table_uri(settings, "small", table), note={})
        note = {
            "model": champion.model.uri,
            "window": window,
            "table": f"{table}@{rows_of.version}",
        }
        predictions = frame[["customer"]].assign(prediction=0.5, window=window)
        write_version(predictions, table_uri(settings, "small", "predictions"), note=note)

    for window, table, rows in (
        ("1", "holdout", 100),
        ("2", "current", 150),
        ("2", "current", 160),
    ):
        scored(window, table, rows)
    since = newest_knowledge(champion, [])
    rows = rows_since(project, settings, champion, since)
    assert rows == 160, "the newest of a window, and not the holdout"
    at = since + timedelta(days=1)
    assert request_of(quiet, champion, spec, rows, since, at) is None
    scored("3", "current", 170)
    rows = rows_since(project, settings, champion, since)
    request = request_of(quiet, champion, spec, rows, since, at + timedelta(days=30))
    assert request
    assert request.triggers == ("new data", "schedule")
    assert request.reasons[0].startswith("330 rows have arrived since")
    later = tried(0).model_copy(update={"time": datetime.now(UTC) + timedelta(days=1)})
    since = newest_knowledge(champion, [later])
    assert rows_since(project, settings, champion, since) == 0, "counted since the last try"


@pytest.fixture
def trained(settings: Settings) -> Any:
    """The little of a champion that the rules look at: its version and its holdout."""
    from types import SimpleNamespace

    holdout = write_version(small_frame(90), table_uri(settings, "small", "holdout"), note={})
    return SimpleNamespace(model=MODEL, split=SimpleNamespace(holdout=holdout))


@pytest.mark.parametrize(
    ("low", "high", "withdrawn", "asks"),
    [(0.5, 0.6, "", True), (0.5, 0.79, "", False), (0.5, 0.6, "two windows", False)],
)
def test_an_estimate_asks_if_all_of_its_interval_is_worse_and_it_is_not_withdrawn(
    make_project: Callable[..., Project],
    settings: Settings,
    low: float,
    high: float,
    withdrawn: str,
    asks: bool,
) -> None:
    found = one_window(make_project(), settings, small_frame().drop(columns="bought"))
    estimate = EstimatedQuality(
        metric="roc_auc",
        estimate=Estimate(value=0.55, low=low, high=high),
        grade=Grade(windows=0, covered=0, bias=0.0, withdrawn=withdrawn),
    )
    spec = make_project(retraining={"triggers": ["quality", "estimate"]})
    then = Estimate(value=0.8, low=0.78, high=0.82)
    evaluation = Evaluation.model_construct(metrics={"roc_auc": then}, rows=400)
    decision = decide_retraining(
        found.drift, (None,), evaluation, spec.monitoring, spec.retraining, "roc_auc", [estimate]
    )
    assert decision.passed != asks, decision.reasons
    assert decision.blocking == (("estimate",) if asks else ())
    assert ("withdrawn" if withdrawn else "is estimated at") in decision.reasons[0]


def test_the_trail_knows_what_was_released(settings: Settings) -> None:
    trail = Trail(settings, "small", "the machine")
    for version in (1, 2):
        trail.record("promote", MODEL.model_copy(update={"version": version}), ["better"])
    changes = trail.changes()
    assert relapse(changes, FELL, SPEC, datetime.now(UTC))
    assert not relapse(changes, FELL.model_copy(update={"version": 1}), SPEC, datetime.now(UTC))


@pytest.mark.parametrize(
    ("alarms", "time"),
    [
        ([], ""),
        ([(True, "2026-03-01", 3)], ""),
        ([(True, "2026-03-01", 3), (False, "2026-04-02", 4), (False, "", 5)], "2026-04-02"),
        ([(False, "", 5), (False, "6", 6)], "5"),
        ([(False, "", None)], ""),
    ],
)
def test_the_oldest_alarm_that_is_no_broken_data_says_since_when_the_world_is_another(
    alarms: list[tuple[bool, str, int | None]], time: str
) -> None:
    monitored: Any = SimpleNamespace(
        alarms=[
            SimpleNamespace(broken=broken, since=since, window=Window(first=first, last=first))
            for broken, since, first in alarms
        ]
    )
    assert change_time(monitored) == time
