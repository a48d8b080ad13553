"""The points: where each stage is struck, and what is there after it has run once more."""

import json
import random
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.chaos import STAGES
from tests.support.prefect_server import Server, wait_for
from tests.support.small import ROOT

RUN_ON = {"retention"}
"""Stages whose next undisturbed run goes on: a version that one run puts together anew, the next
one deletes. They are compared after that."""
FULL_SHARE = 3
"""One point of so many finds the disk full; the others are kills."""


@dataclass(frozen=True)
class Point:
    """Where a stage is struck.

    Attributes:
        at: number of the change of a file that is not made.
        of: changes that the stage makes undisturbed.
    """

    stage: str
    kind: str
    at: int
    of: int


@dataclass
class Outcome:
    """What came of a point; no problems if the state is that of an undisturbed run."""

    point: Point
    struck: bool
    seconds: float
    problems: list[str] = field(default_factory=list)


class Chaos:
    """A small project whose home can be set back to what it was before each stage."""

    def __init__(self, folder: Path, warm: "Warm") -> None:
        self._folder, self._warm = folder, warm
        self._states: dict[str, Any] = {}
        self._calls: dict[str, int] = {}

    def live(self, stages: Sequence[str] = STAGES) -> None:
        """Run stages undisturbed, and keep what was there before and is there after each."""
        for stage in stages:
            self._must({"do": "before", "stage": stage})
            self._copy("work", f"before {stage}")
            self._calls[stage] = self._must({"do": "run", "stage": stage})["calls"]
            if stage in RUN_ON:
                self._must({"do": "run", "stage": stage})
            self._states[stage] = self._must({"do": "state"})["state"]

    def points(self, count: int, seed: int, stages: Sequence[str] = STAGES) -> list[Point]:
        """So many points, spread evenly over the stages, at random changes of files."""
        chance = random.Random(seed)  # noqa: S311 - of places, not of secrets
        points = []
        for number in range(count):
            stage = stages[number % len(stages)]
            kind = "full" if number // len(stages) % FULL_SHARE == FULL_SHARE - 1 else "kill"
            calls = self._calls[stage]
            points.append(Point(stage, kind, chance.randint(1, calls), calls))
        return points

    def strike(self, point: Point) -> Outcome:
        """Set the home back, run the stage until it is struck, run it again and compare."""
        begun = time.monotonic()
        self._copy(f"before {point.stage}", "work")
        order = {"do": "run", "stage": point.stage, "at": point.at, "kind": point.kind}
        first = self._warm.ask(order)
        problems = []
        if point.kind == "kill":
            struck = first["exit"] == -9
        else:
            struck = "error" in first
            if "traceback" in first.get("error", ""):
                problems.append(f"a full disk ends it with a {first['error'][:300]}")
        if not struck and first["exit"] != 0:
            problems.append(f"ended with {first['exit']}: {first.get('error', '')[:300]}")
        for _ in range(2 if point.stage in RUN_ON else 1):
            again = self._warm.ask({"do": "run", "stage": point.stage})
            if again["exit"] != 0:
                problems.append(f"run again: {again.get('error', again['exit'])}"[:400])
        after = self._warm.ask({"do": "state"})
        if after["exit"] != 0:
            problems.append(f"cannot be read: {after.get('error', after['exit'])}"[:400])
        else:
            problems += list(differences(self._states[point.stage], after["state"]))
        return Outcome(point, struck, time.monotonic() - begun, problems)

    def _must(self, order: dict[str, Any]) -> dict[str, Any]:
        answer = self._warm.ask(order)
        if answer["exit"]:
            raise AssertionError(f"{order}: {answer}; see {self._folder / 'log'}")
        return answer

    def _copy(self, source: str, target: str) -> None:
        shutil.rmtree(self._folder / target, ignore_errors=True)
        shutil.copytree(self._folder / source, self._folder / target, symlinks=True)


def differences(expected: Any, found: Any, where: str = "") -> Iterator[str]:
    """Say where two states differ."""
    if isinstance(expected, dict) and isinstance(found, dict):
        for name in sorted({*expected, *found}):
            here = f"{where}/{name}" if where else name
            yield from differences(expected.get(name), found.get(name), here)
    elif expected != found:
        yield f"{where}: {json.dumps(found)[:300]} where undisturbed {json.dumps(expected)[:300]}"


class Warm:
    """The process that has imported everything; see `tests.chaos.warm`."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self._process = process
        self.threads = self._read()["threads"]

    def ask(self, order: dict[str, Any]) -> dict[str, Any]:
        """Have an order carried out; the answer."""
        assert self._process.stdin
        self._process.stdin.write(json.dumps(order) + "\n")
        self._process.stdin.flush()
        return self._read()

    def _read(self) -> dict[str, Any]:
        assert self._process.stdout
        answer: dict[str, Any] = json.loads(self._process.stdout.readline())
        return answer


@contextmanager
def chaos(folder: Path) -> Iterator[Chaos]:
    """A Prefect server, the warm process and a project, ended with the block."""
    library = folder / "faults.so"
    build = ["cc", "-shared", "-fPIC", "-O2", "-Wall", "-Werror", "-o", str(library)]
    subprocess.run([*build, str(Path(__file__).with_name("faults.c")), "-ldl"], check=True)
    (folder / "work").mkdir()
    (folder / "server").mkdir()
    prefect = Server(folder / "server")
    home = folder / "work" / "home"
    variables = prefect.env | {
        "LIFECYCLE_HOME": str(home),
        "PREFECT_HOME": str(home / "prefect"),
        "PREFECT_LOGGING_TO_API_ENABLED": "false",
        "PREFECT_LOGGING_LEVEL": "ERROR",
        "LD_PRELOAD": str(library),
        "OMP_NUM_THREADS": "1",
        "OPENBLAS_NUM_THREADS": "1",
    }
    command = [sys.executable, "-m", "tests.chaos.warm", str(library), str(folder / "work")]
    started = subprocess.Popen(
        command,
        cwd=ROOT,
        env=variables,
        text=True,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    try:
        with started as process:
            try:
                wait_for(prefect.healthy, 90, "the Prefect server")  # while the other one imports
                yield Chaos(folder, Warm(process))
            finally:
                process.kill()
    finally:
        prefect.process.terminate()
        prefect.process.wait(30)
        prefect.log.close()
