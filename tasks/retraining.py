"""Retraining without a hand: requests as events, and the guards that a run passes first."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from uuid import uuid4

from prefect.runtime import flow_run

from lifecycle.monitoring import retraining
from lifecycle.project import Project
from lifecycle.records import Asked, Attempt, Decision, Monitored, Release, Trained
from lifecycle.settings import Settings
from tasks.events import Details, Event, send_event
from tasks.progress import say
from tasks.runs import trail_of


def ask(project: Project, settings: Settings, champion: Trained, found: Monitored) -> Asked | None:
    """Send the event that starts retraining, if anything asks for it; None if nothing does.

    Broken data ask for a person instead: no model is to learn them.
    """
    asked = request_of(project, settings, champion, found)
    if asked is None or not is_sound(project, settings, champion, found):
        return None
    numbers = {"triggers": [*asked.triggers]}
    details = Details(champion.model, found.report, asked.reasons, numbers)
    send_event(Event.RETRAINING_ASKED, project, settings, details)
    return asked


def request_of(
    project: Project, settings: Settings, champion: Trained, found: Monitored
) -> Asked | None:
    """What asks for retraining now: monitoring, new data, or time; None if nothing does."""
    spec = project.retraining
    attempts = retraining.read_attempts(settings, project.name)
    since = retraining.newest_knowledge(champion, attempts)
    rows = retraining.rows_since(project, settings, champion, since) if spec.new_rows else 0
    return retraining.request_of(found.decision, champion, spec, rows, since, datetime.now(UTC))


def is_sound(project: Project, settings: Settings, champion: Trained, found: Monitored) -> bool:
    """Whether the newest window may be learned from; if its data are broken, a person is called."""
    newest = found.drift[-1].window
    broken = tuple(
        f"Nothing is learned from broken data: window {newest}: {diagnosis}"
        for alarm in found.alarms
        if alarm.window == newest and (diagnosis := getattr(alarm, "diagnosis", None))
        if diagnosis.broken
    )
    if broken:
        _stop(project, settings, broken, champion, found.report)
    return not broken


def permitted(project: Project, settings: Settings) -> bool:
    """Whether the machine may try again; if it has stopped, a person is called."""
    attempts = retraining.read_attempts(settings, project.name)
    own = str(flow_run.id or "")
    others = [attempt for attempt in attempts if attempt.id != own]
    decision = retraining.permit(others, project.retraining, datetime.now(UTC))
    if not decision.passed:
        if retraining.STOPPED in decision.blocking:
            _stop(project, settings, decision.reasons)
        else:
            say("retrain", f"not now: {decision.reasons[0]}")
    return decision.passed


def is_outdated(asked: Asked, champion: Trained) -> bool:
    """Whether a request is about a champion that is none any more."""
    outdated = asked.version != champion.model.version
    if outdated:
        say("retrain", f"not needed: v{asked.version} asked, and v{champion.model.version} serves")
    return outdated


def relapse(project: Project, settings: Settings, asked: Asked) -> str | None:
    """Why the version before should serve again; None if a new one should be learned."""
    changes = trail_of(project, settings).changes()
    return retraining.relapse(changes, asked, project.retraining, datetime.now(UTC))


def note_relapse(project: Project, settings: Settings, release: Release) -> None:
    """Record that the try that released a version did not hold."""
    for attempt in retraining.read_attempts(settings, project.name):
        if attempt.version == release.challenger.version and attempt.outcome == "released":
            reasons = (*attempt.reasons, *release.decision.reasons)
            rolled = attempt.model_copy(update={"outcome": "rolled back", "reasons": reasons})
            retraining.write_attempt(settings, project.name, rolled)


@dataclass
class Running:
    """A try that is under way; `release` is its result."""

    release: Release | None = None


@contextmanager
def attempt(
    project: Project, settings: Settings, asked: Asked | None, unattended: bool
) -> Iterator[Running]:
    """Record a try from its beginning, so that one that is killed counts as well.

    A person's counts only where the machine has tried before: the table is the machine's.
    """
    if not unattended and not retraining.read_attempts(settings, project.name):
        yield Running()
        return
    began = time.monotonic()
    row = Attempt(
        id=str(flow_run.id or uuid4()),
        time=datetime.now(UTC),
        by_hand=not unattended,
        triggers=asked.triggers if asked else (),
        reasons=asked.reasons if asked else (),
    )
    retraining.write_attempt(settings, project.name, row)
    running, decision = Running(), Decision(gate="", passed=False, reasons=("the run failed",))
    outcome = "failed"
    version = None
    try:
        yield running
        if running.release:
            decision, version = running.release.decision, running.release.challenger.version
            outcome = "released" if decision.passed else "finding"
    finally:
        ended = {
            "outcome": outcome,
            "version": version,
            "seconds": time.monotonic() - began,
            "reasons": (*row.reasons, *decision.reasons),
        }
        retraining.write_attempt(settings, project.name, row.model_copy(update=ended))


def _stop(
    project: Project,
    settings: Settings,
    reasons: tuple[str, ...],
    champion: Trained | None = None,
    report: object = "",
) -> None:
    say("retrain", "\n".join(["stopped, a person is needed:", *(f"· {text}" for text in reasons)]))
    details = Details(champion and champion.model, report, reasons)
    send_event(Event.RETRAINING_STOPPED, project, settings, details)
