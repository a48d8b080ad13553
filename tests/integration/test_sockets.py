"""What the documentation has people start on one machine listens on loopback only, and the Prefect
server among it does nothing for a stranger."""

import os
import re
import shlex
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from ipaddress import ip_address
from pathlib import Path
from secrets import token_hex

import httpx
import psutil
import pytest

from lifecycle.runtime.servers import free_port

ROOT = Path(__file__).parents[2]
LIFECYCLE = str(Path(sys.executable).with_name("lifecycle"))
RAY = str(Path(sys.executable).with_name("ray"))
START_S = 240.0
HEALTHY = 200

pytestmark = [
    pytest.mark.system,
    pytest.mark.alone,
    pytest.mark.skipif(sys.platform != "linux", reason="reads /proc"),
]


@contextmanager
def started(command: list[str], env: dict[str, str], log: Path) -> Iterator[psutil.Process]:
    """A command with all it starts, which is ended with the block."""
    with log.open("ab") as output:
        process = subprocess.Popen(
            command, cwd=ROOT, env=env, stdout=output, stderr=output, stdin=subprocess.DEVNULL
        )
    root = psutil.Process(process.pid)
    try:
        yield root
    finally:
        family = [root, *root.children(recursive=True)] if root.is_running() else []
        process.send_signal(signal.SIGTERM)
        with suppress(subprocess.TimeoutExpired):
            process.wait(20)
        for one in family:
            with suppress(psutil.Error):
                one.kill()
        process.wait()


def listening(root: psutil.Process) -> set[tuple[str, int]]:
    """Addresses and ports that a process and its descendants listen on."""
    found = set()
    for process in [root, *root.children(recursive=True)]:
        with suppress(psutil.Error):
            for one in process.net_connections(kind="inet"):
                if one.status == psutil.CONN_LISTEN or (
                    one.type == socket.SOCK_DGRAM and one.laddr
                ):
                    found.add((one.laddr.ip, one.laddr.port))
    return found


def outside(root: psutil.Process) -> set[tuple[str, int]]:
    """Those of `listening` that another machine reaches."""
    return {(ip, port) for ip, port in listening(root) if not is_loopback(ip)}


def is_loopback(ip: str) -> bool:
    """Whether only this machine reaches an address, be it written as IPv6 (`::ffff:127.0.0.1`)."""
    address = ip_address(ip)
    return (getattr(address, "ipv4_mapped", None) or address).is_loopback


def wait_for(log: Path, pattern: str, root: psutil.Process) -> re.Match[str]:
    end = time.monotonic() + START_S
    while time.monotonic() < end:
        if found := re.search(pattern, log.read_text(errors="replace")):
            return found
        assert root.status() != psutil.STATUS_ZOMBIE, log.read_text()
        time.sleep(0.2)
    raise AssertionError(log.read_text())


def environment(home: Path) -> dict[str, str]:
    kept = {
        k: v for k, v in os.environ.items() if not k.startswith(("PREFECT", "RAY_", "LIFECYCLE"))
    }
    return kept | {"LIFECYCLE_HOME": str(home)}


def test_a_ray_cluster_of_two_nodes_on_one_machine(tmp_path: Path) -> None:
    env = environment(tmp_path / "home")
    said = subprocess.run(
        [LIFECYCLE, "front-env", "--one-machine"],
        env=env,
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    exports = [shlex.split(line)[1] for line in said.splitlines() if line.startswith("export")]
    env |= dict(line.split("=", 1) for line in exports) | {"RAY_AUTH_MODE": "token"}
    env |= {"HOME": str(tmp_path), "PYTHONUNBUFFERED": "1", "RAY_AUTH_TOKEN": token_hex(32)}
    address = f"127.0.0.1:{free_port()}"
    head = [RAY, "start", "--head", "--node-ip-address", "127.0.0.1", "--block"]
    head += ["--port", address.rpartition(":")[2], "--num-cpus", "1", "--dashboard-port"]
    head += [str(free_port())]
    node = [LIFECYCLE, "ray-node", address, "--block"]
    log = tmp_path / "head.log"
    with started(head, env, log) as first:
        wait_for(log, "Ray runtime started", first)
        with started(node, env, tmp_path / "node.log") as second:
            wait_for(tmp_path / "node.log", "Ray runtime started", second)
            joined = subprocess.run(
                [sys.executable, "-c", JOINED],
                cwd=ROOT,
                env=env | {"LIFECYCLE_RAY_ADDRESS": address},
                capture_output=True,
                text=True,
                timeout=START_S,
                check=False,
            )
            assert joined.returncode == 0, joined.stderr
            assert joined.stdout.split() == ["2", "nodes", "42"]
            for root in (first, second):
                assert listening(root)
                assert outside(root) == set()


JOINED = """
import ray, time
from lifecycle.runtime.cluster import connect_ray
from lifecycle.settings import Settings
with connect_ray(Settings.load()):
    end = time.monotonic() + 60
    while len(ray.nodes()) < 2 and time.monotonic() < end:
        time.sleep(0.2)
    print(len(ray.nodes()), "nodes", ray.get(ray.remote(lambda: 42).remote()))
"""


def test_the_pages_are_on_loopback_and_a_stranger_can_do_nothing(tmp_path: Path) -> None:
    home, log = tmp_path / "home", tmp_path / "ui.log"
    env = environment(home) | {"PYTHONUNBUFFERED": "1"}
    with socket.socket() as taken:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        with suppress(OSError):  # whoever has it, it is taken
            taken.bind(("127.0.0.1", 4200))
            taken.listen()
        with started([LIFECYCLE, "ui"], env, log) as root:
            mlflow = wait_for(log, r"MLflow +(http://127\.0\.0\.1:\d+)", root)[1]
            api = wait_for(log, r"export PREFECT_API_URL=(\S+)", root)[1]
            wait_for(log, r"export PREFECT_API_AUTH_STRING", root)
            assert ":4200/" not in api
            assert len(listening(root)) >= 2
            assert outside(root) == set()
            file = home / "prefect" / "auth-string"
            assert file.stat().st_mode & 0o777 == 0o600
            auth = file.read_text()
            assert auth not in log.read_text()
            for process in root.children(recursive=True):
                with suppress(psutil.Error):  # it may end meanwhile
                    assert auth not in " ".join(process.cmdline())
            with httpx.Client(trust_env=False) as client:
                user, _, password = auth.partition(":")
                evil = {"Origin": "http://evil.example"}
                for headers in ({}, evil, evil | {"Host": "evil.example"}):
                    answer = client.post(f"{api}/flow_runs/filter", json={}, headers=headers)
                    assert answer.status_code == httpx.codes.UNAUTHORIZED
                    number = "00000000-0000-0000-0000-000000000000"
                    answer = client.delete(f"{api}/flow_runs/{number}", headers=headers)
                    assert answer.status_code == httpx.codes.UNAUTHORIZED
                ours = client.post(f"{api}/flow_runs/filter", json={}, auth=(user, password))
                assert ours.json() == []
                asks = {"Access-Control-Request-Method": "DELETE"} | evil
                preflight = client.options(f"{api}/flow_runs/filter", headers=asks)
                assert preflight.headers.get("access-control-allow-origin") is None
                page = client.get(api.removesuffix("/api"), follow_redirects=True)
                assert page.status_code == HEALTHY
                runs = f"{mlflow}/api/2.0/mlflow/experiments/delete"
                for headers in (evil, {"Host": "evil.example"}):
                    answer = client.post(runs, json={"experiment_id": "0"}, headers=headers)
                    assert answer.status_code == httpx.codes.FORBIDDEN
