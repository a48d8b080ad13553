"""Weights & Biases as a mirror: the numbers of MLflow, and never the end of a training."""

import json
import logging
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lifecycle.project import Project
from lifecycle.records import Trained
from lifecycle.release import wandb_mirror
from lifecycle.release.mlflow_run import numbers_of
from lifecycle.release.wandb_mirror import mirror_run
from lifecycle.settings import Settings

WANDB = "wandb==0.31.0"
RECORDER = """
import json, os
calls = []
class Run:
    summary = {}
    def log(self, scores, step): calls.append([step, scores])
    def finish(self):
        with open(os.environ["CALLS"], "w") as file:
            json.dump({"init": given, "calls": calls, "summary": self.summary}, file)
def init(**words):
    global given
    given = words
    BODY
    return Run()
"""


@pytest.fixture
def made(make_project: Callable[..., Project], train: Any, settings: Settings) -> Any:
    return train(make_project(), settings.model_copy(update={"wandb": "shop"}))


@pytest.fixture
def recorder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Path]:
    """Put a stand-in for wandb where the mirror's process finds it; it writes down its calls."""

    def put(body: str = "pass") -> Path:
        folder, calls = tmp_path / "packages", tmp_path / "calls.json"
        folder.mkdir()
        (folder / "wandb.py").write_text(RECORDER.replace("BODY", body))
        monkeypatch.setenv("PYTHONPATH", str(folder))
        monkeypatch.setenv("CALLS", str(calls))
        return calls

    return put


@pytest.mark.component
def test_a_registered_model_is_there_with_the_same_numbers(
    made: Any, recorder: Callable[..., Path]
) -> None:
    calls = recorder()
    trained: Trained = made.register()
    said = json.loads(calls.read_text())
    assert said["init"]["project"] == "shop"
    assert said["init"]["name"] == "small v1"
    assert trained.identity.digest.startswith(said["init"]["id"])
    assert said["init"]["config"]["mlflow_run"] == trained.model.run_id
    assert said["init"]["notes"].splitlines() == list(trained.decision.reasons)
    assert said["summary"] == numbers_of(made.bundle, trained)
    for part, values in made.bundle.curve.items():
        assert [scores[f"curve/{part}"] for _, scores in said["calls"]] == list(values)
    assert said["calls"][0][0] == 1


@pytest.mark.component
def test_it_is_off_by_default(made: Any, recorder: Callable[..., Path]) -> None:
    calls = recorder()
    mirror_run(Settings(home=made.settings.home), made.trained(), made.bundle, {})
    assert not calls.exists()


@pytest.mark.component
@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("raise RuntimeError('no such key')", "RuntimeError: no such key"),
        ("os._exit(9)", "small v0 is not in Weights & Biases: "),
        ("import time; time.sleep(60)", "timed out after 3 seconds"),
    ],
)
def test_a_failure_is_a_warning(
    made: Any,
    recorder: Callable[..., Path],
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
    body: str,
    message: str,
) -> None:
    recorder(body)
    monkeypatch.setattr(wandb_mirror, "TIMEOUT_S", 3)
    with caplog.at_level(logging.WARNING):
        mirror_run(made.settings, made.trained(), made.bundle, {})
    assert message in caplog.text


@pytest.mark.component
def test_without_wandb_the_warning_says_what_to_install(
    made: Any, caplog: pytest.LogCaptureFixture
) -> None:
    mirror_run(made.settings, made.trained(), made.bundle, {})
    assert "pip install 'lifecycle-flows[wandb]'" in caplog.text


@pytest.mark.system
def test_wandb_itself_takes_it_offline(
    made: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    packages = tmp_path / "packages"
    uv = [str(Path(sys.executable).with_name("uv")), "pip", "install", "-q", WANDB]
    words = ["--target", str(packages), "--python", sys.executable]
    done = subprocess.run([*uv, *words], capture_output=True, text=True, timeout=120)
    if done.returncode:
        pytest.skip(f"{WANDB} cannot be installed: {done.stderr.strip()[-200:]}")
    monkeypatch.setenv("PYTHONPATH", str(packages))
    monkeypatch.setenv("WANDB_MODE", "offline")
    trained = made.trained()
    mirror_run(made.settings, trained, made.bundle, {"holdout/roc_auc": 0.75})
    assert not caplog.text
    run = trained.model.identity[: wandb_mirror.ID_LENGTH]
    (file,) = made.settings.home.glob(f"wandb/offline-run-*-{run}/*.wandb")
    stored = file.read_bytes()
    for words in (b"holdout/roc_auc", b"curve/", b"small v0"):
        assert words in stored
