"""A source that grows: files of a folder, taken in by increments."""

from collections.abc import Callable
from pathlib import Path

import pandas as pd
import yaml

from lifecycle.project import Project
from lifecycle.project.loader import load_project

COLUMNS = {
    "id": {"type": "integer"},
    "day": {"type": "datetime"},
    "text": {"type": "string", "nullable": True},
    "y": {"type": "integer"},
}


def declare(folder: Path) -> Callable[..., Project]:
    """What declares the project of a folder, whose files are those of its folder `in`."""
    (folder / "in").mkdir()

    def project(incremental: dict[str, object] | None, key: bool = True, **source: str) -> Project:
        contract = {"columns": COLUMNS} | ({"key": ["id"]} if key else {})
        declared = {
            "name": "grow",
            "task": "binary",
            "target": "y",
            "source": {"path": "in/*.csv", **source}
            | ({"incremental": incremental} if incremental else {}),
            "contract": contract,
            "ignore": ["id", "day"],
        }
        file = folder / "project.yaml"
        file.write_text(yaml.safe_dump(declared))
        return load_project(file)

    return project


def rows(*ids: int, day: int = 1, text: str = "a") -> pd.DataFrame:
    days = [f"2026-01-{day:02d}"] * len(ids)
    return pd.DataFrame({"id": ids, "day": days, "text": text, "y": [i % 2 for i in ids]})


def put(project: Project, name: str, frame: pd.DataFrame) -> None:
    frame.to_csv(project.folder / "in" / name, index=False)
