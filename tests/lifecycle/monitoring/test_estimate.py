"""Quality before labels: intervals that cover, weights that help, estimates that are withdrawn."""

from collections.abc import Callable
from datetime import UTC, datetime

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from lifecycle.features.encode import labels
from lifecycle.labels.ledger import MOMENT, SCHEMA, Ledger
from lifecycle.monitoring.estimate import (
    NOISE,
    FeatureCodes,
    Reference,
    _calibration,
    _evidence,
    density_ratio,
    estimate_quality,
)
from lifecycle.monitoring.grades import grade
from lifecycle.monitoring.monitor import monitor_windows
from lifecycle.project import Metric, Project, TaskKind
from lifecycle.records import Estimate, Evaluation, Monitored, Scored
from lifecycle.settings import Settings
from lifecycle.training.evaluation.evaluate import Measurement, evaluate, metric_value
from tests.lifecycle.monitoring.test_monitor import answers, scored
from tests.support.small import SMALL, small_frame

SIGMOID = Measurement("binary", 17)


def logistic(rows: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-rows))


def drawn(rng: np.random.Generator, rows: int, shift: float = 0.0) -> tuple[np.ndarray, ...]:
    """Features, the answers of a model that is right only where the first is small, and truth."""
    features = rng.standard_normal((rows, 3)) + np.array([shift, 0, 0])
    true = logistic(1.2 * features[:, 0] - 0.9 * np.maximum(features[:, 0], 0) + features[:, 1])
    truth = (rng.random(rows) < true).astype(float)
    return features, logistic(1.2 * features[:, 0] + features[:, 1]), truth


def test_intervals_cover_and_the_weights_help_under_covariate_shift() -> None:
    rng = np.random.default_rng(17)
    covered, own, plain, release = [], [], [], []
    for _ in range(30):
        reference = Reference(*drawn(rng, 1_500))
        features, prediction, truth = drawn(rng, 500, shift=0.8)
        measured = metric_value("log_loss", truth, prediction, "binary")
        for errors, weighted in ((own, True), (plain, False)):
            found = estimate_quality(
                reference, features, prediction, "log_loss", "binary", weighted=weighted
            )
            errors.append(abs(found.value - measured))
            if weighted:
                covered.append(found.low <= measured <= found.high)
        same = metric_value("log_loss", reference.truth, reference.prediction, "binary")
        release.append(abs(same - measured))
    assert sum(covered) >= 26
    assert np.mean(own) <= np.mean(plain)
    assert np.mean(own) <= 0.7 * np.mean(release)


def test_the_error_of_a_number_grows_with_its_expected_size() -> None:
    rng = np.random.default_rng(17)

    def rows(count: int, shift: float) -> tuple[np.ndarray, ...]:
        features = rng.random((count, 2)) + np.array([shift, 0])
        noise = (0.2 + features[:, 0]) * rng.standard_normal(count)
        return features, features.sum(axis=1), features.sum(axis=1) + noise

    reference = Reference(*rows(2_000, 0.0))
    features, prediction, truth = rows(500, 0.5)
    features = features.clip(max=1.0)
    measured = metric_value("rmse", truth, prediction, "regression")
    found = estimate_quality(reference, features, prediction, "rmse", "regression")
    same = metric_value("rmse", reference.truth, reference.prediction, "regression")
    assert abs(found.value - measured) < 0.7 * abs(same - measured)


def test_what_is_unsure_widens_an_estimate_and_does_not_move_it() -> None:
    """A calibrated model under a shift: what the weights make of its calibration is noise."""
    rng = np.random.default_rng(11)

    def rows(count: int, shift: float) -> tuple[np.ndarray, ...]:
        features = rng.standard_normal((count, 3)) + np.array([shift, 0, 0])
        prediction = logistic(features[:, 0] + features[:, 1])
        return features, prediction, (rng.random(count) < prediction).astype(float)

    reference = Reference(*rows(1_500, 0.0))
    features, prediction, _ = rows(500, 1.0)
    assert (density_ratio(reference.features, features) != 1).any()
    weighted, plain = (
        estimate_quality(reference, features, prediction, "log_loss", "binary", weighted=weighted)
        for weighted in (True, False)
    )
    assert weighted.value == plain.value
    assert weighted.high - weighted.low > 1.1 * (plain.high - plain.low)


@pytest.mark.parametrize(
    ("metric", "task"),
    [
        ("rmse", "regression"),
        ("mae", "regression"),
        ("r2", "regression"),
        ("poisson_deviance", "count"),
        ("rmse", "count"),
        ("mae", "count"),
    ],
)
def test_the_estimate_of_a_number_is_right_on_average(metric: Metric, task: TaskKind) -> None:
    """RMSE and MAE were too high, the deviance of counts too low: drawn counts were no counts."""
    rng = np.random.default_rng(11)

    def rows(count: int) -> tuple[np.ndarray, ...]:
        features = rng.random((count, 3))
        if task == "count":
            mean = np.exp(2 * features[:, 0] - 1)
            return features, mean, rng.poisson(mean * rng.gamma(2, 0.5, count)).astype(float)
        noise = np.exp(2 * features[:, 0]) * rng.standard_normal(count)
        return features, 5 * features[:, 1], 5 * features[:, 1] + noise

    reference = Reference(*rows(10_000))
    features, prediction, _ = rows(5_000)
    found = estimate_quality(reference, features, prediction, metric, task)
    _, many, truth = rows(200_000)
    assert found.value == pytest.approx(metric_value(metric, truth, many, task), rel=0.04)
    assert found.low < found.value < found.high


def test_a_shift_that_changes_no_error_moves_no_number() -> None:
    rng = np.random.default_rng(11)

    def rows(count: int, shift: float) -> tuple[np.ndarray, ...]:
        features = rng.standard_normal((count, 3)) + np.array([shift, 0, 0])
        return features, features[:, 0], features[:, 0] + rng.standard_normal(count)

    reference = Reference(*rows(1_500, 0.0))
    features, prediction, _ = rows(500, 1.0)
    weighted, plain = (
        estimate_quality(reference, features, prediction, "mae", "regression", weighted=weighted)
        for weighted in (True, False)
    )
    assert weighted.value == plain.value
    assert weighted.high - weighted.low > plain.high - plain.low


def test_noise_alone_is_believed_in_one_of_twenty_windows() -> None:
    """It was believed in none, and hardly anything else was: a move varies less than its ends."""
    rng = np.random.default_rng(11)
    believed = {"mean": 0, "calibration": 0}
    for _ in range(300):
        margin = rng.standard_normal(800)
        weights = np.exp(0.6 * rng.standard_normal(800) + 0.3 * margin)
        values = rng.exponential(size=800)
        believed["mean"] += _evidence(np.ones(800), values, weights) > NOISE[1]
        truth = rng.random(800) < logistic(margin)
        plain, weighted = (
            _calibration(logistic(margin), truth, each)[0] for each in (np.ones(800), weights)
        )
        believed["calibration"] += (weighted != plain).any()
    assert 6 <= believed["mean"] <= 30
    assert 6 <= believed["calibration"] <= 30


def test_without_a_shift_every_weight_is_one_and_the_same_rows_give_the_same_estimate() -> None:
    rng = np.random.default_rng(3)
    reference = Reference(*drawn(rng, 1_000))
    features, prediction, _ = drawn(rng, 400)
    assert (density_ratio(reference.features, features) == 1).all()
    first, second = (
        estimate_quality(reference, features, prediction, "roc_auc", "binary") for _ in range(2)
    )
    assert first == second


def test_several_classes_are_drawn_from_their_calibrated_probabilities() -> None:
    rng = np.random.default_rng(5)

    def rows(count: int) -> tuple[np.ndarray, ...]:
        features = rng.standard_normal((count, 2))
        shares = np.exp(np.column_stack([features, np.zeros(count)]))
        shares /= shares.sum(axis=1, keepdims=True)
        truth = (rng.random(count)[:, None] > shares.cumsum(axis=1)).sum(axis=1).astype(float)
        return features, shares, truth

    covered = 0
    for _ in range(10):
        reference = Reference(*rows(1_500))
        features, prediction, truth = rows(400)
        found = estimate_quality(reference, features, prediction, "log_loss", "multiclass")
        measured = metric_value("log_loss", truth, prediction, "multiclass")
        covered += found.low <= measured <= found.high
    assert covered >= 8


def test_levels_are_numbered_alike_and_new_ones_are_told() -> None:
    before = pd.DataFrame({"city": ["Rome", "Rome", "Oslo", None], "age": [1.0, 2.0, None, 4.0]})
    codes = FeatureCodes(before, ["city"])
    after = codes.matrix(pd.DataFrame({"city": ["Oslo", "Lima"], "age": [1.0, np.inf]}))
    assert after[0, 0] in (1, 2)
    assert after[1, 0] == -1
    assert np.isnan(after[1, 1])


INSIDE, OUTSIDE, FAR = 0.5, 0.65, 0.8


@pytest.mark.parametrize(
    ("measured", "withdrawn"),
    [
        ([INSIDE] * 5, False),
        ([INSIDE, OUTSIDE], False),
        ([INSIDE, OUTSIDE, INSIDE], False),
        ([OUTSIDE, OUTSIDE], True),
        ([INSIDE, FAR], True),
        ([FAR, INSIDE], False),
        ([], False),
    ],
)
def test_an_estimate_that_was_wrong_is_withdrawn(measured: list[float], withdrawn: bool) -> None:
    estimate = Estimate(value=0.5, low=0.4, high=0.6)
    found = grade([(estimate, value) for value in measured])
    assert bool(found.withdrawn) == withdrawn
    assert found.covered == measured.count(INSIDE)


def test_what_an_interval_covers_withdraws_nothing() -> None:
    """An interval reaches further to one side of its estimate."""
    lopsided = Estimate(value=0.80, low=0.60, high=0.82)
    for measured in (0.61, 0.81):
        assert not grade([(lopsided, measured)]).withdrawn
    assert grade([(lopsided, 0.48)]).withdrawn


# In the report.

TIMED = {
    "time": {"column": "seen", "period": "day"},
    "contract": SMALL["contract"]
    | {"columns": {**SMALL["contract"]["columns"], "seen": {"type": "datetime"}}},
}


def windows(settings: Settings) -> tuple[pd.DataFrame, Scored, Scored]:
    """A frame with a time a row, the reference, and a window without labels."""
    frame = small_frame(800)
    frame["seen"] = pd.Timestamp("2024-01-01") + pd.to_timedelta(frame.index, unit="min")
    reference = scored(settings, frame[:400], 1)
    return frame, reference, scored(settings, frame[400:].drop(columns="bought"), 2)


def monitored(
    project: Project, settings: Settings, as_of: datetime | None = None
) -> tuple[Monitored, str]:
    frame, reference, window = windows(settings)
    released: Evaluation = evaluate(
        labels(frame[:400], project), answers(frame[:400]), SIGMOID, "h", "v1 at release"
    )
    found = monitor_windows(project, settings, reference, [window], released, as_of)
    return found, found.report.read_text()


def deliver(settings: Settings, frame: pd.DataFrame, truth: np.ndarray, known: datetime) -> None:
    columns = {
        "entity": frame["customer"].astype(str),
        "time": pa.array(frame["seen"]).cast(pa.timestamp("us")).cast(MOMENT),
        "known_at": pa.array([known] * len(frame), MOMENT),
        "number": truth.astype(float),
    }
    nulls = {field.name: pa.nulls(len(frame), field.type) for field in SCHEMA}
    Ledger(settings, "small").append(pa.table(nulls | columns, schema=SCHEMA))


def test_the_report_estimates_measures_withdraws_and_is_made_again_as_known_then(
    make_project: Callable[..., Project], settings: Settings
) -> None:
    project = make_project(small_frame().assign(seen="2024-01-01"), **TIMED)
    frame = windows(settings)[0][400:]
    before, page = monitored(project, settings)
    assert before.quality == (None,)
    (estimated,) = before.estimates
    assert estimated
    assert estimated.grade.windows == 0
    assert "no labelled window yet" in page

    truth = frame["bought"].to_numpy()
    deliver(settings, frame, truth, datetime(2024, 2, 1, tzinfo=UTC))
    after, page = monitored(project, settings)
    assert after.quality[0]
    assert after.quality[0].rows == 400
    assert after.estimates[0]
    assert after.estimates[0].grade.windows == 1
    assert "on 400 rows" in page

    deliver(settings, frame, 1 - truth, datetime(2024, 3, 1, tzinfo=UTC))
    corrected, page = monitored(project, settings)
    assert corrected.estimates[0]
    assert corrected.estimates[0].grade.withdrawn
    assert "withdrawn" in page
    then, page = monitored(project, settings, datetime(2024, 2, 15, tzinfo=UTC))
    assert then == after
    assert page == after.report.read_text()
