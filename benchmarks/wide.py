"""Columns instead of rows: CPU seconds of each stage at 50, 500 and 2,000 columns × 5,000 rows.

A stage grows as its columns if 2,000 cost what a straight line through 50 and 500 gives there.
"""

import os
import resource
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pandas as pd
import yaml

from benchmarks.result import Result, limit
from lifecycle.release.registry import CHAMPION, set_alias, versions
from lifecycle.settings import Settings

ROWS = 5_000
LEAST, MIDDLE, MOST = 50, 500, 2_000
BAR = 1.3
TARGET, TIME = "label", "year"
LIFECYCLE = str(Path(sys.executable).with_name("lifecycle"))
SMALL = {
    "training": {"rounds": 20, "early_stopping_rounds": 10, "refit": False},
    "tuning": {"trials": 2},
}


def measure(rounds: int) -> Iterator[Result]:
    """One life of each width: it takes minutes, so that there are no rounds."""
    lives = {}
    for columns in (LEAST, MIDDLE, MOST):
        with TemporaryDirectory(prefix="wide-", ignore_cleanup_errors=True) as folder:
            lives[columns] = dict(_live(Path(folder), columns))
    for stage, seconds in lives[MOST].items():
        least, middle = lives[LEAST][stage], lives[MIDDLE][stage]
        line = least + max(middle - least, 0.0) / (MIDDLE - LEAST) * (MOST - LEAST)
        detail = " ".join(f"{columns:,}: {life[stage]:.3g}" for columns, life in lives.items())
        detail = f"CPU s at {detail} columns × {ROWS:,} rows"
        yield limit(
            f"wide: {stage}, {MOST:,} columns / a straight line", [seconds / line], "×", BAR, detail
        )


def _live(folder: Path, columns: int) -> Iterator[tuple[str, float]]:
    """Stage → CPU seconds of all its processes."""
    file = folder / "wide.csv"
    frame(columns).to_csv(file, index=False)
    os.environ |= {"LIFECYCLE_HOME": str(folder / "home"), "LIFECYCLE_KEEP_WARM": "0"}
    project = folder / "project.yaml"
    yield "init", _seconds("init", str(file), "--target", TARGET, "--time", TIME)
    content = yaml.safe_load(project.read_text())
    content["tuning"] = content.get("tuning", {}) | SMALL["tuning"]
    content["training"] = content.get("training", {}) | SMALL["training"]
    content["gate"] = content.get("gate", {}) | {"gain_over_baseline": -1.0}
    suites = content.get("checks", {})
    content["checks"] = suites | {"suites": []}
    project.write_text(yaml.safe_dump(content, sort_keys=False))
    yield "prepare", _seconds("run", "prepare", str(project))
    plain = _seconds("run", "train", str(project))
    yield "train", plain
    settings = Settings(home=folder / "home")
    set_alias(next(iter(versions(content["name"], settings))), CHAMPION, settings)
    yield "score", _seconds("run", "score", str(project))
    yield "monitor", _seconds("run", "monitor", str(project))
    yield "profile", _seconds("profile", str(project))
    content["checks"] = suites
    content["training"]["rounds"] = 21  # another model, or nothing would run
    project.write_text(yaml.safe_dump(content, sort_keys=False))
    yield "checks", _seconds("run", "train", str(project)) - plain


def frame(columns: int) -> pd.DataFrame:
    """Years of rows with numbers, of which ten matter, and a category per hundred columns."""
    draw = np.random.default_rng(5)
    values = draw.normal(size=(ROWS, columns)).round(3)
    table = pd.DataFrame(values, columns=[f"x{at}" for at in range(columns)])
    for at in range(0, columns, 100):
        table[f"c{at}"] = draw.choice(list("abcd"), ROWS)
    table[TIME] = np.repeat(np.arange(2016, 2026), ROWS // 10)
    table[TARGET] = (values[:, :10].sum(axis=1) + draw.normal(size=ROWS) > 0).astype(int)
    return table


def _seconds(*arguments: str) -> float:
    """CPU seconds of a command and its children.

    Raises:
        RuntimeError: it fails.
    """
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    process = subprocess.run([LIFECYCLE, *arguments], capture_output=True, text=True, check=False)
    if process.returncode:
        raise RuntimeError(f"{arguments}: {process.stdout[-2000:]}{process.stderr[-2000:]}")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
