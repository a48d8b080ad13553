"""Our servers on loopback: their ports, and how they begin."""

import signal
import socket
import sys
from pathlib import Path

import pytest

from lifecycle.errors import BackendError
from lifecycle.runtime import servers
from lifecycle.runtime.servers import HOST, RESERVED_PORTS, free_port, server

KERNEL = Path("/proc/sys/net/ipv4/ip_local_port_range")


@pytest.mark.skipif(sys.platform != "linux", reason="other systems give other ports")
def test_the_kernel_gives_a_free_port_to_nobody_else() -> None:
    """A connection had a test's port before its endpoint began to listen there."""
    first, last = map(int, KERNEL.read_text().split())
    if last >= RESERVED_PORTS.start:
        pytest.skip(f"this machine gives the ports {first} to {last} to connections")
    ports = [free_port() for _ in range(100)]
    assert not [port for port in ports if first <= port <= last]
    assert len(set(ports)) > 90


def test_a_port_in_use_is_not_free(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server((HOST, 0)) as taken, socket.create_server((HOST, 0)) as other:
        used, full = taken.getsockname()[1], other.getsockname()[1]
        monkeypatch.setattr(servers, "RESERVED_PORTS", range(full, full + 1))
        assert free_port(used) not in (used, full)  # the kernel's, where all of ours are taken
    assert free_port(used) == used


def test_no_port_is_one_clear_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(servers, "HOST", "192.0.2.1")  # an address that is not this machine's
    with pytest.raises(BackendError, match="no port of"):
        free_port()


def test_what_a_script_starts_in_the_background_hears_sigint_again(tmp_path: Path) -> None:
    """Prefect's worker passes SIGTERM on as SIGINT: it went on for as long as it was looked at."""
    code = "import signal; print(signal.getsignal(signal.SIGINT) is signal.default_int_handler)"
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)  # as a shell does for `command &`
    try:
        with server([sys.executable, "-c", code], {}, tmp_path / "log") as process:
            process.wait(30)
    finally:
        signal.signal(signal.SIGINT, before)
    assert (tmp_path / "log").read_text() == "True\n"
