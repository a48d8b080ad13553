"""Servers that we start on loopback: how they begin, are waited for, and end.

A Prefect server by itself answers every origin, so that any page in a browser could delete runs:
ours answers whoever knows its auth string alone.
"""

import itertools
import os
import secrets
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import Event

import httpx

from lifecycle.errors import BackendError
from lifecycle.redaction import remember
from lifecycle.runtime.files import create_once
from lifecycle.runtime.process import TELEMETRY, die_with_parent
from lifecycle.settings import Settings, sqlite_url

HOST = "127.0.0.1"
STARTUP_S = 180.0
"""Seconds a server may take: the first start makes its database."""
STOP_S = 5.0
POLL_S = 0.05
RESERVED_PORTS = range(61_000, 65_536)
"""Ports that Linux gives to no connection (`ip_local_port_range` ends at 60999)."""
ATTEMPTS = 20
DATABASE = ("PREFECT_SERVER_DATABASE_CONNECTION_URL", "PREFECT_API_DATABASE_CONNECTION_URL")
"""Variables that name the database of a Prefect server."""

Process = subprocess.Popen[bytes]


@contextmanager
def server(
    command: Sequence[str],
    variables: Mapping[str, str],
    log: Path,
    environment: Mapping[str, str] = os.environ,
) -> Iterator[Process]:
    """A process with its children, ended with the block, or when this process dies.

    Args:
        variables: of its environment, besides `environment`.
        log: the file that what it prints is appended to.
        environment: what it inherits; by default all of this process's.
    """
    with log.open("ab") as output:
        process = subprocess.Popen(  # noqa: S603 - our own interpreter and arguments
            command,
            env={**environment, **variables},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,  # Ctrl-C is for us, who still tell how it ended
            preexec_fn=_begin,
        )
    try:
        yield process
    finally:
        for number in (signal.SIGTERM, signal.SIGKILL):
            with suppress(ProcessLookupError):
                os.killpg(process.pid, number)
            with suppress(subprocess.TimeoutExpired):
                process.wait(STOP_S)


def _begin() -> None:
    """Runs in the new process. What a script starts with `&` ignores SIGINT, and its children do:
    Prefect's worker, which passes SIGTERM on as SIGINT to itself, would never end."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    if sys.platform == "linux":
        die_with_parent()


def answers(process: Process, url: str, stop: Event | None = None) -> bool:
    """Wait until a server answers with success; whether it did before it ended or time was up.

    Args:
        url: of its health.
        stop: set by another thread or a signal, it ends the wait.
    """
    stop = stop or Event()
    end = time.monotonic() + STARTUP_S
    with httpx.Client(trust_env=False) as client:  # no proxy lies between us and loopback
        while time.monotonic() < end and process.poll() is None:
            with suppress(httpx.TransportError):
                if client.get(url).is_success:
                    return True
            if stop.wait(POLL_S):
                break
    return False


def free_port(preferred: int = 0) -> int:
    """The preferred port of loopback, or a free one if another process has it.

    The kernel would give one that it also gives to connections, so that one of them may have it
    before the server that it is meant for.

    Args:
        preferred: 0 for none.

    Raises:
        BackendError: none is free.
    """
    others = (secrets.choice(RESERVED_PORTS) for _ in range(ATTEMPTS))
    for port in itertools.chain([preferred] if preferred else [], others, [0]):
        with socket.socket() as probe, suppress(OSError):
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((HOST, port))
            return int(probe.getsockname()[1])
    raise BackendError(f"no port of {HOST} is free")


def prefect_home(settings: Settings) -> Path:
    """Folder of Prefect's database, unless a profile of the user's names a server."""
    return Path(os.environ.get("PREFECT_HOME") or settings.folder("prefect")).expanduser()


def auth_file(home: Path) -> Path:
    """The file in Prefect's home with what its servers ask for; readable by its owner alone."""
    return home / "auth-string"


def auth_string(home: Path) -> str:
    """Return the credentials of the server with its database in `home`: random, made on first use.

    Raises:
        OSError: the file cannot be written or read.
    """
    home.mkdir(parents=True, exist_ok=True)
    text = create_once(auth_file(home), f"lifecycle:{secrets.token_urlsafe(24)}", 0o600).strip()
    remember(text, text.partition(":")[2])
    return text


MLFLOW_USERS = """[mlflow]
default_permission = READ
database_uri = {database}
admin_username = {user}
admin_password = {password}
authorization_function = mlflow.server.auth:authenticate_request_basic_auth
auth_cache_ttl_seconds = 60
"""
"""Without the cache MLflow hashes the password anew for each request, in 0.1 s of a processor,
and a registration has dozens. A password changed over the API holds at once in a single process.
"""


def mlflow_users(database: str, user: str, password: str) -> str:
    """The configuration of an MLflow server with basic auth.

    Args:
        database: URL of the database of its users.
        user, password: of its administrator.
    """
    return MLFLOW_USERS.format(database=database.replace("%", "%%"), user=user, password=password)


LATE_EVENTS = {"PREFECT_SERVER_EVENTS_EXPIRED_BUCKET_BUFFER": "PT20M"}
"""A Prefect server that was started anew holds some events back for 15 minutes, and by default has
then forgotten the automations that wait for what follows them (decision 39)."""


def server_environment(home: Path, url: str, auth: str) -> dict[str, str]:
    """Variables of a server's process.

    Args:
        home: folder of its database.
        url: where it listens; its own page is the one origin that may ask.
        auth: what a request must bring.
    """
    variables = {
        **TELEMETRY,
        **LATE_EVENTS,
        "PREFECT_HOME": str(home),
        "PREFECT_API_URL": f"{url}/api",
        "PREFECT_UI_API_URL": f"{url}/api",
        "PREFECT_UI_STATIC_DIRECTORY": str(home / "ui"),
        "PREFECT_SERVER_API_AUTH_STRING": auth,
        "PREFECT_API_AUTH_STRING": auth,
        "PREFECT_SERVER_CORS_ALLOWED_ORIGINS": url,
    }
    if "?" in str(home) and not any(name in os.environ for name in DATABASE):
        # Prefect's own URL would end there and name a file beside the home
        database = sqlite_url(home / "prefect.db").replace("pysqlite", "aiosqlite", 1)
        variables[DATABASE[0]] = database
    return variables
