"""Flow runs on a local server whose process was killed: the next script marks them crashed.

Where there are deployments, an automation does that by heartbeats (`tasks.automations`). Scripts
send none, since joining the thread costs 1 s of each run: a run has its process as a tag instead.
"""

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import copy_context
from threading import Thread
from typing import Any

import httpx
from prefect import tags
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import FlowRunFilter
from prefect.client.schemas.objects import FlowRun, State
from prefect.exceptions import PrefectHTTPStatusError
from prefect.states import Crashed

from lifecycle.runtime.process import process_start

logger = logging.getLogger(__name__)

TAG = "lifecycle-process"
OPEN = {"state": {"type": {"any_": ["PENDING", "RUNNING", "CANCELLING"]}}}


@contextmanager
def own_runs() -> Iterator[None]:
    """Tag the runs of the block with this process, and mark those whose process is gone."""
    marker = Thread(target=copy_context().run, args=(mark_crashed,), name="crashes")
    marker.start()
    try:
        with tags(_tag(os.getpid())):
            yield
    finally:
        marker.join()


def mark_crashed() -> None:
    """Mark the open runs crashed whose process is gone."""
    try:
        with get_client(sync_client=True) as client:
            for run in client.read_flow_runs(flow_run_filter=FlowRunFilter.model_validate(OPEN)):
                if _is_lost(run):
                    state: State[Any] = Crashed(message="Its process has ended without a word.")
                    client.set_flow_run_state(run.id, state, force=True)
    except (httpx.HTTPError, PrefectHTTPStatusError) as error:
        logger.warning("runs of killed processes stay open: %s", error)


def _tag(process: int) -> str:
    """The tag of a process that runs: its number may be another's later."""
    return f"{TAG} {process} {process_start(process)}"


def _is_lost(run: FlowRun) -> bool:
    """Return whether a run names its process and that is gone."""
    tag = next((tag for tag in run.tags if tag.startswith(f"{TAG} ")), None)
    return tag is not None and tag != _tag(int(tag.split()[1]))
