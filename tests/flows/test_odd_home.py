"""A state folder with every character that names may have: nothing is written beside it."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tests.conftest import SMALL, small_frame

ROOT = Path(__file__).parents[2]
NAME = "a?x=1 #2 ä&b::c 100% d+e;f@g {h} 'i' <j> ~k $l *m (n)!,"

pytestmark = pytest.mark.slow


def run(folder: Path, *command: str) -> str:
    """Output of a command of ours in a working folder, with the state folder beside."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("PREFECT", "LIFECYCLE"))}
    done = subprocess.run(
        [sys.executable, *command],
        cwd=folder,
        env=kept | {"LIFECYCLE_HOME": str(folder / NAME), "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    return done.stdout


def test_prepare_train_lineage_and_search_stay_in_a_home_of_any_name(tmp_path: Path) -> None:
    small_frame().to_csv(tmp_path / "small.csv", index=False)
    checks = {"require_checks": False, "gain_over_baseline": -1.0}
    (tmp_path / "project.yaml").write_text(yaml.safe_dump(SMALL | {"gate": checks}))
    before = {path.name for path in tmp_path.iterdir()}
    for flow in ("prepare", "train"):
        run(tmp_path, str(ROOT / "flows" / f"{flow}.py"), "--project", "project.yaml")
    lifecycle = ("-c", "from lifecycle.cli import main; main()")
    assert "accepted" in run(tmp_path, *lifecycle, "versions", "project.yaml")
    assert json.loads(run(tmp_path, *lifecycle, "lineage", "project.yaml", "model:1", "--json"))
    found = run(tmp_path, *lifecycle, "erase", "project.yaml", "--entity", "1001", "--check")
    assert "accepted" in found
    assert {path.name for path in tmp_path.iterdir()} == {*before, NAME}
    made = {path.name for path in (tmp_path / NAME).iterdir()}
    assert {"lake", "mlflow.db", "mlartifacts", "prefect"} <= made
    assert (tmp_path / NAME / "prefect" / "prefect.db").is_file()
