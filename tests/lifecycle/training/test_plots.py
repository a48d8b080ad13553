"""Figures are drawn without pyplot and hold what their names say."""

import io
import subprocess
import sys

import numpy as np
import pytest

from lifecycle.errors import TargetError
from lifecycle.training.plots import MOST_FEATURES, evaluation_plots

RNG = np.random.default_rng(1)
TRUTH = RNG.integers(0, 2, 300)
SCORES = np.clip(TRUTH * 0.3 + RNG.random(300) * 0.7, 0, 1)


def png(figure):
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    return buffer.getvalue()


def test_binary_figures():
    figures = evaluation_plots(TRUTH, SCORES, "binary", {"age": 0.7, "city": 0.3})
    assert set(figures) == {"roc", "calibration", "importances"}
    assert all(png(figure).startswith(b"\x89PNG") for figure in figures.values())
    curve = figures["roc"].axes[0].lines[0]
    assert (curve.get_xdata()[0], curve.get_ydata()[-1]) == (0, 1)
    labels = [text.get_text() for text in figures["importances"].axes[0].get_yticklabels()]
    assert labels == ["city", "age"]  # bars are drawn upwards: the largest is on top


def test_regression_figures():
    figures = evaluation_plots(TRUTH * 5.0, SCORES * 5, "regression", {"age": 1.0})
    assert set(figures) == {"residuals", "calibration", "importances"}
    assert all(png(figure) for figure in figures.values())


def test_importances_show_the_largest():
    shares = {f"feature_{i}": 1 / (i + 1) for i in range(50)}
    axes = evaluation_plots(TRUTH, SCORES, "binary", shares)["importances"].axes[0]
    assert len(axes.patches) == MOST_FEATURES
    assert "20 of 50" in axes.get_title()


@pytest.mark.parametrize("rows", [2, 3])
def test_few_rows(rows):
    figures = evaluation_plots([0, 1, 1][:rows], [0.1, 0.9, 0.2][:rows], "binary", {})
    assert all(png(figure) for figure in figures.values())


def test_one_class_has_no_roc():
    with pytest.raises(TargetError, match="both classes"):
        evaluation_plots([1, 1], [0.2, 0.3], "binary", {})


def test_pyplot_is_not_imported():
    code = "import sys, lifecycle.training.plots; sys.exit('matplotlib.pyplot' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
