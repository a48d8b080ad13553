"""The processes that read environments side by side, for the page of a project.

Each environment is read in a process of its own, since MLflow, object storage and the lake keep
credentials for a whole process. On Linux these are forks of one process that has imported MLflow,
and has none of their variables but those that all have in common. An environment that cannot be
read becomes a state that says why: a page of the others is better than none.
"""

import gc
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

from lifecycle.environments import PREFIX
from lifecycle.errors import BackendError, LifecycleError, first_line
from lifecycle.redaction import redact
from lifecycle.runtime.files import write_atomic
from lifecycle.settings import Settings, variables_of

if TYPE_CHECKING:
    from lifecycle.page.state import EnvironmentState
    from lifecycle.project import Project

ANSWER_S = 120.0
"""Seconds that environments may take."""
IMPORTED = (
    "mlflow.store.model_registry.sqlalchemy_workspace_store",
    "mlflow.store.tracking.sqlalchemy_workspace_store",
    "sqlalchemy.dialects.sqlite",
    "lifecycle.lineage.models",
    "lifecycle.monitoring.alarms",
    "lifecycle.monitoring.retraining",
    "lifecycle.page.gather",
)
"""Modules that reading an environment imports, and that take seconds."""
LOG = ".log"
"""Ends the file with what a reader printed."""


def read_states(
    project: "Project", settings: Settings, others: Sequence[str]
) -> list["EnvironmentState"]:
    """The states of the own environment and of others, in this order.

    Args:
        settings: of the own environment, as `Settings.load` has them.
        others: names of environments; each is read with its own file and variables.

    Raises:
        LifecycleError: the own environment cannot be read.
    """
    if not others:
        from lifecycle.page.gather import read_state  # pandas, Arrow and MLflow take a while

        return [read_state(project, settings)]
    variables = {settings.env: {**os.environ, f"{PREFIX}ENV": settings.env}}
    variables |= {env: variables_of(env) for env in others}
    with tempfile.TemporaryDirectory(prefix="lifecycle-page-") as name:
        folder = Path(name)
        readers = _start(project, variables, folder)
        try:
            import_module("lifecycle.page.site")  # while they read
            deadline = time.monotonic() + ANSWER_S
            for reader in readers:
                with suppress(subprocess.TimeoutExpired):
                    reader.wait(max(deadline - time.monotonic(), 0.0))
            states = [_result(env, folder) for env in variables]
        finally:
            for reader in readers:
                _end(reader)
    if states[0].problem:
        raise BackendError(states[0].problem)
    return states


def _start(
    project: "Project", variables: Mapping[str, Mapping[str, str]], folder: Path
) -> list["subprocess.Popen[bytes]"]:
    """Start what reads environments; each leaves a file with its name in the folder.

    Args:
        variables: environment → its variables, which only a pipe sees.
    """
    envs = list(variables)
    # the frameworks of macOS do not survive a fork
    groups = [envs] if sys.platform == "linux" else [[env] for env in envs]
    readers = []
    for group in groups:
        own = [variables[env] for env in group]
        common = {
            name: value
            for name, value in own[0].items()
            if all(other.get(name) == value for other in own)
        }
        command = [sys.executable, "-P", "-m", __name__, str(project.file), str(folder)]
        with (folder / f"{group[0]}{LOG}").open("wb") as log:
            reader = subprocess.Popen(  # noqa: S603 - our own interpreter and arguments
                command,
                env=common,
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                start_new_session=True,  # so that it can be ended with its forks
            )
        assert reader.stdin is not None  # noqa: S101 - it is a pipe
        with suppress(BrokenPipeError), reader.stdin:
            reader.stdin.write(json.dumps({env: variables[env] for env in group}).encode())
        readers.append(reader)
    return readers


def _end(reader: "subprocess.Popen[bytes]") -> None:
    """End a reader and its forks, whatever they wait for."""
    if reader.poll() is None:
        os.killpg(reader.pid, signal.SIGKILL)
        reader.wait()


def _result(env: str, folder: Path) -> "EnvironmentState":
    from lifecycle.page.state import EnvironmentState

    with suppress(OSError, ValueError):
        return EnvironmentState.model_validate_json((folder / env).read_bytes())
    with suppress(OSError):
        lines = (folder / f"{env}{LOG}").read_text(errors="replace").strip().splitlines()
        if lines:
            return EnvironmentState(env=env, problem=redact(lines[-1]))
    return EnvironmentState(
        env=env,
        problem=f"no answer within {ANSWER_S:g} s; `lifecycle page --only --env {env}` says more",
    )


def main(file: str, folder: str) -> None:
    """Write the states of the environments on standard input: name → variables."""
    gc.disable()  # it ends in seconds, and a fifth of importing is looking for cycles
    variables: dict[str, dict[str, str]] = json.load(sys.stdin)
    if len(variables) == 1:
        [(env, own)] = variables.items()
        _write_state(env, own, file, Path(folder))
        return
    _import_all()
    children = [
        pid for env, own in variables.items() if (pid := _fork(env, own, file, Path(folder)))
    ]
    for pid in children:
        os.waitpid(pid, 0)


def _import_all() -> None:
    """Import once what each fork needs; nothing of it reads an environment's variables."""
    for name in IMPORTED:
        import_module(name)


def _fork(env: str, own: Mapping[str, str], file: str, folder: Path) -> int:
    """Read an environment in a fork; its process id."""
    pid = os.fork()
    if pid:
        return pid
    try:
        with (folder / f"{env}{LOG}").open("ab") as log:
            os.dup2(log.fileno(), 1)
            os.dup2(log.fileno(), 2)
        _write_state(env, own, file, folder)
    except BaseException as error:  # else the fork would go on as if it were the first process
        (folder / f"{env}{LOG}").write_text(f"{type(error).__name__}: {error}")
    finally:
        os._exit(0)


def _write_state(env: str, own: Mapping[str, str], file: str, folder: Path) -> None:
    """Read the state of an environment with its variables, and write it as JSON."""
    from lifecycle.page.gather import read_state
    from lifecycle.page.state import EnvironmentState
    from lifecycle.project.loader import load_project

    os.environ.clear()
    os.environ.update(own)
    try:
        settings = Settings.load()
        state = read_state(load_project(Path(file), settings.env), settings)
    except LifecycleError as error:
        state = EnvironmentState(env=env, problem=redact(first_line(error)))
    write_atomic(folder / env, state.model_dump_json())


if __name__ == "__main__":
    main(*sys.argv[1:])
    os._exit(0)  # all is written; leaving MLflow in order takes almost a second
