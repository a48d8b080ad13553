"""The warm Prefect server of a home: which one runs, whether a script uses it, how it ends.

A script in `dev` leaves its server running for the next one (decision 33). Three files in Prefect's
home are about it. The server writes `warm-server.json` when it listens. Each script that uses it
holds `warm-server.users` shared, and whoever starts one holds `warm-server.start`: locks of the
kernel, which frees them even after SIGKILL. A record is believed only while the process that wrote
it runs: its number and its start must agree, so that a crash never blocks the next script.
"""

import fcntl
import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path

from pydantic import ValidationError

from lifecycle.errors import BackendError
from lifecycle.records import Record
from lifecycle.runtime.process import process_start

STOP_S = 15.0
"""Seconds a server may take to end; it ends itself when it takes longer than 10."""
POLL_S = 0.05
WATCH_S = 0.5
"""Seconds between two looks of a server at who uses it."""
CODE_S = 5.0
"""Seconds between its looks at the code, which take 20 ms."""


class WarmServer(Record):
    """A server that outlives its script."""

    url: str
    process: int
    process_start: str
    """By the kernel's count: another process may get the same number later."""
    started: datetime
    minutes: float
    """Time without use after which it ends."""
    key: str
    """Digest of the code, the lock and Prefect's settings that it runs with."""
    home: str
    """Prefect's home: a copied or moved folder has no server."""


def running_server(home: Path) -> WarmServer | None:
    """The server of a home, if the one that the record names runs."""
    try:
        server = WarmServer.model_validate_json(_record(home).read_bytes())
    except (OSError, ValidationError):
        return None
    runs = process_start(server.process) == server.process_start
    return server if runs and server.home == str(home) else None


def write_record(home: Path, server: WarmServer) -> None:
    """Make a server known, in one step."""
    scratch = _record(home).with_name(f".warm-server.{os.getpid()}")
    with open(os.open(scratch, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        file.write(server.model_dump_json())
    scratch.replace(_record(home))


def delete_record(home: Path, server: WarmServer) -> None:
    """Have no script find this server any more."""
    if running_server(home) == server:
        _record(home).unlink(missing_ok=True)


def runs_until(home: Path, server: WarmServer) -> datetime:
    """Return the time at which the server ends unless it is used again."""
    used = _record(home).stat().st_mtime
    return datetime.fromtimestamp(used + server.minutes * 60, UTC)


@contextmanager
def in_use(home: Path) -> Iterator[None]:
    """Keep the server of a home from ending for want of use."""
    with _lock(home, "users", fcntl.LOCK_SH):
        yield


@contextmanager
def unused(home: Path) -> Iterator[bool]:
    """Yield whether no script uses the server. If so, none can use it until the block ends."""
    with ExitStack() as stack:
        try:
            stack.enter_context(_lock(home, "users", fcntl.LOCK_EX | fcntl.LOCK_NB))
        except BlockingIOError:
            yield False
            return
        yield True


def wait_until_superfluous(
    home: Path,
    server: WarmServer,
    ends: Callable[[], bool],
    requests: Callable[[], int],
    code: Callable[[], object],
) -> None:
    """Wait until no script uses this server and it is idle, of other code, or not in the record.

    It is in no record any more when this returns, unless it ends anyway.

    Args:
        ends: whether it does.
        requests: how many it has answered; a page in a browser asks, too.
        code: what it runs with.

    Raises:
        OSError: its home is gone.
    """
    first, answer_count = code(), 0
    used = looked = time.monotonic()
    while not ends():
        time.sleep(WATCH_S)
        now = time.monotonic()
        with unused(home) as is_unused:
            if not is_unused or answer_count != requests():
                answer_count, used = requests(), now
                _note_use(home)
            superfluous = now - used > server.minutes * 60 or running_server(home) != server
            if not superfluous and now - looked > CODE_S:
                looked, superfluous = now, code() != first
            if is_unused and superfluous:
                delete_record(home, server)  # from now on a script starts one of its own
                return


@contextmanager
def one_starter(home: Path, timeout: float) -> Iterator[None]:
    """Wait until no other script starts a server in this home.

    Raises:
        TimeoutError: another one takes too long.
    """
    end = time.monotonic() + timeout
    with ExitStack() as stack:
        while True:
            try:
                stack.enter_context(_lock(home, "start", fcntl.LOCK_EX | fcntl.LOCK_NB))
                break
            except BlockingIOError:
                if time.monotonic() > end:
                    raise TimeoutError from None
                time.sleep(POLL_S)
        yield


def end_server(home: Path, server: WarmServer) -> None:
    """End a server and wait for that.

    Raises:
        BackendError: it does not end.
    """
    delete_record(home, server)
    for number in (signal.SIGTERM, signal.SIGKILL):
        with suppress(ProcessLookupError):
            os.kill(server.process, number)
        end = time.monotonic() + STOP_S
        while time.monotonic() < end:
            with suppress(ChildProcessError):  # of another process, as it nearly always is
                os.waitpid(server.process, os.WNOHANG)
            if process_start(server.process) != server.process_start:
                return
            time.sleep(POLL_S)
    raise BackendError(f"the Prefect server at {server.url} (process {server.process}) runs on")


def _note_use(home: Path) -> None:
    """Keep when the server was used last, for those who ask until when it runs."""
    with suppress(FileNotFoundError):
        os.utime(_record(home))


@contextmanager
def _lock(home: Path, name: str, kind: int) -> Iterator[None]:
    with open(os.open(home / f"warm-server.{name}", os.O_RDWR | os.O_CREAT, 0o600), "w") as file:
        fcntl.flock(file, kind)
        yield


def _record(home: Path) -> Path:
    return home / "warm-server.json"
