"""Reading of the stages: memory of scoring and monitoring 20 million rows, each in a process.

The rows have ten columns, come in twenty periods and are in one Parquet file.
"""

import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import yaml

from benchmarks.ingest import CITIES, GIGABYTES
from benchmarks.result import Result, information, limit
from benchmarks.train_flow import Measured
from lifecycle.data import sources, windows
from lifecycle.data.ingest import ingest
from lifecycle.data.split import split_dataset
from lifecycle.monitoring.monitor import monitor_windows
from lifecycle.project import Project
from lifecycle.project.loader import load_project
from lifecycle.records import (
    DatasetVersion,
    Evaluation,
    Ingested,
    ModelVersion,
    Scored,
    Split,
    Tuned,
    Window,
)
from lifecycle.release.register import unregistered
from lifecycle.runtime.identity import identity_of
from lifecycle.runtime.plugins import plugs_digest
from lifecycle.serving.batch import score
from lifecycle.settings import Settings
from lifecycle.training.evaluation.assess import answer, assess
from lifecycle.training.fit import fit

ROWS, PERIODS = 20_000_000, 20
NUMBERS = tuple(f"x{at}" for at in range(7))
MONTH_US = 28 * 86_400 * 1_000_000


def measure(rounds: int) -> Iterator[Result]:
    """One run of each: what counts is its memory."""
    with TemporaryDirectory() as scratch:
        folder = Path(scratch)
        project = write(folder, ROWS)
        _champion(project, Settings(home=folder / "home"))
        for stage, (_, summary) in STAGES.items():
            command = [sys.executable, "-m", "benchmarks.reading", stage, str(folder)]
            measured = Measured(command, dict(os.environ), [], memory=True)
            detail = f"{summary}; {ROWS:,} rows × {len(NUMBERS) + 3} columns; one run"
            memory = f"PSS of all processes at the peak; {detail}"
            peak = [measured.peak / 1e9]
            yield limit(f"peak memory of {stage}, 20M rows", peak, "GB", GIGABYTES, memory)
            seconds = [measured.printed["seconds"]]
            yield information(f"time of {stage}, 20M rows", seconds, "s", detail)


def write(folder: Path, rows: int) -> Project:
    """The rows in one Parquet file, and its project file."""
    file, each = folder / "visits.parquet", rows // PERIODS
    with pq.ParquetWriter(file, _block(0, 1).schema) as writer:
        for period in range(PERIODS):
            writer.write_table(_block(period, each), row_group_size=1 << 17)
    columns: dict[str, dict[str, object]] = {
        "moment": {"type": "datetime"},
        "city": {"type": "category", "categories": list(CITIES)},
        **{name: {"type": "number"} for name in NUMBERS},
        "label": {"type": "integer", "minimum": 0, "maximum": 1},
    }
    project = folder / "project.yaml"
    declared = {
        "name": "visits",
        "source": {"path": file.name, "format": "parquet"},
        "task": "binary",
        "target": "label",
        "time": {"column": "moment", "period": "month", "arrives_from": "2020-04-01"},
        "contract": {"columns": columns},
        "training": {"rounds": 50, "refit": False},
    }
    project.write_text(yaml.safe_dump(declared, sort_keys=False))
    return load_project(project)


def _block(period: int, rows: int) -> pa.Table:
    rng = np.random.default_rng(period)
    values = rng.standard_normal((rows, len(NUMBERS)))
    cities = np.array(CITIES, dtype=object)[rng.integers(0, len(CITIES), rows)]
    month = np.datetime64("2020-01") + period
    return pa.table(
        {
            "moment": month.astype("datetime64[us]") + np.sort(rng.integers(0, MONTH_US, rows)),
            "city": cities,
            **{name: values[:, at] for at, name in enumerate(NUMBERS)},
            "label": (values[:, 1] + rng.standard_normal(rows) > 0).astype("int64"),
        }
    )


def _champion(project: Project, settings: Settings) -> None:
    """A model of the first period, and all rows ingested, for the measured processes."""
    first = ingest(project, settings, windows.first_window(project))
    split = split_dataset(project, settings, first)
    identity = identity_of(project, split, plugs_digest(project), threads=2)
    tuned = Tuned(parameters=dict(project.training.parameters), value=None, trials=0)
    bundle = fit(project, split, tuned, settings, identity)
    model = unregistered(project, identity, bundle)
    ingested = ingest(project, settings, Window(), "current")
    answers = answer(project, split.holdout, bundle.path, bundle.digest)
    records = {
        "model": model,
        "split": split,
        "ingested": ingested,
        "evaluation": assess(project, answers, split.holdout, "candidate"),
    }
    for name, value in records.items():
        (settings.home / f"{name}.json").write_text(value.model_dump_json())
    (settings.home / "bundle").symlink_to(bundle.path.resolve())


class _Champion:
    """What `_champion` left, opened."""

    def __init__(self, folder: Path) -> None:
        self.project = load_project(folder / "project.yaml")
        self.settings = Settings(home=folder / "home")
        self.model = ModelVersion.model_validate_json(self._text("model"))
        self.split = Split.model_validate_json(self._text("split"))
        self.ingested = Ingested.model_validate_json(self._text("ingested"))
        self.evaluation = Evaluation.model_validate_json(self._text("evaluation"))

    def _text(self, name: str) -> str:
        return (self.settings.home / f"{name}.json").read_text()

    def score(self, dataset: DatasetVersion, window: Window) -> Scored:
        bundle = (self.settings.home / "bundle").resolve()
        return score(self.project, self.settings, dataset, window, self.model, bundle)

    def monitor(self, scored: Scored) -> None:
        reference = self.score(self.split.holdout, Window())
        monitor_windows(self.project, self.settings, reference, [scored], self.evaluation)


def _score(champion: _Champion) -> None:
    champion.score(champion.ingested.dataset, champion.ingested.window)


def _monitor_newest(champion: _Champion) -> None:
    project, settings = champion.project, champion.settings
    newest = windows.arriving(project, sources.open_source(project))[-1]
    current = ingest(project, settings, newest, "current")
    champion.monitor(champion.score(current.dataset, newest))


def _monitor_all(champion: _Champion) -> None:
    champion.monitor(champion.score(champion.ingested.dataset, champion.ingested.window))


STAGES: dict[str, tuple[Callable[[_Champion], None], str]] = {
    "score": (_score, "all rows scored"),
    "monitor": (_monitor_newest, "periods found, the newest of 20 ingested, scored, compared"),
    "monitor as one window": (_monitor_all, "all rows, which are scored, compared as one window"),
}


if __name__ == "__main__":
    stage, place = sys.argv[1:]
    champion = _Champion(Path(place))
    started = time.perf_counter()
    STAGES[stage][0](champion)
    print(json.dumps({"seconds": time.perf_counter() - started}))
