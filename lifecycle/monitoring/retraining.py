"""Retraining without a hand: what asks for it, and what holds it back.

Every try is a row of the Delta table `retraining`. The rules are functions of these rows, of the
audit trail and of what monitoring found: the flow asks them before it learns anything.
"""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from itertools import takewhile

import pyarrow as pa

from lifecycle.audit.model_trail import CROWNING, champions
from lifecycle.data.split import PARTS
from lifecycle.lake.manifest import read_commit
from lifecycle.lake.rows import read_rows, replace_rows
from lifecycle.lake.table import noted_versions, table_uri
from lifecycle.monitoring.results import PREDICTIONS
from lifecycle.project import Project, RetrainingSpec, duration
from lifecycle.records import (
    Attempt,
    Change,
    Decision,
    Monitored,
    RetrainingRequest,
    Trained,
    Trigger,
)
from lifecycle.settings import Settings

TABLE = "retraining"
SCHEMA = pa.schema(
    [
        pa.field("id", pa.string(), nullable=False),
        pa.field("time", pa.timestamp("us", "UTC"), nullable=False),
        pa.field("by_hand", pa.bool_(), nullable=False),
        pa.field("triggers", pa.list_(pa.string())),
        pa.field("outcome", pa.string(), nullable=False),
        pa.field("version", pa.int64()),
        pa.field("seconds", pa.float64()),
        pa.field("reasons", pa.list_(pa.string())),
    ]
)
STOPPED = "stopped"
"""In `Decision.blocking`: a person is needed."""
RESUME = "`lifecycle run retrain --force` by a person begins the count anew"


def read_attempts(settings: Settings, project_name: str) -> list[Attempt]:
    """All tries of a project, oldest first; none if there is no table yet.

    Raises:
        BackendError: the table cannot be read.
    """
    table = read_rows(table_uri(settings, project_name, TABLE))
    rows = [] if table is None else table.to_pylist()
    return sorted((Attempt.model_validate(row) for row in rows), key=lambda attempt: attempt.time)


def write_attempt(settings: Settings, project_name: str, attempt: Attempt) -> None:
    """Write a try, in the place of what was written of it before.

    Raises:
        BackendError: the table cannot be written.
    """
    table = pa.Table.from_pylist([attempt.model_dump()], schema=SCHEMA)
    replace_rows(table_uri(settings, project_name, TABLE), table, {"id": attempt.id})


def permit(attempts: Sequence[Attempt], spec: RetrainingSpec, now: datetime) -> Decision:
    """Decide whether the machine may try again: not after useless tries, budget or too soon.

    Args:
        attempts: earlier ones, oldest first, without the run that asks.
    """
    wasted = useless(attempts)
    if len(wasted) >= spec.give_up_after:
        outcomes = ", ".join(map(_outcome, wasted))
        tries = "1 try" if len(wasted) == 1 else f"{len(wasted)} tries"
        return _refused(
            f"Stopped: {tries} in a row brought no release that holds ({outcomes}); "
            f"retraining.give_up_after is {spec.give_up_after}. {RESUME}.",
            STOPPED,
        )
    count, period = spec.budget_numbers
    spent = [attempt for attempt in attempts if not attempt.by_hand and attempt.time > now - period]
    if len(spent) >= count:
        earliest = spent[-count].time + period
        return _refused(
            f"The budget is spent: {len(spent)} tries in {period.days} days "
            f"(retraining.budget: {spec.budget}); the next may begin on {_text(earliest)}.",
            "budget",
        )
    cooldown = duration(spec.cooldown)
    if attempts and attempts[-1].time > now - cooldown:
        earliest = attempts[-1].time + cooldown
        return _refused(
            f"Too soon: the last try began on {_text(attempts[-1].time)} (retraining.cooldown: "
            f"{spec.cooldown}); the next may begin on {_text(earliest)}.",
            "cooldown",
        )
    return Decision(gate="retraining alone", passed=True, reasons=("Within budget.",))


def useless(attempts: Sequence[Attempt]) -> list[Attempt]:
    """The newest tries in a row, since a person's, without a release that holds; oldest first.

    Args:
        attempts: all, oldest first.
    """
    own = takewhile(lambda attempt: not attempt.by_hand, reversed(attempts))
    return list(takewhile(lambda attempt: attempt.outcome != "released", own))[::-1]


def _refused(reason: str, kind: str) -> Decision:
    return Decision(gate="retraining alone", passed=False, reasons=(reason,), blocking=(kind,))


def _outcome(attempt: Attempt) -> str:
    version = f" v{attempt.version}" if attempt.version else ""
    return f"{attempt.outcome if attempt.outcome != 'running' else 'killed'}{version}"


def _text(time: datetime) -> str:
    return f"{time.astimezone(UTC):%Y-%m-%d %H:%M} UTC"


def relapse(
    changes: Sequence[Change], request: RetrainingRequest, spec: RetrainingSpec, now: datetime
) -> str | None:
    """Say why the version before should serve again; None if a new one should be learned.

    Measured quality fell within `probation` of a release. What came back by a rollback is not on
    probation: after it, the way is forward.

    Args:
        changes: of the audit trail, oldest first.
    """
    crowned = [change for change in changes if change.action in CROWNING]
    if "quality" not in request.triggers or not crowned or len(champions(changes)) < 2:
        return None
    newest = crowned[-1]
    age = now - datetime.fromisoformat(newest.time)
    if (newest.action, newest.version) != ("promote", request.version):
        return None
    if age > duration(spec.probation):
        return None
    return (
        f"quality fell {_span(age)} after the release of v{request.version}, within "
        f"retraining.probation ({spec.probation}): {' '.join(request.reasons[-2:])}"
    )


def _span(age: timedelta) -> str:
    hours = age / timedelta(hours=1)
    return f"{hours:.0f} hours" if hours < 48 else f"{hours / 24:.0f} days"


def request_of(
    decision: Decision,
    champion: Trained,
    spec: RetrainingSpec,
    rows: int,
    since: datetime,
    now: datetime,
) -> RetrainingRequest | None:
    """Collect what asks for retraining now; None if nothing does.

    Args:
        decision: of monitoring.
        rows: arrived since `since`.
        since: of the champion's data, or of the last try.
    """
    triggers: list[Trigger] = [*decision.blocking] if not decision.passed else []  # type: ignore[list-item]
    reasons = [] if decision.passed else [*decision.reasons]
    if spec.new_rows is not None and rows >= spec.new_rows:
        triggers.append("new data")
        reasons.append(
            f"{rows:,} rows have arrived since {_text(since)}; retraining.new_rows is "
            f"{spec.new_rows:,}."
        )
    if spec.every is not None and now - since >= duration(spec.every):
        triggers.append("schedule")
        reasons.append(
            f"The champion's data or the last try are of {_text(since)}; retraining.every is "
            f"{spec.every}."
        )
    if not triggers:
        return None
    return RetrainingRequest(
        version=champion.model.version, triggers=tuple(triggers), reasons=tuple(reasons)
    )


def change_time(monitored: Monitored) -> str:
    """Time from which the world is another, as the oldest alarm has it; empty without one."""
    for alarm in monitored.alarms:
        if not alarm.broken:
            first = "" if alarm.window.first is None else str(alarm.window.first)
            return alarm.since or first
    return ""


def newest_knowledge(champion: Trained, attempts: Sequence[Attempt]) -> datetime:
    """Return when the champion's data were split, or the last try began, if that is later.

    Raises:
        BackendError: the lake cannot be read.
    """
    holdout = champion.split.holdout
    commit = read_commit(holdout.uri, holdout.version) or {}
    learned = datetime.fromtimestamp(commit.get("timestamp", 0) / 1000, UTC)
    return max([learned, *(attempt.time for attempt in attempts[-1:])])


def rows_since(project: Project, settings: Settings, champion: Trained, since: datetime) -> int:
    """Rows that the champion scored and that were taken in after a moment; each window once.

    Raises:
        BackendError: the lake cannot be read.
    """
    windows: dict[str, int] = {}
    for noted in noted_versions(table_uri(settings, project.name, PREDICTIONS)):
        table, _, number = noted.note.get("table", "").rpartition("@")
        window = noted.note.get("window", "")
        is_own = noted.note.get("model") == champion.model.uri and table not in PARTS
        if not is_own or not number or window in windows:
            continue
        commit = read_commit(table_uri(settings, project.name, table), int(number)) or {}
        if commit.get("timestamp", 0) / 1000 > since.timestamp():
            windows[window] = noted.version.rows
    return sum(windows.values())
