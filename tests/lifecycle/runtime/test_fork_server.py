"""The process that forks for scripts, with a script that only runs the code it is given."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from lifecycle.runtime.fork_server import ForkServer, conditions, end_fork_servers, fork_servers
from lifecycle.runtime.process import process_start

pytestmark = [
    pytest.mark.unit,
    pytest.mark.skipif(sys.platform != "linux", reason="forks are left on Linux alone"),
]

PROGRAM = """
import os, sys, time
from pathlib import Path
from lifecycle.runtime.fork_server import conditions, leave_server, run_forked

def run(script):
    names = globals() | {"script": script, "code": 0}
    exec(script.arguments[0], names)
    return names["code"]

home, minutes, *arguments = sys.argv[1:]
key = conditions("test")
run_forked(key, "flow", arguments, None)
leave_server(key, run, Path(home), float(minutes), lambda: None, lambda: None)
print("did not find a server")
"""
WAIT_S = 20.0
DEFAULT_SIGNALS = ("env", "--default-signal=HUP")
"""As in a terminal, also where the tests run without one: what is ignored is a condition."""


class Scripts:
    """Scripts of one home, each with code to run in the fork that works for it."""

    def __init__(self, folder: Path) -> None:
        self.home = folder / "home"
        self.home.mkdir()
        self.variables = os.environ | {"TMPDIR": str(folder)}
        self.folder = folder

    def start(
        self, code: str = "", minutes: float = 5, prefix: tuple[str, ...] = (), **variables: str
    ) -> "subprocess.Popen[str]":
        return subprocess.Popen(
            [
                *DEFAULT_SIGNALS,
                *prefix,
                sys.executable,
                "-c",
                PROGRAM,
                str(self.home),
                str(minutes),
                code,
            ],
            cwd=self.folder,
            env=self.variables | variables,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, code: str = "", given: str = "", **variables: str) -> tuple[int, str, str]:
        """Exit code, output and errors of a script."""
        script = self.start(code, **variables)
        output, errors = script.communicate(given, timeout=WAIT_S)
        return script.returncode, output, errors

    def server(self) -> ForkServer:
        """The server that a script left."""
        assert self.run()[1] == "did not find a server\n"
        return self.found()

    def found(self) -> ForkServer:
        wait_until(lambda: len(fork_servers(self.home)) == 1 and any(self._sockets()))
        return fork_servers(self.home)[0]

    def _sockets(self) -> Iterator[Path]:
        for file in self.folder.glob(f"lifecycle-{os.getuid()}/*"):
            if not file.name.startswith("."):
                yield file


def wait_until(holds: Callable[[], bool]) -> None:
    end = time.monotonic() + WAIT_S
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.02)


def runs(process: int) -> bool:
    return process_start(process) != ""


@pytest.fixture
def scripts() -> Iterator[Scripts]:
    with TemporaryDirectory(dir="/tmp") as folder:  # a socket's path has at most 107 bytes
        made = Scripts(Path(folder))
        yield made
        running = fork_servers(made.home)
        end_fork_servers(made.home)
        for server in running:
            wait_until(lambda server=server: not runs(server.process))  # type: ignore[misc]


def test_a_fork_works_as_the_script_would(scripts: Scripts) -> None:
    server = scripts.server()
    code = """
import sys
print(os.getppid(), os.getcwd(), os.environ["COLOR"], sys.argv[1:] == script.arguments)
print(sys.stdin.read(), file=sys.stderr)
code = 7
"""
    # a variable that is called a secret is the script's own, and no condition
    assert scripts.run("print(os.environ['MY_TOKEN'])", **{"MY_TOKEN": "a"})[1] == "a\n"
    assert scripts.run("print(os.environ['MY_TOKEN'])", **{"MY_TOKEN": "b"})[1] == "b\n"
    assert scripts.run(code, "typed", COLOR="red")[1] == "did not find a server\n"
    wait_until(lambda: len(fork_servers(scripts.home)) == 2)
    other = next(x for x in fork_servers(scripts.home) if x.process != server.process)
    ended = scripts.run(code, "typed", COLOR="red")
    assert ended == (7, f"{other.process} {scripts.folder} red True\n", "typed\n")


def test_a_script_that_fails_says_so(scripts: Scripts) -> None:
    scripts.server()
    code, _, errors = scripts.run("raise ValueError('wrong')")
    assert code == 1
    assert errors.endswith("ValueError: wrong\n")
    assert scripts.run("raise SystemExit('refused')") == (1, "", "refused\n")
    assert scripts.run("raise SystemExit(3)")[0] == 3


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_reaches_the_fork(scripts: Scripts, number: signal.Signals) -> None:
    scripts.server()
    script = scripts.start("""
import signal
def end(number, _): print(number, flush=True); os._exit(5)
for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP): signal.signal(number, end)
print("works", flush=True)
time.sleep(30)
""")
    assert script.stdout
    assert script.stdout.readline() == "works\n"
    script.send_signal(number)
    assert script.communicate(timeout=WAIT_S)[0] == f"{int(number)}\n"
    assert script.returncode == 5


def test_a_fork_that_is_killed_kills_its_script(scripts: Scripts) -> None:
    scripts.server()
    assert scripts.run("import signal; os.kill(os.getpid(), signal.SIGKILL)")[0] == -signal.SIGKILL


WORKS = "print(os.getpid(), flush=True); time.sleep(30)"


def test_a_script_that_is_killed_ends_its_fork(scripts: Scripts) -> None:
    server = scripts.server()
    script = scripts.start(WORKS)
    assert script.stdout
    fork = int(script.stdout.readline())
    script.kill()
    wait_until(lambda: not runs(fork))
    script.communicate()
    assert runs(server.process)
    assert scripts.run("print('next')")[1] == "next\n"


def test_a_server_that_is_killed_takes_its_forks_along_and_blocks_nobody(scripts: Scripts) -> None:
    server = scripts.server()
    script = scripts.start(WORKS)
    assert script.stdout
    fork = int(script.stdout.readline())
    os.kill(server.process, signal.SIGKILL)
    _, errors = script.communicate(timeout=WAIT_S)
    assert (script.returncode, errors) == (
        1,
        "Error: the process that worked for this script was killed: run the script again, it goes "
        "on from what is done\n",
    )
    wait_until(lambda: not runs(fork))
    assert scripts.server() != server
    assert scripts.run("print('served')")[1] == "served\n"


def test_a_server_ends_when_it_is_told_to_and_when_nobody_comes(scripts: Scripts) -> None:
    server = scripts.server()
    script = scripts.start("time.sleep(1.5); print('whole')")
    time.sleep(0.5)
    assert end_fork_servers(scripts.home) == 1
    assert script.communicate(timeout=WAIT_S)[0] == "whole\n"  # it works to its end
    wait_until(lambda: not runs(server.process))
    assert fork_servers(scripts.home) == []

    script = scripts.start(minutes=0.01)
    assert script.communicate(timeout=WAIT_S)[0] == "did not find a server\n"
    idle = scripts.found()
    wait_until(lambda: not runs(idle.process))
    assert list(scripts.home.glob("fork-server.*")) == []


def test_nobody_else_is_handed_a_script(scripts: Scripts) -> None:
    scripts.server()
    folder = scripts.folder / f"lifecycle-{os.getuid()}"
    folder.chmod(0o755)
    assert scripts.run("print('served')")[1] == "did not find a server\n"
    folder.chmod(0o700)
    assert scripts.run("print('served')")[1] == "served\n"


def test_a_script_under_other_conditions_is_not_served(scripts: Scripts) -> None:
    scripts.server()
    for prefix in (("nice", "-n", "3"), ("sh", "-c", 'ulimit -n 200; exec "$@"', "sh"), ("nohup",)):
        script = scripts.start("print('served')", prefix=prefix)
        assert script.communicate(timeout=WAIT_S)[0] == "did not find a server\n", prefix
    (scripts.folder / "prefect.toml").write_text("")
    assert scripts.run("print('served')")[1] == "did not find a server\n"


def test_what_is_a_condition(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "modules", {x: y for x, y in sys.modules.items() if x != "coverage"})
    first = conditions("any")
    monkeypatch.setenv("SHLVL", "9")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "x")
    assert first == conditions("any")
    monkeypatch.setenv("PREFECT_API_KEY", "x")
    assert (second := conditions("any")) != first
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    assert (third := conditions("any")) != second
    assert conditions("predicting") != third
    (tmp_path / ".env").write_text("A=1")
    assert conditions("any") != third


def test_a_changed_file_of_code_is_a_condition(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("lifecycle.runtime.fork_server.ROOT", tmp_path)
    (tmp_path / "flows").mkdir()
    code = tmp_path / "flows" / "train.py"
    code.write_text("a")
    first = conditions("any")
    assert first == conditions("any")
    os.utime(code, ns=(1, 1))
    assert conditions("any") != first


def test_a_debugger_has_the_script_for_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    assert conditions("any")
    sys.settrace(lambda *_: None)
    try:
        assert conditions("any") is None
    finally:
        sys.settrace(None)
    monkeypatch.setitem(sys.modules, "debugpy", sys)
    assert conditions("any") is None
