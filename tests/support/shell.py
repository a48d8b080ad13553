"""The shell in which a test runs a page's commands, one after the other, as a reader does."""

import contextlib
import os
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import uuid
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, Self

import psutil

from lifecycle.ingress import launcher
from lifecycle.runtime.servers import free_port

MARK = "TEST_MARK"
PORTS = (8000, 4200, 4201, 5000, 5001, 6399)
"""Ports that the pages name. Every shell has others in their place, in commands and on screen."""
COMMAND_S = 900
START_S = 600


class Server(NamedTuple):
    """A command that keeps running.

    Attributes:
        command: regular expression for its line.
        prints: regular expression for what it prints once it is up.
        ports: documented ports that answer then.
    """

    command: str
    prints: str
    ports: tuple[int, ...] = ()


SERVERS = (
    Server(r"(\S+/)?lifecycle serve .*|make serve.*", "Ctrl-C stops it", (8000,)),
    Server(r"make ui.*", "Ctrl-C stops all", (5000, 4200)),
    Server(r"prefect worker start [^&>]*", "Worker .* started"),
)


class CommandFailed(AssertionError):
    """A command of a page ended with another code than 0, too late, or did not come up."""


class Shell:
    """A bash with the environment of a reader who has just activated `.venv`.

    Everything it started ends with it, background processes too.
    """

    def __init__(self, folder: Path, log: Path, **more: str) -> None:
        """Start it in `folder`; what its commands print goes to files in `log`."""
        self.ports = {port: free_port() for port in PORTS}
        self.mark = uuid.uuid4().hex
        self.log = log
        log.mkdir(parents=True)
        kept = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("LIFECYCLE", "PREFECT", "MLFLOW", "RAY", "PYTEST", "PG"))
        }
        home = folder / ".home"
        home.mkdir(exist_ok=True)
        self._short = Path(tempfile.mkdtemp(prefix="lc-", dir="/tmp"))
        apart = launcher.isolation(self._short, free_port())
        venv = folder / ".venv"
        environment = {
            "HOME": str(home),
            "PATH": f"{venv / 'bin'}:{os.environ['PATH']}",
            "VIRTUAL_ENV": str(venv),
            "PYTHONPATH": str(folder),  # else the packages would be those of the tests' checkout
            "COLUMNS": "160",
            "LIFECYCLE_SERVE_PORT": str(self.ports[8000]),
            "MLFLOW_PORT": str(self.ports[5000]),
            "PREFECT_PORT": str(self.ports[4200]),
            "DO_NOT_TRACK": "1",
            "RAY_TMPDIR": str(self._short),  # a Ray that a page starts is no other's neighbour
            MARK: self.mark,
        }
        self._screen = (log / "screen").open("w+")
        self._process = subprocess.Popen(
            ["bash", "--noprofile", "--norc"],
            cwd=folder,
            env=kept | apart | environment | more,
            stdin=subprocess.PIPE,
            stdout=self._screen,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        self._send("set -e")
        self._count = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._process.poll() is None:  # as Ctrl-C does: what is served writes its log first
            self._send("kill $(jobs -p)")
            deadline = time.monotonic() + 60
            with contextlib.suppress(psutil.NoSuchProcess):
                while psutil.Process(self._process.pid).children() and time.monotonic() < deadline:
                    time.sleep(0.2)
        self._process.terminate()
        for how in (signal.SIGTERM, signal.SIGKILL):
            for process in self._started():
                try:
                    process.send_signal(how)
                except psutil.NoSuchProcess:
                    continue
            deadline = time.monotonic() + 20
            while self._started() and time.monotonic() < deadline:
                time.sleep(0.3)
        self._process.wait(10)
        if self._process.stdin:
            self._process.stdin.close()
        self._screen.close()
        front_files = Path(f"/tmp/lc-front-{os.getuid()}-{self.ports[8000]}")  # noqa: S108 - of front-env
        for folder in (self._short, front_files):
            shutil.rmtree(folder, ignore_errors=True)

    def run(self, commands: str) -> str:
        """Run a block of commands; what they print, with the ports as the page has them.

        Commands that keep running (SERVERS) go to the background once they are up.

        Raises:
            CommandFailed: with what was printed.
        """
        printed, waiting = "", ""
        for line in commands.splitlines():
            server = next((one for one in SERVERS if re.fullmatch(one.command, line)), None)
            if server is None:
                waiting += f"{line}\n"
                continue
            printed += self._run(waiting) + self._start(line, server)
            waiting = ""
        return self._as_documented(printed + self._run(waiting))

    def _run(self, commands: str) -> str:
        if not commands.strip():
            return ""
        self._count += 1
        file, end = self.log / f"{self._count}.sh", f"end-{uuid.uuid4().hex}"
        file.write_text(self._with_own_ports(commands))
        begin = self._screen.seek(0, os.SEEK_END)
        self._send(f". {file}; echo {end}")
        deadline = time.monotonic() + COMMAND_S
        while True:
            self._screen.seek(begin)
            printed, ended, _ = self._screen.read().partition(f"{end}\n")
            if ended:
                return printed
            if self._process.poll() is not None or time.monotonic() > deadline:
                why = "failed" if self._process.poll() is not None else f"over {COMMAND_S} s"
                raise CommandFailed(f"{why}: {commands}\n{self._as_documented(printed)}")
            time.sleep(0.1)

    def _start(self, command: str, server: Server) -> str:
        """Start a server in the background, and wait until it is up."""
        file = self.log / f"server-{self._count}.log"
        file.touch()  # the background may be slow to make it
        command = re.sub(r"\s+# .*", "", command)
        self._run(f"{command} > {file} 2>&1 &")
        deadline = time.monotonic() + START_S
        while not (re.search(server.prints, file.read_text()) and self._listening(server.ports)):
            if time.monotonic() > deadline:
                raise CommandFailed(f"not up in {START_S} s: {command}\n{file.read_text()}")
            time.sleep(0.2)
        time.sleep(0.5)  # the rest of what it prints
        return file.read_text()

    def _listening(self, ports: tuple[int, ...]) -> bool:
        for port in ports:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", self.ports[port])):
                    return False
        return True

    def _send(self, line: str) -> None:
        assert self._process.stdin
        self._process.stdin.write(f"{line}\n")
        self._process.stdin.flush()

    def _with_own_ports(self, text: str) -> str:
        for documented, own in self.ports.items():
            text = re.sub(rf"(?<=[:= ]){documented}\b", str(own), text)
        return text

    def _as_documented(self, text: str) -> str:
        for documented, own in self.ports.items():
            text = re.sub(rf"\b{own}\b", str(documented), text)
        return text

    def _started(self) -> list[psutil.Process]:
        """Running processes of this shell, whoever is their parent by now."""
        found = []
        for process in psutil.process_iter():
            try:
                if process.environ().get(MARK) == self.mark:
                    found.append(process)
            except (psutil.AccessDenied, psutil.NoSuchProcess, psutil.ZombieProcess):
                continue
        return found
