"""SHAP values of a sample of rows, as a summary plot.

The values come from the model itself: XGBoost's `pred_contribs`, which is TreeSHAP (Lundberg et
al., 2020), on the margin's scale: log odds, or the logarithm of a count.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import LinearSegmentedColormap, to_rgba
from matplotlib.figure import Figure
from numpy.typing import NDArray

from lifecycle.features.encode import Floats, encode
from lifecycle.project import Scalar
from lifecycle.training.bundle import LoadedBundle
from lifecycle.training.evaluation.plots import BLUE, GREY, ORANGE, blank, clipped

MOST_FEATURES = 15
LANES = 40
"""Bins along a feature's row in which points are counted to spread them upwards and downwards."""
WIDTH = 0.38
"""Half the height that the points of a feature may take up; rows are 1 apart."""


@dataclass(frozen=True)
class Explained:
    """SHAP values of a sample of rows."""

    names: tuple[str, ...]
    categorical: tuple[bool, ...]
    matrix: NDArray[np.float32]
    """(rows, features), as the model saw them; categories as codes, missing as NaN."""
    values: Floats
    """(rows, features), multiclass (rows, classes, features): the bias is left out."""

    @property
    def strength(self) -> Floats:
        """Mean |value|: (features,), multiclass (classes, features)."""
        mean: Floats = np.abs(self.values).mean(axis=0)
        return mean

    def strongest(self) -> list[int]:
        """Features with the largest mean |value|, over all classes, the strongest first."""
        total = self.strength.reshape(-1, len(self.names)).sum(axis=0)
        return [int(at) for at in np.argsort(-total, kind="stable")[:MOST_FEATURES]]


def explain(
    loaded: LoadedBundle, features: pd.DataFrame, rows: int, seed: int, threads: int = 1
) -> Explained | None:
    """SHAP values of at most `rows` seeded rows; None if the model cannot say.

    Args:
        features: (n, k), what the features hook made of the holdout.
    """
    if len(features) > rows:
        chosen = np.random.default_rng(seed).choice(len(features), rows, replace=False)
        features = features.iloc[np.sort(chosen)]
    schema = loaded.schema.features
    matrix = encode(features, schema)
    contributions = loaded.model.contributions(matrix, threads)
    if contributions is None:
        return None
    return Explained(
        names=schema.names,
        categorical=tuple(kind == "c" for kind in schema.kinds),
        matrix=matrix,
        values=contributions[..., :-1],
    )


def summary_plot(explained: Explained, classes: tuple[Scalar, ...] = ()) -> Figure:
    """One row a feature, the strongest on top: a point a row of data, or a bar a class."""
    features = explained.strongest()[::-1]
    x = "mean |SHAP value|" if classes else "SHAP value: effect on the margin"
    rows = len(explained.matrix)
    height = 1.2 + 0.34 * max(len(features), 5)
    figure, axes = blank(f"SHAP summary of {rows:,} rows", x, "", height)
    if classes:
        _bars(axes, explained, features, classes)
    else:
        _swarm(figure, axes, explained, features)
    axes.set_yticks(range(len(features)), [clipped(explained.names[at]) for at in features])
    axes.tick_params(axis="y", length=0)
    return figure


def _swarm(figure: Figure, axes: Axes, explained: Explained, features: list[int]) -> None:
    colours = LinearSegmentedColormap.from_list("value", [BLUE, "#b9b4ae", ORANGE])
    axes.axvline(0, color=GREY, linewidth=0.8)
    for row, at in enumerate(features):
        values, numbers = explained.values[:, at], explained.matrix[:, at].astype(np.float64)
        present = ~np.isnan(numbers) & (not explained.categorical[at])
        shades = np.tile(to_rgba(GREY), (len(values), 1))
        shades[present] = colours(_ranks(numbers[present]))
        # rasterized: in an SVG each point would cost 100 bytes
        axes.scatter(values, row + _spread(values), s=5, c=shades, linewidths=0, rasterized=True)
    scale = figure.colorbar(
        ScalarMappable(cmap=colours), ax=axes, ticks=[0, 1], aspect=40, pad=0.02
    )
    scale.ax.set_yticklabels(["low", "high"])
    scale.set_label("feature value", fontsize=8)


def _spread(values: Floats) -> Floats:
    """Offsets in ±WIDTH: the more points share a value, the further they reach (a beeswarm)."""
    span = np.ptp(values) or 1.0
    lanes = np.round((values - values.min()) / span * LANES).astype(np.intp)
    order = np.argsort(lanes, kind="stable")
    counts = np.bincount(lanes, minlength=LANES + 1)
    place = np.empty(len(values))
    place[order] = np.arange(len(values)) - np.repeat(np.cumsum(counts) - counts, counts)
    # 0, 1, -1, 2, -2, …: from the middle outwards
    signed = np.where(place % 2 == 1, (place + 1) // 2, -(place // 2))
    spread: Floats = signed / max(1, counts.max() / 2) * WIDTH
    return spread


def _ranks(numbers: Floats) -> Floats:
    """0 for the lowest to 1 for the highest, so that an outlier does not grey the others."""
    distinct, places = np.unique(numbers, return_inverse=True)
    ranks: Floats = places / max(1, len(distinct) - 1)
    return ranks


def _bars(
    axes: Axes, explained: Explained, features: list[int], classes: tuple[Scalar, ...]
) -> None:
    """Stacked: what a feature does for each class."""
    starts = np.zeros(len(features))
    palette = colormaps["viridis"](np.linspace(0.1, 0.9, len(classes)))
    for strength, name, colour in zip(explained.strength, classes, palette, strict=True):
        axes.barh(
            range(len(features)), strength[features], left=starts, color=colour, label=clipped(name)
        )
        starts += strength[features]
    axes.legend(loc="lower right", frameon=False, fontsize=8)
