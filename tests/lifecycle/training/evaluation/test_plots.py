"""Figures are drawn without pyplot and hold what their names say."""

import io
import subprocess
import sys

import numpy as np
import pytest
from sklearn.metrics import (
    average_precision_score,
    precision_score,
    recall_score,
    roc_auc_score,
)

from lifecycle.errors import TargetError
from lifecycle.records import Estimate, Slice
from lifecycle.training.evaluation.plots import (
    MOST_CLASSES,
    MOST_FEATURES,
    evaluation_plots,
    learning_curve,
    slices_plot,
)

RNG = np.random.default_rng(1)
TRUTH = RNG.integers(0, 2, 300)
SCORES = np.clip(TRUTH * 0.3 + RNG.random(300) * 0.7, 0, 1)


def png(figure):
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    return buffer.getvalue()


def test_binary_figures():
    figures = evaluation_plots(TRUTH, SCORES, "binary", {"age": 0.7, "city": 0.3})
    assert set(figures) == {"roc", "precision_recall", "confusion", "calibration", "importances"}
    assert all(png(figure).startswith(b"\x89PNG") for figure in figures.values())
    curve = figures["roc"].axes[0].lines[0]
    assert (curve.get_xdata()[0], curve.get_ydata()[-1]) == (0, 1)
    labels = [text.get_text() for text in figures["importances"].axes[0].get_yticklabels()]
    assert labels == ["city", "age"]  # bars are drawn upwards: the largest is on top


def test_precision_and_recall_with_the_base_rate_and_the_threshold():
    figures = evaluation_plots(TRUTH, SCORES, "binary", {}, threshold=0.4)
    axes = figures["precision_recall"].axes[0]
    curve, base, threshold = axes.lines
    assert base.get_ydata()[0] == pytest.approx(TRUTH.mean())
    average = average_precision_score(TRUTH, SCORES)
    assert curve.get_label() == f"model, average precision {average:.3f}"
    chosen = SCORES >= 0.4
    point = [recall_score(TRUTH, chosen), precision_score(TRUTH, chosen)]
    assert threshold.get_xydata()[0] == pytest.approx(point)
    # nobody is called positive: there is no precision to mark
    figures = evaluation_plots(TRUTH, SCORES, "binary", {}, threshold=1.01)
    assert len(figures["precision_recall"].axes[0].lines) == 2


def test_regression_figures():
    figures = evaluation_plots(TRUTH * 5.0, SCORES * 5, "regression", {"age": 1.0})
    assert set(figures) == {"residuals", "calibration", "importances"}
    assert all(png(figure) for figure in figures.values())
    assert set(evaluation_plots(TRUTH, SCORES, "count", {})) == {"residuals", "calibration"}


def test_multiclass_figures():
    codes = RNG.integers(0, 3, 200)
    shares = np.eye(3)[codes] * 0.4 + RNG.dirichlet([1, 1, 1], 200) * 0.6
    names = ("red", "green", "a colour whose name is far too long for a legend")
    figures = evaluation_plots(codes, shares, "multiclass", {"age": 1.0}, names)
    assert set(figures) == {"roc", "confusion", "calibration", "importances"}
    assert all(png(figure) for figure in figures.values())
    table = np.asarray(figures["confusion"].axes[0].images[0].get_array())
    right = [(shares[codes == k].argmax(axis=1) == k).mean() for k in range(3)]
    assert np.diagonal(table) == pytest.approx(right)
    entries = [text.get_text() for text in figures["roc"].axes[0].get_legend().get_texts()]
    assert [entry.split(",")[0] for entry in entries[:2]] == ["red", "green"]
    assert f"{roc_auc_score(codes == 0, shares[:, 0]):.3f}" in entries[0]
    assert "…" in entries[2]


def test_many_classes_fit_on_a_page():
    codes = np.r_[np.arange(30), RNG.integers(0, 30, 400)]
    shares = RNG.dirichlet(np.ones(30), 430)
    figures = evaluation_plots(codes, shares, "multiclass", {}, [f"class {k}" for k in range(30)])
    assert len(figures["roc"].axes[0].lines) == MOST_CLASSES + 1
    assert not figures["confusion"].axes[0].texts
    assert all(png(figure) for figure in figures.values())


def test_learning_curve_shows_both_parts_and_what_was_kept():
    curve = {"validation": (0.7, 0.6, 0.65), "train": (0.65, 0.5, 0.4)}
    axes = learning_curve(curve, 2, "logloss").axes[0]
    validation, train, kept = axes.lines
    assert list(validation.get_ydata()) == [0.7, 0.6, 0.65]
    assert (list(train.get_xdata()), kept.get_xdata()[0]) == ([1, 2, 3], 2)
    assert axes.get_ylabel() == "logloss"


def test_slices_are_drawn_with_their_intervals():
    whole = Estimate(value=0.7, low=0.65, high=0.75)
    found = [
        Slice(by="city", value="Rome", rows=90, estimate=Estimate(value=0.6, low=0.5, high=0.7)),
        Slice(by="city", value="Oslo", rows=3, estimate=None, note="fewer than 50 rows"),
    ]
    figure = slices_plot(found, whole, "roc_auc")
    labels = [text.get_text() for text in figure.axes[0].get_yticklabels()]
    assert labels == ["city: Rome"]
    assert png(figure)
    assert slices_plot(found[1:], whole, "roc_auc") is None


def test_importances_show_the_largest():
    shares = {f"feature_{i}": 1 / (i + 1) for i in range(50)}
    axes = evaluation_plots(TRUTH, SCORES, "binary", shares)["importances"].axes[0]
    assert len(axes.patches) == MOST_FEATURES
    assert "20 of 50" in axes.get_title(loc="left")


@pytest.mark.parametrize("rows", [2, 3])
def test_few_rows(rows):
    figures = evaluation_plots([0, 1, 1][:rows], [0.1, 0.9, 0.2][:rows], "binary", {})
    assert all(png(figure) for figure in figures.values())


def test_one_class_has_no_roc():
    with pytest.raises(TargetError, match="both classes"):
        evaluation_plots([1, 1], [0.2, 0.3], "binary", {})


def test_pyplot_is_not_imported():
    plots = "lifecycle.training.evaluation.plots"
    code = f"import sys, {plots}; sys.exit('matplotlib.pyplot' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
