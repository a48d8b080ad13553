"""Retraining without a hand: requests as events, and the guards that a run passes first."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from uuid import uuid4

from prefect.artifacts import create_table_artifact
from prefect.runtime import flow_run

from lifecycle.monitoring import gauges, retraining
from lifecycle.project import Project, TuningSpec
from lifecycle.records import (
    Attempt,
    Decision,
    Monitored,
    Prepared,
    Release,
    RetrainingRequest,
    Trained,
    TrainingWindow,
)
from lifecycle.settings import Settings
from lifecycle.training import window
from lifecycle.training.window import NAMES
from tasks.cluster import ray_for_training, running_cluster
from tasks.events import Details, Event, send_event
from tasks.policies import NOT_CACHED, RETRIES, slug, task
from tasks.progress import say, step, update
from tasks.runs import trail_of


def ask(
    project: Project, settings: Settings, champion: Trained, monitored: Monitored
) -> RetrainingRequest | None:
    """Send the event that starts retraining, if anything asks for it; None if nothing does.

    Broken data ask for a person instead: no model is to learn them.
    """
    request = request_of(project, settings, champion, monitored)
    if request is None or not is_sound(project, settings, champion, monitored):
        return None
    numbers = {"triggers": [*request.triggers]}
    details = Details(champion.model, monitored.report, request.reasons, numbers)
    send_event(Event.RETRAINING_ASKED, project, settings, details)
    return request


def request_of(
    project: Project, settings: Settings, champion: Trained, monitored: Monitored
) -> RetrainingRequest | None:
    """Collect what asks for retraining now: monitoring, new data, time; None if nothing does."""
    spec = project.retraining
    attempts = retraining.read_attempts(settings, project.name)
    since = retraining.newest_knowledge(champion, attempts)
    rows = retraining.rows_since(project, settings, champion, since) if spec.new_rows else 0
    return retraining.request_of(monitored.decision, champion, spec, rows, since, datetime.now(UTC))


def is_sound(project: Project, settings: Settings, champion: Trained, monitored: Monitored) -> bool:
    """Tell whether the newest window may be learned from; if it is broken, a person is called."""
    newest = monitored.drift[-1].window
    broken = tuple(
        f"Nothing is learned from broken data: window {newest}: {alarm.text}"
        for alarm in monitored.alarms
        if alarm.window == newest and alarm.broken
    )
    if broken:
        _stop(project, settings, broken, champion, monitored.report)
    return not broken


def permitted(project: Project, settings: Settings) -> bool:
    """Tell whether the machine may try again; if it has stopped, a person is called."""
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


def is_outdated(request: RetrainingRequest, champion: Trained) -> bool:
    """Tell whether a request is about a champion that is none any more."""
    outdated = request.version != champion.model.version
    if outdated:
        say(
            "retrain",
            f"not needed: asked for v{request.version}, and v{champion.model.version} serves",
        )
    return outdated


def relapse(project: Project, settings: Settings, request: RetrainingRequest) -> str | None:
    """Say why the version before should serve again; None if a new one should be learned."""
    changes = trail_of(project, settings).changes()
    return retraining.relapse(changes, request, project.retraining, datetime.now(UTC))


def note_relapse(project: Project, settings: Settings, release: Release) -> None:
    """Record that the try that released a version did not hold."""
    for attempt in retraining.read_attempts(settings, project.name):
        if attempt.version == release.challenger.version and attempt.outcome == "released":
            reasons = (*attempt.reasons, *release.decision.reasons)
            rolled = attempt.model_copy(update={"outcome": "rolled back", "reasons": reasons})
            _write(project, settings, rolled)


@task(name="choose-training-window", **NOT_CACHED, **RETRIES)
def choose_window(
    project: Project,
    settings: Settings,
    prepared: Prepared,
    champion: Trained,
    monitored: Monitored,
) -> tuple[Prepared, str]:
    """Choose the rows to learn from; the data with their split, and the reason."""

    def show(tried: TrainingWindow) -> None:
        update("retrain", f"{NAMES[tried.kind]}: {project.metric} {tried.value:.4g}")

    split, change = prepared.split, retraining.change_time(monitored)
    without_search = project.model_copy(update={"tuning": TuningSpec()})
    with (
        running_cluster(settings),
        ray_for_training(without_search, settings, split.train.rows),
        step("retrain", "choosing the training window") as report,
    ):
        choice = window.choose_window(project, settings, split, champion, change, show)
        report(choice.reason or "all rows are learned from: there is no other window")
    if choice.windows:
        create_table_artifact(
            key=f"{slug(project)}-training-window",
            table=[
                {
                    "rows": NAMES[tried.kind],
                    "count": tried.rows,
                    "from": tried.first,
                    project.metric: tried.value,
                    "at least better by": tried.gain.least if tried.gain else None,
                }
                for tried in choice.windows
            ],
            description=choice.reason,
        )
    return prepared.model_copy(update={"split": choice.split}), choice.reason


@dataclass
class Running:
    """A try that is under way; `release` is its result."""

    reason: str = ""
    """Why it learns from the rows that it learns from."""
    release: Release | None = None


@contextmanager
def attempt(
    project: Project,
    settings: Settings,
    request: RetrainingRequest | None,
    champion: Trained,
    unattended: bool,
) -> Iterator[Running]:
    """Record a try from its beginning, so that one that is killed counts as well.

    The same rows make the same model: if that is the champion again, it is a finding, no release.
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
        triggers=request.triggers if request else (),
        reasons=request.reasons if request else (),
    )
    _write(project, settings, row)
    running, decision = Running(), Decision(gate="", passed=False, reasons=("the run failed",))
    outcome = "failed"
    version = None
    try:
        yield running
        if running.release:
            decision, version = running.release.decision, running.release.challenger.version
            is_new = version != champion.model.version
            outcome = "released" if decision.passed and is_new else "finding"
    finally:
        ended = {
            "outcome": outcome,
            "version": version,
            "seconds": time.monotonic() - began,
            "reasons": (*row.reasons, *filter(None, [running.reason]), *decision.reasons),
        }
        _write(project, settings, row.model_copy(update=ended))


def _write(project: Project, settings: Settings, attempt: Attempt) -> None:
    retraining.write_attempt(settings, project.name, attempt)
    attempts = retraining.read_attempts(settings, project.name)
    gauges.publish_tries(project, settings, attempts, len(retraining.useless(attempts)))


def _stop(
    project: Project,
    settings: Settings,
    reasons: tuple[str, ...],
    champion: Trained | None = None,
    report: object = "",
) -> None:
    say("retrain", "\n".join(["stopped, a person is needed:", *(f"· {text}" for text in reasons)]))
    details = Details(champion.model if champion else None, report, reasons)
    send_event(Event.RETRAINING_STOPPED, project, settings, details)
