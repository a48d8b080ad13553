"""Events of a project on the Prefect server of the tests."""

from datetime import datetime
from typing import Any

from prefect.client.orchestration import get_client
from prefect.events.filters import EventFilter, EventOccurredFilter, EventResourceFilter
from prefect.events.worker import EventsWorker

from tasks.events import Event, resource_id
from tests.support.prefect_server import wait_for


def sent_events(env: str, project: str, since: datetime, last: Event) -> list[Any]:
    """Events about a project, oldest first, once the last of them is there."""
    EventsWorker.drain_all(timeout=10)
    found: list[Any] = []

    def is_whole() -> bool:
        recent = EventFilter(
            occurred=EventOccurredFilter(since=since),
            resource=EventResourceFilter(id=[resource_id(env, project)]),
        )
        with get_client(sync_client=True) as client:
            found[:] = client.read_events(recent, limit=50).events
        return any(event.event == last for event in found)

    wait_for(is_whole, 30, f"{last} of {project}")
    return sorted(found, key=lambda event: event.occurred)
