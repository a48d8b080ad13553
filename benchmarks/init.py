"""`lifecycle init` of a wide and of a long file, as a user runs it: a process of its own, with its
imports. The long file's twin is polars' scan with inferred types and what a contract needs of each
column: missing values, least, greatest, and how many differ.
"""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pandas as pd

from benchmarks import ingest
from benchmarks.result import Result, limit, ratio
from benchmarks.train_flow import Measured

ROWS, COLUMNS = 300, 2_500
BAR_S = 10.0
LONG = 5_000_000
GIGABYTES, SCANS = 1.0, 3.0
POLARS = """
import sys
import polars as pl
every = pl.all()
wanted = (every.null_count(), every.min(), every.max(), every.n_unique())
columns = [expression.name.suffix(str(at)) for at, expression in enumerate(wanted)]
print(pl.scan_csv(sys.argv[1], try_parse_dates=True).select(columns).collect(engine="streaming"))
"""
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
    with TemporaryDirectory(prefix="init-") as folder:
        ingest.write(Path(folder), LONG, "csv")
        yield from _long(Path(folder, "visits.csv"), rounds)


def _long(file: Path, rounds: int) -> Iterator[Result]:
    """Interleaved rounds of ours and polars; then one more that only looks at memory."""
    command = [str(Path(sys.executable).with_name("lifecycle")), "init", str(file)]
    command += ["--target", "label", "--force"]
    bare = [sys.executable, "-c", POLARS, str(file)]
    env = dict(os.environ)
    pairs = [
        (Measured(command, env, [], False).wall, Measured(bare, env, [], False).wall)
        for _ in range(rounds)
    ]
    times, scans = zip(*pairs, strict=True)
    detail = f"s of the whole command; {LONG:,} rows × {len(ingest.NUMBERS) + 4} columns of CSV"
    yield ratio("init of 5M rows / polars' scan", times, scans, SCANS, detail)
    peak = Measured(command, env, [], True).peak / 1e9
    memory = "PSS of all processes at the peak; one run"
    yield limit("peak memory of init, 5M rows", [peak], "GB", GIGABYTES, memory)


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
