"""Lineage drawn: a graph as Mermaid or DOT text, and trees for a terminal.

Other programs lay the graph out: GitHub, GitLab and VS Code show Mermaid in a Markdown page,
Graphviz turns DOT into SVG (`dot -Tsvg lineage.dot`).
"""

import html
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from statistics import fmean

from markupsafe import Markup
from rich.text import Text
from rich.tree import Tree

from lifecycle.errors import ProjectError
from lifecycle.lineage.graph import SHORT, Edge, Kind, Lineage, Node
from lifecycle.records import one_line
from lifecycle.runtime.console import styled
from lifecycle.runtime.files import write_atomic

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
FACTS_SHOWN: dict[Kind, tuple[str, ...]] = {
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
"""Facts in a box; the tree and the JSON have all of them."""
BORDER, ACCENT = "#94a3b8", "#c2410c"
MERMAID, DOT = (".mmd", ".md"), (".dot", ".gv")


def draw(lineage: Lineage, file: Path) -> Path:
    """Write the graph in one step, as text that the ending of the file's name says.

    Args:
        file: `.mmd` for Mermaid, `.md` for a Markdown page with it, `.dot` or `.gv` for Graphviz.

    Raises:
        ProjectError: the name has another ending, or the file cannot be written.
    """
    if file.suffix not in MERMAID + DOT:
        raise ProjectError(
            f"--picture {file}: name a file that ends with .md or .mmd (Mermaid) or .dot (Graphviz)"
        )
    text = dot(lineage) if file.suffix in DOT else mermaid(lineage)
    if file.suffix == ".md":
        text = f"# {_title(lineage)}\n\n```mermaid\n{text}```\n"
    try:
        write_atomic(file, text)
    except OSError as error:
        raise ProjectError(f"--picture {file}: cannot write it ({error.strerror})") from None
    return file


def mermaid(lineage: Lineage) -> str:
    """A Mermaid flowchart, from what was used (left) to what was made (right)."""
    ids = _ids(lineage)
    lines = ["flowchart LR"]
    for node in lineage.nodes:
        name, *facts = (_mermaid_text(line) for line in _box(node))
        lines.append(f'  {ids[node.id]}["{"<br/>".join([f"<b>{name}</b>", *facts])}"]')
        lines.append(f"  style {ids[node.id]} {_mermaid_style(node, lineage.subject)}")
    for edge in lineage.edges:
        label = _mermaid_text(edge.what)
        lines.append(f'  {ids[edge.source]} -->|"{label}"| {ids[edge.target]}')
    return "\n".join(lines) + "\n"


def dot(lineage: Lineage) -> str:
    """A Graphviz graph, from what was used (left) to what was made (right)."""
    ids = _ids(lineage)
    lines = [
        "digraph lineage {",
        "  rankdir=LR;",
        f"  label={_dot_text([_title(lineage)])}; labelloc=t;",
        f'  node [shape=box, style="rounded,filled", color="{BORDER}", fontname=Helvetica];',
        f'  edge [color="{BORDER}", fontname=Helvetica, fontsize=9];',
    ]
    for node in lineage.nodes:
        subject = f', color="{ACCENT}", penwidth=2.4' if node.id == lineage.subject else ""
        label = _dot_text(_box(node))
        lines.append(
            f'  {ids[node.id]} [label={label}, fillcolor="{COLOURS[node.kind]}"{subject}];'
        )
    for edge in lineage.edges:
        label = _dot_text([edge.what])
        lines.append(f"  {ids[edge.source]} -> {ids[edge.target]} [label={label}];")
    return "\n".join([*lines, "}"]) + "\n"


def _ids(lineage: Lineage) -> dict[str, str]:
    """Plain identifiers: the graph's own have characters that mean something in both languages."""
    return {node.id: f"n{number}" for number, node in enumerate(lineage.nodes)}


def _title(lineage: Lineage) -> str:
    return f"Lineage of {lineage.node(lineage.subject).name} ({lineage.project})"


def _box(node: Node) -> list[str]:
    """The lines of a box: its name, what identifies it, and a few facts."""
    lines = [node.name]
    if node.digest and node.kind != "code":  # whose name has it
        lines.append(f"digest {short(node.digest)}")
    if node.time and node.kind != "release":
        lines.append(f"{node.time[:16].replace('T', ' ')} UTC")
    if node.kind in ("rows", "release"):
        lines += [f"{'' if node.kind == 'release' else f'{k}: '}{v}" for k, v in node.facts.items()]
    else:
        facts = {key: node.facts.get(key, "") for key in FACTS_SHOWN.get(node.kind, ())}
        lines += [
            f"{key.replace('_', ' ')}: {short(value)}" for key, value in facts.items() if value
        ]
    return [one_line(line) for line in lines]


def _mermaid_text(text: str) -> str:
    """Text in a label: entities for what is Mermaid's, Markdown's or HTML's."""
    special = '#`*_|[]{}()\\"<>&'
    return "".join(f"#{ord(sign)};" if sign in special else sign for sign in text)


def _mermaid_style(node: Node, subject: str) -> str:
    line = f"stroke:{ACCENT},stroke-width:3px" if node.id == subject else f"stroke:{BORDER}"
    return f"fill:{COLOURS[node.kind]},color:#0f172a,{line}"


def _dot_text(lines: Sequence[str]) -> str:
    """An HTML-like label, its first line bold."""
    first, *others = (html.escape(line) for line in lines)
    return "<" + "<BR/>".join([f"<B>{first}</B>", *others]) + ">"


# Lineage as trees in a terminal: what a thing was made from, and what it led to.

HIDDEN = ("uri", "run", "commit", "data", "project", "package")
"""Facts that only the JSON tells."""


def trees(lineage: Lineage) -> tuple[Tree, Tree]:
    """Both ways from the subject; what stands in several places has its facts at the first."""
    subject = lineage.node(lineage.subject)
    title = (one_line(subject.name), "bold")
    into = {node.id: [e for e in lineage.edges if e.target == node.id] for node in lineage.nodes}
    out_of = {node.id: [e for e in lineage.edges if e.source == node.id] for node in lineage.nodes}
    before, after = (Tree(styled(title, f" {label}")) for label in ("was made from", "led to"))
    for line in _facts(subject):
        before.add(line)
    _grow(before, subject, lineage, into.__getitem__, lambda edge: edge.source, set())
    _grow(after, subject, lineage, out_of.__getitem__, lambda edge: edge.target, set())
    for tree, empty_text in ((before, "nothing that is known"), (after, "nothing yet")):
        if not tree.children:
            tree.add(styled((empty_text, "dim")))
    return before, after


def _grow(
    tree: Tree,
    node: Node,
    lineage: Lineage,
    edges: Callable[[str], list[Edge]],
    other_end: Callable[[Edge], str],
    shown_ids: set[str],
) -> None:
    for edge in edges(node.id):
        other = lineage.node(other_end(edge))
        is_repeat = other.id in shown_ids
        shown_ids.add(other.id)
        name = (one_line(other.name), "bold")
        forward = other_end(edge) == edge.target
        verb = (f"{edge.what} ", "dim") if forward else (f" {edge.what} it", "dim")
        label = [verb, name] if forward else [name, verb]
        branch = tree.add(styled(*label, *([(" (above)", "dim")] if is_repeat else [])))
        if is_repeat:
            continue
        for line in _facts(other):
            branch.add(line)
        _grow(branch, other, lineage, edges, other_end, shown_ids)


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


# Lineage as inline SVG, for pages: columns from what was used (left) to what was made (right).

BOX_WIDTH, BOX_HEIGHT, COLUMN_GAP, ROW_GAP = 168, 46, 28, 14
"""Pixels."""
MAX_LETTERS = 23
"""Of a line in a box."""


def svg(lineage: Lineage, links: Mapping[str, str] | None = None) -> Markup:
    """A picture of the graph; each box has all its facts as a title.

    Args:
        links: address by node id; such a box leads there.
    """
    depths = _depths(lineage)
    columns: list[list[Node]] = [[] for _ in range(max(depths.values(), default=0) + 1)]
    for node in lineage.nodes:
        columns[depths[node.id]].append(node)
    height = max(map(len, columns)) * (BOX_HEIGHT + ROW_GAP) + ROW_GAP
    places: dict[str, tuple[float, float]] = {}
    for depth, column in enumerate(columns):
        sources = {
            node.id: [
                places[edge.source][1]
                for edge in lineage.edges
                if edge.target == node.id and edge.source in places
            ]
            for node in column
        }
        column.sort(key=lambda node: fmean(sources[node.id] or [0.0]))  # fewer lines cross
        top = (height - len(column) * (BOX_HEIGHT + ROW_GAP) + ROW_GAP) / 2
        for row, node in enumerate(column):
            places[node.id] = (
                8 + depth * (BOX_WIDTH + COLUMN_GAP),
                top + row * (BOX_HEIGHT + ROW_GAP),
            )
    width = 16 + len(columns) * (BOX_WIDTH + COLUMN_GAP) - COLUMN_GAP
    return Markup(
        '<svg class="lineage" width="{}" height="{}" viewBox="0 0 {} {}" role="group" '
        'aria-label="{}">{}{}</svg>'
    ).format(
        width,
        height,
        width,
        height,
        _title(lineage),
        Markup("").join(_arrow(edge, places) for edge in lineage.edges),
        Markup("").join(
            _svg_box(node, places[node.id], lineage.subject, (links or {}).get(node.id, ""))
            for node in lineage.nodes
        ),
    )


def _depths(lineage: Lineage) -> dict[str, int]:
    """Column of each node: one after the last of those that went into it."""
    into: dict[str, list[str]] = {node.id: [] for node in lineage.nodes}
    for edge in lineage.edges:
        into[edge.target].append(edge.source)
    depths: dict[str, int] = {}

    def depth(id: str) -> int:
        if id not in depths:
            depths[id] = 0  # a circle, which no lineage has, would end here
            depths[id] = max((depth(source) + 1 for source in into[id]), default=0)
        return depths[id]

    for node in lineage.nodes:
        depth(node.id)
    out_of: dict[str, list[str]] = {node.id: [] for node in lineage.nodes}
    for edge in lineage.edges:
        out_of[edge.source].append(edge.target)
    for node in lineage.nodes:  # what was used by itself stands right before its user
        if not into[node.id] and out_of[node.id]:
            depths[node.id] = min(depths[target] for target in out_of[node.id]) - 1
    return depths


def _arrow(edge: Edge, places: Mapping[str, tuple[float, float]]) -> Markup:
    (from_x, from_y), (to_x, to_y) = places[edge.source], places[edge.target]
    x, y, end = from_x + BOX_WIDTH, from_y + BOX_HEIGHT / 2, to_y + BOX_HEIGHT / 2
    middle = (x + to_x) / 2
    return Markup(
        '<path class="edge" d="M{:g} {:g}C{:g} {:g} {:g} {:g} {:g} {:g}"><title>{}</title></path>'
    ).format(x, y, middle, y, middle, end, to_x, end, edge.what)


def _svg_box(node: Node, place: tuple[float, float], subject: str, link: str) -> Markup:
    first, *others = _box(node)
    second = f"{node.time[:16].replace('T', ' ')}" if node.time else (others[0] if others else "")
    box = Markup(
        '<g class="node{}"><title>{}</title><rect x="{:g}" y="{:g}" width="{}" height="{}" rx="5" '
        'fill="{}"/><text x="{:g}" y="{:g}">{}</text><text class="fact" x="{:g}" y="{:g}">{}</text>'
        "</g>"
    ).format(
        " subject" if node.id == subject else "",
        "\n".join([first, *others]),
        *place,
        BOX_WIDTH,
        BOX_HEIGHT,
        COLOURS[node.kind],
        place[0] + 9,
        place[1] + 19,
        _cut(first),
        place[0] + 9,
        place[1] + 36,
        _cut(second),
    )
    return Markup('<a href="{}">{}</a>').format(link, box) if link else box


def _cut(text: str) -> str:
    return text if len(text) <= MAX_LETTERS else f"{text[: MAX_LETTERS - 1]}…"
