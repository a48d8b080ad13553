"""A small project, its rows, and where the repository is."""

from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from lifecycle.project import Project
from lifecycle.project.loader import load_project

ROOT = Path(__file__).parents[2]
SMALL: dict[str, Any] = {
    "name": "small",
    "source": {"path": "small.csv"},
    "task": "binary",
    "target": "bought",
    "entity": "customer",
    "contract": {
        "max_rejected_share": 0.1,
        "columns": {
            "customer": {"type": "integer"},
            "age": {"type": "number", "nullable": True, "minimum": 0, "maximum": 120},
            "visits": {"type": "integer", "minimum": 0},
            "city": {"type": "category", "categories": ["Rome", "Oslo", "Lima"]},
            "bought": {"type": "integer", "minimum": 0, "maximum": 1},
        },
    },
    "split": {"holdout": 0.25, "validation": 0.15},
    "training": {"rounds": 10, "early_stopping_rounds": 5},
    "gate": {"gain_over_baseline": -1.0},
}


def small_frame(rows: int = 400) -> pd.DataFrame:
    """Deterministic rows with a signal: older visitors from Rome buy."""
    index = pd.RangeIndex(rows)
    frame = pd.DataFrame(
        {
            "customer": index // 2 + 1000,
            "age": ((index * 7) % 60 + 18).astype(float),
            "visits": (index * 13) % 11,
            "city": [("Rome", "Oslo", "Lima")[i % 3] for i in index],
        }
    )
    noise = (index * 2654435761) % 97 / 97
    score = frame["age"] / 60 + (frame["city"] == "Rome") * 0.5 + frame["visits"] / 11 + noise
    return frame.assign(bought=(score > score.median()).astype(int))


def write_project(folder: Path, frame: pd.DataFrame | None = None, **changes: Any) -> Project:
    """Write `small.csv` and the project file of SMALL with some top-level keys changed; load it."""
    (small_frame() if frame is None else frame).to_csv(folder / "small.csv", index=False)
    file = folder / "project.yaml"
    file.write_text(yaml.safe_dump(SMALL | changes, sort_keys=False))
    return load_project(file)
