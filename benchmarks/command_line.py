"""`lifecycle --help` as a user runs it, against an interpreter that does nothing."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from benchmarks.result import Result, limit, ratio

BAR_S, BAR_RATIO = 0.5, 8.0
HELP = [str(Path(sys.executable).with_name("lifecycle")), "--help"]
EMPTY_PROGRAM = [sys.executable, "-c", "pass"]
COMPILED = {key: text for key, text in os.environ.items() if key != "PYTHONDONTWRITEBYTECODE"}
"""With what Python compiles kept between processes, as it is on a user's machine."""


def measure(rounds: int) -> Iterator[Result]:
    """Interleaved rounds of both, after one that fills the cache of compiled modules."""
    _seconds(HELP)
    bare, times = [], []
    for _ in range(rounds):
        bare.append(_seconds(EMPTY_PROGRAM))
        times.append(_seconds(HELP))
    yield limit("command line: lifecycle --help", times, "s", BAR_S, "the whole command")
    yield ratio("command line: help", times, bare, BAR_RATIO, "s from the shell, `python -c pass`")


def _seconds(command: Sequence[str]) -> float:
    started = time.perf_counter()
    subprocess.run(command, env=COMPILED, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - started
