"""The user's own metrics: loaded from beside the project, failures told with file and line."""

import numpy as np
import pytest

from lifecycle.errors import FeatureError
from lifecycle.training.evaluation.evaluate import Measurement, evaluate
from lifecycle.training.own_metrics import own_metrics

CODE = """
def profit(truth, prediction):
    truth[:] = 0  # what it is handed is its own
    return prediction.sum()


def broken(truth, prediction):
    return 1 / 0


def silent(truth, prediction):
    pass


def endless(truth, prediction):
    return float("inf")


def two_classes(truth, prediction):
    if len(set(truth)) < 2:
        raise ValueError("one class")
    return truth.mean()
"""


@pytest.fixture
def load(make_project, tmp_path):
    (tmp_path / "mine.py").write_text(CODE)
    return lambda name: own_metrics(make_project(metrics={"own": f"mine:{name}"}))


def test_a_metric_is_called_with_truth_and_prediction(load):
    truth = np.array([0.0, 1.0, 1.0])
    found = evaluate(truth, [0.1, 0.2, 0.3], Measurement("binary", 1, own=load("profit")), "d", "s")
    assert found.metrics["own"].value == pytest.approx(0.6)
    assert truth.tolist() == [0, 1, 1]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("broken", r"metrics\.own: .*mine\.py:8: ZeroDivisionError"),
        ("silent", r"metrics\.own: .*mine\.py:11: mine:silent returned None, not a finite number"),
        ("endless", r"metrics\.own: .*mine\.py:15: mine:endless returned inf"),
    ],
)
def test_failures_name_function_and_line(load, name, message):
    with pytest.raises(FeatureError, match=message):
        evaluate([0, 1], [0.1, 0.2], Measurement("binary", 1, own=load(name)), "d", "s")


def test_resamples_on_which_a_metric_fails_are_left_out(load):
    found = evaluate(
        [0, 1, 1], [0.1, 0.2, 0.3], Measurement("binary", 1, own=load("two_classes")), "d", "s"
    )
    assert found.metrics["own"].value == pytest.approx(2 / 3)
    assert found.metrics["own"].high == pytest.approx(2 / 3)
    assert found.metrics["own"].low == pytest.approx(1 / 3)


def test_a_missing_function_is_told(load):
    with pytest.raises(FeatureError, match=r"metrics\.own: .* has no function 'absent'"):
        load("absent")
