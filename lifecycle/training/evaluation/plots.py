"""Figures of an evaluation, for the registry and for the report."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import ArrayLike
from sklearn.metrics import precision_recall_curve, roc_curve

from lifecycle.features.encode import Floats
from lifecycle.project import Metric, Scalar, TaskKind
from lifecycle.records import Estimate, Slice, one_line
from lifecycle.training.evaluation.evaluate import metric_value
from lifecycle.training.evaluation.metrics import reliability

# Style of the figures. Made without pyplot: no global state, no display, none to close.

BLUE, ORANGE, GREY = "#2563a8", "#c2571a", "#8a8f98"


def blank(title: str, x: str, y: str, height: float = 4.5) -> tuple[Figure, Axes]:
    """An empty figure with one pair of axes, 6 inches wide."""
    figure = Figure(figsize=(6, height), dpi=110, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    axes.set(xlabel=x, ylabel=y)
    axes.set_title(title, loc="left", fontsize=11)
    axes.spines[["top", "right"]].set_visible(False)
    return figure, axes


def clipped(text: object, length: int = 28) -> str:
    """A label that leaves room for the plot; a `$` in it starts no formula."""
    label = one_line(str(text))
    short = label if len(label) <= length else f"{label[: length - 1]}…"
    return short.replace("$", r"\$")


MOST_FEATURES = 20
MOST_POINTS = 5_000
MOST_SLICES = 40
MOST_CLASSES = 10
"""ROC curves in one figure, those of the most frequent classes."""
WRITTEN_CLASSES = 12
"""Up to so many classes a confusion matrix has room for its numbers."""


def evaluation_plots(
    truth: ArrayLike,
    prediction: ArrayLike,
    task: TaskKind,
    importances: Mapping[str, float],
    classes: Sequence[Scalar] = (),
    threshold: float | None = None,
) -> dict[str, Figure]:
    """Name → figure: how good the answers are, and which features brought it about.

    `roc` and `confusion` (binary, multiclass), `precision_recall` (binary), `residuals`
    (regression, count), `calibration`, and `importances` where the model has some.

    Args:
        truth: (n,), 0 or 1 for binary, class codes for multiclass.
        prediction: (n,), the probability of 1, or the value; multiclass (n, k).
        importances: feature → share of the gain, largest first.
        classes: the name of each code; by default 0 and 1.
        threshold: binary: the probability from which a row counts as positive; None is 0.5.

    Raises:
        TargetError: classes are predicted, and the truth has one only.
    """
    y, p = np.asarray(truth, dtype=np.float64), np.asarray(prediction, dtype=np.float64)
    figures: dict[str, Figure] = {}
    if task == "binary":
        threshold = 0.5 if threshold is None else threshold
        figures["roc"] = _roc(y, p)
        figures["precision_recall"] = _precision_recall(y, p, threshold)
        chosen = np.column_stack([p < threshold, p >= threshold]).astype(np.float64)
        figures["confusion"] = _confusion(y, chosen, classes or (0, 1), f" at {threshold:.4g}")
    elif task == "multiclass":
        figures["roc"] = _roc_by_class(y, p, classes)
        figures["confusion"] = _confusion(y, p, classes)
    else:
        figures["residuals"] = _residuals(y, p)
    figures["calibration"] = _calibration(y, p, task)
    if any(importances.values()):
        figures["importances"] = _importances(importances)
    return figures


def learning_curve(curve: Mapping[str, Sequence[float]], rounds: int, metric: str) -> Figure:
    """The metric that stops training, after each round.

    Args:
        curve: part → value a round.
        rounds: rounds that early stopping kept.
    """
    figure, axes = blank("Learning curve", "boosting round", metric)
    colours = {"validation": BLUE, "train": ORANGE}
    for part, values in curve.items():
        label = f"{part}, a sample" if part == "train" else part
        at = np.arange(1, len(values) + 1)
        axes.plot(at, values, color=colours.get(part, GREY), label=label, linewidth=1.6)
    axes.axvline(rounds, color=GREY, linestyle="--", label=f"kept: {rounds} rounds")
    axes.legend(loc="best", frameon=False)
    return figure


def slices_plot(slices: Sequence[Slice], overall: Estimate, metric: Metric) -> Figure | None:
    """The metric of each measured slice with its interval, beside the whole holdout's."""
    measured = [(part, part.estimate) for part in slices if part.estimate][:MOST_SLICES][::-1]
    if not measured:
        return None
    height = 1.2 + 0.26 * len(measured)
    figure, axes = blank(f"{metric} of slices, 95 % intervals", metric, "", height=height)
    values = [estimate.value for _, estimate in measured]
    low, high = [e.low for _, e in measured], [e.high for _, e in measured]
    axes.axvspan(overall.low, overall.high, color=GREY, alpha=0.2, linewidth=0)
    axes.axvline(overall.value, color=GREY, linestyle="--", label="whole holdout")
    at = range(len(measured))
    axes.hlines(at, low, high, color=BLUE, linewidth=1.4)
    axes.plot(values, at, "o", color=BLUE, markersize=4)
    axes.set_yticks(at, [clipped(f"{part.by}: {part.value}", 36) for part, _ in measured])
    axes.set_ylim(-0.7, len(measured) - 0.3)
    figure.legend(loc="outside lower right", frameon=False, fontsize=8)
    return figure


def _roc(y: Floats, p: Floats) -> Figure:
    figure, axes = blank("ROC on the holdout", "false positive rate", "true positive rate")
    area = metric_value("roc_auc", y, p, "binary")
    axes.plot(*_curve(y, p), color=BLUE, label=f"model, area {area:.3f}")
    axes.plot([0, 1], [0, 1], color=GREY, linestyle="--", label="chance, area 0.500")
    axes.set_aspect("equal")
    axes.legend(loc="lower right", frameon=False)
    return figure


def _precision_recall(y: Floats, p: Floats, threshold: float) -> Figure:
    figure, axes = blank("Precision and recall on the holdout", "recall", "precision")
    precision, recall, _ = precision_recall_curve(y, p)  # recall falls from 1 to 0
    average, base = metric_value("average_precision", y, p, "binary"), float(y.mean())
    step = _step(len(recall))
    axes.plot(
        np.r_[recall[::step], 0.0],
        np.r_[precision[::step], precision[-1]],
        color=BLUE,
        drawstyle="steps-post",
        label=f"model, average precision {average:.3f}",
    )
    axes.axhline(base, color=GREY, linestyle="--", label=f"base rate {base:.3f}")
    chosen = p >= threshold
    if chosen.any():
        hits = float(y[chosen].sum())
        axes.plot(
            hits / y.sum(),
            hits / chosen.sum(),
            "o",
            color=ORANGE,
            label=f"threshold {threshold:.4g}",
        )
    axes.set(xlim=(-0.02, 1.02), ylim=(0, 1.05))
    axes.legend(loc="best", frameon=False)
    return figure


def _roc_by_class(y: Floats, p: Floats, classes: Sequence[Scalar]) -> Figure:
    figure, axes = blank("ROC, each class against the others", "false positive", "true positive")
    codes, counts = np.unique(y.astype(int), return_counts=True)
    frequent = sorted(codes[np.argsort(-counts, kind="stable")][:MOST_CLASSES])
    palette = colormaps["viridis"](np.linspace(0.05, 0.9, len(frequent)))
    for code, colour in zip(frequent, palette, strict=True):
        is_class = (y == code).astype(np.float64)
        area = metric_value("roc_auc", is_class, p[:, code], "binary")
        label = f"{clipped(classes[code])}, area {area:.3f}"
        axes.plot(*_curve(is_class, p[:, code]), color=colour, label=label, linewidth=1.4)
    axes.plot([0, 1], [0, 1], color=GREY, linestyle="--")
    axes.set_aspect("equal")
    axes.legend(loc="lower right", frameon=False, fontsize=8)
    return figure


def _curve(y: Floats, p: Floats) -> tuple[Floats, Floats]:
    """False and true positive rate, thinned to what a page can show."""
    false_positive, true_positive, _ = roc_curve(y, p)
    step = _step(len(false_positive))
    return (
        np.r_[false_positive[::step], 1.0],
        np.r_[true_positive[::step], 1.0],
    )


def _step(points: int) -> int:
    return max(1, -(-points // MOST_POINTS))  # evenly thinned: more only blacken the page


def _confusion(y: Floats, p: Floats, classes: Sequence[Scalar], where: str = "") -> Figure:
    """Rows of the table sum to 1: colours show which class is taken for which, however rare."""
    figure, axes = blank(f"Confusion{where}, shares of each actual class", "predicted", "actual")
    k = p.shape[1]
    table = np.bincount(y.astype(np.intp) * k + p.argmax(axis=1), minlength=k * k).reshape(k, k)
    shares = table / np.maximum(table.sum(axis=1, keepdims=True), 1)
    image = axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    figure.colorbar(image, ax=axes, shrink=0.8)
    names = [clipped(name, 16) for name in classes]
    axes.set_xticks(range(k), names, rotation=45 if k > 4 else 0, ha="right" if k > 4 else "center")
    axes.set_yticks(range(k), names)
    axes.spines[:].set_visible(False)
    for row, column in np.ndindex(k, k) if k <= WRITTEN_CLASSES else ():
        axes.text(
            column,
            row,
            f"{shares[row, column]:.0%}\n{table[row, column]:,}",
            color="white" if shares[row, column] > 0.6 else "black",
            ha="center",
            va="center",
            fontsize=9 if k <= 6 else 6,
        )
    return figure


def _residuals(y: Floats, p: Floats) -> Figure:
    figure, axes = blank("Residuals on the holdout", "predicted", "actual − predicted")
    step = _step(len(y))
    axes.scatter(
        p[::step], (y - p)[::step], color=BLUE, s=6, alpha=0.35, linewidths=0, rasterized=True
    )
    axes.axhline(0, color=GREY, linestyle="--")
    return figure


def _calibration(y: Floats, p: Floats, task: TaskKind) -> Figure:
    """A reliability diagram: on the diagonal, predictions mean what they say."""
    x, actual = {
        "binary": ("mean predicted probability", "share of positives"),
        "multiclass": ("mean probability of the most probable class", "share of right answers"),
    }.get(task, ("mean prediction", "mean actual value"))
    figure, axes = blank("Calibration on the holdout", x, actual)
    bins = reliability(y, p, task)
    ends = [
        min(bins.predicted.min(), bins.observed.min()),
        max(bins.predicted.max(), bins.observed.max()),
    ]
    label = f"{len(bins.rows)} equal bins"
    axes.plot(ends, ends, color=GREY, linestyle="--", label="perfect")
    axes.plot(bins.predicted, bins.observed, color=BLUE, marker="o", label=label)
    axes.legend(loc="upper left", frameon=False)
    return figure


def _importances(importances: Mapping[str, float]) -> Figure:
    largest = list(importances.items())[:MOST_FEATURES][::-1]
    many = len(importances) > len(largest)
    title = f", {len(largest)} of {len(importances)} features" if many else ""
    height = 1.2 + 0.24 * max(len(largest), 6)
    figure, axes = blank(f"Share of the gain{title}", "share", "", height=height)
    axes.barh([clipped(name) for name, _ in largest], [share for _, share in largest], color=BLUE)
    return figure
