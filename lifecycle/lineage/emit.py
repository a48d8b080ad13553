"""Sends OpenLineage events to a file, one line per event, or to a service over HTTP."""

import json
import logging
import os
from collections.abc import Sequence
from contextlib import suppress
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from lifecycle.errors import BackendError, first_line
from lifecycle.lineage import walk
from lifecycle.lineage.graph import Graph, Node
from lifecycle.lineage.openlineage import State, events_of, flow_events
from lifecycle.project import Project
from lifecycle.redaction import redact
from lifecycle.runtime.run import Run
from lifecycle.settings import Settings

if TYPE_CHECKING:
    from openlineage.client.event_v2 import RunEvent
    from openlineage.client.transport.transport import Transport

Key = tuple[str, str, str]
"""Run, state and time of an event: the same whenever the event is sent again."""

logger = logging.getLogger(__name__)

TIMEOUT_SECONDS = 5.0
RETRIES = {"total": 1, "connect": 1, "read": 1, "status": 1, "backoff_factor": 0.2}
"""A service that is down must not hold a flow up."""
API_KEY = "OPENLINEAGE_API_KEY"
"""Environment variable of OpenLineage's clients."""


def send(events: "Sequence[RunEvent]", to: str) -> int:
    """Send events, in order; how many were sent.

    What a file has already is not written again; a service tells repetitions by the ids of runs.

    Args:
        to: a file, or an `http(s)://` URL; without a path that of OpenLineage's API is used.

    Raises:
        BackendError: the file cannot be written, or the service does not take them.
    """
    sent_keys = _sent_keys(to)
    new = [event for event in events if _key(event) not in sent_keys]
    transport = _transport(to)
    try:
        for event in new:
            transport.emit(event)
    except Exception as error:  # requests' errors, the transport's own, and what a server says
        raise BackendError(f"{redact(to)}: OpenLineage events: {first_line(error)}") from None
    finally:
        transport.close()
    return len(new)


def tell_run(
    project: Project,
    settings: Settings,
    flow: str,
    run: Run,
    times: tuple[str, str],
    state: State,
) -> None:
    """Send the events of a flow run that has ended, and of all it made, where settings say so.

    A service that is down is a warning, never the end of a flow.

    Args:
        flow: its name, such as `train`.
        times: when it began and ended, ISO 8601.
    """
    try:
        events = flow_events(project, settings, flow, run, times, state)
        graph = walk.load_graph(project, settings)
        outputs = {node.id for node in graph.nodes.values() if _is_made(graph, node, run, times[0])}
        events[1:1] = events_of(graph, outputs, project, settings)
        send(events, settings.openlineage)
    except Exception as error:  # whatever it is, the flow has done its work
        logger.warning("OpenLineage events of %s were not sent: %s", run.name, error)


def _is_made(graph: Graph, node: Node, run: Run, since: str) -> bool:
    """Return whether a flow run made a node, by its id, or for a release by name and time."""
    if node.kind == "release":
        last = list(node.facts.values())[-1]
        return node.time >= since and last.endswith(f"flow run {run.name}")
    if node.kind == "model":
        into = [graph.nodes.get(e.source) for e in graph.edges.values() if e.target == node.id]
        return any(edge is not None and edge.facts.get("flow run") == run.id for edge in into)
    return node.facts.get("run") == run.id


def _sent_keys(to: str) -> set[Key]:
    """The events a file has; a line that is none is left alone."""
    keys = set()
    try:
        with open(to, encoding="utf-8", errors="replace") as lines:
            for line in lines:
                with suppress(ValueError, KeyError, TypeError):
                    event = json.loads(line)
                    keys.add((event["run"]["runId"], event["eventType"], event["eventTime"]))
    except OSError:  # there is none yet, or it is a URL; the transport tells what else is wrong
        return set()
    return keys


def _key(event: "RunEvent") -> Key:
    return event.run.runId, event.eventType.value if event.eventType else "", event.eventTime


def _transport(to: str) -> "Transport":
    if not to.startswith(("http://", "https://")):
        from openlineage.client.transport.file import FileConfig, FileTransport

        return FileTransport(FileConfig(log_file_path=to, append=True))
    from openlineage.client.transport.http import HttpConfig, HttpTransport, create_token_provider

    parts = urlsplit(to)
    config = HttpConfig(
        url=f"{parts.scheme}://{parts.netloc}",
        timeout=TIMEOUT_SECONDS,
        retry=RETRIES,
    )
    if parts.path.strip("/"):
        config.endpoint = parts.path.strip("/")
    if key := os.environ.get(API_KEY):
        config.auth = create_token_provider({"type": "api_key", "api_key": key})
    return HttpTransport(config)
