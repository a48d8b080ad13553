"""Monitoring of a multiclass model: the predicted class is compared, as a category."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest

from lifecycle.features.encode import labels
from lifecycle.lake.read import read_version
from lifecycle.lake.table import table_uri
from lifecycle.lake.write import write_version
from lifecycle.monitoring.drift import drift_report
from lifecycle.monitoring.monitor import monitor_windows
from lifecycle.monitoring.scored import OpenWindow, open_window
from lifecycle.profiling.compare import cramers_v
from lifecycle.project import DriftSpec, Project
from lifecycle.records import Scored, Window
from lifecycle.serving.batch import score
from lifecycle.settings import Settings
from lifecycle.training.evaluation.evaluate import Measurement, evaluate
from tests.support.graded import GRADES, graded_frame, graded_project


@pytest.fixture
def graded(
    make_project: Callable[..., Project], train: Callable[..., Any], settings: Settings
) -> Any:
    return train(graded_project(make_project), settings)


def scored(made: Any, frame: pd.DataFrame, number: int) -> Scored:
    dataset = write_version(
        frame.reset_index(drop=True),
        table_uri(made.settings, "small", f"current{number}"),
        note={"window": str(number)},
    )
    window = Window(first=number, last=number)
    return score(made.project, made.settings, dataset, window, made.model, made.bundle.path)


def released(made: Any) -> Any:
    frame = made.holdout()
    truth = labels(frame, made.project)
    return evaluate(truth, made.expected(frame), Measurement("multiclass", 17), "h", "at release")


def test_a_window_is_opened_with_probabilities_and_classes(graded: Any) -> None:
    frame = graded_frame()
    seen = open_window(scored(graded, frame, 1), graded.project)
    np.testing.assert_array_equal(seen.prediction, graded.expected(frame))
    assert seen.answer.tolist() == [GRADES[at] for at in seen.prediction.argmax(axis=1)]
    assert [GRADES[int(code)] for code in seen.truth] == frame["grade"].tolist()


def test_a_shift_of_the_classes_is_drift_and_shown(graded: Any) -> None:
    frame = graded_frame()
    reference = scored(graded, frame, 1)
    shifted = scored(graded, frame.assign(age=20.0, visits=0), 2)
    found = monitor_windows(graded.project, graded.settings, reference, [shifted], released(graded))
    moved = found.drift[0].predictions
    assert (moved.column, moved.test, moved.threshold) == ("prediction", "cramers_v", 0.1)
    assert found.drift[0].labels is not None
    assert found.drift[0].labels.statistic == 0
    assert moved.drifted
    assert not found.decision.passed
    assert found.quality[0] is not None
    assert set(found.quality[0].metrics) == {"log_loss", "accuracy", "roc_auc", "f1_macro"}
    assert "poor (100%)" in found.report.read_text()

    quiet = scored(graded, frame.iloc[::-1], 3)
    found = monitor_windows(graded.project, graded.settings, reference, [quiet], released(graded))
    assert found.drift[0].predictions.statistic == 0
    assert found.decision.passed, found.decision.reasons


@pytest.mark.parametrize(("test", "expected"), [("cramers_v", None), ("total_variation", 0.5)])
def test_classes_are_compared_by_the_categorical_test(test: str, expected: float | None) -> None:
    frame = pd.DataFrame({"x": [1.0, 2.0, 3.0, 4.0] * 10})
    spec = DriftSpec.model_validate({"categorical_test": test, "prediction_threshold": 0.3})

    def seen(codes: list[int]) -> OpenWindow:
        unknown = np.full(40, np.nan)
        return OpenWindow(
            frame, np.eye(2)[codes * 10], unknown, None, "multiclass", "grade", ("a", "b")
        )

    found = drift_report(seen([0, 0, 1, 1]), seen([1, 1, 1, 1]), spec, Window(), ()).predictions
    if expected is None:
        expected = cramers_v(np.array([0.5, 0.5]), np.array([0.0, 1.0]))
    assert (found.test, found.threshold) == (test, 0.3)
    assert found.statistic == pytest.approx(expected)


def test_predictions_of_the_table_are_those_of_its_rows(graded: Any) -> None:
    window = scored(graded, graded_frame(), 1)
    table = read_version(window.predictions)
    assert open_window(window, graded.project).answer.tolist() == table["prediction"].tolist()
