"""The Prefect server of a script: there for its length, in a process of its own.

Prefect would start one itself at the first flow run, but imports its whole server into the
script's process for that (2 s), and leaves it running when the script is killed.
"""

import ctypes
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import prefect
from prefect.events.worker import EventsWorker
from prefect.logging.handlers import APILogWorker
from prefect.settings import (
    PREFECT_API_URL,
    PREFECT_FLOWS_HEARTBEAT_FREQUENCY,
    PREFECT_HOME,
    PREFECT_LOGGING_EXTRA_LOGGERS,
    PREFECT_LOGGING_TO_API_WHEN_MISSING_FLOW,
    temporary_settings,
)

from lifecycle.errors import BackendError
from lifecycle.settings import Settings
from tasks.exclusive import own_server
from tasks.progress import say, update

STARTUP_S = 180.0
"""Seconds the server may take: the first start makes its database."""
STOP_S = DRAIN_S = 5.0
POLL_S = 0.05
PR_SET_PDEATHSIG = 1


@contextmanager
def prefect_server(settings: Settings) -> Iterator[None]:
    """The Prefect server of environment or profile; without one, a temporary one kept in `home`.

    Raises:
        BackendError: the temporary server does not start.
    """
    updates: dict[Any, Any] = {
        PREFECT_LOGGING_EXTRA_LOGGERS: "lifecycle",
        PREFECT_LOGGING_TO_API_WHEN_MISSING_FLOW: "ignore",
    }
    if PREFECT_API_URL.value():
        with temporary_settings(updates):
            yield
        return
    if "PREFECT_HOME" not in os.environ:
        updates[PREFECT_HOME] = settings.folder("prefect")
    # a heartbeat tells a server that outlives the script; joining its thread costs 1 s a flow run
    updates[PREFECT_FLOWS_HEARTBEAT_FREQUENCY] = None
    with temporary_settings(updates):
        update("prefect", "starting a temporary server")
        with _temporary_server(Path(PREFECT_HOME.value())) as url:
            say("prefect", f"{url} while this runs, with every flow and task run")
            token = own_server.set(True)
            with temporary_settings({PREFECT_API_URL: f"{url}/api"}):
                try:
                    yield
                finally:
                    own_server.reset(token)
                    # what waits to be sent would find no server any more
                    APILogWorker.drain_all(timeout=DRAIN_S)
                    EventsWorker.drain_all(timeout=DRAIN_S)


@contextmanager
def _temporary_server(home: Path) -> Iterator[str]:
    """A server on a free port of loopback, with its database in `home`; its URL."""
    home.mkdir(parents=True, exist_ok=True)
    log = home / "server.log"
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    url = f"http://127.0.0.1:{port}"
    command = [sys.executable, "-m", "uvicorn", "--app-dir", str(prefect.__module_path__.parent)]
    command += ["--factory", "prefect.server.api.server:create_app", "--log-level", "error"]
    command += ["--host", "127.0.0.1", "--port", str(port)]
    environment = os.environ | {
        "PREFECT_HOME": str(home),
        "PREFECT_API_URL": f"{url}/api",
        "PREFECT_UI_STATIC_DIRECTORY": str(home / "ui"),
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",  # its first insert meets a locked database
    }
    with log.open("ab") as output:
        process = subprocess.Popen(  # noqa: S603 - our own interpreter and arguments
            command,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,  # Ctrl-C is for the script, which still tells how it ended
            preexec_fn=_die_with_parent if sys.platform == "linux" else None,
        )
    try:
        _wait(process, url, log)
        yield url
    finally:
        process.terminate()
        try:
            process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _wait(process: "subprocess.Popen[bytes]", url: str, log: Path) -> None:
    """Until the server answers."""
    end = time.monotonic() + STARTUP_S
    with httpx.Client(trust_env=False) as client:  # no proxy lies between us and loopback
        while time.monotonic() < end and process.poll() is None:
            try:
                if client.get(f"{url}/api/health").is_success:
                    return
            except httpx.TransportError:
                pass
            time.sleep(POLL_S)
    raise BackendError(
        f"the temporary Prefect server did not start; {log} says why. Mend that, or name a server "
        "with PREFECT_API_URL (`make ui` starts one)"
    )


def _die_with_parent() -> None:
    """Runs in the child: the kernel ends it when the script dies, even by SIGKILL."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
