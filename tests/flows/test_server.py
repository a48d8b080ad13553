"""The Prefect server of a script: there for its length, gone with it even after SIGKILL."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import httpx
import psutil
import pytest
from prefect.settings import PREFECT_API_URL, temporary_settings

from flows.server import prefect_server
from lifecycle.errors import BackendError
from lifecycle.project import Project
from lifecycle.settings import Settings

pytestmark = pytest.mark.system

ROOT = Path(__file__).parents[2]
SCRIPT = """
import time
from prefect import flow
from prefect.settings import PREFECT_API_URL
from flows.server import prefect_server
from lifecycle.settings import Settings

@flow
def hello(): return 1

with prefect_server(Settings.load()):
    hello()
    print(PREFECT_API_URL.value(), flush=True)
    time.sleep({seconds})
"""


def start(home: Path, seconds: float) -> tuple["subprocess.Popen[str]", str, psutil.Process]:
    """A script with a server, when it is up; its URL and the server's process."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith("PREFECT")}
    script = subprocess.Popen(
        [sys.executable, "-c", SCRIPT.format(seconds=seconds)],
        cwd=ROOT,
        env=kept | {"LIFECYCLE_HOME": str(home), "PREFECT_HOME": str(home / "prefect")},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert script.stdout
    url = script.stdout.readline().strip()
    (server,) = psutil.Process(script.pid).children()
    return script, url, server


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Shared by the tests of this module: the first server makes the database."""
    return tmp_path_factory.mktemp("server")


def test_a_script_killed_takes_its_server_along(home: Path) -> None:
    script, url, server = start(home, seconds=300)
    auth = (home / "prefect" / "auth-string").read_text()
    user, _, password = auth.partition(":")
    found = httpx.post(f"{url}/flow_runs/filter", json={}, auth=(user, password)).json()
    assert [run["state_name"] for run in found] == ["Completed"]
    # any page in a browser may send this; what a flow is told to do, it was told by its owner
    evil = {"Origin": "http://evil.example", "Host": "evil.example"}
    for headers in ({}, evil):
        gone = httpx.delete(f"{url}/flow_runs/{found[0]['id']}", headers=headers)
        assert gone.status_code == httpx.codes.UNAUTHORIZED
        assert httpx.post(f"{url}/flow_runs/filter", json={}, headers=headers).is_client_error
    assert "access-control-allow-origin" not in httpx.get(f"{url}/health", headers=evil).headers
    assert all(
        auth not in " ".join(process.cmdline()) for process in (server, psutil.Process(script.pid))
    )
    os.kill(script.pid, signal.SIGKILL)
    script.communicate()
    server.wait(15)
    assert not server.is_running()


def test_a_script_that_ends_leaves_no_server_and_its_page_can_be_seen(home: Path) -> None:
    script, url, server = start(home, seconds=2)
    assert "<html" in httpx.get(url.removesuffix("/api"), follow_redirects=True).text.lower()
    script.communicate()
    assert script.returncode == 0
    assert not server.is_running()


def test_a_script_imports_what_it_uses(home: Path, make_project: Callable[..., Project]) -> None:
    file = str(make_project().file)
    code = f"""
import sys
import flows.monitor, flows.retention, flows.score
heavy = {{"ray", "matplotlib", "optuna", "mlflow"}}
assert not heavy & set(sys.modules), heavy & set(sys.modules)
import flows.train
assert "ray" not in sys.modules
from flows.prepare import command
assert command.run([{file!r}]) == 0
assert "ray" not in sys.modules
"""
    kept = {k: v for k, v in os.environ.items() if not k.startswith("PREFECT")}
    env = kept | {"LIFECYCLE_HOME": str(home)}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env=env, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_a_script_that_predicts_imports_no_scikit_learn(tmp_path: Path) -> None:
    code = """
import sys
from flows import command
command.end_process = lambda code: print(code, {"sklearn", "scipy.stats"} & set(sys.modules))
command.run_flow("score", ["no-such-project.yaml"])
import sklearn.base
"""
    kept = {k: v for k, v in os.environ.items() if not k.startswith("PREFECT")}
    env = kept | {"LIFECYCLE_HOME": str(tmp_path), "LIFECYCLE_KEEP_WARM": "0"}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env=env, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (0, "2 set()\n"), done.stderr


def test_a_server_that_cannot_start_says_where_to_look(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PREFECT_API_DATABASE_CONNECTION_URL", "sqlite+aiosqlite:////no/such/db")
    monkeypatch.setenv("PREFECT_HOME", str(tmp_path))
    with (
        temporary_settings(restore_defaults={PREFECT_API_URL}),  # that of other tests' server
        pytest.raises(BackendError, match=r"did not start; see .*server\.log for the reason"),
        prefect_server(Settings(home=tmp_path)),
    ):
        raise AssertionError("it started")
