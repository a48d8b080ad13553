"""Events of a project on the Prefect server of the tests."""

from datetime import datetime
from typing import Any

from prefect.client.orchestration import get_client
from prefect.events.filters import EventFilter, EventOccurredFilter, EventResourceFilter
from prefect.events.worker import EventsWorker

from tasks.events import resource_id
from tests.support.prefect_server import wait_for


def sent_events(env: str, project: str, since: datetime, count: int) -> list[Any]:
    """Events about a project, oldest first, once there are so many."""
    EventsWorker.drain_all(timeout=10)
    found: list[Any] = []

    def is_whole() -> bool:
        recent = EventFilter(
            occurred=EventOccurredFilter(since=since),
            resource=EventResourceFilter(id=[resource_id(env, project)]),
        )
        with get_client(sync_client=True) as client:
            found[:] = client.read_events(recent, limit=50).events
        return len(found) >= count

    wait_for(is_whole, 20, f"{count} events of {project}")
    return sorted(found, key=lambda event: event.occurred)
