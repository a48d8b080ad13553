"""`lifecycle ui`: the pages of MLflow and of a Prefect server on loopback, until Ctrl-C."""

import os
import shlex
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Annotated

import typer

from lifecycle.console import open_console
from lifecycle.errors import BackendError
from lifecycle.prefect_server import auth_file, auth_string, server_environment
from lifecycle.process import TELEMETRY, die_with_parent
from lifecycle.redaction import redact
from lifecycle.settings import SERVED, Settings

HOST = "127.0.0.1"
MLFLOW_PORT, PREFECT_PORT = 5000, 4200
"""Where they are looked for; with another process there, a free port is taken and told."""
STARTUP_S = 180.0
"""Seconds a server may take: the first start makes its database."""
STOP_S = 5.0
POLL_S = 0.1
EnvOption = Annotated[str | None, typer.Option("--env", help="dev, staging or prod.")]
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
    home = Path(os.environ.get("PREFECT_HOME") or settings.folder("prefect")).expanduser()
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
            _wait(processes[0], f"{mlflow}/health", "MLflow", settings.home / "mlflow-ui.log", stop)
            console.print(f"MLflow   {mlflow}")
        _wait(processes[-1], f"{prefect}/api/health", "Prefect", home / "server.log", stop)
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


def _port(wanted: int) -> int:
    """The port, or a free one if another process has it."""
    for port in (wanted, 0):
        with socket.socket() as probe, suppress(OSError):
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((HOST, port))
            return int(probe.getsockname()[1])
    raise BackendError(f"no port of {HOST} is free")


def _mlflow(url: str, settings: Settings) -> AbstractContextManager["subprocess.Popen[bytes]"]:
    from lifecycle.release.store import connect  # MLflow takes a while

    connect(settings)  # makes or follows the database
    command = [
        sys.executable,
        "-m",
        "mlflow",
        "ui",
        "--host",
        HOST,
        "--port",
        url.rpartition(":")[2],
    ]
    variables = TELEMETRY | {
        "MLFLOW_BACKEND_STORE_URI": settings.tracking_uri,  # not where every user sees it
        "MLFLOW_DEFAULT_ARTIFACT_ROOT": settings.artifact_root or "",
    }
    return _server(command, variables, settings.home / "mlflow-ui.log")


def _prefect(url: str, home: Path, auth: str) -> AbstractContextManager["subprocess.Popen[bytes]"]:
    command = [sys.executable, "-m", "prefect", "--no-prompt", "server", "start"]
    command += ["--host", HOST, "--port", url.rpartition(":")[2]]
    return _server(command, server_environment(home, url, auth), home / "server.log")


@contextmanager
def _server(
    command: list[str], variables: dict[str, str], log: Path
) -> Iterator["subprocess.Popen[bytes]"]:
    """A process with its children, ended when the block ends."""
    with log.open("ab") as output:
        process = subprocess.Popen(  # noqa: S603 - our own interpreter and arguments
            command,
            env=os.environ | variables,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,  # Ctrl-C is for us; what it starts is in its group
            preexec_fn=die_with_parent if sys.platform == "linux" else None,
        )
    try:
        yield process
    finally:
        _end(process)


def _end(process: "subprocess.Popen[bytes]") -> None:
    for number in (signal.SIGTERM, signal.SIGKILL):
        with suppress(ProcessLookupError):
            os.killpg(process.pid, number)
        with suppress(subprocess.TimeoutExpired):
            process.wait(STOP_S)


def _wait(
    process: "subprocess.Popen[bytes]", url: str, name: str, log: Path, stop: threading.Event
) -> None:
    """Until a server answers, or nobody waits for it any more.

    Raises:
        BackendError: it ends instead, or is too late.
    """
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    end = time.monotonic() + STARTUP_S
    while time.monotonic() < end and process.poll() is None:
        if stop.wait(POLL_S):
            return
        with suppress(urllib.error.URLError, OSError), direct.open(url, timeout=STOP_S):
            return
    raise BackendError(f"{name} did not start; {log} says why")
