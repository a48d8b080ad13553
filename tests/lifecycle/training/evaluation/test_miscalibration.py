"""Bad calibration is told from chance at the size of the holdout."""

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from lifecycle.training.calibration import log_odds, sigmoid
from lifecycle.training.evaluation.metrics import (
    calibration_slope,
    mean_error,
    miscalibration,
)
from tests.support.graded import graded_project


def outcomes(rows, seed, slope=1.0, shift=0.0):
    """Answers, and what happens if their log-odds times `slope` plus `shift` are the true ones."""
    draw = np.random.default_rng(seed)
    margin = draw.normal(-0.5, 1.2, rows)
    y = (draw.random(rows) < sigmoid(slope * margin + shift)).astype(np.float64)
    return y, sigmoid(margin)


@pytest.fixture
def project(make_project):
    return make_project()


@pytest.mark.parametrize("rows", [60, 130, 1_000, 30_000])
def test_good_probabilities_hardly_ever_warn(project, rows):
    warned = [bool(miscalibration(project, *outcomes(rows, seed))) for seed in range(200)]
    assert sum(warned) <= 2


@pytest.mark.parametrize(
    ("slope", "shift", "words"),
    [
        (0.4, 0.0, "too extreme: calibration slope 0"),
        (2.5, 0.0, "too timid: calibration slope 2"),
        (1.0, 0.8, "too low"),
        (1.0, -0.8, "too high"),
    ],
)
def test_what_is_off_is_named_with_what_to_do(project, slope, shift, words):
    texts = [
        " ".join(miscalibration(project, *outcomes(1_000, s, slope, shift))) for s in range(20)
    ]
    assert sum(words in text for text in texts) >= 18
    assert all("training.calibration: sigmoid may mend it" in text for text in texts if text)


def test_a_small_but_certain_error_is_none_to_act_on(project):
    y, p = outcomes(200_000, 1, slope=0.95)
    slope = calibration_slope(y, p)
    assert slope.high < 1
    assert miscalibration(project, y, p) == ()


def test_too_few_rows_of_an_outcome_say_nothing(project):
    p = np.full(500, 0.5)
    assert miscalibration(project, (np.arange(500) < 9).astype(float), p) == ()
    assert miscalibration(project, (np.arange(500) < 90).astype(float), p)


def test_the_slope_is_that_of_a_logistic_regression():
    y, p = outcomes(2_000, 3, slope=0.7)
    plain = LogisticRegression(C=np.inf, solver="newton-cholesky", tol=1e-10).fit(
        log_odds(p)[:, None], y
    )
    slope = calibration_slope(y, p)
    assert slope.value == pytest.approx(plain.coef_[0, 0], rel=1e-4)
    estimates = [calibration_slope(*outcomes(2_000, seed)) for seed in range(200)]
    covered = sum(one.low <= 1 <= one.high for one in estimates)
    assert covered >= 192  # about 99 %


def test_perfect_separation_has_no_slope():
    y = (np.arange(100) < 50).astype(float)
    assert calibration_slope(y, np.where(y > 0, 0.9, 0.1)) is None


def test_rows_of_one_entity_count_as_one():
    y, p = outcomes(300, 5, slope=0.6)
    twice, entity = (np.tile(y, 4), np.tile(p, 4)), np.tile(np.arange(300), 4)
    alone, together = calibration_slope(*twice), calibration_slope(*twice, entity)
    assert together.value == pytest.approx(alone.value)
    assert together.high - together.low > 1.7 * (alone.high - alone.low)
    alone, together = mean_error(*twice), mean_error(*twice, entity)
    assert together.high - together.low == pytest.approx(2 * (alone.high - alone.low), rel=0.02)


def test_classes_are_judged_by_their_most_probable_one(make_project):
    project = graded_project(make_project)
    draw = np.random.default_rng(2)
    margins = draw.normal(0, 1.5, (1_500, 3))
    shares = np.exp(margins) / np.exp(margins).sum(axis=1, keepdims=True)
    y = np.array([draw.choice(3, p=row) for row in shares]).astype(np.float64)
    assert miscalibration(project, y, shares) == ()
    extreme = shares**3 / (shares**3).sum(axis=1, keepdims=True)
    assert "Probabilities are too high" in miscalibration(project, y, extreme)[0]


def test_weights_of_classes_are_named_as_the_cause(make_project):
    project = make_project(training={"class_weight": "balanced"})
    (text,) = miscalibration(project, *outcomes(1_000, 1, shift=-1.5))[:1]
    assert "training.class_weight shifts them" in text


def test_values_are_no_probabilities(make_project):
    project = make_project(task="regression", target="visits")
    assert miscalibration(project, np.arange(50.0), np.zeros(50)) == ()
