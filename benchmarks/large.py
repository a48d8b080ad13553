"""The large data set of the benchmarks: 1,000,000 rows × 28 features and a 0/1 target, seeded."""

from pathlib import Path

import numpy as np
import pandas as pd
import yaml

ROWS, FEATURES, ROUNDS = 1_000_000, 28, 100
TARGET = "label"
SHARES = (0.2, 0.15)
"""Holdout and validation."""
PARAMETERS = {"objective": "binary:logistic", "eval_metric": "auc", "max_depth": 6, "eta": 0.1}


def frame(rows: int = ROWS, features: int = FEATURES) -> pd.DataFrame:
    """Normal features; the label depends on eight of them, partly by products, with noise."""
    rng = np.random.default_rng(17)
    values = rng.standard_normal((rows, features))
    score = values[:, :4] @ [1.0, -0.8, 0.6, 0.4] + values[:, 4] * values[:, 5]
    score += np.sin(values[:, 6]) * values[:, 7] + rng.standard_normal(rows)
    data = pd.DataFrame(values, columns=[f"x{at:02}" for at in range(features)])
    return data.assign(**{TARGET: (score > 0).astype("int64")})


def write(folder: Path, rows: int = ROWS) -> Path:
    """The data set as Parquet with its project file beside it; the project file."""
    data = frame(rows)
    data.to_parquet(folder / "large.parquet", index=False)
    columns = {name: {"type": "number", "minimum": -20, "maximum": 20} for name in data.columns}
    columns[TARGET] = {"type": "integer", "minimum": 0, "maximum": 1}
    holdout, validation = SHARES
    project = {
        "name": "large",
        "source": {"path": "large.parquet", "format": "parquet"},
        "task": "binary",
        "target": TARGET,
        "contract": {"columns": columns},
        "split": {"holdout": holdout, "validation": validation},
        "training": {
            "rounds": ROUNDS,
            "early_stopping_rounds": ROUNDS,
            "refit": False,  # as the twin, which learns from the train part
            "parameters": {name: PARAMETERS[name] for name in ("max_depth", "eta")},
        },
        "checks": {"suites": []},
        "gate": {"require_checks": False},
    }
    file = folder / "project.yaml"
    file.write_text(yaml.safe_dump(project, sort_keys=False))
    return file
