"""Evidently and NannyML on the windows of `benchmarks.monitoring`, each in its environment.

They cannot be installed beside this package: both want older libraries. Their interpreters are
named by `LIFECYCLE_EVIDENTLY_PYTHON` and `LIFECYCLE_NANNYML_PYTHON`; a tool without one is left
out. They see the columns that ours sees: features, prediction and target.
"""

import json
import os
import statistics
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple, Self

import numpy as np
import pandas as pd

from benchmarks import bare_monitors
from benchmarks.monitoring import (
    LARGE_COLUMNS,
    LARGE_ROWS,
    SHIFT,
    SHIFT_COLUMNS,
    SHIFT_ROWS,
    Pair,
    Population,
    compare,
    pairs,
    populations,
    shifted_pairs,
)
from benchmarks.result import Result, at_least, information
from lifecycle.errors import DataError
from lifecycle.monitoring.drift import drift_report
from lifecycle.monitoring.scored import OpenWindow
from lifecycle.project import DriftSpec
from lifecycle.records import Window

VARIABLES = {
    "evidently": "LIFECYCLE_EVIDENTLY_PYTHON",
    "nannyml": "LIFECYCLE_NANNYML_PYTHON",
}
COLUMNS, SIZES = 20, (200, 2_000)
"""No larger ones: NannyML's reference has to be several chunks of the window's size."""
WINDOWS = 10
"""Windows of a configuration: the first of those that ours is measured on. Evidently takes seconds
for each."""
FASTER = 20.0


class Verdict(NamedTuple):
    """Verdict of a tool on a window."""

    columns: list[str]
    as_a_whole: bool
    seconds: float


class Peer:
    """A tool in a process of its own interpreter.

    Args:
        tool: name of the tool, as the script has it.
        python: its interpreter.
        script: what it runs, which answers line by line.
    """

    def __init__(self, tool: str, python: str, script: str = bare_monitors.__file__) -> None:
        self._folder = TemporaryDirectory()
        self._process = subprocess.Popen(
            [python, "-I", script, tool],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        self.tool = tool
        self.version = str(self._answer())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.communicate()
        self._folder.cleanup()

    def verdict(self, pair: Pair, categorical: tuple[str, ...]) -> Verdict:
        """Ask for a pair of windows."""
        sides = {
            name: columns_of(window, categorical)
            for name, window in (("reference", pair.reference), ("current", pair.current))
        }
        names = [*categorical, *_categorical_target(pair.reference)]
        present = [name for name in names if name in sides["reference"]]
        return Verdict(**self.ask(sides, categorical=present))

    def ask(self, sides: dict[str, dict[str, Any]], **request: Any) -> Any:
        """Ask about frames, each columns by name."""
        assert self._process.stdin is not None
        for name, columns in sides.items():
            request[name] = str(Path(self._folder.name, f"{name}.npz"))
            np.savez(request[name], **columns)
        print(json.dumps(request), file=self._process.stdin, flush=True)
        return self._answer()

    def _answer(self) -> Any:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise DataError(f"{self.tool}: gave no answer; {VARIABLES[self.tool]} has it?")
        return json.loads(line)


def columns_of(window: OpenWindow, categorical: tuple[str, ...]) -> dict[str, Any]:
    """Features, prediction and target; categories as texts."""
    names = [str(name) for name in window.features.columns]
    columns: dict[str, Any] = {
        name: window.features[name].map(str).to_numpy(dtype=str)
        if name in categorical
        else window.features[name].to_numpy(dtype=float)
        for name in names
    }
    truth = window.truth.astype(str) if _categorical_target(window) else window.truth
    return columns | {"prediction": window.prediction, window.target: truth}


def _categorical_target(window: OpenWindow) -> list[str]:
    return [window.target] if window.task in ("binary", "multiclass") else []


def measure(_rounds: int) -> Iterator[Result]:
    """False alarms, power and time of each tool, one round.

    Raises:
        DataError: no interpreter is named.
    """
    present = {tool: os.environ[name] for tool, name in VARIABLES.items() if name in os.environ}
    if not present:
        raise DataError(f"no interpreter is named by {' or '.join(VARIABLES.values())}")
    with ExitStack() as stack:
        peers = [stack.enter_context(Peer(tool, python)) for tool, python in present.items()]
        for population in populations():
            yield from _power(peers, population)
            for rows in SIZES:
                yield from _false_alarms(peers, population, rows)
        for peer in peers:
            if peer.tool == "evidently":
                yield _speed(peer)


def _false_alarms(peers: list[Peer], population: Population, rows: int) -> Iterator[Result]:
    verdicts: dict[str, list[Verdict]] = {peer.tool: [] for peer in peers}
    own: list[Verdict] = []
    for pair in pairs(population, rows, COLUMNS, WINDOWS):
        own.append(_own(population, pair))
        for peer in peers:
            verdicts[peer.tool].append(peer.verdict(pair, population.categorical))
    for peer in peers:
        answers = verdicts[peer.tool]
        name = (
            f"monitoring: {population.name}, {rows:,} rows × {COLUMNS} columns, windows of "
            f"{WINDOWS} without drift in which {peer.tool} calls a column drifted"
        )
        count = sum(bool(verdict.columns) for verdict in answers)
        detail = (
            f"{peer.tool} {peer.version}: the window as a whole in "
            f"{sum(verdict.as_a_whole for verdict in answers)}; ours alarms in "
            f"{sum(verdict.as_a_whole for verdict in own)} of the same; {_times(answers, own)}"
        )
        yield information(name, [count], "windows", detail)


def _power(peers: list[Peer], population: Population) -> Iterator[Result]:
    hits: dict[str, list[bool]] = {peer.tool: [] for peer in peers}
    others: dict[str, int] = {peer.tool: 0 for peer in peers}
    own: list[bool] = []
    for name, pair in shifted_pairs(population, WINDOWS):
        own.append(name in _own(population, pair).columns)
        for peer in peers:
            columns = peer.verdict(pair, population.categorical).columns
            hits[peer.tool].append(name in columns)
            others[peer.tool] += bool(set(columns) - {name})
    for peer in peers:
        detail = (
            f"{peer.tool} {peer.version}, {WINDOWS} windows; another column is called drifted in "
            f"{others[peer.tool]} of them; ours finds {statistics.mean(own):.0%} of the same"
        )
        share = statistics.mean(hits[peer.tool])
        yield information(
            f"monitoring: {population.name}, {SHIFT:g} σ in one of {SHIFT_COLUMNS} columns at "
            f"{SHIFT_ROWS:,} rows found by {peer.tool}",
            [share],
            "share",
            detail,
        )


def _own(population: Population, pair: Pair) -> Verdict:
    started = time.perf_counter()
    report = compare(population, pair.reference, pair.current)
    columns = [drift.column for drift in report.alarms]
    return Verdict(columns, bool(columns), time.perf_counter() - started)


def _times(answers: list[Verdict], own: list[Verdict]) -> str:
    seconds = [statistics.median(item.seconds for item in side) for side in (answers, own)]
    return f"{seconds[0]:.2g} s a window, ours {seconds[1]:.2g} s with its limits"


def _speed(peer: Peer) -> Result:
    """Time of a large window in which one column has moved, which both have to say."""
    rng = np.random.default_rng(3)
    names = [f"c{at}" for at in range(LARGE_COLUMNS)]

    def window(shift: float) -> OpenWindow:
        values = rng.normal(size=(LARGE_ROWS, LARGE_COLUMNS))
        frame = pd.DataFrame(values, columns=names)
        frame["c0"] += shift
        missing = np.full(LARGE_ROWS, np.nan)
        return OpenWindow(frame, values[:, 1].copy(), missing, None, "regression", "y")

    pair = Pair(window(0.0), window(SHIFT))
    seconds = []
    for _ in range(3):
        started = time.perf_counter()
        report = drift_report(pair.reference, pair.current, DriftSpec(), Window(), ())
        seconds.append(time.perf_counter() - started)
    verdict = peer.verdict(_without_target(pair), ())
    alarms = [drift.column for drift in report.alarms]
    if not set(verdict.columns) == set(alarms) == {"c0"}:
        raise DataError(f"verdicts differ: {peer.tool} {verdict.columns}, ours {alarms}")
    detail = (
        f"{peer.tool} {peer.version} {verdict.seconds:.1f} s, one run; ours with limits and "
        f"visible shifts {statistics.median(seconds):.2f} s, median of {len(seconds)}; both call "
        f"the one column drifted that moved by {SHIFT:g} σ, and no other"
    )
    return at_least(
        f"monitoring: {LARGE_ROWS:,} × {LARGE_COLUMNS} against as many, {peer.tool} / ours",
        [verdict.seconds / statistics.median(seconds)],
        "×",
        FASTER,
        detail,
    )


def _without_target(pair: Pair) -> Pair:
    """The windows with their prediction as target: neither has labels."""
    sides = [
        OpenWindow(
            window.features.drop(columns="c1"),
            window.prediction,
            window.prediction,
            None,
            "regression",
            "c1",
        )
        for window in pair
    ]
    return Pair(*sides)
