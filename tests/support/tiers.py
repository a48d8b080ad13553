"""The tiers: which test is of which, in what order files run, how long a tier may take."""

import faulthandler
import os
import sys
import tomllib
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from xdist.scheduler import LoadFileScheduling

TIERS = ("component", "system", "pages")
"""Markers of tests that need more than their process; all others are `unit`."""
BUDGETED = ("smoke", "alone", *TIERS)
"""Markers with a budget; the first of a test's counts, and `unit` where it has none."""
SHARED = {"ray_cluster", "prefect_server", "postgres", "train"}
"""Fixtures that make a test a component test: servers, and trained models."""
BUDGET = Path(__file__).parents[1] / "budget.toml"
ENFORCED = "TEST_BUDGET_ENFORCED"
TOLERANCE = 1.5
LEFT_S = 60.0
"""Seconds that threads of tests may go on after the last test."""


def mark_tiers(items: list[pytest.Item]) -> None:
    """Mark each test with its tier where it has no such mark itself."""
    for item in items:
        if not any(item.get_closest_marker(tier) for tier in TIERS):
            shares = SHARED.intersection(getattr(item, "fixturenames", ()))
            item.add_marker("component" if shares else "unit")


def refuse_shared_ids(ids: Sequence[str]) -> None:
    """Two tests with one node id are one test to pytest-xdist, which then runs one of them.

    Raises:
        pytest.UsageError: two of the collected tests share a node id.
    """
    counts = Counter(ids)
    if shared := [f"{count} times {node}" for node, count in counts.items() if count > 1]:
        raise pytest.UsageError(f"tests that share a node id: {', '.join(shared)}")


def put_long_files_first(items: list[pytest.Item]) -> None:
    """Sort by the seconds a file takes: everybody waits for a long file that begins last."""
    seconds: dict[str, float] = tomllib.loads(BUDGET.read_text())["files"]
    items.sort(key=lambda item: -seconds.get(item.nodeid.partition("::")[0], 0.0))


def end_with_threads(seconds: float = LEFT_S) -> None:
    """End a process that does not end by itself: in failure, and with its threads' stacks.

    It watches while the interpreter waits for threads, which those of idle pools leave then.
    """
    faulthandler.dump_traceback_later(seconds, exit=True, file=sys.__stderr__)


class SharedServerScheduling(LoadFileScheduling):
    """As `--dist loadfile`, but the files of one Prefect server and Ray are all in one process.

    In two processes they would start two, each of which takes as long as many of its tests.
    """

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._shared: list[str] = tomllib.loads(BUDGET.read_text())["shared"]["files"]

    def _split_scope(self, nodeid: str) -> str:
        file: str = super()._split_scope(nodeid)
        return "shared" if file in self._shared else file


class TierTimes:
    """Prints each tier's time, and fails the session where a budget is to be kept and is not.

    A tier's time is that of its tests, divided by the number of processes.
    """

    def __init__(self, processes: int) -> None:
        self._processes = processes
        self._seconds: Counter[str] = Counter()
        self._budget: dict[str, float] = tomllib.loads(BUDGET.read_text())["tiers"]

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        tier = next((tier for tier in BUDGETED if tier in report.keywords), "unit")
        self._seconds[tier] += report.duration / self._processes

    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        if os.environ.get(ENFORCED) and self._exceeded():
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        if not self._seconds:
            return
        terminalreporter.section(f"tiers, seconds in {self._processes} processes")
        for tier, seconds in self._seconds.items():
            terminalreporter.line(f"{tier}: {seconds:.0f} of {self._budget.get(tier, seconds):.0f}")
        if tiers := self._exceeded():
            terminalreporter.line(f"longer by half than budget.toml allows: {', '.join(tiers)}")

    def _exceeded(self) -> list[str]:
        """Tiers that took more than half as much again as they may."""
        return [
            tier
            for tier, seconds in self._seconds.items()
            if seconds > TOLERANCE * self._budget.get(tier, seconds)
        ]
