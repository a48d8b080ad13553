"""Figures of an evaluation, for the registry and for reports.

Figures are made without pyplot: no global state, no display, nothing to close.
"""

from collections.abc import Mapping

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import ArrayLike, NDArray
from sklearn.metrics import roc_curve

from lifecycle.specs import TaskKind
from lifecycle.training.evaluate import metric_value

BINS = 10
MOST_FEATURES = 20
MOST_POINTS = 5_000
BLUE, GREY = "#2563a8", "#8a8f98"

Floats = NDArray[np.float64]


def evaluation_plots(
    truth: ArrayLike, prediction: ArrayLike, task: TaskKind, importances: Mapping[str, float]
) -> dict[str, Figure]:
    """Name → figure: `roc` (binary) or `residuals` (regression), `calibration`, `importances`.

    Args:
        truth: (n,), 0 or 1 for binary.
        prediction: (n,), the probability of 1, or the value.
        importances: feature → share of the gain, largest first.

    Raises:
        TargetError: binary, and one class only.
    """
    y, p = np.asarray(truth, dtype=np.float64), np.asarray(prediction, dtype=np.float64)
    first = {"roc": _roc(y, p)} if task == "binary" else {"residuals": _residuals(y, p)}
    return first | {"calibration": _calibration(y, p, task), "importances": _bars(importances)}


def _roc(y: Floats, p: Floats) -> Figure:
    figure, axes = _blank("ROC on the holdout", "false positive rate", "true positive rate")
    area = metric_value("roc_auc", y, p, "binary")
    false_positive, true_positive, _ = roc_curve(y, p)
    axes.plot(false_positive, true_positive, color=BLUE, label=f"model, area {area:.3f}")
    axes.plot([0, 1], [0, 1], color=GREY, linestyle="--", label="chance, area 0.500")
    axes.set_aspect("equal")
    axes.legend(loc="lower right", frameon=False)
    return figure


def _residuals(y: Floats, p: Floats) -> Figure:
    figure, axes = _blank("Residuals on the holdout", "predicted", "actual − predicted")
    step = max(1, -(-len(y) // MOST_POINTS))  # evenly thinned: more points only blacken the page
    axes.scatter(p[::step], (y - p)[::step], s=6, alpha=0.35, color=BLUE, linewidths=0)
    axes.axhline(0, color=GREY, linestyle="--")
    return figure


def _calibration(y: Floats, p: Floats, task: TaskKind) -> Figure:
    """Mean truth against mean prediction in bins of equally many rows (a reliability diagram)."""
    actual = "share of positives" if task == "binary" else "mean actual value"
    figure, axes = _blank("Calibration on the holdout", "mean prediction", actual)
    bins = [rows for rows in np.array_split(np.argsort(p, kind="stable"), BINS) if len(rows)]
    predicted, observed = [p[rows].mean() for rows in bins], [y[rows].mean() for rows in bins]
    ends = [min(*predicted, *observed), max(*predicted, *observed)]
    axes.plot(ends, ends, color=GREY, linestyle="--", label="perfect")
    axes.plot(predicted, observed, color=BLUE, marker="o", label=f"{len(bins)} equal bins")
    axes.legend(loc="upper left", frameon=False)
    return figure


def _bars(importances: Mapping[str, float]) -> Figure:
    figure, axes = _blank("Share of the gain", "share", "")
    shown = list(importances.items())[:MOST_FEATURES][::-1]
    axes.barh([name for name, _ in shown], [share for _, share in shown], color=BLUE)
    if len(importances) > len(shown):
        axes.set_title(f"Share of the gain, {len(shown)} of {len(importances)} features")
    return figure


def _blank(title: str, x: str, y: str) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(6, 4.5), dpi=110, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    axes.set(title=title, xlabel=x, ylabel=y)
    axes.spines[["top", "right"]].set_visible(False)
    return figure, axes
