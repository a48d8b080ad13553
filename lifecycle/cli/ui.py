"""`lifecycle ui`: the pages of MLflow and of a Prefect server on loopback, until Ctrl-C."""

import shlex
import signal
import socket
import subprocess
import sys
import threading
from contextlib import AbstractContextManager, ExitStack, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from lifecycle.cli import EnvOption
from lifecycle.errors import BackendError, SettingsError
from lifecycle.redaction import redact
from lifecycle.runtime.console import open_console
from lifecycle.runtime.process import TELEMETRY
from lifecycle.runtime.servers import (
    Process,
    answers,
    auth_file,
    auth_string,
    prefect_home,
    server,
    server_environment,
)
from lifecycle.runtime.warm_server import end_server, running_server, runs_until, unused
from lifecycle.settings import SERVED, Settings

HOST = "127.0.0.1"
USAGE = 2
"""Exit code of a process of ours that a setting keeps from its work."""
MLFLOW_PORT, PREFECT_PORT = 5000, 4200
"""Where they are looked for; with another process there, a free port is taken and told."""
MlflowPort = Annotated[int, typer.Option(envvar="MLFLOW_PORT", help="Where MLflow's pages are.")]
PrefectPort = Annotated[int, typer.Option(envvar="PREFECT_PORT", help="Where Prefect's are.")]


def ui(
    env: EnvOption = None,
    mlflow_port: MlflowPort = MLFLOW_PORT,
    prefect_port: PrefectPort = PREFECT_PORT,
) -> None:
    """Show MLflow and Prefect in a browser, on loopback, until Ctrl-C."""
    settings = Settings.load(env)
    console = open_console()
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    home = prefect_home(settings)
    auth = auth_string(home)
    with ExitStack() as servers:
        processes = []
        if settings.tracking_uri.startswith(SERVED):
            console.print(f"MLflow   {redact(settings.tracking_uri)}")
        else:
            mlflow = f"http://{HOST}:{_port(mlflow_port)}"
            processes.append(servers.enter_context(_mlflow(mlflow, settings)))
        prefect = f"http://{HOST}:{_port(prefect_port)}"
        processes.append(servers.enter_context(_prefect(prefect, home, auth)))
        if len(processes) > 1:
            _require(processes[0], f"{mlflow}/health", settings.home / "mlflow-ui.log", stop)
            console.print(f"MLflow   {mlflow}")
        _require(processes[-1], f"{prefect}/api/health", home / "server.log", stop)
        if not stop.is_set():
            file = shlex.quote(str(auth_file(home)))
            console.print(
                f"Prefect  {prefect}    its page asks for the text in {auth_file(home)}\n"
                "Ctrl-C stops both. For flows and Prefect's commands in another shell:\n"
                f"  export PREFECT_API_URL={prefect}/api DO_NOT_TRACK=1\n"
                f'  export PREFECT_API_AUTH_STRING="$(cat {file})"'
            )
        while not stop.wait(1.0):
            if any(process.poll() is not None for process in processes):
                raise BackendError(
                    f"a server has ended by itself; {settings.home / 'mlflow-ui.log'} and "
                    f"{home / 'server.log'} say why"
                )


def _require(process: Process, url: str, log: Path, stop: threading.Event) -> None:
    """See that a server answers, unless nobody waits for it any more.

    Raises:
        BackendError: it ends instead, or is too late.
    """
    if not answers(process, url, stop) and not stop.is_set():
        _require_prefect_settings()
        raise BackendError(f"no server answers at {url}; {log} says why")


def _require_prefect_settings() -> None:
    """See whether the cause is a variable of Prefect's, which `tasks` checks when it is imported.

    Raises:
        SettingsError: it is; says which.
    """
    command = [sys.executable, "-c", "import tasks"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 - ours
    if done.returncode == USAGE:
        raise SettingsError(done.stderr.strip())


def _port(wanted: int) -> int:
    """The port, or a free one if another process has it."""
    for port in (wanted, 0):
        with socket.socket() as probe, suppress(OSError):
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((HOST, port))
            return int(probe.getsockname()[1])
    raise BackendError(f"no port of {HOST} is free")


def _mlflow(url: str, settings: Settings) -> AbstractContextManager[Process]:
    from lifecycle.release.mlflow_store import connect  # MLflow takes a while

    connect(settings)  # makes or follows the database
    command = [sys.executable, "-m", "mlflow", "ui", "--host", HOST]
    command += ["--port", url.rpartition(":")[2]]
    variables = TELEMETRY | {
        "MLFLOW_BACKEND_STORE_URI": settings.tracking_uri,  # not where every user sees it
        "MLFLOW_DEFAULT_ARTIFACT_ROOT": settings.artifact_root or "",
    }
    return server(command, variables, settings.home / "mlflow-ui.log")


def _prefect(url: str, home: Path, auth: str) -> AbstractContextManager[Process]:
    command = [sys.executable, "-m", "prefect", "--no-prompt", "server", "start"]
    command += ["--host", HOST, "--port", url.rpartition(":")[2]]
    return server(command, server_environment(home, url, auth), home / "server.log")


# `lifecycle status` and `lifecycle down`: what a script left running for the next one.

Force = Annotated[bool, typer.Option(help="End it although a script uses it.")]


def status(env: EnvOption = None) -> None:
    """Show what runs for this home when no script does: where, since when, until when."""
    settings = Settings.load(env)
    home = prefect_home(settings)
    server = running_server(home)
    if server is None:
        open_console().print(f"Nothing runs for {settings.home} (LIFECYCLE_HOME).")
        return
    with unused(home) as nobody:
        until = f"until {_clock(runs_until(home, server))} unless it is used"
        stays = until if nobody else f"in use, and {server.minutes:g} minutes after that"
    open_console().print(
        f"Prefect  {server.url}    its page asks for the text in {auth_file(home)}\n"
        f"         process {server.process}, since {_clock(server.started)}, {stays}\n"
        "`lifecycle down` ends it."
    )


def down(env: EnvOption = None, force: Force = False) -> None:
    """End what a script left running for the next one; runs and models stay."""
    home = prefect_home(Settings.load(env))
    server = running_server(home)
    if server is None:
        open_console().print("Nothing runs.")
        return
    with unused(home) as nobody:
        if not (nobody or force):
            raise BackendError(
                f"a script uses the Prefect server at {server.url}: wait for it, or use --force"
            )
        end_server(home, server)
    open_console().print(f"Ended the Prefect server at {server.url}.")


def _clock(moment: datetime) -> str:
    """Hours and minutes of this machine's clock, with the day where it is another."""
    local, today = moment.astimezone(), datetime.now(UTC).astimezone().date()
    return f"{local:%H:%M}" if local.date() == today else f"{local:%Y-%m-%d %H:%M}"
