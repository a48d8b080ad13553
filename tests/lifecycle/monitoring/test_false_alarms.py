"""How often monitoring cries wolf on windows without drift, and that it still finds real ones.

Shop-like rows with every kind of column, windows of 1 to 2,000 rows, `init`'s defaults.
"""

from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest

from lifecycle.monitoring.drift import drift_report
from lifecycle.monitoring.scored import OpenWindow, quality
from lifecycle.project import DriftSpec, MonitoringSpec, Project, RetrainingSpec
from lifecycle.quality.gates import decide_retraining
from lifecycle.records import DatasetVersion, Decision, DriftReport, ModelVersion, Scored, Window

CATEGORICAL = ("plan", "city")
ALL_COUNTS = DriftSpec(
    numeric_threshold=1e-9, categorical_threshold=1e-9, prediction_threshold=1e-9
)
"""The limits by chance alone: no distance is too small to matter."""
TABLE = DatasetVersion(uri="memory", version=0, digest="d", rows=0)
SCORED = Scored(
    dataset=TABLE,
    predictions=TABLE,
    model=ModelVersion(name="shop", version=1, uri="", run_id="", digest="b", identity="i"),
    window=Window(),
    engine="process",
)


def shop(rows: int, rng: np.random.Generator, shift: float = 0.0) -> OpenWindow:
    """Rows with a logistic target and a well calibrated model of it; `shift` is of `age`, in σ."""
    cities = 1 / np.arange(1, 196)
    features = pd.DataFrame(
        {
            "age": rng.normal(45 + 15 * shift, 15, rows),
            "spend": np.exp(rng.normal(5, 1, rows)),
            "visits": rng.poisson(3, rows),
            "income": np.where(rng.random(rows) < 0.2, np.nan, rng.gamma(2, 2, rows)),
            "plan": rng.choice(["basic", "plus", "pro"], rows, p=[0.5, 0.3, 0.2]),
            "city": rng.choice(195, rows, p=cities / cities.sum()).astype(str),
        }
    )
    score = 0.05 * (features["age"] - 45) - 0.4 * (features["visits"] - 3)
    answer = (1 / (1 + np.exp(-score))).to_numpy()
    truth = (rng.random(rows) < answer).astype(float)
    return OpenWindow(features, answer, truth, None, "binary", "churn")


def alarms(
    project: Project, rows: int, rng: np.random.Generator, windows: int, **spec: object
) -> list[Decision]:
    """Decisions that ask for retraining, in windows like the reference."""
    declared = MonitoringSpec.model_validate(spec)
    asked = []
    reference, report = shop(1000, rng), None
    released = quality(reference, SCORED, project)
    assert released is not None
    for _ in range(windows):
        current = shop(rows, rng)
        report = compared(reference, current, declared.drift, report)
        decision = decide_retraining(
            [report],
            [quality(current, SCORED, project)],
            released,
            declared,
            RetrainingSpec(triggers=("drift", "quality")),
            "log_loss",
        )
        asked += [] if decision.passed else [decision]
    return asked


@pytest.mark.parametrize("rows", [1, 3, 30])
def test_small_windows_never_cry_wolf(make_project: Callable[..., Project], rows: int) -> None:
    assert alarms(make_project(), rows, np.random.default_rng(rows), 20) == []


@pytest.mark.parametrize("rows", [1, 3, 30, 200, 2000])
def test_chance_is_not_drift(rows: int) -> None:
    """The limits alone hold, without a least number of rows."""
    assert drifted_windows(rows, ALL_COUNTS, 5) <= 6  # of 150, 1.5 expected


@pytest.mark.parametrize("rows", [3, 200])
def test_chance_is_not_drift_by_the_other_tests(rows: int) -> None:
    spec = ALL_COUNTS.model_copy(
        update={"numeric_test": "wasserstein", "categorical_test": "total_variation"}
    )
    assert drifted_windows(rows, spec, 4) <= 5  # of 120


def drifted_windows(rows: int, spec: DriftSpec, references: int) -> int:
    """Of 30 windows like each reference: those in which any column is beyond its limit."""
    rng = np.random.default_rng(rows)
    count = 0
    for _ in range(references):
        reference, report = shop(1000, rng), None
        for _ in range(30):
            report = compared(reference, shop(rows, rng), spec, report)
            assert report.labels is not None
            count += bool(report.alarms)
    return count


def compared(
    reference: OpenWindow, current: OpenWindow, spec: DriftSpec, like: DriftReport | None
) -> DriftReport:
    """A window's report, with the limits of one before it of the same size."""
    return drift_report(
        reference, current, spec, Window(), CATEGORICAL, with_visible=False, like=like
    )


@pytest.mark.parametrize("rows", [200, 2000])
def test_an_unchanged_model_is_not_worse(make_project: Callable[..., Project], rows: int) -> None:
    asked = alarms(make_project(), rows, np.random.default_rng(rows), 40)
    assert len(asked) <= 3, [decision.reasons for decision in asked]


@pytest.mark.parametrize("test", ["kolmogorov_smirnov", "wasserstein"])
def test_half_a_deviation_is_found_in_2000_rows(test: str) -> None:
    rng = np.random.default_rng(11)
    spec = MonitoringSpec.model_validate({"drift": {"numeric_test": test}})
    reference, report = shop(1000, rng), None
    for _ in range(20):
        report = compared(reference, shop(2000, rng, shift=0.5), spec.drift, report)
        assert [column.column for column in report.drifted] == ["age"]
        assert report.predictions.drifted


def test_a_model_gone_wrong_is_found_in_300_labels(make_project: Callable[..., Project]) -> None:
    """Half of the answers are turned round: no input changes, and the loss does."""
    rng = np.random.default_rng(11)
    project = make_project()
    reference, current = shop(1000, rng), shop(300, rng)
    turned = np.where(np.arange(300) % 2, current.truth, 1 - current.truth)
    worse = OpenWindow(current.features, current.prediction, turned, None, "binary", "churn")
    spec = MonitoringSpec()
    released = quality(reference, SCORED, project)
    assert released is not None
    found = decide_retraining(
        [drift_report(reference, worse, spec.drift, Window(), CATEGORICAL)],
        [quality(worse, SCORED, project)],
        released,
        spec,
        RetrainingSpec(),
        "log_loss",
    )
    assert found.reasons[-1].endswith("by quality.")
