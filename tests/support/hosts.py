"""Two hosts on one machine, in namespaces: each has a network address and a mount tree of its own.

They share the checkout and Python, and nothing else: what one writes under /tmp, the other does not
see. The machine itself is a third address, for the servers that both reach.
"""

import os
import shutil
import signal
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import psutil

from tests.support.small import ROOT

MOUNTS = "mount -t tmpfs -o size=1g none /tmp && mount -t tmpfs -o size=512m none /dev/shm"
UNSHARE = ("unshare", "--net", "--mount", "--propagation", "private", "sh", "-c")
BIN = ROOT / ".venv" / "bin"


def can_make_hosts() -> bool:
    """Whether this process may make namespaces and network devices."""
    if os.geteuid() != 0 or not shutil.which("ip") or not shutil.which("nsenter"):
        return False
    script = f"{MOUNTS} && ip link add lct0 type veth peer name lct1"
    return subprocess.run([*UNSHARE, script], capture_output=True, check=False).returncode == 0


class Host:
    """A host that runs until `stop`."""

    def __init__(self, address: str, init: "subprocess.Popen[bytes]") -> None:
        self.address = address
        self._init = init
        self._begun: list[subprocess.Popen[bytes]] = []

    @property
    def tmp(self) -> Path:
        """Its /tmp, as the machine sees it."""
        return Path(f"/proc/{self._init.pid}/root/tmp")

    def start(
        self, command: Sequence[str], env: Mapping[str, str], log: str
    ) -> "subprocess.Popen[bytes]":
        """Begin a program there, in /tmp."""
        with (self.tmp / log).open("ab") as out:
            process = subprocess.Popen(
                ["nsenter", "-t", str(self._init.pid), "-m", "-n", "--wdns=/tmp", *command],
                env={**self._environment(), **env},
                stdout=out,
                stderr=out,
            )
        self._begun.append(process)
        return process

    def run(self, command: Sequence[str], env: Mapping[str, str], seconds: float = 240) -> str:
        """Run a program there to its end; what it says."""
        done = subprocess.run(
            ["nsenter", "-t", str(self._init.pid), "-m", "-n", "--wdns=/tmp", *command],
            env={**self._environment(), **env},
            capture_output=True,
            text=True,
            timeout=seconds,
            check=False,
        )
        assert done.returncode == 0, (done.stdout + done.stderr)[-6000:]
        return done.stdout + done.stderr

    def kill(self) -> None:
        """SIGKILL for all that runs there, but the host itself."""
        namespace = os.readlink(f"/proc/{self._init.pid}/ns/mnt")
        for process in psutil.process_iter():
            try:
                same = os.readlink(f"/proc/{process.pid}/ns/mnt") == namespace
            except OSError:
                continue
            if same and process.pid != self._init.pid:
                process.send_signal(signal.SIGKILL)

    def stop(self) -> None:
        self.kill()
        self._init.kill()
        for process in (*self._begun, self._init):
            process.wait(30)

    def _environment(self) -> dict[str, str]:
        kept = {"PATH": f"{BIN}:{os.environ['PATH']}", "HOME": "/tmp", "DO_NOT_TRACK": "1"}  # noqa: S108 - its own
        return kept | {"LANG": "C.UTF-8", "XDG_CACHE_HOME": "/tmp/cache"}  # noqa: S108 - the same


@contextmanager
def two_hosts() -> Iterator[tuple[str, Host, Host]]:
    """The machine's address, and two hosts beside it, until the block ends."""
    number = os.getpid() % 200 + 20
    bridge, net = f"lcb{number}", f"10.77.{number}"
    _ip("link", "add", bridge, "type", "bridge")
    hosts: list[Host] = []
    try:
        _ip("addr", "add", f"{net}.1/24", "dev", bridge)
        _ip("link", "set", bridge, "up")
        for last in (2, 3):
            hosts.append(_host(bridge, f"{net}.{last}", f"lcv{number}-{last}"))
        yield f"{net}.1", hosts[0], hosts[1]
    finally:
        for host in hosts:
            host.stop()
        _ip("link", "del", bridge)


def _host(bridge: str, address: str, device: str) -> Host:
    init = subprocess.Popen(
        [*UNSHARE, f"{MOUNTS} && echo ready && exec sleep infinity"],
        stdout=subprocess.PIPE,
    )
    assert init.stdout
    with init.stdout:
        assert init.stdout.readline() == b"ready\n"
    _ip("link", "add", device, "type", "veth", "peer", "name", "eth0", "netns", str(init.pid))
    _ip("link", "set", device, "master", bridge, "up")
    inside = ["nsenter", "-t", str(init.pid), "-n", "ip"]
    for words in (
        ["addr", "add", f"{address}/24", "dev", "eth0"],
        ["link", "set", "eth0", "up"],
        ["link", "set", "lo", "up"],
    ):
        subprocess.run([*inside, *words], check=True)
    return Host(address, init)


def _ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True)
