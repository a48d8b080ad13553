"""Quality of a window: the labelled rows only, own metrics too, None where nothing can be said."""

import numpy as np
import pandas as pd
import pytest

from lifecycle.monitoring.scored import OpenWindow, quality
from lifecycle.records import DatasetVersion, ModelVersion, Scored, Window
from tests.support.graded import GRADES, graded_project

TRUTH = np.array([0.0, 1.0, 1.0, 0.0, np.nan])
SCORES = np.array([0.1, 0.9, 0.4, 0.2, 0.7])


@pytest.fixture
def scored():
    table = DatasetVersion(uri="memory", version=0, digest="d", rows=5)
    model = ModelVersion(name="small", version=3, uri="", run_id="", digest="b", identity="i")
    return Scored(
        dataset=table, predictions=table, model=model, window=Window(first=2, last=2),
        engine="process",
    )  # fmt: skip


def seen(truth=TRUTH, prediction=SCORES):
    return OpenWindow(pd.DataFrame(), prediction, truth, None, "binary", "bought")


def test_labelled_rows_are_measured(make_project, scored):
    found = quality(seen(), scored, make_project())
    assert (found.rows, found.metrics["accuracy"].value) == (4, 0.75)
    assert found.subject == "small v3 in window 2"


def test_own_metrics_are_measured(make_project, scored, tmp_path):
    code = "def share(truth, prediction):\n    return prediction.mean()\n"
    (tmp_path / "mine.py").write_text(code)
    found = quality(seen(), scored, make_project(metrics={"share": "mine:share"}))
    assert found.metrics["share"].value == pytest.approx(SCORES[:4].mean())


def test_nothing_can_be_said_without_labels(make_project, scored):
    assert quality(seen(np.full(5, np.nan)), scored, make_project()) is None


@pytest.mark.parametrize("label", [0.0, 1.0])
def test_labels_of_one_class_define_losses_and_no_ranking(make_project, scored, label):
    found = quality(seen(np.array([label] * 4 + [np.nan])), scored, make_project())
    assert set(found.metrics) == {"log_loss", "brier", "accuracy"}
    assert found.metrics["accuracy"].value == (0.75 if label == 0 else 0.25)
    assert found.metrics["brier"].value == pytest.approx(np.mean((SCORES[:4] - label) ** 2))


def test_of_several_classes_too(make_project, scored):
    truth, prediction = np.full(4, 2.0), np.tile([0.2, 0.3, 0.5], (4, 1))
    window = OpenWindow(pd.DataFrame(), prediction, truth, None, "multiclass", "grade", GRADES)
    found = quality(window, scored, graded_project(make_project))
    assert set(found.metrics) == {"log_loss", "accuracy", "f1_macro"}
    assert found.metrics["log_loss"].value == pytest.approx(-np.log(0.5))


def test_an_own_metric_that_fails_on_few_rows_is_left_out(make_project, scored, tmp_path, caplog):
    (tmp_path / "mine.py").write_text("def broken(truth, prediction):\n    return 1 / 0\n")
    found = quality(seen(), scored, make_project(metrics={"broken": "mine:broken"}))
    assert "broken" not in found.metrics
    assert found.metrics["accuracy"].value == 0.75
    assert "ZeroDivisionError" in caplog.text
