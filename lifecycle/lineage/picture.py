"""Lineage as a picture: boxes from left (what was used) to right (what was made), drawn by
matplotlib, as SVG or PNG.

One column a stage of the lifecycle. Within a column, boxes are ordered by where their neighbours
stand, so that few lines cross (barycentre heuristic, Sugiyama, Tagawa and Toda 1981).
"""

import textwrap
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from rich.text import Text
from rich.tree import Tree

from lifecycle.errors import ProjectError
from lifecycle.lineage.datasets import SHORT
from lifecycle.lineage.graph import Edge, Kind, Lineage, Node
from lifecycle.records import one_line
from lifecycle.runtime.console import styled

if TYPE_CHECKING:
    from matplotlib.axes import Axes

COLUMNS: dict[Kind, int] = {
    "source": 0,
    "dataset": 1,
    "view": 1,
    "joined": 2,
    "part": 3,
    "code": 3,
    "run": 3,
    "rows": 4,
    "model": 4,
    "release": 5,
    "scores": 5,
    "log": 5,
    "prediction": 5,
    "monitoring": 6,
}
HEADS = (
    "source",
    "dataset, view",
    "joined",
    "split, code, run",
    "model",
    "what it did",
    "monitoring",
)
COLOURS: dict[Kind, str] = {
    "source": "#e2e8f0",
    "dataset": "#cfe8ff",
    "view": "#cfe8ff",
    "joined": "#cfe8ff",
    "part": "#cfe8ff",
    "rows": "#e8f4ff",
    "code": "#ece5ff",
    "run": "#ece5ff",
    "model": "#ffe3b8",
    "release": "#d3f2d8",
    "scores": "#d3f2d8",
    "log": "#d3f2d8",
    "prediction": "#d3f2d8",
    "monitoring": "#d3f2d8",
}
"""Data blue, making violet, models orange, what they did green."""
SHOWN: dict[Kind, tuple[str, ...]] = {
    "source": ("place",),
    "dataset": ("rows", "window", "run_name"),
    "view": ("rows", "how", "run_name"),
    "joined": ("rows", "run_name"),
    "part": ("rows", "run_name"),
    "code": ("commit", "lock"),
    "run": ("by", "flow run"),
    "model": ("alias",),
    "scores": ("rows", "window"),
    "log": ("errors", "last"),
    "prediction": ("prediction", "role", "entity"),
    "monitoring": ("verdict", "drifted"),
}
"""Facts that a box has room for; the tree and the JSON tell all."""
WIDTH, GAP, LINE, PAD, SPACE = 2.5, 1.4, 0.185, 0.13, 0.34
"""Inches: a box, between columns, a line of text, inside a box, between boxes."""
SIGNS, SMALL_SIGNS, LINES = 28, 36, 7
"""What fits: signs of a name, signs of a fact, lines of a box."""
INK, DIM, BORDER, ACCENT = "#0f172a", "#64748b", "#94a3b8", "#c2410c"


def draw(found: Lineage, file: Path) -> Path:
    """Write the picture in one step; what it is is said by the name's ending.

    Raises:
        ProjectError: the ending is neither `.svg` nor `.png`, or the file cannot be written.
    """
    if file.suffix not in (".svg", ".png"):
        raise ProjectError(f"--picture {file}: name a file that ends with .svg or .png")
    from matplotlib.figure import Figure

    columns = _ordered(found)
    texts = {node.id: _text(node) for node in found.nodes}
    heights = {id: len(lines) * LINE + 2 * PAD for id, lines in texts.items()}
    tall = max(sum(heights[id] + SPACE for id in ids) for ids in columns.values())
    wide = len(columns) * (WIDTH + GAP) - GAP
    figure = Figure(figsize=(wide + 0.6, tall + 1.5), layout=None)
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set_xlim(-0.3, wide + 0.3)
    axes.set_ylim(-tall - 0.35, 1.15)
    axes.axis("off")
    subject = found.node(found.subject)
    title = f"Lineage of {subject.name} ({found.project})"
    axes.text(0, 0.95, title, fontsize=15, weight="bold", color=INK, va="top")
    says = "made from what is left of it, used for what is right of it"
    axes.text(0, 0.58, says, fontsize=10, color=DIM, va="top")
    boxes: dict[str, tuple[float, float]] = {}
    for at, (column, ids) in enumerate(columns.items()):
        left = at * (WIDTH + GAP)
        axes.text(left, 0.12, HEADS[column].upper(), fontsize=8, color=DIM, va="bottom")
        top = -(tall - sum(heights[id] + SPACE for id in ids)) / 2
        for id in ids:
            top -= heights[id] + SPACE
            boxes[id] = (left, top + SPACE / 2)
    labels = _labels(found)
    for edge in found.edges:
        _arrow(axes, edge, boxes, heights, labels.get((edge.source, edge.target)))
    for node in found.nodes:
        _box(axes, node, texts[node.id], boxes[node.id], heights[node.id], node is subject)
    aside = file.with_name(f".{file.stem}.aside{file.suffix}")
    try:
        figure.savefig(aside, dpi=130, facecolor="white")
        aside.replace(file)
    except OSError as error:
        raise ProjectError(f"--picture {file}: cannot write it ({error.strerror})") from None
    finally:
        aside.unlink(missing_ok=True)
    return file


def _ordered(found: Lineage) -> dict[int, list[str]]:
    """Column → ids from top to bottom; empty columns are left out."""
    columns: dict[int, list[str]] = defaultdict(list)
    for node in found.nodes:
        columns[COLUMNS[node.kind]].append(node.id)
    near: dict[str, list[str]] = defaultdict(list)
    for edge in found.edges:
        near[edge.source].append(edge.target)
        near[edge.target].append(edge.source)
    ordered = dict(sorted(columns.items()))
    for _ in range(4):
        places = {
            id: at / max(len(ids) - 1, 1) for ids in ordered.values() for at, id in enumerate(ids)
        }
        for ids in ordered.values():
            ids.sort(key=lambda id: _mean([places[other] for other in near[id]], places[id]))
    return ordered


def _mean(places: list[float], otherwise: float) -> float:
    return sum(places) / len(places) if places else otherwise


def _text(node: Node) -> list[str]:
    """The name, what identifies it, and a few facts, in lines that fit."""
    lines = textwrap.wrap(node.name, SIGNS) or [node.id]
    if node.digest and node.kind != "code":  # whose name has it
        lines.append(f"digest {short(node.digest)}")
    if node.kind in ("rows", "release"):
        facts = [f"{'' if node.kind == 'release' else f'{k}: '}{v}" for k, v in node.facts.items()]
    else:
        known = {key: node.facts.get(key, "") for key in SHOWN.get(node.kind, ())}
        facts = [
            f"{key.replace('_', ' ')}: {short(value)}" for key, value in known.items() if value
        ]
    if node.time and node.kind != "release":
        facts.insert(0, f"{node.time[:16].replace('T', ' ')} UTC")
    for fact in facts:
        lines += textwrap.wrap(fact, SMALL_SIGNS, max_lines=2, placeholder=" …") or [
            fact[:SMALL_SIGNS]
        ]
    return lines if len(lines) <= LINES else [*lines[: LINES - 1], "…"]


def _box(
    axes: "Axes",
    node: Node,
    lines: list[str],
    place: tuple[float, float],
    height: float,
    subject: bool,
) -> None:
    from matplotlib.patches import FancyBboxPatch

    left, bottom = place
    axes.add_patch(
        FancyBboxPatch(
            place,
            WIDTH,
            height,
            boxstyle="round,pad=0,rounding_size=0.08",
            facecolor=COLOURS[node.kind],
            edgecolor=ACCENT if subject else BORDER,
            linewidth=2.4 if subject else 0.9,
            zorder=3,
        )
    )
    titles = len(textwrap.wrap(node.name, SIGNS))
    for at, line in enumerate(lines):
        axes.text(
            left + PAD,
            bottom + height - PAD - at * LINE,
            line,
            fontsize=9 if at < titles else 7.5,
            weight="bold" if at < titles else "normal",
            color=INK if at < titles else "#334155",
            va="top",
            zorder=4,
            parse_math=False,
        )


def _arrow(
    axes: "Axes",
    edge: Edge,
    boxes: dict[str, tuple[float, float]],
    heights: dict[str, float],
    label: float | None,
) -> None:
    """A curve from the right side of one box to the left side of the other, with its verb.

    Args:
        label: where along the curve the verb stands, 0 to 1; None without it.
    """
    from matplotlib.patches import FancyArrowPatch
    from matplotlib.path import Path as Curve

    (left, bottom), (to_left, to_bottom) = boxes[edge.source], boxes[edge.target]
    start = (left + WIDTH, bottom + heights[edge.source] / 2)
    end = (to_left, to_bottom + heights[edge.target] / 2)
    bend = GAP * 0.55
    points = (start, (start[0] + bend, start[1]), (end[0] - bend, end[1]), end)
    curve = Curve(list(points), [Curve.MOVETO, Curve.CURVE4, Curve.CURVE4, Curve.CURVE4])
    axes.add_patch(
        FancyArrowPatch(
            path=curve, arrowstyle="-|>", mutation_scale=9, color=BORDER, linewidth=1.1, zorder=1
        )
    )
    if label is None:
        return
    weights = ((1 - label) ** 3, 3 * label * (1 - label) ** 2, 3 * label**2 * (1 - label), label**3)
    x, y = (sum(w * p[axis] for w, p in zip(weights, points, strict=True)) for axis in (0, 1))
    axes.text(
        x,
        y,
        edge.what,
        fontsize=6.5,
        color=DIM,
        style="italic",
        ha="center",
        va="center",
        zorder=2,
        bbox={"facecolor": "white", "edgecolor": "none", "pad": 0.8},
    )


def _labels(found: Lineage) -> dict[tuple[str, str], float]:
    """Where each verb stands: at the end of the line that has it to itself; each once a source."""
    labels: dict[tuple[str, str], float] = {}
    told: set[tuple[str, str]] = set()
    for edge in found.edges:
        if (edge.source, edge.what) in told:
            continue
        told.add((edge.source, edge.what))
        alone = sum(other.source == edge.source for other in found.edges) == 1
        last = sum(other.target == edge.target for other in found.edges) == 1
        labels[edge.source, edge.target] = 0.5 if alone and last else 0.4 if alone else 0.72
    return labels


# Lineage as trees in a terminal: what a thing was made from, and what it led to.

HIDDEN = ("uri", "run", "commit", "data", "project", "package")
"""Facts that only the JSON tells."""


def trees(found: Lineage) -> tuple[Tree, Tree]:
    """Both ways from the subject; what stands in several places has its facts at the first."""
    subject = found.node(found.subject)
    title = (one_line(subject.name), "bold")
    into = {node.id: [e for e in found.edges if e.target == node.id] for node in found.nodes}
    out_of = {node.id: [e for e in found.edges if e.source == node.id] for node in found.nodes}
    before, after = (Tree(styled(title, f" {what}")) for what in ("was made from", "led to"))
    for line in _facts(subject):
        before.add(line)
    _grow(before, subject, found, into.__getitem__, lambda edge: edge.source, set())
    _grow(after, subject, found, out_of.__getitem__, lambda edge: edge.target, set())
    for tree, nothing in ((before, "nothing that is known"), (after, "nothing yet")):
        if not tree.children:
            tree.add(styled((nothing, "dim")))
    return before, after


def _grow(
    tree: Tree,
    node: Node,
    found: Lineage,
    edges: Callable[[str], list[Edge]],
    other_end: Callable[[Edge], str],
    told: set[str],
) -> None:
    for edge in edges(node.id):
        other = found.node(other_end(edge))
        again = other.id in told
        told.add(other.id)
        name = (one_line(other.name), "bold")
        forward = other_end(edge) == edge.target
        label = [(f"{edge.what} ", "dim"), name] if forward else [name, (f" {edge.what} it", "dim")]
        branch = tree.add(styled(*label, *([(" (above)", "dim")] if again else [])))
        if again:
            continue
        for line in _facts(other):
            branch.add(line)
        _grow(branch, other, found, edges, other_end, told)


def _facts(node: Node) -> list[Text]:
    """Facts as dim lines."""
    facts = {key: value for key, value in node.facts.items() if key not in HIDDEN}
    first = {"digest": short(node.digest)} if node.digest else {}
    first |= {"made": f"{node.time[:19].replace('T', ' ')} UTC"} if node.time else {}
    return [
        styled((f"{key}:", "dim"), f" {one_line(short(value))}")
        for key, value in (first | facts).items()
    ]


def short(value: str) -> str:
    """A digest as its first digits; anything else as it is."""
    bare = value.removeprefix("md5:").removesuffix("-dirty")
    digest = len(bare) in (32, 40, 64) and all(sign in "0123456789abcdef" for sign in bare)
    return value.replace(bare, bare[:SHORT]) if digest else value
