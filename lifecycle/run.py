"""The run that is under way: what lineage and the audit trail call the work they are told of."""

import getpass
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from lifecycle.records import Record


class Run(Record):
    """Who runs what."""

    id: str = ""
    """The flow run's id in Prefect; empty outside a flow."""
    name: str = ""
    """Such as `train-health_visits`."""
    who: str = ""


_CURRENT: ContextVar[Run | None] = ContextVar("run", default=None)


def current_run() -> Run:
    """The run this code is part of; outside a flow only who runs it."""
    return _CURRENT.get() or Run(who=getpass.getuser())


@contextmanager
def running(run: Run) -> Iterator[None]:
    """What happens in the block is part of this run."""
    token = _CURRENT.set(run)
    try:
        yield
    finally:
        _CURRENT.reset(token)
