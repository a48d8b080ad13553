"""The run that is under way: what lineage and the audit trail call the work they are told of."""

import getpass
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache

from lifecycle.records import Record
from lifecycle.runtime.identity import PACKAGE, code_digest


class Run(Record):
    """Identity of a run: who runs what."""

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
    """Make a run the current one within the block."""
    token = _CURRENT.set(run)
    try:
        yield
    finally:
        _CURRENT.reset(token)


# Provenance of every output: code, commit, run and user. Lineage follows it.

GIT_SECONDS = 5.0


def provenance() -> dict[str, str]:
    """Return the origin of a result, for a commit's note or the tags of a run.

    `code` is the digest of the code that shapes results, `commit` the Git commit of the checkout,
    `run` the flow run's id, `run_name` its name, `who` the user or deployment that started it.
    Unknown facts are omitted.
    """
    run = current_run()
    facts = {
        "code": code_digest("any"),
        "commit": git_commit(),
        "run": run.id,
        "run_name": run.name,
        "who": run.who,
    }
    return {key: value for key, value in facts.items() if value}


@cache
def git_commit() -> str:
    """The checkout's commit, ending with `-dirty` where files differ from it; empty without Git."""
    root = PACKAGE.parent
    if not (root / ".git").exists():
        return ""
    command = ["git", "-C", str(root), "describe", "--always", "--dirty", "--abbrev=40"]
    try:
        output = subprocess.run(  # noqa: S603 - our own arguments
            [*command, "--exclude=*"],
            capture_output=True,
            text=True,
            timeout=GIT_SECONDS,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return ""
    return output.stdout.strip()
