"""Class weights are scikit-learn's, for two classes and for more."""

import numpy as np
import pytest
from sklearn.metrics import log_loss
from sklearn.utils.class_weight import compute_sample_weight

from lifecycle.errors import ProjectError
from lifecycle.training.matrix import class_counts, open_matrices, row_weights
from lifecycle.training.trainers.registry import open_trainer
from lifecycle.training.tuning.search import ValidationMetric

TRUTH = np.array([0.0, 0, 0, 0, 0, 1, 1, 0])


def test_without_a_class_weight_no_row_has_a_weight(make_project):
    assert row_weights(make_project(), TRUTH) is None


def test_balanced_is_scikit_learns(make_project):
    project = make_project(training={"class_weight": "balanced"})
    expected = compute_sample_weight("balanced", TRUTH)
    np.testing.assert_allclose(row_weights(project, TRUTH), expected)
    halves = [
        row_weights(project, half, class_counts(project, TRUTH)) for half in np.split(TRUTH, 2)
    ]
    np.testing.assert_allclose(np.concatenate(halves), expected)


def test_weights_by_name(make_project):
    project = make_project(training={"class_weight": {"1": 3.0, "0": 0.5}})
    assert row_weights(project, TRUTH).tolist() == [0.5] * 5 + [3.0] * 2 + [0.5]
    project = make_project(training={"class_weight": {"1": 3.0}})
    assert row_weights(project, TRUTH).tolist() == [1.0] * 5 + [3.0] * 2 + [1.0]


def test_classes_are_weighed_by_their_names(make_project):
    project = make_project(
        task="multiclass", target="city", training={"class_weight": {"Lima": 2.0, "Rome": 5.0}}
    )
    assert row_weights(project, np.array([0.0, 1, 2, 2])).tolist() == [5.0, 1.0, 2.0, 2.0]
    balanced = make_project(task="multiclass", target="city", training={"class_weight": "balanced"})
    truth = np.array([0.0, 0, 0, 2])
    np.testing.assert_allclose(
        row_weights(balanced, truth), compute_sample_weight("balanced", truth)
    )


def test_a_name_that_is_no_class_is_refused(make_project):
    project = make_project(training={"class_weight": {"2": 3.0}})
    with pytest.raises(
        ProjectError, match=r"training\.class_weight: '2' is not a value of 'bought'"
    ):
        row_weights(project, TRUTH)


@pytest.mark.parametrize("metric", ["log_loss", "accuracy"])
def test_trials_and_rounds_are_measured_with_the_weights_of_the_loss(make_project, prepare, metric):
    """By classes of the train part; a metric that was asked for instead counts rows alike."""
    project = make_project(
        training={"class_weight": "balanced", "metric": metric, "rounds": 20}, tuning={"space": {}}
    )
    split = prepare(project)
    data = open_matrices(project, split.train, split.validation)
    fitted = open_trainer(project).fit(project, data, {}, threads=1)
    answers, truth = fitted.model.predict(data.validation), data.validation_labels
    share = (data.train_labels == 1).mean()
    weights = np.where(truth == 1, 0.5 / share, 0.5 / (1 - share))
    np.testing.assert_allclose(data.validation_weights, weights)
    value = ValidationMetric(project, split.train, split.validation)({}, lambda at, score: False)
    if metric == "log_loss":
        expected = log_loss(truth, answers, sample_weight=weights)
        assert min(fitted.curve["validation"]) == pytest.approx(expected, abs=1e-5)
    else:
        expected = ((answers > 0.5) == truth).mean()
        assert 1 - min(fitted.curve["validation"]) == pytest.approx(expected, abs=1e-5)
    assert value == pytest.approx(expected)
