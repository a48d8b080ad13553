"""Cost of a script from the shell next to a plain one: score 891 rows, train on 1,000.

First: no server is warm, as when a day's work begins; the databases exist. Warm: the script before
has left its Prefect server running. Each run has other rows, so that nothing comes from a cache.
Checks are omitted: a plain script has none, and `checks` measures them.
"""

import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import yaml

from benchmarks import large
from benchmarks.bare_startup import DEPTHS, ETAS, HOLDOUT, ROUNDS, STOPPING, TRIALS, VALIDATION
from benchmarks.result import Result, information, ratio
from benchmarks.train_flow import ROOT, environment
from lifecycle.release.registry import CHAMPION, set_alias, versions
from lifecycle.settings import Settings

SCORED, TRAINED = 891, 1_000
KEEP = {"LIFECYCLE_KEEP_WARM": "5"}
BARS = {"score": (4.0, 1.5), "train": (3.0, 1.5)}
"""Of the first and of the warm run."""


class Place:
    """A home with a champion, and data that no run has seen."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.home = folder, folder / "home"
        self.env = environment(self.home) | KEEP
        self.model = folder / "model.ubj"
        self.project = self._project()
        self._data = large.frame(rows=20_000)
        self._drawn = 0

    def rows(self, count: int) -> Path:
        """A file of rows that were not drawn before."""
        self._drawn += 1
        file = self.folder / f"rows{self._drawn}.parquet"
        self._data.sample(count, random_state=self._drawn).to_parquet(file, index=False)
        return file

    def run_flow(self, flow: str, source: Path) -> float:
        command = [f"flows/{flow}.py", "--project", str(self.project), "--source", str(source)]
        return self._seconds(command)

    def bare(self, work: str, source: Path) -> float:
        return self._seconds(["-m", "benchmarks.bare_startup", work, str(source), str(self.model)])

    def cool(self) -> None:
        """End the warm server."""
        subprocess.run(
            [Path(sys.executable).with_name("lifecycle"), "down"],
            env=self.env,
            check=True,
            stdout=subprocess.DEVNULL,
        )

    def _seconds(self, command: list[str]) -> float:
        started = time.perf_counter()
        subprocess.run(
            [sys.executable, *command], cwd=ROOT, env=self.env, check=True, capture_output=True
        )
        return time.perf_counter() - started

    def _project(self) -> Path:
        file = large.write(self.folder, rows=TRAINED)
        project = yaml.safe_load(file.read_text())
        project["split"] = {"holdout": HOLDOUT, "validation": VALIDATION}
        project["training"] = {"rounds": ROUNDS, "early_stopping_rounds": STOPPING, "refit": False}
        (low, high), (least, most) = DEPTHS, ETAS
        space = {
            "max_depth": {"type": "int", "low": low, "high": high},
            "eta": {"type": "float", "low": least, "high": most, "log": True},
        }
        project["tuning"] = {"trials": TRIALS, "space": space}
        project["gate"]["gain_over_baseline"] = -1.0
        file.write_text(yaml.safe_dump(project, sort_keys=False))
        return file


def measure(rounds: int) -> Iterator[Result]:
    """Interleaved rounds of the plain script, the first and the warm run."""
    with TemporaryDirectory(dir="/tmp", ignore_cleanup_errors=True) as folder:
        place = Place(Path(folder))
        very_first = place.run_flow("train", place.rows(TRAINED))
        place.bare("train", place.rows(TRAINED))  # the model of the plain script
        settings = Settings(home=place.home)
        set_alias(next(iter(versions("large", settings))), CHAMPION, settings)
        for work, rows in (("score", SCORED), ("train", TRAINED)):
            bare, first, warm = [], [], []
            for _ in range(rounds):
                bare.append(place.bare(work, place.rows(rows)))
                place.cool()
                first.append(place.run_flow(work, place.rows(rows)))
                warm.append(place.run_flow(work, place.rows(rows)))
            for name, times, bar in zip(("first", "warm"), (first, warm), BARS[work], strict=True):
                detail = f"s from the shell; {rows:,} rows"
                yield ratio(f"startup: {work}, {name}", times, bare, bar, detail)
        place.cool()
    yield information("startup: train, very first", [very_first], "s", "makes the databases; once")
