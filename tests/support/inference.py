"""A data file on disk, and the project file that `lifecycle init` infers from it."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from lifecycle.project import Project
from lifecycle.project.loader import load_project
from lifecycle.scaffold.generate import infer_project


def infer(csv: Path, target: str) -> tuple[Project, list[str]]:
    text, guesses = infer_project(csv, target)
    file = csv.parent / "project.yaml"
    file.write_text(text)
    return load_project(file), guesses


DAYS = [f"2024-01-{n % 28 + 1:02d}" for n in range(1_999)]


def write(tmp_path: Path, frame: pd.DataFrame, **how: Any) -> Path:
    file = tmp_path / "file.csv"
    frame.to_csv(file, index=False, **how)
    return file


HOURS = pd.Timedelta(hours=1)


def visits(days: int, customers: int | None, rows: int = 2_000) -> pd.DataFrame:
    """Rows spread over so many days from 2024-01-01."""
    random = np.random.default_rng(3)
    hours = np.sort(random.integers(0, days * 24, rows))
    frame = pd.DataFrame({"seen": pd.Timestamp("2024-01-01") + hours * HOURS})
    if customers:
        frame["customer_id"] = random.integers(0, customers, rows) * 3
    return frame.assign(age=random.normal(size=rows), bought=random.integers(0, 2, rows))
