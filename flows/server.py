"""The Prefect server of a script: there for its length, in a process of its own.

Prefect would start one itself at the first flow run, but imports its whole server into the
script's process for that (2 s), and leaves it running when the script is killed.
"""

import os
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import prefect
from prefect.events.worker import EventsWorker
from prefect.logging.handlers import APILogWorker
from prefect.settings import (
    PREFECT_API_AUTH_STRING,
    PREFECT_API_URL,
    PREFECT_FLOWS_HEARTBEAT_FREQUENCY,
    PREFECT_HOME,
    PREFECT_LOGGING_EXTRA_LOGGERS,
    PREFECT_LOGGING_TO_API_WHEN_MISSING_FLOW,
    PREFECT_SERVER_API_AUTH_STRING,
    temporary_settings,
)

from lifecycle.errors import BackendError
from lifecycle.servers import answers, auth_file, auth_string, server, server_environment
from lifecycle.settings import Settings
from tasks.exclusive import own_server
from tasks.progress import say, update

DRAIN_S = 5.0


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
        home = Path(PREFECT_HOME.value())
        chosen = PREFECT_SERVER_API_AUTH_STRING.value()  # of a user's own profile
        auth = str(chosen or auth_string(home))
        with _temporary_server(home, auth) as url:
            asks = "what PREFECT_SERVER_API_AUTH_STRING says" if chosen else f"{auth_file(home)}"
            say(
                "prefect",
                f"{url} while this runs, with every flow and task run; its page asks for {asks}",
            )
            token = own_server.set(True)
            own: dict[Any, Any] = {PREFECT_API_URL: f"{url}/api", PREFECT_API_AUTH_STRING: auth}
            with temporary_settings(own):
                try:
                    yield
                finally:
                    own_server.reset(token)
                    # what waits to be sent would find no server any more
                    APILogWorker.drain_all(timeout=DRAIN_S)
                    EventsWorker.drain_all(timeout=DRAIN_S)


@contextmanager
def _temporary_server(home: Path, auth: str) -> Iterator[str]:
    """A server on a free port of loopback, with its database in `home`; its URL.

    Args:
        auth: what a request must bring.
    """
    home.mkdir(parents=True, exist_ok=True)
    log = home / "server.log"
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    url = f"http://127.0.0.1:{port}"
    command = [sys.executable, "-m", "uvicorn", "--app-dir", str(prefect.__module_path__.parent)]
    command += ["--factory", "prefect.server.api.server:create_app", "--log-level", "error"]
    command += ["--host", "127.0.0.1", "--port", str(port)]
    with server(command, server_environment(home, url, auth), log) as process:
        if not answers(process, f"{url}/api/health"):
            raise BackendError(
                f"the temporary Prefect server did not start; {log} says why. Mend that, or name a "
                "server with PREFECT_API_URL (`make ui` starts one)"
            )
        yield url
