"""`lifecycle init` of a wide file, as a user runs it: a process of its own, with its imports."""

import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pandas as pd

from benchmarks.result import Result, limit

ROWS, COLUMNS = 300, 2_500
BAR_S = 10.0
NOTATIONS = {"decimal points": (",", "."), "decimal commas": (";", ",")}
"""What is measured → separator and decimal of the file."""


def measure(rounds: int) -> Iterator[Result]:
    """Seconds from the command to its end."""
    with TemporaryDirectory(prefix="init-") as folder:
        for name, (separator, decimal) in NOTATIONS.items():
            file = Path(folder, "wide.csv")
            _frame().to_csv(file, index=False, sep=separator, decimal=decimal)
            seconds = [_init(file) for _ in range(rounds)]
            label = f"init: {ROWS} rows x {COLUMNS:,} columns, {name}"
            yield limit(label, seconds, "s", BAR_S, "the whole command")


def _frame() -> pd.DataFrame:
    draw = np.random.default_rng(1)
    numbers = np.round(draw.normal(size=(ROWS, COLUMNS - 1)), 4)
    frame = pd.DataFrame(numbers, columns=[f"x{at}" for at in range(COLUMNS - 1)])
    return frame.assign(label=(frame["x0"] + draw.normal(size=ROWS) > 0).astype(int))


def _init(file: Path) -> float:
    command = Path(sys.executable).with_name("lifecycle")
    options = ["--target", "label", "--force"]
    started = time.perf_counter()
    subprocess.run([command, "init", file, *options], check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - started
