"""How figures look. They are made without pyplot: no global state, no display, none to close."""

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from lifecycle.records import one_line

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
