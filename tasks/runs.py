"""A flow that tells `lifecycle` which run it is, and the lineage service what it made.

`flow` is Prefect's decorator as every file in `flows/` takes it from here.
"""

import getpass
import inspect
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from datetime import UTC, datetime
from functools import wraps
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

import prefect
from prefect.runtime import deployment, flow_run

from lifecycle.audit.model_trail import Trail
from lifecycle.project import Project
from lifecycle.project.loader import in_environment
from lifecycle.redaction import errors_redacted
from lifecycle.runtime.identity import file_digest
from lifecycle.runtime.logs import begin_logs
from lifecycle.runtime.process import direct_loopback
from lifecycle.runtime.run import Run, running
from lifecycle.runtime.traces import begin_traces, span
from lifecycle.settings import Settings
from tasks.exclusive import exclusive
from tasks.policies import pin_code

# In whose name a version is changed.


def trail_of(project: Project, settings: Settings) -> Trail:
    """The project's audit trail, in the name of whoever runs this flow."""
    return Trail(settings, project.name, who())


def who() -> str:
    """The user, or where a schedule or an event started it the deployment; and the flow run."""
    return f"{starter()}, flow run {flow_run.name}" if flow_run.name else starter()


def starter() -> str:
    """Return who started this flow: the user, or a deployment (by schedule or event)."""
    return f"deployment {deployment.name}" if deployment.name else _user()


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container's user without a name
        return "unknown user"


P = ParamSpec("P")
R = TypeVar("R")


def flow(
    *, flow_run_name: str, is_exclusive: bool = False
) -> Callable[[Callable[P, R]], "prefect.Flow[P, R]"]:
    """Prefect's `flow`; what is made inside, in tasks as well, is recorded as made by the run.

    A flow inside a flow is a run of its own. With `LIFECYCLE_OPENLINEAGE` set, each tells what it
    made when it ends.

    Args:
        is_exclusive: whether the flow moves aliases or writes versions, so that no other such flow
            may work on the project in the same environment meanwhile; see `tasks.exclusive`. A
            rollback never waits: it ends what is under way.
    """

    def decorate(fn: Callable[P, R]) -> "prefect.Flow[P, R]":
        @wraps(fn)
        def run(*args: P.args, **kwargs: P.kwargs) -> R:
            direct_loopback()  # for a run of a deployment, which no script began
            if is_exclusive:
                pin_code()
            bound = inspect.signature(fn).bind(*args, **kwargs)
            arguments = bound.arguments
            arguments["project"] = _in_environment(arguments["project"], arguments.get("env"))
            settings = Settings.load(arguments.get("env"))
            if deployment.id:
                begin_logs(settings, project=arguments["project"].name)
            else:
                begin_traces(settings)
            me = Run(
                id=str(flow_run.id or ""),
                name=flow_run.name or "",
                who=starter(),
                flow=fn.__name__,
            )
            turn = (
                _turn(arguments)
                if is_exclusive and not arguments.get("rollback")
                else nullcontext()
            )
            about = {"lifecycle.run": me.id, "lifecycle.project": arguments["project"].name}
            with (
                errors_redacted(),
                running(me),
                span(me.flow, about),
                turn,
                _telling(fn.__name__, arguments, me),
            ):
                return fn(*bound.args, **bound.kwargs)

        # by itself Prefect takes the digest of this file for every flow's version
        version = file_digest(Path(inspect.getfile(fn)))[:32]
        return prefect.flow(flow_run_name=flow_run_name, version=version)(run)

    return decorate


def _in_environment(project: Project, env: str | None) -> Project:
    """The project with this environment's sources."""
    return in_environment(project, Settings.load(env).env) if project.environments else project


def _turn(arguments: dict[str, Any]) -> AbstractContextManager[None]:
    return exclusive(arguments["project"], Settings.load(arguments.get("env")))


@contextmanager
def _telling(name: str, arguments: dict[str, Any], me: Run) -> Iterator[None]:
    """Send OpenLineage events when the block ends, however it does."""
    project, settings = arguments.get("project"), Settings.load(arguments.get("env"))
    if not settings.openlineage or not isinstance(project, Project):
        yield
        return
    from lifecycle.lineage.emit import tell_run

    began = _now()
    try:
        yield
    except Exception:
        tell_run(project, settings, name, me, (began, _now()), "FAIL")
        raise
    except BaseException:
        tell_run(project, settings, name, me, (began, _now()), "ABORT")
        raise
    tell_run(project, settings, name, me, (began, _now()), "COMPLETE")


def _now() -> str:
    return f"{datetime.now(UTC).replace(tzinfo=None).isoformat(timespec='milliseconds')}Z"
