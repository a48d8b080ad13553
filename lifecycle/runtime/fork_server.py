"""A process that has imported what a script needs, and forks for each script that comes.

Importing Prefect, MLflow and XGBoost takes most of a short script's time. The first script leaves
a fork of itself, made once it has imported everything and before it works, which listens on a Unix
socket. A later script under the same conditions hands over its arguments, variables and terminal;
a fork of that process does the work, and the script passes on signals and the exit code.

Conditions are compared by a digest, which is the socket's name: with another interpreter, file of
code, variable, folder, limit or profile there is no server, and a script imports for itself. Linux
alone: forks of what macOS' frameworks have touched are not safe. The standard library alone, too:
a script that is served imports nothing else.

Source of the idea: the fork server of Python's `multiprocessing`, which serves one process alone.
"""

import gc
import hashlib
import io
import json
import os
import resource
import selectors
import signal
import socket
import stat
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

from lifecycle.redaction import SECRET_NAME
from lifecycle.runtime.process import (
    die_with_parent,
    direct_loopback,
    end_process,
    no_telemetry,
    process_start,
)

ROOT = Path(__file__).parents[2]
PACKAGES = ("lifecycle", "tasks", "flows")
VOLATILE = ("PWD", "OLDPWD", "SHLVL", "_", "COLUMNS", "LINES")
"""Variables that differ from script to script and shape none."""
TRACERS = ("pydevd", "debugpy", "coverage")
PREFECT_FILES = ("prefect.toml", "pyproject.toml", ".env")
"""Of the working folder: Prefect reads its settings from them when it is imported."""
FORWARDED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)
ANSWER_S = 5.0
"""Seconds that the other side may take to read or write one message."""
WATCH_S = 0.5
"""Seconds between two looks of a server at whether it is still wanted."""
MESSAGE_BYTES = 1 << 20
STREAMS = 3
BEGUN = b"begun"


class Script(NamedTuple):
    """A script's call: all that a fork needs to stand in for it."""

    flow: str
    arguments: list[str]
    program: str | None
    """Its name in messages; None for the file's."""
    command: str
    """`sys.argv[0]`."""
    variables: dict[str, str]
    import_path: list[str]


def conditions(kind: str) -> str | None:
    """Digest of what an imported process may have taken from its surroundings.

    Secrets are left out, apart from Prefect's: each script brings its own.

    Args:
        kind: scripts of another kind import other things.

    Returns:
        None where a fork cannot stand in: not on Linux, under a debugger or tracer, or where the
        system does not tell.
    """
    if sys.platform != "linux" or sys.gettrace() or sys.getprofile():
        return None
    if set(TRACERS) & set(sys.modules):
        return None
    with suppress(OSError):
        return _digest(kind)
    return None


def _digest(kind: str) -> str:
    no_telemetry()
    direct_loopback()
    mask = os.umask(0o077)
    os.umask(mask)
    limits = {getattr(resource, name) for name in dir(resource) if name.startswith("RLIMIT_")}
    flags = (sys.flags.optimize, sys.flags.dev_mode, sys.flags.utf8_mode, sys.flags.isolated)
    compared: list[Any] = [
        [kind, sys.executable, sys.version, flags, _import_path()],
        [os.getcwd(), os.getuid(), os.getgid(), mask, os.nice(0)],
        [sorted(os.sched_getaffinity(0)), Path("/proc/self/cgroup").read_text()],
        [resource.getrlimit(limit) for limit in sorted(limits)],
        [signal.getsignal(number) == signal.SIG_IGN for number in FORWARDED],
        sorted(item for item in os.environ.items() if _is_compared(item[0])),
        sorted(_files()),
    ]
    return hashlib.sha256(json.dumps(compared).encode()).hexdigest()[:32]


def run_forked(key: str, flow: str, arguments: list[str], program: str | None) -> None:
    """Have a fork of the server of these conditions do a script's work, and end as it ends.

    Returns only if there is no such server, or it has not begun: then nothing was done.
    """
    script = Script(
        flow=flow,
        arguments=arguments,
        program=program,
        command=sys.argv[0],
        variables=dict(os.environ),
        import_path=_import_path(),
    )
    message = json.dumps(script).encode()
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as connection:
        try:
            connection.settimeout(ANSWER_S)
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, MESSAGE_BYTES)
            connection.connect(str(_socket(key)))
            for stream in (sys.stdout, sys.stderr):
                stream.flush()
            socket.send_fds(connection, [message], range(STREAMS))
            if connection.recv(len(BEGUN)) != BEGUN:
                return
        except OSError:
            return
        connection.settimeout(None)
        for number in FORWARDED:  # one that is ignored here is ignored there
            if signal.getsignal(number) != signal.SIG_IGN:
                signal.signal(number, lambda sent, _: _forward(connection, sent))
        _end_like(_status(connection))


def leave_server(
    key: str,
    run: Callable[[Script], int],
    home: Path,
    minutes: float,
    release: Callable[[], object],
    idle: Callable[[], object],
) -> None:
    """Leave a fork of this process as the server of the conditions it began under.

    Args:
        run: does a script's work in a fork, and returns its exit code.
        home: Prefect's folder, where the server is noted.
        minutes: without a script after which it ends.
        release: drops what is open here and must not stay open there, such as locks.
        idle: runs there once, when half a second has passed without a script.
    """
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    with warnings.catch_warnings(action="ignore"):  # the threads of libraries wait for work
        if os.fork():
            return
    try:
        os.setsid()  # neither Ctrl-C nor a closed terminal is meant for it
        release()
        os.closerange(STREAMS, os.sysconf("SC_OPEN_MAX"))  # of whoever called the script
        home.mkdir(parents=True, exist_ok=True)
        with (home / "server.log").open("ab") as log, open(os.devnull, "rb") as no_input:
            for number, file in enumerate((no_input, log, log)):
                os.dup2(file.fileno(), number)
        _Server(key, run, home).serve(minutes * 60, idle)
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(0)


class ForkServer(NamedTuple):
    """A server that runs for a home."""

    process: int
    record: Path
    """Its note, touched by each script; the server ends when it is gone."""


def fork_servers(home: Path) -> list[ForkServer]:
    """The servers that scripts of a home left, and that run."""
    records = [(file, file.suffix[1:]) for file in sorted(home.glob("fork-server.*"))]
    return [
        ForkServer(int(process), file)
        for file, process in records
        if process.isdigit() and process_start(int(process)) == file.read_text()
    ]


def end_fork_servers(home: Path) -> int:
    """End the servers of a home that work for no script, those that do when they have; how many."""
    running = fork_servers(home)
    for file in home.glob("fork-server.*"):
        file.unlink(missing_ok=True)
    return len(running)


class _Work(NamedTuple):
    """A script that a fork works for."""

    process: int
    connection: socket.socket


class _Server:
    """Listens for scripts, forks for them, and tells each how its fork ended."""

    def __init__(self, key: str, run: Callable[[Script], int], home: Path) -> None:
        self.run = run
        self.process = os.getpid()
        self.place = _socket(key)
        self.listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        scratch = self.place.with_name(f".{self.process}")
        self.listener.bind(str(scratch))
        self.listener.listen()
        self.inode = scratch.stat().st_ino
        self.record = home / f"fork-server.{self.process}"
        self.record.write_text(process_start(self.process))
        scratch.replace(self.place)  # of two servers the later one is found, the other ends
        self.events = selectors.DefaultSelector()
        self.events.register(self.listener, selectors.EVENT_READ)
        self.works: dict[int, _Work] = {}
        """By the file descriptor that shows the end of a fork."""

    def serve(self, seconds: float, idle: Callable[[], object]) -> None:
        """Serve until no script has come for so long, or the record is gone."""
        used, rested = time.monotonic(), False
        while self.works or (self._is_found() and time.monotonic() - used < seconds):
            events = self.events.select(WATCH_S)
            if not (events or rested):
                idle()
                gc.freeze()  # a collection would copy the memory that forks share
                rested = True
            for key, _ in events:
                used = time.monotonic()
                if key.fileobj is self.listener:
                    self._accept()
                elif key.data is None:
                    self._reap(key.fd)
                else:
                    self._pass_on(key.data)
        if self._is_found():
            self.place.unlink()
        self.record.unlink(missing_ok=True)

    def _is_found(self) -> bool:
        """Return whether scripts find this server, and `lifecycle down` does."""
        with suppress(FileNotFoundError):
            return self.record.exists() and self.place.stat().st_ino == self.inode
        return False

    def _accept(self) -> None:
        connection, _ = self.listener.accept()
        connection.settimeout(ANSWER_S)
        streams: list[int] = []
        try:
            message, streams, _, _ = socket.recv_fds(connection, MESSAGE_BYTES, STREAMS)
            script = Script(*json.loads(message))
            connection.send(BEGUN)  # first: a script that has waited too long works by itself
            with warnings.catch_warnings(action="ignore"):
                process = os.fork()
            if not process:
                connection.close()
                self._work(script, streams)
            with suppress(OSError):  # here, too: a signal may come before the fork does it
                os.setpgid(process, process)
        except (OSError, ValueError, TypeError):  # it is gone, or no script of ours
            connection.close()
            return
        finally:
            for stream in streams:
                os.close(stream)
        self.record.touch()
        work = _Work(process, connection)
        ended = os.pidfd_open(process)
        self.works[ended] = work
        self.events.register(ended, selectors.EVENT_READ)
        self.events.register(connection, selectors.EVENT_READ, work)

    def _reap(self, ended: int) -> None:
        """Tell a script how its fork ended."""
        work = self.works.pop(ended)
        self.events.unregister(ended)
        os.close(ended)
        _, status = os.waitpid(work.process, 0)
        with suppress(KeyError):
            self.events.unregister(work.connection)
        with suppress(OSError), work.connection:
            work.connection.send(str(status).encode())

    def _pass_on(self, work: _Work) -> None:
        """Pass a script's signal on to its fork; what kills the script kills the fork."""
        try:
            sent = work.connection.recv(16)
        except OSError:
            sent = b""
        with suppress(ProcessLookupError):
            if sent:  # a terminal sends its signals to all processes of a script
                send = os.kill if int(sent) == signal.SIGTERM else os.killpg
                send(work.process, int(sent))
                return
            self.events.unregister(work.connection)
            os.kill(work.process, signal.SIGKILL)

    def _work(self, script: Script, streams: list[int]) -> NoReturn:
        """Do a script's work, as the process that it would have been."""
        try:
            os.setpgid(0, 0)
            die_with_parent()
            if os.getppid() != self.process:
                os._exit(1)
            self.events.close()
            self.listener.close()
            for ended, work in self.works.items():
                os.close(ended)
                work.connection.close()
            for number, stream in enumerate(streams):
                os.dup2(stream, number)
                os.close(stream)
            for output in (sys.stdout, sys.stderr):
                if isinstance(output, io.TextIOWrapper):
                    output.reconfigure(line_buffering=os.isatty(output.fileno()))
            os.environ.clear()
            os.environ.update(script.variables)
            sys.argv = [script.command, *script.arguments]
            sys.path[:] = script.import_path
            end_process(_exit_code(self.run, script))
        finally:
            os._exit(1)


def _exit_code(run: Callable[[Script], int], script: Script) -> int:
    try:
        return run(script)
    except SystemExit as error:
        if isinstance(error.code, str):
            sys.stderr.write(f"{error.code}\n")
        return error.code if isinstance(error.code, int) else int(error.code is not None)
    except BaseException as error:
        sys.excepthook(type(error), error, error.__traceback__)
        return 1


def _forward(connection: socket.socket, number: int) -> None:
    with suppress(OSError):
        connection.send(str(number).encode())


def _status(connection: socket.socket) -> int | None:
    """How a fork ended, as `os.waitpid` says it; None if its server was killed, and it with it."""
    try:
        return int(connection.recv(16))
    except (OSError, ValueError):
        return None


def _end_like(status: int | None) -> NoReturn:
    """End this process as the fork that worked for it."""
    if status is None:
        sys.stderr.write(
            "Error: the process that worked for this script was killed: run the script again, "
            "it goes on from what is done\n"
        )
        os._exit(1)
    if os.WIFSIGNALED(status):
        number = os.WTERMSIG(status)
        with suppress(OSError):  # SIGKILL has no handler
            signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)
    os._exit(os.waitstatus_to_exitcode(status))


def _import_path() -> list[str]:
    """`sys.path` without the script's folder."""
    return sys.path[0 if sys.flags.safe_path else 1 :]


def _is_compared(name: str) -> bool:
    if name in VOLATILE:
        return False
    return name.startswith("PREFECT_") or not SECRET_NAME.search(name)


def _files() -> Iterator[tuple[str, int, int]]:
    """Yield what shows a change of code, of installed packages or of Prefect's settings."""
    home = Path(os.environ.get("PREFECT_HOME") or Path.home() / ".prefect")
    profiles = os.environ.get("PREFECT_PROFILES_PATH") or home / "profiles.toml"
    files = [profiles, *PREFECT_FILES]
    files += [entry for entry in sys.path if entry.endswith("site-packages")]
    for package in PACKAGES:
        for folder, _, names in os.walk(ROOT / package):
            files += [f"{folder}/{name}" for name in names if not name.endswith(".pyc")]
    for file in files:
        with suppress(FileNotFoundError):
            status = os.stat(file)
            yield str(file), status.st_mtime_ns, status.st_size


def _socket(key: str) -> Path:
    """The socket of the server of these conditions, in a folder that is this user's alone.

    Raises:
        PermissionError: the folder is another user's, or open to others.
    """
    folder = Path(tempfile.gettempdir(), f"lifecycle-{os.getuid()}")
    folder.mkdir(mode=0o700, exist_ok=True)
    status = folder.lstat()
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.getuid() or status.st_mode & 0o077:
        raise PermissionError(f"{folder} is not this user's alone")
    return folder / key
