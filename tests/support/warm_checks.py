"""The checks' program without its imports: forked from a process that has made them once.

    python -I warm_checks.py DESCRIPTOR CHECKS_PROGRAM

waits at a listening socket, with the interpreter of the checks. `warm_interpreter` starts it, and
writes a program that takes that interpreter's place: what it is called with is done by a fork.
"""

import importlib.util
import json
import os
import select
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

ENVIRONMENT = {
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "MPLBACKEND": "Agg",
    "DISABLE_LATEST_VERSION_CHECK": "true",
}
CALLER = """#!{python} -IS
import json, os, socket, sys
with socket.socket(socket.AF_UNIX) as fork:
    fork.connect({address!r})
    call = json.dumps([sys.argv[-2], os.getcwd()]).encode()
    socket.send_fds(fork, [call], [0, 1, 2])
    sys.exit(int(fork.recv(16) or 1))
"""


@contextmanager
def warm_interpreter(python: Path, program: Path) -> Iterator[Path]:
    """A program to call instead of `python`, which must be that of `.venv-checks`."""
    with tempfile.TemporaryDirectory() as folder, socket.socket(socket.AF_UNIX) as listener:
        caller, address = Path(folder, "python"), f"{folder}/socket"
        caller.write_text(CALLER.format(python=sys.executable, address=address))
        caller.chmod(0o700)
        listener.bind(address)
        listener.listen()
        with subprocess.Popen(
            [python, "-I", "-W", "ignore", __file__, str(listener.fileno()), str(program)],
            stdin=subprocess.PIPE,
            pass_fds=[listener.fileno()],
            env=ENVIRONMENT,
        ) as process:
            yield caller
            assert process.stdin
            process.stdin.close()  # it ends then


def main(listener: socket.socket, program: Path) -> None:
    """Import what the program will, and fork for each call until the standard input is closed."""
    spec = importlib.util.spec_from_file_location("checks_program", program)
    assert spec
    assert spec.loader
    checks = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(checks)
    sys.meta_path.insert(0, checks._Absent())
    import deepchecks.tabular.suites  # noqa: F401
    import plotly.figure_factory  # noqa: F401
    import pyarrow.parquet  # noqa: F401

    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    while sys.stdin not in select.select([listener, sys.stdin], [], [])[0]:
        caller, _ = listener.accept()
        with caller:
            if os.fork() == 0:
                listener.close()
                signal.signal(signal.SIGCHLD, signal.SIG_DFL)
                call, descriptors, *_ = socket.recv_fds(caller, 4096, 3)
                caller.send(str(run(checks.main, *json.loads(call), descriptors)).encode())
                os._exit(0)


def run(main: Callable[[Path, int], None], folder: str, cwd: str, descriptors: list[int]) -> int:
    """The exit code of the program's `main` in a process of its own."""
    child = os.fork()
    if child:
        for number in descriptors:
            os.close(number)
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    try:
        for number, given in enumerate(descriptors):
            os.dup2(given, number)
            os.close(given)
        os.chdir(cwd)
        main(Path(folder), os.getppid())
        code = 0
    except BaseException:
        sys.excepthook(*sys.exc_info())
        code = 1
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


if __name__ == "__main__":
    main(socket.socket(fileno=int(sys.argv[1])), Path(sys.argv[2]))
