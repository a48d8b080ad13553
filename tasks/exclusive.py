"""One run at a time per project and environment, of the flows that move aliases or write versions.

Two locks, since runs share different things. Runs on one machine share `home`, where the kernel
frees a lock when its process dies. Runs on several machines share the Prefect server: a global
concurrency limit of one slot, held by a lease that runs out when nobody renews it.
"""

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from contextvars import ContextVar
from typing import TextIO

from prefect.client.orchestration import get_client
from prefect.concurrency.sync import concurrency
from prefect.runtime import flow_run
from prefect.settings import PREFECT_API_URL

from lifecycle.project import Project
from lifecycle.settings import Settings
from tasks.progress import say

LEASE_S = 60.0
"""After this long without a renewal a run is taken for dead."""
POLL_S = 0.5

own_server: ContextVar[bool] = ContextVar("own_server", default=False)
"""Whether the Prefect server is this script's own: then no other machine shares it."""
_locks: set[str] = set()
"""Limits that this process has: a flow inside a flow is part of it."""


@contextmanager
def exclusive(project: Project, settings: Settings) -> Iterator[None]:
    """Wait until no other run of this project changes it in this environment, then hold it off."""
    name = limit_name(project, settings)
    if name in _locks:
        yield
        return
    with ExitStack() as stack:
        stack.enter_context(_alone_on_this_machine(name, settings))
        if PREFECT_API_URL.value() and not own_server.get():
            stack.enter_context(_alone_on_this_server(name))
        _locks.add(name)
        stack.callback(_locks.discard, name)
        yield


def limit_name(project: Project, settings: Settings) -> str:
    """The limit's name, in the server's list of concurrency limits too."""
    return f"lifecycle-{settings.env}-{project.name}"


@contextmanager
def _alone_on_this_machine(name: str, settings: Settings) -> Iterator[None]:
    with (settings.folder("locks") / f"{name}.lock").open("a+") as file:
        waits = False
        while not _locked(file):
            if not waits:
                file.seek(0)
                _say_waiting(name, file.read().strip() or "another run")
            waits = True
            time.sleep(POLL_S)
        file.truncate(0)
        file.write(f"{flow_run.name or 'a flow'} (process {os.getpid()})")
        file.flush()
        yield


def _locked(file: TextIO) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


@contextmanager
def _alone_on_this_server(name: str) -> Iterator[None]:
    with get_client(sync_client=True) as client:
        client.upsert_global_concurrency_limit_by_name(name, 1)
        if client.read_global_concurrency_limit_by_name(name).active_slots:
            _say_waiting(name, "a run on another machine")
    with concurrency(
        name, lease_duration=LEASE_S, strict=True, raise_on_lease_renewal_failure=False
    ):
        yield


def _say_waiting(name: str, holder: str) -> None:
    say("wait", f"{holder} works on this project: one at a time ({name})")
