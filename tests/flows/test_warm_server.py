"""The Prefect server that a script leaves for the next one, as scripts start, find and lose it."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from ipaddress import ip_address
from pathlib import Path

import httpx
import psutil
import pytest

from lifecycle.project import Project
from lifecycle.runtime.fork_server import end_fork_servers, fork_servers
from lifecycle.runtime.process import process_start
from lifecycle.runtime.warm_server import WarmServer, end_server, in_use, running_server, unused
from tests.flows.test_server import SCRIPT

pytestmark = pytest.mark.system

ROOT = Path(__file__).parents[2]
START_S = 180.0


WARM = {"LIFECYCLE_KEEP_WARM": "5"}


def start(
    home: Path, variables: Mapping[str, str] = WARM, seconds: float = 0.0
) -> "subprocess.Popen[str]":
    """A script with a flow; its first line is the URL of its server."""
    others = ("PREFECT", "LIFECYCLE_KEEP_WARM")
    kept = {k: v for k, v in os.environ.items() if not k.startswith(others)}
    return subprocess.Popen(
        [sys.executable, "-c", SCRIPT.format(seconds=seconds)],
        cwd=ROOT,
        env=kept | {"LIFECYCLE_HOME": str(home)} | variables,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(script: "subprocess.Popen[str]") -> str:
    """The URL that a script used, once it has ended well."""
    said, errors = script.communicate(timeout=START_S)
    assert script.returncode == 0, errors
    return said.strip()


def runs(home: Path, url: str) -> list[str]:
    """States of the flow runs that the server knows."""
    user, _, password = (home / "prefect" / "auth-string").read_text().partition(":")
    found = httpx.post(f"{url}/flow_runs/filter", json={}, auth=(user, password))
    return [run["state_name"] for run in found.raise_for_status().json()]


def warm_server(home: Path) -> WarmServer:
    server = running_server(home / "prefect")
    assert server
    return server


def some_server(home: Path) -> WarmServer:
    """The server that an earlier test's script left, or a new script's."""
    if running_server(home / "prefect") is None:
        finish(start(home))
    return warm_server(home)


def end_warm_server(home: Path) -> None:
    if server := running_server(home / "prefect"):
        end_server(home / "prefect", server)


def wait_for_end(server: WarmServer) -> None:
    end = time.monotonic() + 30
    while process_start(server.process) == server.process_start:
        assert time.monotonic() < end, "it runs on"
        time.sleep(0.1)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Shared by the tests of this module: the first server makes the database."""
    folder = tmp_path_factory.mktemp("warm")
    yield folder
    end_fork_servers(folder / "prefect")
    end_warm_server(folder)


def test_two_scripts_at_once_share_a_server_which_the_next_one_finds(home: Path) -> None:
    first, second = start(home), start(home)
    urls = {finish(first), finish(second)}
    server = warm_server(home)
    assert urls == {f"{server.url}/api"}
    assert finish(start(home)) == f"{server.url}/api"
    assert warm_server(home) == server
    assert runs(home, f"{server.url}/api") == ["Completed"] * 3


@pytest.mark.smoke
def test_nobody_else_gets_in(home: Path) -> None:
    server = some_server(home)
    folder = home / "prefect"
    process = psutil.Process(server.process)
    listening = [c.laddr for c in process.net_connections("inet") if c.status == psutil.CONN_LISTEN]
    assert listening
    assert all(ip_address(address.ip).is_loopback for address in listening)
    for name in ("auth-string", "warm-server.json", "warm-server.users", "warm-server.start"):
        assert (folder / name).stat().st_mode & 0o777 == 0o600
    assert home.stat().st_mode & 0o077 == 0
    auth = (folder / "auth-string").read_text()
    assert auth not in " ".join(process.cmdline())
    assert auth not in (folder / "warm-server.json").read_text()
    evil = {"Origin": "http://evil.example", "Host": "evil.example"}
    for headers in ({}, evil):
        answer = httpx.post(f"{server.url}/api/flow_runs/filter", json={}, headers=headers)
        assert answer.is_client_error
    health = httpx.get(f"{server.url}/api/health", headers=evil)
    assert "access-control-allow-origin" not in health.headers


def test_a_killed_script_leaves_a_server_that_the_next_one_uses(home: Path) -> None:
    script = start(home, seconds=600)
    assert script.stdout
    url = script.stdout.readline().strip()
    with unused(home / "prefect") as nobody:
        assert not nobody
    script.send_signal(signal.SIGKILL)
    script.communicate()
    with unused(home / "prefect") as nobody:
        assert nobody
    assert finish(start(home)) == url


def test_a_killed_server_is_replaced(home: Path) -> None:
    killed = some_server(home)
    os.kill(killed.process, signal.SIGKILL)
    wait_for_end(killed)
    assert (home / "prefect" / "warm-server.json").exists()
    finish(start(home))
    assert warm_server(home).process != killed.process


def test_other_settings_or_code_get_a_server_of_their_own(home: Path) -> None:
    former = some_server(home)
    with in_use(home / "prefect"):  # another script's server is not taken away
        other = finish(start(home, WARM | {"PREFECT_SERVER_LOGGING_LEVEL": "ERROR"}))
        assert other != f"{former.url}/api"
        assert warm_server(home) == former
    finish(start(home, WARM | {"PREFECT_SERVER_LOGGING_LEVEL": "ERROR"}))
    assert warm_server(home).process != former.process
    wait_for_end(former)


def test_an_idle_server_ends_by_itself(home: Path) -> None:
    end_warm_server(home)
    finish(start(home, {"LIFECYCLE_KEEP_WARM": "0.05"}))
    wait_for_end(warm_server(home))
    assert running_server(home / "prefect") is None


def test_without_a_home_it_ends(home: Path) -> None:
    server = some_server(home)
    (home / "prefect" / "warm-server.json").rename(home / "prefect" / "moved")
    wait_for_end(server)


def test_a_flow_starts_its_server_while_it_imports(
    home: Path, make_project: Callable[..., Project]
) -> None:
    end_warm_server(home)
    command = [sys.executable, "flows/prepare.py", "--project", str(make_project().file)]
    env = {k: v for k, v in os.environ.items() if not k.startswith("PREFECT")}
    env |= WARM | {"LIFECYCLE_HOME": str(home)}

    def run(*options: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            [*command, *options], cwd=ROOT, env=env, capture_output=True, text=True, check=False
        )

    assert run("--help").returncode == 0
    assert running_server(home / "prefect") is None
    done = run()
    assert done.returncode == 0, done.stderr
    server = warm_server(home)
    assert f"{server.url} stays 5 min" in done.stdout
    assert run("--env", "moon").returncode == 2
    assert warm_server(home) == server

    # and leaves what it has imported: the next one is a fork
    [ready] = fork_servers(home / "prefect")
    left = ready.record.stat().st_mtime_ns
    again = run()
    assert again.returncode == 0, again.stderr
    assert ready.record.stat().st_mtime_ns > left
    assert fork_servers(home / "prefect") == [ready]
    assert "unchanged" in again.stdout
    shown = subprocess.run(
        [Path(sys.executable).with_name("lifecycle"), "status"],
        env=env,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert f"start from process {ready.process}" in shown
    assert server.url in shown


def test_no_server_stays_in_ci(home: Path) -> None:
    end_warm_server(home)
    finish(start(home, {"CI": "1"}))
    assert running_server(home / "prefect") is None
