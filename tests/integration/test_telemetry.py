"""Nothing that is started here asks for an outside host: not in a new user's terminal either.

Every Python process of a command is watched: a `sitecustomize` on its path writes down each name
it looks up and each address it connects to. `strace`, where there is one, sees the others too.
"""

import os
import pty
import re
import shutil
import signal
import subprocess
import sys
import time
from contextlib import suppress
from ipaddress import ip_address
from pathlib import Path

import pytest
import yaml

from tests.support.small import SMALL, small_frame

ROOT = Path(__file__).parents[2]
BIN = Path(sys.executable).parent
WATCH = """
import os, sys

def _note(event, args):
    if event == "socket.getaddrinfo":
        place = args[0]
    elif event in ("socket.connect", "socket.sendto") and isinstance(args[1], tuple):
        place = args[1][0]
    elif event in ("socket.gethostbyname", "socket.gethostbyaddr"):
        place = args[0]
    else:
        return
    with open(os.environ["WATCHED"], "a") as out:
        out.write(f"{place} {event} {' '.join(sys.argv[:2])}\\n")

sys.addaudithook(_note)
with open(os.environ["WATCHED"], "a") as out:
    out.write(f"127.0.0.1 begin {os.getpid()}\\n")
"""
LOCAL = {"localhost", "None", "", "b'localhost'", os.uname().nodename}
CONNECTED = re.compile(r'sin6?_addr=inet_(?:addr\("|pton\(AF_INET6, ")([^"]+)')
WAIT_S = 280.0

pytestmark = [
    pytest.mark.system,
    pytest.mark.skipif(sys.platform != "linux", reason="ptys, strace"),
]


@pytest.fixture
def env(tmp_path: Path) -> dict[str, str]:
    """A new user's: no home with anything in it, no variable that says it is a test or CI."""
    folder = tmp_path / "watch"
    folder.mkdir()
    (folder / "sitecustomize.py").write_text(WATCH)
    small_frame().to_csv(tmp_path / "small.csv", index=False)
    (tmp_path / "project.yaml").write_text(yaml.safe_dump(SMALL))
    return {
        "PATH": f"{BIN}:/usr/bin:/bin",
        "HOME": str(tmp_path),
        "TERM": "xterm",
        "PYTHONPATH": str(folder),
        "WATCHED": str(tmp_path / "watched.log"),
        "LIFECYCLE_HOME": str(tmp_path / "home"),
        "LIFECYCLE_KEEP_WARM": "0",
    }


def in_a_terminal(command: list[str], env: dict[str, str], until: str = "") -> str:
    """What a command shows in a pseudo-terminal; with `until` it is ended when that was shown."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        command, cwd=ROOT, env=env, stdin=theirs, stdout=theirs, stderr=theirs, close_fds=True
    )
    os.close(theirs)
    shown, end, asked = b"", time.monotonic() + WAIT_S, False
    while time.monotonic() < end:
        try:
            part = os.read(ours, 1 << 16)
        except OSError:  # so a pseudo-terminal ends
            break
        if not part:
            break
        shown += part
        if until and not asked and until.encode() in shown:
            asked = True
            time.sleep(5)  # whoever tells of a start does it after the start
            process.send_signal(signal.SIGINT)
    with suppress(subprocess.TimeoutExpired):
        process.wait(30)
    process.kill()
    os.close(ours)
    assert process.wait() in (0, -signal.SIGINT), shown.decode(errors="replace")
    return shown.decode(errors="replace")


def looked_up(env: dict[str, str]) -> tuple[int, list[str]]:
    """How many processes were watched, and what they asked of the outside."""
    lines = Path(env["WATCHED"]).read_text().splitlines()
    begun = [line for line in lines if " begin " in line]
    return len(begun), [line for line in lines if not _is_local(line.split(" ")[0])]


def _is_local(place: str) -> bool:
    try:
        address = ip_address(place)
    except ValueError:
        return place in LOCAL
    return address.is_loopback or address.is_unspecified


def test_the_watch_sees_a_look_up(env: dict[str, str]) -> None:
    ask = "import socket; socket.getaddrinfo('telemetry.invalid', 443)"
    subprocess.run([sys.executable, "-c", ask], env=env, check=False, capture_output=True)
    count, found = looked_up(env)
    assert count == 1
    assert [line.split(" ")[0] for line in found] == ["telemetry.invalid"]


def test_a_flow_in_a_new_users_terminal(env: dict[str, str], tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    command = [sys.executable, "flows/prepare.py", "--project", str(tmp_path / "project.yaml")]
    if shutil.which("strace"):
        command = ["strace", "-f", "-qq", "-e", "trace=connect", "-o", str(trace), *command]
    shown = in_a_terminal(command, env)
    assert "accepted version 0" in shown
    assert "telemetry" not in shown.lower()
    count, found = looked_up(env)
    assert count >= 2  # the script and its server
    assert found == []
    if trace.exists():
        places = set(CONNECTED.findall(trace.read_text()))
        assert places
        assert {place for place in places if not ip_address(place).is_loopback} == set()


@pytest.mark.parametrize("verb", [["validate"], ["versions"]], ids=" ".join)
def test_a_command_in_a_new_users_terminal(
    verb: list[str], env: dict[str, str], tmp_path: Path
) -> None:
    in_a_terminal([str(BIN / "lifecycle"), *verb, str(tmp_path / "project.yaml")], env)
    count, found = looked_up(env)
    assert count >= 1
    assert found == []


def test_the_pages_in_a_new_users_terminal(env: dict[str, str]) -> None:
    shown = in_a_terminal([str(BIN / "lifecycle"), "ui"], env, until="PREFECT_API_AUTH_STRING")
    assert "Prefect" in shown
    count, found = looked_up(env)
    assert count >= 3
    assert found == []
