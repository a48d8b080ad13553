"""SIGKILL in the middle of training: run again, the result is that of an uninterrupted run."""

import signal
import sqlite3
import subprocess
import sys
import uuid
from collections import Counter
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from lifecycle.project import Project
from lifecycle.release.mlflow_store import connect
from lifecycle.release.registry import versions
from lifecycle.settings import Settings
from tests.support.scripts import environment, marked
from tests.support.small import ROOT

pytestmark = pytest.mark.system


def start(project: Path, home: Path, mark: str = "") -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "flows.train", "--project", str(project)],
        cwd=ROOT,
        env=environment(home, TEST_MARK=mark),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


@pytest.mark.smoke
def test_training_goes_on_behind_the_last_finished_step(
    make_project: Callable[..., Project], settings: Settings, tmp_path: Path
) -> None:
    gate = {"gain_over_baseline": -1.0, "require_checks": False}
    project = make_project(gate=gate, checks={"suites": ["data_integrity"]})
    mark = uuid.uuid4().hex
    first = start(tmp_path / "project.yaml", settings.home, mark)
    assert first.stdout
    seen = ""
    for line in first.stdout:
        seen += line
        if "deepchecks: data integrity" in line:  # fitted, but not yet checked or registered
            break
    first.send_signal(signal.SIGKILL)
    first.wait(30)
    first.stdout.close()
    for orphan in marked(mark):  # what a killed run could not stop itself: Prefect's server
        orphan.kill()
    assert "fitted" in seen, seen
    assert versions(project.name, settings) == {}

    second = start(tmp_path / "project.yaml", settings.home)
    screen, _ = second.communicate(timeout=300)
    assert second.returncode == 0, screen
    for step in ("ingest", "split", "tune", "fit"):
        assert f"{step}: unchanged, served from the cache" in screen
    assert "registered small v1" in screen

    found = versions(project.name, settings)
    assert [(model.version, aliases) for model, aliases in found.items()] == [(1, ("challenger",))]
    client = connect(settings)
    experiment = client.get_experiment_by_name(project.name)
    assert experiment
    runs = client.search_runs([experiment.experiment_id])
    assert [run.info.status for run in runs] == ["FINISHED"]
    with closing(sqlite3.connect(settings.home / "prefect" / "prefect.db")) as database:
        states = database.execute("SELECT state_type FROM flow_run ORDER BY created").fetchall()
    # train and its prepare were killed; of the second time they, and the model is not made again
    assert Counter(state for (state,) in states) == {"CRASHED": 1, "COMPLETED": 3}
