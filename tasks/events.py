"""Events of the stages, as Prefect events: the one place that sends them.

The names, their data and their meaning are an interface, described in docs/how-to/notifications.md.
An event that cannot be sent never fails a run: it is a warning in the log.
"""

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any

from prefect.client.orchestration import get_client
from prefect.events import emit_event
from prefect.events.filters import (
    EventFilter,
    EventNameFilter,
    EventOccurredFilter,
    EventResourceFilter,
)
from prefect.events.worker import EventsWorker
from prefect.settings import PREFECT_API_URL

from lifecycle.project import Project
from lifecycle.records import ModelVersion
from lifecycle.redaction import redact
from lifecycle.runtime.identity import sha256
from lifecycle.settings import Settings

log = logging.getLogger("lifecycle.events")

ONE_MESSAGE = timedelta(hours=24)
"""In this time people get one message about one cause."""
DRAIN_S = 10.0
PAGE = 50
"""Events that a Prefect server returns at once."""
MAX_REASONS = 20
MAX_REASON_CHARACTERS = 1000
"""Events travel to chats and mailboxes; the pages that they name have everything."""


class Event(StrEnum):
    """Names of the events."""

    DATA_INGESTED = "lifecycle.data.ingested"
    DATA_REFUSED = "lifecycle.data.refused"
    DATA_ERASED = "lifecycle.data.erased"
    DATA_EXPIRED = "lifecycle.data.expired"
    MODEL_REGISTERED = "lifecycle.model.registered"
    MODEL_REJECTED = "lifecycle.model.rejected"
    MODEL_RELEASED = "lifecycle.model.released"
    MODEL_ROLLED_BACK = "lifecycle.model.rolled-back"
    SCORING_FINISHED = "lifecycle.scoring.finished"
    MONITORING_FINISHED = "lifecycle.monitoring.finished"
    LIVE_MONITORED = "lifecycle.live.monitored"
    RETRAINING_ASKED = "lifecycle.retraining.asked"
    RETRAINING_STOPPED = "lifecycle.retraining.stopped"
    DRIFT_FOUND = "lifecycle.drift.found"
    ALARM_RAISED = "lifecycle.alarm.raised"
    PROJECT_DEPLOYED = "lifecycle.project.deployed"


TITLES = {
    Event.DATA_INGESTED: "a batch was taken in",
    Event.DATA_REFUSED: "a batch was refused",
    Event.DATA_ERASED: "persons were erased",
    Event.DATA_EXPIRED: "what is too old was deleted",
    Event.MODEL_REGISTERED: "v{version} is challenger",
    Event.MODEL_REJECTED: "v{version} did not pass",
    Event.MODEL_RELEASED: "v{version} is champion",
    Event.MODEL_ROLLED_BACK: "v{version} was rolled back",
    Event.SCORING_FINISHED: "v{version} has scored",
    Event.MONITORING_FINISHED: "v{version} was monitored",
    Event.LIVE_MONITORED: "answers of v{version} were monitored",
    Event.RETRAINING_ASKED: "retraining is asked for",
    Event.RETRAINING_STOPPED: "retraining has stopped: a person is needed",
    Event.DRIFT_FOUND: "features have drifted",
    Event.ALARM_RAISED: "a window of v{version} alarms",
    Event.PROJECT_DEPLOYED: "deployed",
}
"""What each event says in a message's subject."""

HELD_EVENTS = (
    Event.DATA_REFUSED,
    Event.MODEL_REJECTED,
    Event.RETRAINING_STOPPED,
    Event.ALARM_RAISED,
)
"""Events that quiet hours hold back: the champion goes on serving meanwhile."""
NOT_HELD = "0"
REPEATED = "again"
"""In quiet hours: this cause was reported before."""


@dataclass(frozen=True)
class Details:
    """Data of an event beyond its name.

    Attributes:
        model: the version that it is about.
        report: where a person reads more: a file or a URI.
        reasons: why, in words.
        numbers: what else is of use to a program, such as counts of rows.
    """

    model: ModelVersion | None = None
    report: object = ""
    reasons: tuple[str, ...] = ()
    numbers: Mapping[str, Any] = field(default_factory=dict)

    def payload(self, event: Event, project: str, settings: Settings) -> dict[str, Any]:
        """The event's payload."""
        model = self.model
        reasons = [redact(text)[:MAX_REASON_CHARACTERS] for text in self.reasons[:MAX_REASONS]]
        return {
            "project": project,
            "environment": settings.env,
            "title": TITLES[event].format(version=model.version if model else ""),
            "model": model and model.model_dump(include={"name", "version", "digest"}),
            "report": redact(str(self.report)),
            "reasons": reasons,
            "numbers": dict(self.numbers),
        }


def send_event(event: Event, project: Project, settings: Settings, details: Details) -> None:
    """Send an event about a project in an environment, if there is a Prefect server.

    Whatever goes wrong is a warning in the log: the run has done its work.
    """
    _send(event, project.name, settings, details)


def send_deployed(project: str, settings: Settings) -> None:
    """Send that a project was deployed, and wait until it is sent: the process ends after it.

    Args:
        project: its name.
    """
    _send(Event.PROJECT_DEPLOYED, project, settings, Details())
    EventsWorker.drain_all(timeout=DRAIN_S)


def _send(event: Event, project: str, settings: Settings, details: Details) -> None:
    if not PREFECT_API_URL.value():
        return  # Prefect would start a server for it
    try:
        payload = details.payload(event, project, settings)
        cause = cause_of(event, details)
        emit_event(
            str(event),
            resource={
                "prefect.resource.id": resource_id(settings.env, project),
                "prefect.resource.name": project,
                "lifecycle.environment": settings.env,
                "lifecycle.project": project,
                "lifecycle.model-version": str(details.model.version) if details.model else "",
                "lifecycle.cause": cause,
                "lifecycle.held": _hours_held(event, project, cause, settings),
            },
            payload=payload,
        )
    except Exception as error:
        log.warning("the event %s was not sent: %s", event, redact(str(error)))


def _hours_held(event: Event, project: str, cause: str, settings: Settings) -> str:
    """In how many hours people may be told: a number, or that they will be for another event."""
    hours = settings.quiet_hours_left(datetime.now(UTC)) if event in HELD_EVENTS else 0
    if not hours:
        return NOT_HELD
    query = EventFilter(
        occurred=EventOccurredFilter(since=datetime.now(UTC) - ONE_MESSAGE),
        event=EventNameFilter(name=[str(event)]),
        resource=EventResourceFilter(id=[resource_id(settings.env, project)]),
    )
    try:
        with get_client(sync_client=True) as client:
            recent = client.read_events(query, limit=PAGE).events
    except Exception as error:  # told twice is better than not at all
        log.warning("whether it was reported before is unknown: %s", redact(str(error)))
        return str(hours)
    if any(former.resource.get("lifecycle.cause") == cause for former in recent):
        return REPEATED
    return str(hours)


def resource_id(env: str, project: str) -> str:
    """Prefect's id of a project in an environment."""
    return f"lifecycle.project.{env}.{project}"


def cause_of(event: Event, details: Details) -> str:
    """Digest of what an event is about; the same again has the same one."""
    digest = details.model.digest if details.model else ""
    return sha256([str(event), digest, list(details.reasons)])[:16]
