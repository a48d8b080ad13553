"""The Prefect server of a script: one that an earlier script left, or a new process of its own.

Prefect would start one itself at the first flow run, but imports its whole server into the
script's process for that (2 s), and leaves it running when the script is killed.
"""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import httpx
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
    get_current_settings,
    temporary_settings,
)

from flows.crashes import own_runs
from lifecycle.errors import BackendError
from lifecycle.redaction import SECRET_NAME
from lifecycle.runtime.identity import code_digest, lock_digest, sha256
from lifecycle.runtime.servers import (
    HOST,
    POLL_S,
    STARTUP_S,
    Process,
    answers,
    auth_file,
    auth_string,
    free_port,
    prefect_home,
    server,
    server_environment,
)
from lifecycle.runtime.warm_server import (
    WarmServer,
    end_server,
    in_use,
    one_starter,
    running_server,
    unused,
)
from lifecycle.settings import Settings
from tasks.exclusive import own_server
from tasks.progress import say, update

PROGRAM = Path(__file__).with_name("warm_server.py")
LOGGED: dict[Any, Any] = {
    PREFECT_LOGGING_EXTRA_LOGGERS: "lifecycle",
    PREFECT_LOGGING_TO_API_WHEN_MISSING_FLOW: "ignore",
}
DRAIN_S = 5.0
ANSWER_S = 5.0
"""Seconds a warm server may take to answer; one that hangs is ended."""


@contextmanager
def prefect_server(settings: Settings) -> Iterator[None]:
    """The Prefect server of environment or profile; without one, a local one kept in `home`.

    Raises:
        BackendError: the local server does not start.
    """
    if PREFECT_API_URL.value():
        with temporary_settings(LOGGED):
            yield
        return
    home = prefect_home(settings)
    with temporary_settings(LOGGED | _own_settings(home)):
        auth, asks = _auth(home)
        with _local_server(home, auth, settings.warm_minutes) as (url, minutes):
            stays = f"until {minutes:g} min after its last use" if minutes else "while this runs"
            say("prefect", f"{url} {stays}, with every flow and task run; its page asks for {asks}")
            token = own_server.set(True)
            own: dict[Any, Any] = {PREFECT_API_URL: f"{url}/api", PREFECT_API_AUTH_STRING: auth}
            with temporary_settings(own):
                try:
                    with own_runs():
                        yield
                finally:
                    own_server.reset(token)
                    # what waits to be sent would find no server any more
                    APILogWorker.drain_all(timeout=DRAIN_S)
                    EventsWorker.drain_all(timeout=DRAIN_S)
            if minutes:
                say("prefect", f"{url} stays {minutes:g} min; `lifecycle down` ends it")


def start_early(settings: Settings) -> None:
    """Start the server of a script that is still importing what it needs, if it will start one.

    Whatever is wrong is told when the server is needed.
    """
    if PREFECT_API_URL.value() or not settings.warm_minutes:
        return
    home = prefect_home(settings)
    with suppress(OSError, TimeoutError), temporary_settings(LOGGED | _own_settings(home)):
        auth, _ = _auth(home)
        with ExitStack() as starter:
            starter.enter_context(one_starter(home, 0.0))
            if running_server(home) is None:
                process = _launch(home, auth, settings.warm_minutes, _key(auth))
                _pending.append((process, starter.pop_all()))


def forget_early() -> None:
    """Leave the server of `start_early` and its lock to the process that started it: in a fork."""
    _pending.clear()


_pending: list[tuple[Process, ExitStack]] = []
"""The server of `start_early`, if any, and the lock by which other scripts wait for it."""


def _own_settings(home: Path) -> dict[Any, Any]:
    # nobody watches for a heartbeat here, and joining its thread costs 1 s of each flow run
    return {PREFECT_HOME: home, PREFECT_FLOWS_HEARTBEAT_FREQUENCY: None}


def _auth(home: Path) -> tuple[str, str]:
    """Return the credentials of a server of this home, and the place where people find them."""
    if chosen := PREFECT_SERVER_API_AUTH_STRING.value():  # of a user's own profile
        return str(chosen), "what PREFECT_SERVER_API_AUTH_STRING says"
    return auth_string(home), str(auth_file(home))


def _key(auth: str) -> str:
    """Digest of what a server runs with."""
    variables = get_current_settings().to_environment_variables(exclude_unset=True)
    return sha256([code_digest("server"), lock_digest(), sys.executable, variables, auth])


@contextmanager
def _local_server(home: Path, auth: str, minutes: float) -> Iterator[tuple[str, float]]:
    """A server of this home: its URL, and the minutes it stays without use; 0 for a temporary one.

    Args:
        auth: what a request must bring.
    """
    home.mkdir(parents=True, exist_ok=True)
    with ExitStack() as use:
        if minutes and (warm := _warm_server(home, auth, minutes, use)):
            yield warm.url, warm.minutes
            return
        update("prefect", "starting a temporary server")
        yield use.enter_context(_temporary_server(home, auth)), 0


def _warm_server(home: Path, auth: str, minutes: float, use: ExitStack) -> WarmServer | None:
    """The warm server of this home, started if none runs; None if a temporary one is needed.

    That is so while another script uses one with other code or other settings, or starts one and
    is late.

    Args:
        use: closed when the script does not need it any more.
    """
    key = _key(auth)
    process: Process | None = None
    starter: AbstractContextManager[object] = one_starter(home, STARTUP_S)
    if _pending:
        process, starter = _pending.pop()
    try:
        with starter:
            warm = running_server(home)
            if warm and (warm.key != key or not _answers(warm, auth)):
                with unused(home) as is_unused:
                    if not is_unused:
                        return None
                    end_server(home, warm)
                process = None
            use.enter_context(in_use(home))
            # one that ended while the lock was waited for is gone from the record
            if warm := running_server(home):
                return warm
            update("prefect", "starting a server, which stays for the next script")
            return _await(process or _launch(home, auth, minutes, key), home)
    except TimeoutError:
        return None


def _answers(warm: WarmServer, auth: str) -> bool:
    """Return whether the server accepts the credentials."""
    user, _, password = auth.partition(":")
    try:
        with httpx.Client(trust_env=False, timeout=ANSWER_S, auth=(user, password)) as client:
            return client.get(f"{warm.url}/api/admin/version").is_success
    except httpx.HTTPError:
        return False


def _await(process: Process, home: Path) -> WarmServer:
    """The server of a process, when it answers.

    Raises:
        BackendError: it does not start.
    """
    end = time.monotonic() + STARTUP_S
    while time.monotonic() < end and process.poll() is None:
        if warm := running_server(home):
            return warm
        time.sleep(POLL_S)
    process.kill()
    raise _not_started(home / "server.log")


def _launch(home: Path, auth: str, minutes: float, key: str) -> Process:
    """Start a server that stays when this process ends."""
    log = home / "server.log"
    with socket.create_server((HOST, 0)) as listener, log.open("ab") as output:
        url = f"http://{HOST}:{listener.getsockname()[1]}"
        own = {name: value for name, value in os.environ.items() if _is_for_prefect(name)}
        command = [sys.executable, str(PROGRAM), "--home", str(home), "--url", url]
        command += ["--key", key, "--minutes", str(minutes), "--socket", str(listener.fileno())]
        return subprocess.Popen(  # noqa: S603 - our own interpreter and arguments
            command,
            env=own | server_environment(home, url, auth),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            pass_fds=[listener.fileno()],
            start_new_session=True,  # neither Ctrl-C nor a closed terminal is meant for it
        )


def _is_for_prefect(name: str) -> bool:
    """Return whether a server that outlives its script gets a variable: not other secrets."""
    return name.startswith("PREFECT_") or not SECRET_NAME.search(name)


@contextmanager
def _temporary_server(home: Path, auth: str) -> Iterator[str]:
    """A server on a free port of loopback, with its database in `home`; its URL.

    Args:
        auth: what a request must bring.
    """
    log = home / "server.log"
    port = free_port()
    url = f"http://{HOST}:{port}"
    command = [sys.executable, "-m", "uvicorn", "--app-dir", str(PROGRAM.parents[1])]
    command += ["--factory", "flows.database:create_app", "--log-level", "error"]
    command += ["--host", HOST, "--port", str(port)]
    with server(command, server_environment(home, url, auth), log) as process:
        if not answers(process, f"{url}/api/health"):
            raise _not_started(log)
        yield url


def _not_started(log: Path) -> BackendError:
    return BackendError(
        f"the local Prefect server did not start; see {log} for the reason. Correct it, or name a "
        "server with PREFECT_API_URL (`make ui` starts one)"
    )
