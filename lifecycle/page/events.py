"""Events of a project in one order: releases, alarms and trainings of all environments."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal

from lifecycle.page.state import EnvironmentState
from lifecycle.runtime.html import Tone

Kind = Literal["release", "alarm", "training", "monitoring", "attempt"]
KINDS: dict[Kind, str] = {
    "release": "releases",
    "alarm": "alarms",
    "training": "trainings",
    "monitoring": "retraining asked for",
    "attempt": "retraining tried",
}
TONES: dict[str, Tone] = {
    "promote": "good",
    "rollback": "bad",
    "reject": "warn",
    "not released": "warn",
    "decline": "warn",
}
ATTEMPT_TONES: dict[str, Tone] = {"released": "good", "failed": "bad", "rolled back": "bad"}
SILENT = ("deploy",)
"""Actions that repeat what the line before them says."""


@dataclass(frozen=True)
class Event:
    """One thing that happened."""

    time: datetime
    env: str
    kind: Kind
    text: str
    who: str = ""
    reason: str = ""
    version: int = 0
    """0: of no single version."""
    flow_run: str = ""
    page: str = ""
    tone: Tone = "plain"


def events(states: Sequence[EnvironmentState]) -> list[Event]:
    """Everything that happened, newest first."""
    all_events = [event for state in states for event in _of(state)]
    return sorted(all_events, key=lambda event: event.time, reverse=True)


def moment(text: str) -> datetime:
    """A stored moment; those without a zone are UTC."""
    value = datetime.fromisoformat(text)
    return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


def _of(state: EnvironmentState) -> Iterator[Event]:
    for change in state.changes:
        if change.action in SILENT:
            continue
        name = f"v{change.version}" if change.version else f"bundle {change.digest[:12]}"
        yield Event(
            moment(change.time),
            state.env,
            "release",
            f"{change.action} {name}",
            who=change.who,
            reason=change.reasons[0] if change.reasons else "",
            version=change.version,
            tone=TONES.get(change.action, "plain"),
        )
    for version in state.versions:
        if not version.trained:
            continue
        took = f" in {version.seconds:,.0f} s" if version.seconds is not None else ""
        how = f"came from {version.origin}" if version.origin else f"trained{took}"
        yield Event(
            moment(version.trained),
            state.env,
            "training",
            f"v{version.version} {how}",
            who=version.who,
            reason=version.flow_run_name,
            version=version.version,
            flow_run=version.flow_run,
        )
    for window in state.windows:
        if not window.alarms:
            continue
        worst = window.alarms[0]
        more = f" and {len(window.alarms) - 1} more" if len(window.alarms) > 1 else ""
        yield Event(
            moment(worst.time),
            state.env,
            "alarm",
            f"window {window.window}: {worst}{more}",
            reason=f"{worst.metric.replace('_', ' ')} {worst.value:.3g}, against {worst.comparison}"
            + (f", limit {worst.limit:.3g}" if worst.limit is not None else ""),
            version=window.version,
            tone="bad" if worst.severity == "high" else "warn",
        )
    for monitoring in state.monitorings:
        if not monitoring.asks:
            continue
        yield Event(
            moment(monitoring.time),
            state.env,
            "monitoring",
            f"window {monitoring.window}: {monitoring.verdict}",
            who=monitoring.who,
            reason=f"drifted: {monitoring.drifted}",
            flow_run=monitoring.flow_run,
            page=monitoring.page,
            tone="warn",
        )
    for attempt in state.attempts:
        suffix = f", v{attempt.version}" if attempt.version else ""
        how = "by hand" if attempt.by_hand else "by itself"
        triggers = f"asked for by {' and '.join(attempt.triggers)}" if attempt.triggers else ""
        yield Event(
            moment(attempt.time.isoformat()),
            state.env,
            "attempt",
            f"retraining {how}: {attempt.outcome}{suffix}",
            reason=": ".join(filter(None, (triggers, " ".join(attempt.reasons)))),
            version=attempt.version or 0,
            flow_run=attempt.id,
            tone=ATTEMPT_TONES.get(attempt.outcome, "plain"),
        )
