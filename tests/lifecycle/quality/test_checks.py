"""The deepchecks adapter on real data: what it finds, what it says, and what it leaves behind."""

import logging
import os
import re
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from lifecycle.data.features import build_features, labels, load_hook
from lifecycle.data.lake import read_version
from lifecycle.project import Project
from lifecycle.quality.checks import Answered, run_checks
from lifecycle.quality.findings import check_name, same_check
from lifecycle.records import CheckReport, DatasetVersion
from lifecycle.settings import Settings
from lifecycle.specs import ChecksSpec
from tests.conftest import small_frame

pytestmark = pytest.mark.slow
SPEC = ChecksSpec(sample_rows=1000)


def answered(frame: pd.DataFrame, noise: float = 0.4) -> Answered:
    """`small_frame` with a model that knows age and city."""
    score = frame["age"] / 60 + (frame["city"] == "Rome") * 0.5 - 1.1
    wave = np.sin(np.arange(len(frame))) * noise
    return Answered(
        features=frame[["age", "visits", "city"]],
        truth=frame["bought"].to_numpy(dtype=float),
        prediction=1 / (1 + np.exp(-4 * (score.to_numpy() + wave))),
        entity=frame["customer"].to_numpy(),
    )


def check(
    train: Answered, holdout: Answered, folder: Path, task: str = "binary", **changes: object
) -> CheckReport:
    given = {
        "task": task,
        "metric": "roc_auc" if task == "binary" else "rmse",
        "categorical": ("city",),
        "importances": {"age": 2.0, "city": 1.0, "visits": 0.1},
        "spec": SPEC,
        "folder": folder,
    }
    return run_checks(train, holdout, **(given | changes))  # type: ignore[arg-type]  # by name


@pytest.fixture
def parts() -> tuple[Answered, Answered]:
    frame = small_frame(1000)
    return answered(frame[:800]), answered(frame[800:])


@pytest.fixture
def unchanged() -> Iterator[None]:
    """Global state that deepchecks changes must be as before."""

    def state() -> tuple[object, ...]:
        return (
            list(warnings.filters),
            pd.get_option("mode.chained_assignment"),
            np.random.get_state()[1].tolist(),
            logging.getLogger("deepchecks").level,
            logging.getLogger().level,
            {k: v for k, v in os.environ.items() if k != "PYTEST_CURRENT_TEST"},
        )

    before = state()
    yield
    assert state() == before


def test_a_sound_model_on_the_real_example(
    health: Project,
    train: Callable[..., Any],
    settings: Settings,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    unchanged: None,
) -> None:
    made = train(health, settings)

    def part(version: DatasetVersion) -> Answered:
        frame = read_version(version)
        return Answered(
            features=build_features(frame, health, load_hook(health)),
            truth=labels(frame, health),
            prediction=made.expected(frame),
            entity=frame["zper"].to_numpy(),
            time=frame["year"].to_numpy(),
        )

    learned, holdout = part(made.split.train), part(made.split.holdout)
    report = run_checks(
        learned,
        holdout,
        task="binary",
        metric="roc_auc",
        categorical=("plan", "site"),
        importances={"income": 1.0, "xage": 0.5, "plan": 0.4, "disea": 0.3},
        spec=SPEC,
        folder=tmp_path,
    )
    captured = capfd.readouterr()
    assert (captured.out, captured.err) == ("", "")
    for name in (  # people and years are apart, as the split promises
        "Index Train-Test Leakage",
        "Date Train-Test Leakage (duplicates)",
        "Date Train-Test Leakage (overlap)",
        "ROC Report (holdout)",
        "Simple Model Comparison",
        "Prediction Drift",
    ):
        assert name in report.passed
    assert "Boosting Overfit" in report.not_run
    assert not set(report.passed) & (set(report.failed) | set(report.not_run) | set(report.warned))
    assert report.sampled_rows == 1000
    assert [path.name for path in report.reports] == [
        "data_integrity.html",
        "train_test_validation.html",
        "model_evaluation.html",
    ]


def test_pages_are_whole_and_need_no_network(
    parts: tuple[Answered, Answered], tmp_path: Path
) -> None:
    report = check(*parts, tmp_path)
    assert sorted(tmp_path.iterdir()) == sorted(report.reports)
    for path in report.reports:
        text = path.read_text()
        body = re.sub(r"<script>.*?</script>", "", text, flags=re.DOTALL)
        assert not re.findall(r'<(?:script|link|img)[^>]*(?:src|href)="(?!data:)', body)
        assert text.count("plotly.js v") == 1  # the library, once
        assert len(text) < 12_000_000
        assert "Plotly.newPlot" in text
        assert text.rstrip().endswith("</html>")


def test_faults_are_found_and_named(parts: tuple[Answered, Answered], tmp_path: Path) -> None:
    train, holdout = parts
    shifted = holdout.features.assign(age=holdout.features["age"] + 40, city="Oslo")
    leaking = Answered(shifted, holdout.truth, 1 - holdout.prediction, train.entity[:200])  # type: ignore[index]
    report = check(train, leaking, tmp_path)
    assert "age" in report.failed["Feature Drift"]
    assert "Index Train-Test Leakage" in report.failed
    assert "roc_auc" in report.failed["Simple Model Comparison"]
    assert "Expected:" in report.failed["Train Test Performance"]


def test_regression_runs_what_it_can(tmp_path: Path, unchanged: None) -> None:
    frame = small_frame(1000)

    def part(rows: pd.DataFrame) -> Answered:
        value = rows["age"].to_numpy() * 100 + rows["visits"].to_numpy() * 30.0
        wave = np.sin(np.arange(len(rows)) * 1.7) * 200
        return Answered(rows[["age", "visits", "city"]], value + wave, value)

    report = check(part(frame[:800]), part(frame[800:]), tmp_path, task="regression")
    assert report.not_run["Roc Report"] == "for classification only"
    assert report.not_run["Index Train Test Leakage"].startswith("Dataset does not contain")
    for name in ("Train Test Performance", "Simple Model Comparison"):
        assert name in report.passed
    ran = {*report.passed, *report.warned}
    assert "Weak Segments Performance (holdout)" in ran  # does not run with stock scorers


@pytest.mark.parametrize("metric", ["average_precision", "log_loss", "brier", "accuracy"])
def test_every_metric_can_decide(
    parts: tuple[Answered, Answered], tmp_path: Path, metric: str
) -> None:
    report = check(*parts, tmp_path, metric=metric, spec=ChecksSpec(sample_rows=200))
    assert not [name for name in report.not_run if "Performance" in name or "Simple" in name]


def test_nullable_and_missing_values(parts: tuple[Answered, Answered], tmp_path: Path) -> None:
    def lacking(part: Answered) -> Answered:
        features = part.features.reset_index(drop=True)
        features.loc[::7, "age"] = np.nan
        features["visits"] = features["visits"].astype("Int64").where(features.index % 5 != 0)
        features["city"] = features["city"].where(features.index % 9 != 0, None)
        return Answered(features, part.truth, part.prediction)

    report = check(lacking(parts[0]), lacking(parts[1]), tmp_path, spec=ChecksSpec(sample_rows=200))
    assert "Feature Drift" in report.passed


def test_unusable_parts_are_refused(parts: tuple[Answered, Answered], tmp_path: Path) -> None:
    train, holdout = parts
    other = Answered(holdout.features.iloc[:, ::-1], holdout.truth, holdout.prediction)
    with pytest.raises(ValueError, match="same features"):
        check(train, other, tmp_path)
    with pytest.raises(ValueError, match="both have rows"):
        check(train, Answered(train.features.iloc[:0], np.empty(0), np.empty(0)), tmp_path)
    assert not list(tmp_path.iterdir())


def test_importing_the_adapter_imports_no_deepchecks_and_running_it_opens_no_socket() -> None:
    code = """
import socket, sys
def refuse(*args, **kwargs): raise SystemExit("network used")
socket.create_connection = socket.getaddrinfo = refuse
import lifecycle.quality.checks as checks
assert "deepchecks" not in sys.modules
with checks.quiet():
    import deepchecks
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_names_of_checks() -> None:
    assert check_name("Label Drift - Test Dataset") == "Label Drift (holdout)"
    assert same_check("Date Train-Test Leakage (overlap)", "Date Train-Test Leakage (overlap)")
    assert not same_check("Date Train-Test Leakage (overlap)", "Date Train-Test Leakage")
    assert same_check("Feature-Feature Correlation (train)", "feature_feature correlation")
