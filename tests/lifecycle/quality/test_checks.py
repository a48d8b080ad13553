"""The deepchecks adapter on real data: what it finds, what it says, and what it leaves behind."""

import re
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import psutil
import pytest
from numpy.typing import NDArray
from sklearn.datasets import load_digits
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

from lifecycle.features.encode import build_features, labels, load_hook
from lifecycle.lake.read import read_version
from lifecycle.project import METRICS, ChecksSpec, Project
from lifecycle.project.checks import Severity, canonical
from lifecycle.quality import checks_program
from lifecycle.quality.checks import run_checks
from lifecycle.quality.findings import Condition, check_name, verdict
from lifecycle.quality.parts import PredictedPart, draw, open_part
from lifecycle.quality.program import ChecksProgram, ChecksRequest
from lifecycle.records import CheckReport, DatasetVersion
from lifecycle.settings import Settings
from lifecycle.training.bundle import load_bundle
from lifecycle.training.predictor import Predictor, open_predictor
from tests.support.small import small_frame
from tests.support.warm_checks import warm_interpreter

pytestmark = pytest.mark.component
SPEC = ChecksSpec(sample_rows=1000)
SEGMENTS: dict[str, Severity] = {"Weak Segments Performance": "warn"}
"""Weak segments are not searched by default."""


def answered(frame: pd.DataFrame, noise: float = 0.4) -> PredictedPart:
    """`small_frame` with a model that knows age and city."""
    score = frame["age"] / 60 + (frame["city"] == "Rome") * 0.5 - 1.1
    wave = np.sin(np.arange(len(frame))) * noise
    return PredictedPart(
        features=frame[["age", "visits", "city"]],
        truth=frame["bought"].to_numpy(dtype=float),
        prediction=1 / (1 + np.exp(-4 * (score.to_numpy() + wave))),
        entity=frame["customer"].to_numpy(),
    )


@pytest.fixture(scope="module", autouse=True)
def _warm_interpreter() -> Iterator[None]:
    """What the program imports is imported once; see `test_a_sound_model_on_the_real_example`."""
    python, program = Settings().checks_interpreter, Path(checks_program.__file__)
    with warm_interpreter(python, program) as caller, pytest.MonkeyPatch.context() as patch:
        patch.setenv("LIFECYCLE_CHECKS_PYTHON", str(caller))
        yield


def check(
    train: PredictedPart,
    holdout: PredictedPart,
    folder: Path,
    task: str = "binary",
    **changes: object,
) -> CheckReport:
    given = {
        "task": task,
        "metric": "roc_auc" if task == "binary" else "rmse",
        "categorical": ("city",),
        "importances": {"age": 2.0, "city": 1.0, "visits": 0.1},
        "spec": SPEC,
    }
    request = ChecksRequest(**(given | changes))  # type: ignore[arg-type]  # by name
    with ChecksProgram(Settings()) as program:
        return run_checks(train, holdout, request, folder, program)


@contextmanager
def processes() -> Iterator[dict[int, list[str]]]:
    """Process id → command of what this process starts, directly or not, as often as it looks."""
    seen: dict[int, list[str]] = {}
    before = {process.pid for process in psutil.Process().children(recursive=True)}
    over = threading.Event()

    def look() -> None:
        while not over.wait(0.1):
            for process in psutil.Process().children(recursive=True):
                with suppress(psutil.Error):
                    if process.pid not in before and (command := process.cmdline()):
                        seen[process.pid] = command  # one that has ended has none any more

    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield seen
    finally:
        over.set()
        thread.join()


@pytest.fixture
def parts() -> tuple[PredictedPart, PredictedPart]:
    frame = small_frame(1000)
    return answered(frame[:800]), answered(frame[800:])


def test_a_sound_model_on_the_real_example(
    health: Project,
    train: Callable[..., Any],
    settings: Settings,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.delenv("LIFECYCLE_CHECKS_PYTHON")
    made = train(health, settings)

    def part(version: DatasetVersion) -> PredictedPart:
        frame = read_version(version)
        return PredictedPart(
            features=build_features(frame, health, load_hook(health)),
            truth=labels(frame, health),
            prediction=made.expected(frame),
            entity=frame["zper"].to_numpy(),
            time=frame["calendar_year"].to_numpy(),
        )

    learned, holdout = part(made.split.train), part(made.split.holdout)
    with processes() as seen:
        report = check(
            learned,
            holdout,
            tmp_path,
            categorical=("plan", "site"),
            importances={"income": 1.0, "xage": 0.5, "plan": 0.4, "disea": 0.3},
        )
    pythons = [command for command in seen.values() if "python" in command[0]]  # joblib asks lscpu
    assert len(pythons) == 1, f"processes of joblib would import all again: {pythons}"
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
    parts: tuple[PredictedPart, PredictedPart], tmp_path: Path
) -> None:
    report = check(*parts, tmp_path)
    assert sorted(tmp_path.iterdir()) == sorted(report.reports)
    said = {
        "data_integrity": "Data Duplicates and Conflicting Labels are counted by us, on all rows.",
        "train_test_validation": "Sizes, copies, missing values and units are compared by us",
        "model_evaluation": "Not run: Weak Segments Performance: evaluation.slices and",
    }
    for suite, text in said.items():
        assert text in (tmp_path / f"{suite}.html").read_text()
    for path in report.reports:
        text = path.read_text()
        body = re.sub(r"<script>.*?</script>", "", text, flags=re.DOTALL)
        assert not re.findall(r'<(?:script|link|img)[^>]*(?:src|href)="(?!data:)', body)
        assert text.count("plotly.js v") == 1  # the library, once
        assert len(text) < 12_000_000
        assert "Plotly.newPlot" in text
        assert text.rstrip().endswith("</html>")


def test_faults_are_found_and_named(
    parts: tuple[PredictedPart, PredictedPart], tmp_path: Path
) -> None:
    train, holdout = parts
    shifted = holdout.features.assign(age=holdout.features["age"] + 40, city="Oslo")
    leaking = PredictedPart(shifted, holdout.truth, 1 - holdout.answers, train.entity[:200])  # type: ignore[index]
    report = check(train, leaking, tmp_path)
    assert list(report.failed) == ["Index Train-Test Leakage"], "what one acts on blocks"
    assert "age" in report.warned["Feature Drift"]
    assert "roc_auc" in report.warned["Simple Model Comparison"]
    assert "Expected:" in report.warned["Simple Model Comparison"]
    assert "no finding" in report.not_run["Train Test Performance"]


def test_a_project_decides_which_failures_block(
    parts: tuple[PredictedPart, PredictedPart], tmp_path: Path
) -> None:
    train, holdout = parts
    shifted = holdout.features.assign(age=holdout.features["age"] + 40, city="Oslo")
    other = PredictedPart(shifted, holdout.truth, 1 - holdout.answers, train.entity[:200])  # type: ignore[index]
    severity = {
        "feature drift": "block",
        "Train Test Performance": "block",
        "Index Train-Test Leakage": "ignore",
    }
    spec = ChecksSpec.model_validate({"sample_rows": 1000, "severity": severity})
    report = check(train, other, tmp_path, spec=spec)
    assert set(report.failed) == {"Feature Drift", "Train Test Performance"}
    assert "severity" in report.not_run["Index Train Test Leakage"]
    page = (tmp_path / "train_test_validation.html").read_text()
    assert "1 of " in page
    assert "conditions block the gate" in page


def copied(train: PredictedPart, holdout: PredictedPart) -> PredictedPart:
    """The holdout with its first third replaced by train rows."""
    rows = len(holdout.truth) // 3
    return PredictedPart(
        pd.concat([train.features[:rows], holdout.features[rows:]], ignore_index=True),
        np.r_[train.truth[:rows], holdout.truth[rows:]],
        np.r_[train.answers[:rows], holdout.answers[rows:]],
    )


def given_away(part: PredictedPart) -> PredictedPart:
    """A feature that is the target but for a little noise."""
    noise = np.sin(np.arange(len(part.truth)) * 7.3) * 0.01
    return PredictedPart(part.features.assign(paid=part.truth + noise), part.truth, part.prediction)


def broken(part: PredictedPart) -> PredictedPart:
    """Half of a text column's cells are punctuation."""
    city = part.features["city"].where(np.arange(len(part.truth)) % 2 == 0, "???")
    return PredictedPart(part.features.assign(city=city), part.truth, part.prediction)


def test_planted_faults_block(parts: tuple[PredictedPart, PredictedPart], tmp_path: Path) -> None:
    train, holdout = (  # numbers as fine as measurements are
        PredictedPart(
            part.features.assign(
                income=np.exp(np.random.default_rng(seed).normal(9, 1, len(part.truth)))
            ),
            part.truth,
            part.prediction,
        )
        for seed, part in enumerate(parts)
    )
    income = holdout.features["income"]
    spec = ChecksSpec(
        sample_rows=1000, suites=("data_integrity", "train_test_validation"), accept={}
    )

    def failures(train: PredictedPart, holdout: PredictedPart) -> dict[str, str]:
        return check(train, holdout, tmp_path, spec=spec).failed

    assert failures(train, holdout) == {}
    assert set(failures(train, copied(train, holdout))) == {"Train Test Samples Mix"}
    leaked = failures(given_away(train), given_away(holdout))
    assert {name.split(" (")[0] for name in leaked} == {"Feature Label Correlation"}
    assert "leakage: [paid]" in leaked["Feature Label Correlation (train)"]
    other_unit = holdout.features.assign(income=income * 1000)
    found = failures(train, PredictedPart(other_unit, holdout.truth, holdout.prediction))
    assert set(found) == {"Unit Train Test"}
    assert "income in the holdout looks like" in found["Unit Train Test"]
    lost = holdout.features.assign(income=income.where(income > income.median()))
    found = failures(train, PredictedPart(lost, holdout.truth, holdout.prediction))
    assert set(found) == {"Missing Values Train Test"}
    assert {name.split(" (")[0] for name in failures(broken(train), broken(holdout))} == {
        "Special Characters"
    }


def test_a_small_sound_holdout_fails_nothing(tmp_path: Path) -> None:
    rng = np.random.default_rng(11)
    rows = 260
    frame = pd.DataFrame(
        {
            "age": rng.normal(40, 12, rows).round(1),
            "town": [f"town {n}" for n in rng.zipf(1.4, rows) % 60],  # many seen once
            "rare": np.where(rng.random(rows) < 0.01, "yes", "no"),  # one value in the holdout
        }
    )
    truth = (frame["age"] + rng.normal(0, 8, rows) > 40).to_numpy(dtype=float)
    prediction = 1 / (1 + np.exp(-(frame["age"].to_numpy() - 40) / 8))

    def part(rows: slice) -> PredictedPart:
        return PredictedPart(frame[rows], truth[rows], prediction[rows])

    report = check(
        part(slice(0, 195)),
        part(slice(195, None)),
        tmp_path,
        categorical=("town", "rare"),
        importances={"age": 1.0},
    )
    assert report.failed == {}
    quiet = {"New Category Train Test", "Feature Label Correlation Change", "Feature Drift"}
    assert not quiet & set(report.warned), report.warned
    assert "Single Value in Column (holdout)" not in report.warned


def test_regression_runs_what_it_can(tmp_path: Path) -> None:
    frame = small_frame(1000)

    def part(rows: pd.DataFrame) -> PredictedPart:
        value = rows["age"].to_numpy() * 100 + rows["visits"].to_numpy() * 30.0
        wave = np.sin(np.arange(len(rows)) * 1.7) * 200
        return PredictedPart(rows[["age", "visits", "city"]], value + wave, value)

    spec = ChecksSpec(sample_rows=1000, severity=SEGMENTS)
    report = check(part(frame[:800]), part(frame[800:]), tmp_path, task="regression", spec=spec)
    assert report.not_run["Roc Report"] == "for classification only"
    assert report.not_run["Index Train Test Leakage"].startswith("Dataset does not contain")
    assert "Simple Model Comparison" in report.passed
    ran = {*report.passed, *report.warned}
    assert "Weak Segments Performance (holdout)" in ran  # does not run with stock scorers


def one_soon(metrics: list[str]) -> list[Any]:
    """The first of the metrics in `make test`, the others with the system tests: 5 s each."""
    return [metrics[0], *(pytest.param(name, marks=pytest.mark.system) for name in metrics[1:])]


@pytest.mark.parametrize("metric", one_soon(["log_loss", "average_precision", "brier", "accuracy"]))
def test_every_metric_can_decide(
    parts: tuple[PredictedPart, PredictedPart], tmp_path: Path, metric: str
) -> None:
    spec = ChecksSpec(
        sample_rows=200,
        suites=("model_evaluation",),
        severity=SEGMENTS | {"Train Test Performance": "warn"},
    )
    report = check(*parts, tmp_path, metric=metric, spec=spec)
    assert not [name for name in report.not_run if "Performance" in name or "Simple" in name]


def digits() -> tuple[PredictedPart, PredictedPart]:
    """Some pixels of scikit-learn's digits, known with some doubt."""
    data = load_digits()
    pixels = [at for at in range(10, 60, 6) if data.data[:, at].std() > 3]
    features = pd.DataFrame(data.data[:, pixels], columns=[f"pixel {at}" for at in pixels])
    model = LinearDiscriminantAnalysis().fit(features[:1000], data.target[:1000])
    parts = [
        PredictedPart(features[rows], data.target[rows].astype(float), probabilities)
        for rows in (slice(0, 1000), slice(1000, None))
        for probabilities in [model.predict_proba(features[rows])]
    ]
    return parts[0], parts[1]


NAMES = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")


def test_multiclass_runs_on_names_in_any_order(tmp_path: Path) -> None:
    train, holdout = digits()
    report = check(
        train,
        holdout,
        tmp_path,
        task="multiclass",
        metric="log_loss",
        classes=NAMES,
        categorical=(),
        importances={"pixel 20": 1.0},
        spec=ChecksSpec(sample_rows=500, severity=SEGMENTS),
    )
    for name in (
        "Simple Model Comparison",
        "Conflicting Labels (train)",
        "ROC Report (holdout)",  # the probabilities stand under the right names
        "Prediction Drift",
    ):
        assert name in report.passed, report
    assert "Weak Segments Performance (holdout)" in {*report.passed, *report.warned}, report.failed
    assert report.not_run["Regression Error Distribution"] == "for regression only"
    page = (tmp_path / "model_evaluation.html").read_text()
    assert "seven" in page
    assert "500 of 1,000 rows of the train part and 500 of 797 of the holdout" in page


@pytest.mark.parametrize("metric", one_soon(["own", "accuracy", "roc_auc", "f1_macro"]))
def test_every_multiclass_metric_can_decide_though_a_class_is_missing(
    tmp_path: Path, metric: str
) -> None:
    train, holdout = digits()
    rare = PredictedPart(holdout.features, np.clip(holdout.truth, 0, 7), holdout.prediction)
    spec = ChecksSpec(sample_rows=300, suites=("model_evaluation",), severity=SEGMENTS)
    report = check(
        train,
        rare,
        tmp_path,
        task="multiclass",
        metric=metric,
        classes=NAMES,
        categorical=(),
        spec=spec,
    )
    judged = {*report.passed, *report.failed, *report.warned}
    assert judged >= {
        "Simple Model Comparison",
        "Weak Segments Performance (holdout)",
    }, report.not_run
    if metric == "own":
        page = (tmp_path / "model_evaluation.html").read_text()
        assert "Compared by log_loss, as own is a metric of the project&#39;s own." in page


@pytest.mark.parametrize("metric", one_soon(list(METRICS["count"])))
def test_counts_are_checked_as_regression_is(tmp_path: Path, metric: str) -> None:
    frame = small_frame(1000)
    expected = (frame["age"] / 3 + (frame["city"] == "Rome") * 9).to_numpy(dtype=float)
    truth = np.random.default_rng(3).poisson(expected).astype(float)

    def part(rows: slice) -> PredictedPart:
        features = frame[["age", "visits", "city"]][rows]
        return PredictedPart(features, truth[rows], expected[rows])

    spec = ChecksSpec(sample_rows=300, suites=("model_evaluation",), severity=SEGMENTS)
    report = check(
        part(slice(0, 700)),
        part(slice(700, None)),
        tmp_path,
        task="count",
        metric=metric,
        spec=spec,
    )
    assert report.not_run["Roc Report"] == "for classification only"
    assert "Simple Model Comparison" in report.passed, report
    assert "Weak Segments Performance (holdout)" in {*report.passed, *report.warned}


def test_only_the_suites_that_are_named_run(
    parts: tuple[PredictedPart, PredictedPart], tmp_path: Path
) -> None:
    spec = ChecksSpec(sample_rows=100, suites=("train_test_validation",))
    report = check(*parts, tmp_path, spec=spec)
    assert [path.name for path in report.reports] == ["train_test_validation.html"]
    assert report.not_run["Suite data_integrity"] == "checks.suites does not name it"
    assert "Boosting Overfit" not in report.not_run  # of a suite that is not named
    assert "Datasets Size Comparison" in report.passed
    text = report.reports[0].read_text()
    assert "Test-Train size ratio is 0.25" in text  # of the parts, not of the samples
    assert "100 of 800 rows of the train part and 100 of 200 of the holdout" in text


def test_without_suites_nothing_runs_and_nothing_is_started(tmp_path: Path) -> None:
    part = PredictedPart(pd.DataFrame({"a": [1.0, 2.0]}), np.zeros(2), np.zeros(2))
    with ChecksProgram(Settings()) as program:
        report = run_checks(
            part,
            part,
            ChecksRequest(task="count", metric="rmse", spec=ChecksSpec(suites=())),
            tmp_path / "reports",
            program,
        )
        assert program._process is None
    assert not report.ran
    assert not report.reports
    assert list(report.not_run) == [
        "Suite data_integrity", "Suite train_test_validation", "Suite model_evaluation"
    ]  # fmt: skip
    assert report.sampled_rows == 0
    assert not (tmp_path / "reports").exists()


def test_the_model_is_asked_for_the_drawn_rows_of_the_columns_it_needs(
    make_project: Callable[..., Project], train: Any, settings: Settings
) -> None:
    made = train(make_project(), settings)
    predictor = open_predictor(load_bundle(made.bundle.path, made.bundle.digest), made.project)
    asked: list[int] = []

    class Spy(Predictor):
        def predict_features(self, features: pd.DataFrame) -> NDArray[np.float64]:
            asked.append(len(features))
            return super().predict_features(features)

    spy = Spy(predictor.loaded, None)
    part = open_part(made.project, made.split.train, spy)
    drawn = draw(part, 50)
    assert asked == []
    frame = read_version(made.split.train)
    np.testing.assert_array_equal(drawn.answers, made.expected(frame)[drawn.features.index])
    assert asked == [50]
    np.testing.assert_array_equal(draw(part).truth, labels(frame, made.project))
    np.testing.assert_array_equal(drawn.entity, frame["customer"][drawn.features.index])


def test_rows_without_a_truth_are_left_out_and_a_draw_keeps_order() -> None:
    truth = np.array([0.0, np.nan, 1.0, 1.0, np.nan, 0.0] * 100)
    part = PredictedPart(
        pd.DataFrame({"a": np.arange(600.0)}), truth, np.arange(600.0), entity=np.arange(600)
    )
    whole = draw(part, 1000)
    assert len(whole.features) == 400
    assert np.isfinite(whole.truth).all()
    some = draw(part, 50)
    assert len(some.features) == 50
    assert some.time is None
    assert (np.diff(some.answers) > 0).all()
    np.testing.assert_array_equal(some.answers, some.features["a"])
    np.testing.assert_array_equal(some.answers, some.entity)  # type: ignore[arg-type]  # given
    np.testing.assert_array_equal(draw(part, 50).answers, some.answers)
    assert draw(some, 50) is some


def test_nullable_and_missing_values(
    parts: tuple[PredictedPart, PredictedPart], tmp_path: Path
) -> None:
    def lacking(part: PredictedPart) -> PredictedPart:
        features = part.features.reset_index(drop=True)
        features.loc[::7, "age"] = np.nan
        features["visits"] = features["visits"].astype("Int64").where(features.index % 5 != 0)
        features["city"] = features["city"].where(features.index % 9 != 0, None)
        return PredictedPart(features, part.truth, part.prediction)

    report = check(lacking(parts[0]), lacking(parts[1]), tmp_path, spec=ChecksSpec(sample_rows=200))
    assert "Feature Drift" in report.passed


def test_unusable_parts_are_refused(
    parts: tuple[PredictedPart, PredictedPart], tmp_path: Path
) -> None:
    train, holdout = parts
    other = PredictedPart(holdout.features.iloc[:, ::-1], holdout.truth, holdout.prediction)
    with pytest.raises(ValueError, match="same features"):
        check(train, other, tmp_path)
    with pytest.raises(ValueError, match="both have rows"):
        check(train, PredictedPart(train.features.iloc[:0], np.empty(0), np.empty(0)), tmp_path)
    assert not list(tmp_path.iterdir())


def test_deepchecks_is_nowhere_in_this_process() -> None:
    assert "deepchecks" not in sys.modules


def test_names_of_checks() -> None:
    assert check_name("Label Drift - Test Dataset") == "Label Drift (holdout)"
    overlap = "Date Train-Test Leakage (overlap)"
    assert canonical(overlap) == overlap
    assert canonical("Date Train-Test Leakage") is None
    assert canonical("feature_feature correlation (train)") == "Feature-Feature Correlation"


@pytest.mark.parametrize(
    ("name", "expected"),
    [("AUC score is above 0.7.", "AUC score is above"), ("Drift is below 0.2", "drift is below")],
)
def test_an_abbreviation_keeps_its_letters(name: str, expected: str) -> None:
    condition = Condition(name=name, category="PASS", details="Found")
    assert f"Expected: {expected}" in verdict("Feature Drift", condition, ChecksSpec())[1]
