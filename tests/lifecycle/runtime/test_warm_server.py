"""A warm server's record and locks: who may believe them, and when a server ends by itself."""

import subprocess
import sys
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from typer.testing import CliRunner

from lifecycle.cli.main import app
from lifecycle.runtime import warm_server
from lifecycle.runtime.process import process_start
from lifecycle.runtime.servers import prefect_home
from lifecycle.runtime.warm_server import (
    WarmServer,
    end_server,
    in_use,
    one_starter,
    running_server,
    runs_until,
    unused,
    wait_until_superfluous,
    write_record,
)
from lifecycle.settings import WARM_MINUTES, Settings

Process = subprocess.Popen[bytes]


@pytest.fixture
def process() -> Iterator[Process]:
    """Stands for a server."""
    with subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"]) as started:
        yield started
        started.kill()


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(warm_server, "WATCH_S", 0.01)
    monkeypatch.setattr(warm_server, "CODE_S", 0.0)
    monkeypatch.delenv("LIFECYCLE_KEEP_WARM")
    monkeypatch.delenv("PREFECT_HOME", raising=False)


def record(home: Path, process: int, minutes: float = 10.0) -> WarmServer:
    made = WarmServer(
        url="http://127.0.0.1:9",
        process=process,
        process_start=process_start(process),
        started=datetime.now(UTC),
        minutes=minutes,
        key="k",
        home=str(home),
    )
    write_record(home, made)
    return made


def test_a_record_is_believed_only_while_its_process_runs(tmp_path: Path, process: Process) -> None:
    assert running_server(tmp_path) is None
    file = tmp_path / "warm-server.json"
    made = record(tmp_path, process.pid)
    assert running_server(tmp_path) == made
    assert file.stat().st_mode & 0o777 == 0o600
    # another process has got the number
    write_record(tmp_path, made.model_copy(update={"process_start": "1"}))
    assert running_server(tmp_path) is None
    # the folder was copied, or moved
    write_record(tmp_path, made.model_copy(update={"home": "/elsewhere"}))
    assert running_server(tmp_path) is None
    for damaged in (b"", b"{", b"\xff", b'{"url": 1}'):
        file.write_bytes(damaged)
        assert running_server(tmp_path) is None
    record(tmp_path, process.pid)
    process.kill()  # and it is not waited for: a zombie does not run
    while process_start(process.pid):
        pass
    assert running_server(tmp_path) is None


def test_only_an_unused_server_can_be_taken_away(tmp_path: Path) -> None:
    with in_use(tmp_path), in_use(tmp_path), unused(tmp_path) as nobody:
        assert not nobody
    with unused(tmp_path) as nobody:
        assert nobody


def test_a_killed_starter_does_not_block_the_next(tmp_path: Path) -> None:
    holds = f"""
import time
from pathlib import Path
from lifecycle.runtime.warm_server import in_use, one_starter
with one_starter(Path({str(tmp_path)!r}), 1), in_use(Path({str(tmp_path)!r})):
    print("held", flush=True)
    time.sleep(600)
"""
    with subprocess.Popen([sys.executable, "-c", holds], stdout=subprocess.PIPE) as starter:
        assert starter.stdout
        starter.stdout.readline()
        with pytest.raises(TimeoutError), one_starter(tmp_path, 0.1):
            raise AssertionError("both start")
        starter.kill()
    with one_starter(tmp_path, 0.1), unused(tmp_path) as nobody:
        assert nobody


@pytest.mark.parametrize("why", ["idle", "code", "unknown"])
def test_a_server_ends_by_itself_when_no_script_uses_it(
    tmp_path: Path, process: Process, why: str
) -> None:
    server = record(tmp_path, process.pid, minutes=0.0 if why == "idle" else 10.0)
    code = iter(range(10_000)) if why == "code" else iter(lambda: 0, 1)
    if why == "unknown":
        (tmp_path / "warm-server.json").unlink()
    waits = threading.Thread(
        target=wait_until_superfluous,
        args=(tmp_path, server, lambda: False, lambda: 0, lambda: next(code)),
    )
    with in_use(tmp_path):
        waits.start()
        waits.join(0.2)
        assert waits.is_alive()  # a script is not cut off
    waits.join(10)
    assert not waits.is_alive()
    assert running_server(tmp_path) is None


def test_requests_keep_a_server(tmp_path: Path, process: Process) -> None:
    server = record(tmp_path, process.pid, minutes=0.1 / 60)
    requests = iter([*range(1, 200), *[0] * 10_000])
    ends = iter([False] * 50 + [True])
    before = runs_until(tmp_path, server)
    wait_until_superfluous(tmp_path, server, lambda: next(ends), lambda: next(requests), str)
    assert running_server(tmp_path) == server
    assert runs_until(tmp_path, server) > before


def test_a_server_without_a_home_ends(tmp_path: Path, process: Process) -> None:
    home = tmp_path / "gone"
    home.mkdir()
    server = record(home, process.pid)
    (home / "warm-server.json").unlink()
    home.rmdir()
    with pytest.raises(OSError, match="gone"):
        wait_until_superfluous(home, server, lambda: False, lambda: 0, str)


def test_status_and_down(
    settings: Settings, process: Process, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LIFECYCLE_HOME", str(settings.home))
    run = CliRunner().invoke
    assert "Nothing runs" in run(app, ["status"]).output
    assert "Nothing runs" in run(app, ["down"]).output
    home = prefect_home(settings)
    record(home, process.pid)
    found = run(app, ["status"]).output
    assert "http://127.0.0.1:9" in found
    assert str(process.pid) in found
    assert "unless it is used" in found
    with in_use(home):
        assert "in use" in run(app, ["status"]).output
        refused = run(app, ["down"])
        assert "a script uses" in str(refused.exception)
        assert running_server(home)
    assert "Ended" in run(app, ["down"]).output
    assert process.poll() is not None or not process_start(process.pid)
    assert "Nothing runs" in run(app, ["status"]).output


def test_what_ignores_sigterm_is_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(warm_server, "STOP_S", 0.2)
    deaf = "import signal, time; signal.signal(15, signal.SIG_IGN); print(1, flush=True)"
    command = [sys.executable, "-c", f"{deaf}; time.sleep(600)"]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as started:
        assert started.stdout
        started.stdout.readline()
        end_server(tmp_path, record(tmp_path, started.pid))
        assert running_server(tmp_path) is None


@pytest.mark.parametrize(
    ("env", "variables", "minutes"),
    [
        ("dev", {}, WARM_MINUTES),
        ("dev", {"CI": "true"}, 0),
        ("staging", {}, 0),
        ("dev", {"LIFECYCLE_KEEP_WARM": "0"}, 0),
        ("dev", {"LIFECYCLE_KEEP_WARM": "2.5", "CI": "true"}, 2.5),
    ],
)
def test_where_servers_stay_warm(
    env: str, variables: dict[str, str], minutes: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("CI", raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert Settings(env=env).warm_minutes == minutes
