"""The run that is under way: what lineage and the audit trail call the work they are told of."""

import getpass
import subprocess
from collections.abc import Iterator, Mapping
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
    flow: str = ""
    trace: str = ""
    """Id of the outermost flow run around this code, as traces have it: 32 hexadecimal digits."""


_CURRENT: ContextVar[Run | None] = ContextVar("run", default=None)


def current_run() -> Run:
    """The run this code is part of; outside a flow only who runs it."""
    return _CURRENT.get() or Run(who=getpass.getuser())


@contextmanager
def running(run: Run) -> Iterator[None]:
    """Make a run the current one within the block, with the trace of the run around it."""
    outer = _CURRENT.get()
    run = run.model_copy(update={"trace": (outer and outer.trace) or run.id.replace("-", "")})
    names = {"flow_run_id": run.id, "flow_run": run.name, "flow": run.flow}
    labels = {label: value for label, value in names.items() if value}
    token, labels_token = _CURRENT.set(run), _LABELS.set(labels)
    try:
        yield
    finally:
        _CURRENT.reset(token)
        _LABELS.reset(labels_token)


# Labels: what log lines say of the work that they are about, besides the run.

_LABELS: ContextVar[dict[str, str] | None] = ContextVar("labels", default=None)
_of_process: dict[str, str] = {}
_trace_of_process = ""


def current_labels() -> dict[str, str]:
    """Labels of the work under way here; in a Ray worker, of the run that it works for."""
    return {**_of_process, **(_LABELS.get() or {})}


def current_trace() -> str:
    """The trace that the run under way belongs to; empty outside a run."""
    run = _CURRENT.get()
    return run.trace if run else _trace_of_process


@contextmanager
def labelled(**labels: str) -> Iterator[None]:
    """Add labels for the block."""
    token = _LABELS.set({**(_LABELS.get() or {}), **labels})
    try:
        yield
    finally:
        _LABELS.reset(token)


def add_labels(**labels: str) -> None:
    """Add labels to what is left of the block of `running` or `labelled` around this code."""
    current = _LABELS.get()
    if current is not None:
        current.update(labels)


def work_for(trace: str, labels: Mapping[str, str]) -> None:
    """Give this process, a Ray worker, the labels of the run that it works for."""
    global _trace_of_process
    _of_process.clear()
    _of_process.update(labels)
    _trace_of_process = trace


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
