"""Every built-in metric is scikit-learn's, on all rows and on rows drawn several times."""

import numpy as np
import pytest
from sklearn import metrics as sk

from lifecycle.project import METRICS
from lifecycle.training.evaluation.metrics import FAMILIES, family_of

ROWS, CLASSES = 500, 4
RNG = np.random.default_rng(7)
BINARY = RNG.integers(0, 2, ROWS).astype(float)
SCORES = np.clip(BINARY * 0.2 + RNG.random(ROWS) * 0.8, 0, 1)
CODES = RNG.integers(0, CLASSES, ROWS).astype(float)
SHARES = np.eye(CLASSES)[CODES.astype(int)] * 0.2 + RNG.dirichlet(np.ones(CLASSES), ROWS) * 0.8
VALUES = RNG.normal(50, 9, ROWS)
GUESSES = VALUES + RNG.normal(0, 4, ROWS)
COUNTS = RNG.poisson(2, ROWS).astype(float)
RATES = COUNTS * 0.4 + RNG.gamma(2, 0.5, ROWS)

DATA = {
    "binary": (BINARY, SCORES),
    "multiclass": (CODES, SHARES),
    "regression": (VALUES, GUESSES),
    "count": (COUNTS, RATES),
}
REFERENCES = {
    ("binary", "roc_auc"): sk.roc_auc_score,
    ("binary", "average_precision"): sk.average_precision_score,
    ("binary", "log_loss"): sk.log_loss,
    ("binary", "brier"): sk.brier_score_loss,
    ("binary", "accuracy"): lambda y, p: sk.accuracy_score(y, p >= 0.5),
    ("multiclass", "log_loss"): sk.log_loss,
    ("multiclass", "accuracy"): lambda y, p: sk.accuracy_score(y, p.argmax(axis=1)),
    ("multiclass", "roc_auc"): lambda y, p: sk.roc_auc_score(y, p, multi_class="ovr"),
    ("multiclass", "f1_macro"): lambda y, p: sk.f1_score(y, p.argmax(axis=1), average="macro"),
    ("regression", "rmse"): sk.root_mean_squared_error,
    ("regression", "mae"): sk.mean_absolute_error,
    ("regression", "r2"): sk.r2_score,
    ("count", "poisson_deviance"): sk.mean_poisson_deviance,
    ("count", "rmse"): sk.root_mean_squared_error,
    ("count", "mae"): sk.mean_absolute_error,
}


def measured(metric, task, truth, prediction, weights):
    family = family_of(metric, task)
    return family.prepare(truth, prediction)(weights)[family.names.index(metric)]


def test_every_metric_of_every_task_is_compared_here():
    assert set(REFERENCES) == {(task, name) for task, names in METRICS.items() for name in names}
    assert {n for fs in FAMILIES.values() for f in fs for n in f.names} == {
        name for names in METRICS.values() for name in names
    }


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize(("task", "metric"), REFERENCES)
def test_metrics_are_those_of_scikit_learn(task, metric, ties):
    truth, prediction = DATA[task]
    if ties and task == "binary":
        prediction = np.round(prediction, 1)
    if ties and task == "multiclass":
        prediction = np.round(prediction, 1) + 1e-3
        prediction /= prediction.sum(axis=1, keepdims=True)
    reference = REFERENCES[task, metric]
    whole = measured(metric, task, truth, prediction, np.ones(ROWS, dtype=np.int64))
    assert whole == pytest.approx(reference(truth, prediction), rel=1e-9)
    drawn = RNG.integers(0, ROWS, ROWS)
    weights = np.bincount(drawn, minlength=ROWS)
    again = measured(metric, task, truth, prediction, weights)
    assert again == pytest.approx(reference(truth[drawn], prediction[drawn]), rel=1e-9)


def test_rows_in_the_order_of_their_scores_give_the_same():
    order = np.argsort(-SCORES)
    weights = RNG.integers(0, 3, ROWS)
    for metric in ("roc_auc", "average_precision"):
        sorted_ = measured(metric, "binary", BINARY[order], SCORES[order], weights[order])
        assert sorted_ == measured(metric, "binary", BINARY, SCORES, weights)


def test_a_class_that_was_not_drawn_is_left_out():
    weights = (CODES != 3).astype(np.int64)
    area = measured("roc_auc", "multiclass", CODES, SHARES, weights)
    rows = CODES != 3
    each = [sk.roc_auc_score(CODES[rows] == k, SHARES[rows, k]) for k in range(3)]
    assert area == pytest.approx(np.mean(each))


def test_one_class_alone_leaves_ranking_undefined():
    only = (BINARY == 1).astype(np.int64)
    assert np.isnan(measured("roc_auc", "binary", BINARY, SCORES, only))
    assert np.isnan(measured("average_precision", "binary", BINARY, SCORES, 1 - only))
    codes = (CODES == 1).astype(np.int64)
    assert np.isnan(measured("roc_auc", "multiclass", CODES, SHARES, codes))


def test_a_predicted_count_of_zero_costs_a_finite_amount():
    ones = np.ones(2, dtype=np.int64)
    truth = np.array([0.0, 1.0])
    right = measured("poisson_deviance", "count", truth, np.array([0.0, 1.0]), ones)
    assert right == pytest.approx(0)
    wrong = measured("poisson_deviance", "count", truth, np.array([0.0, 0.0]), ones)
    assert 10 < wrong < 100
