"""Metrics equal scikit-learn's, intervals cover, entities widen them, nonsense is refused."""

import time

import numpy as np
import pytest
from sklearn import metrics as sk

from lifecycle.errors import TargetError
from lifecycle.project import METRICS
from lifecycle.training.evaluation.evaluate import (
    Measurement,
    baseline,
    compare,
    estimate,
    evaluate,
    metric_value,
)

RNG = np.random.default_rng(5)
TRUTH = RNG.integers(0, 2, 900)
SCORES = np.round(np.clip(TRUTH * 0.25 + RNG.random(900) * 0.75, 0, 1), 2)  # with many ties
VALUES = RNG.normal(100, 20, 900)
GUESSES = VALUES + RNG.normal(0, 5, 900)
COUNTS = RNG.poisson(3, 900)
CLASSES = RNG.integers(0, 3, 900)
SHARES = np.eye(3)[CLASSES] * 0.3 + RNG.dirichlet([1, 1, 1], 900) * 0.7


@pytest.mark.parametrize(
    ("metric", "expected"),
    [
        ("roc_auc", sk.roc_auc_score(TRUTH, SCORES)),
        ("average_precision", sk.average_precision_score(TRUTH, SCORES)),
        ("log_loss", sk.log_loss(TRUTH, SCORES)),
        ("brier", sk.brier_score_loss(TRUTH, SCORES)),
        ("accuracy", sk.accuracy_score(TRUTH, SCORES >= 0.5)),
    ],
)
def test_binary_metrics_are_those_of_scikit_learn(metric, expected):
    found = evaluate(TRUTH, SCORES, Measurement("binary", 1), "d", "candidate").metrics[metric]
    assert found.value == pytest.approx(expected, rel=1e-9)
    assert found.low < found.value < found.high


@pytest.mark.parametrize(
    ("metric", "expected"),
    [
        ("rmse", sk.root_mean_squared_error(VALUES, GUESSES)),
        ("mae", sk.mean_absolute_error(VALUES, GUESSES)),
        ("r2", sk.r2_score(VALUES, GUESSES)),
    ],
)
def test_regression_metrics_are_those_of_scikit_learn(metric, expected):
    found = evaluate(VALUES, GUESSES, Measurement("regression", 1), "d", "candidate").metrics[
        metric
    ]
    assert found.value == pytest.approx(expected, rel=1e-9)
    assert found.low < found.value < found.high


def test_evaluation_names_its_holdout_and_is_repeatable():
    first = evaluate(TRUTH, SCORES, Measurement("binary", 3), "digest", "candidate")
    assert (first.holdout, first.rows, first.subject) == ("digest", 900, "candidate")
    assert first == evaluate(TRUTH, SCORES, Measurement("binary", 3), "digest", "candidate")
    assert first != evaluate(TRUTH, SCORES, Measurement("binary", 4), "digest", "candidate")


def test_interval_covers_the_truth_about_as_often_as_it_says():
    covered = 0
    for seed in range(120):
        rng = np.random.default_rng(seed)
        truth = rng.normal(0, 1, 300)
        found = evaluate(truth, np.zeros(300), Measurement("regression", seed), "d", "zero")
        covered += found.metrics["rmse"].low <= 1.0 <= found.metrics["rmse"].high
    assert 0.88 <= covered / 120 <= 1.0


def test_rows_of_one_entity_are_drawn_together():
    """Ten copies of each row carry no more knowledge than one: the interval must not shrink."""
    truth, guess = np.repeat(VALUES[:90], 10), np.repeat(GUESSES[:90], 10)
    entity = np.repeat([f"p{i}" for i in range(90)], 10)

    def width(groups):
        found = evaluate(
            truth, guess, Measurement("regression", 1, groups=groups), "d", "s"
        ).metrics["mae"]
        return found.high - found.low

    once = evaluate(VALUES[:90], GUESSES[:90], Measurement("regression", 1), "d", "s").metrics[
        "mae"
    ]
    assert width(entity) == pytest.approx(once.high - once.low, rel=0.15)
    assert width(None) < 0.5 * width(entity)


def test_baseline_is_the_prior_or_the_mean():
    found = baseline([0, 1, 1, 1], TRUTH, Measurement("binary", 1), "d")
    assert found.metrics["roc_auc"].value == 0.5
    assert found.metrics["brier"].value == pytest.approx(np.mean((TRUTH - 0.75) ** 2))
    assert found.subject == "baseline (always 0.75)"
    mean = baseline(VALUES, VALUES, Measurement("regression", 1), "d")
    assert mean.metrics["r2"].value == pytest.approx(0)


def test_comparison_is_positive_for_the_better_in_the_metrics_own_direction():
    worse = GUESSES + 3
    gain = compare(VALUES, GUESSES, worse, "rmse", Measurement("regression", 1), 0.9)
    assert 0 < gain.low < gain.least < gain.value < gain.high
    loss = compare(TRUTH, SCORES * 0 + 0.5, SCORES, "roc_auc", Measurement("binary", 1), 0.9)
    assert loss.high < 0


def test_comparison_of_equals_is_exactly_zero():
    same = compare(TRUTH, SCORES, SCORES, "average_precision", Measurement("binary", 1), 0.9)
    assert (same.low, same.least, same.value, same.high) == (0, 0, 0, 0)


def test_paired_interval_is_narrower_than_the_two_apart():
    nudged = GUESSES + RNG.normal(0, 0.5, 900)
    gain = compare(VALUES, GUESSES, nudged, "rmse", Measurement("regression", 1), 0.9)
    alone = evaluate(VALUES, GUESSES, Measurement("regression", 1), "d", "s").metrics["rmse"]
    assert gain.high - gain.low < 0.5 * (alone.high - alone.low)


@pytest.mark.parametrize(
    ("truth", "prediction", "message"),
    [
        ([1, 1, 1], [0.1, 0.2, 0.3], "both classes"),
        ([0, 1, 2], [0.1, 0.2, 0.3], "both classes"),
        ([], [], "empty"),
        ([0, 1], [0.1], "shape"),
        ([0, 1], [0.1, np.nan], "prediction: 1 of 2"),
        ([0, np.nan], [0.1, 0.2], "truth: 1 of 2"),
    ],
)
def test_nonsense_is_refused(truth, prediction, message):
    with pytest.raises(TargetError, match=message):
        evaluate(truth, prediction, Measurement("binary", 1), "d", "s")


def test_extreme_probabilities_cost_a_finite_amount():
    assert np.isfinite(metric_value("log_loss", [0, 1], [1.0, 0.0], "binary"))


def test_few_rows_give_finite_intervals():
    """Resamples with one class only are left out; with none left the value stands alone."""
    found = evaluate([0, 1], [0.2, 0.8], Measurement("binary", 1), "d", "s").metrics["roc_auc"]
    assert (found.low, found.value, found.high) == (1, 1, 1)
    constant = evaluate([2.0, 2.0], [1.0, 3.0], Measurement("regression", 1), "d", "s")
    assert constant.metrics["rmse"].value == 1
    assert constant.metrics["r2"].value == sk.r2_score([2.0, 2.0], [1.0, 3.0]) == 0


def test_multiclass_and_count_have_every_metric_with_an_interval():
    found = evaluate(CLASSES, SHARES, Measurement("multiclass", 1), "d", "s").metrics
    assert tuple(found) == METRICS["multiclass"]
    counts = evaluate(COUNTS, COUNTS * 0.5 + 1, Measurement("count", 1), "d", "s").metrics
    assert tuple(counts) == METRICS["count"]
    for one in (*found.values(), *counts.values()):
        assert one.low < one.value < one.high


def test_multiclass_baseline_is_the_class_shares():
    found = baseline([0, 0, 1, 2], CLASSES, Measurement("multiclass", 1), "d")
    shares = np.tile([0.5, 0.25, 0.25], (len(CLASSES), 1))
    assert found.metrics["log_loss"].value == pytest.approx(sk.log_loss(CLASSES, shares))
    assert found.metrics["roc_auc"].value == 0.5
    lacking = baseline(
        [0, 0, 1], CLASSES, Measurement("multiclass", 1), "d"
    )  # class 2 was never seen
    assert np.isfinite(lacking.metrics["log_loss"].value)


@pytest.mark.parametrize(
    ("truth", "prediction", "task", "message"),
    [
        ([0, 3], SHARES[:2], "multiclass", "0 to 2"),
        ([1, 1], SHARES[:2], "multiclass", "two classes"),
        ([0, 1], [0.5, 0.5], "multiclass", "shape"),
        ([0, 1], SHARES[:2], "binary", "shape"),
        ([1, -1], [1.0, 1.0], "count", "1 of 2 values are negative"),
    ],
)
def test_nonsense_of_other_tasks_is_refused(truth, prediction, task, message):
    with pytest.raises(TargetError, match=message):
        evaluate(truth, prediction, Measurement(task, 1), "d", "s")


def test_large_holdouts_get_a_normal_interval_that_agrees_with_the_percentiles(monkeypatch):
    truth = RNG.integers(0, 2, 25_000)
    scores = np.round(truth * 0.2 + RNG.random(25_000) * 0.8, 3)
    entity = np.arange(25_000) // 5
    normal = evaluate(truth, scores, Measurement("binary", 1, groups=entity), "d", "s")
    assert "normal" in normal.method
    assert "whole entities" in normal.method
    monkeypatch.setattr("lifecycle.training.evaluation.evaluate.LARGE", 100_000)
    monkeypatch.setattr("lifecycle.training.evaluation.evaluate.LARGE", 100_000)
    percentile = evaluate(truth, scores, Measurement("binary", 1, groups=entity), "d", "s")
    assert "400" in percentile.method
    for name, one in normal.metrics.items():
        other = percentile.metrics[name]
        assert one.value == pytest.approx(other.value, rel=1e-12)
        assert one.high - one.low == pytest.approx(other.high - other.low, rel=0.3)
        assert one.value - one.low == pytest.approx(one.high - one.value)


def test_large_holdouts_are_quick():
    """Minutes, if every resample were sorted again."""
    truth = RNG.integers(0, 2, 200_000)
    start = time.process_time()
    evaluate(truth, RNG.random(200_000), Measurement("binary", 1), "d", "s")
    assert time.process_time() - start < 5


def test_own_metrics_stand_beside_the_tasks():
    own = {"hits": lambda truth, prediction: float(((prediction > 0.5) == truth).mean())}
    found = evaluate(TRUTH, SCORES, Measurement("binary", 1, own=own), "d", "s").metrics
    assert tuple(found)[-1] == "hits"
    assert found["hits"].value == np.mean((SCORES > 0.5) == TRUTH)
    assert found["hits"].low < found["hits"].value < found["hits"].high
    assert metric_value("hits", TRUTH, SCORES, "binary", own) == found["hits"].value
    worse = compare(TRUTH, 1 - SCORES, SCORES, "hits", Measurement("binary", 1, own=own), 0.9)
    assert worse.high < 0
    assert estimate("hits", TRUTH, SCORES, Measurement("binary", 1, own=own)) == found["hits"]


def test_one_metric_alone_is_that_of_the_whole_evaluation():
    found = evaluate(TRUTH, SCORES, Measurement("binary", 1), "d", "s").metrics
    assert estimate("brier", TRUTH, SCORES, Measurement("binary", 1)) == found["brier"]
