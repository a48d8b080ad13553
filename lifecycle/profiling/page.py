"""A profile as one HTML page: no network, no other file, no script."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from markupsafe import Markup

from lifecycle.errors import DataError
from lifecycle.profiling.bars import headline, share, short, spelled
from lifecycle.profiling.record import Bar, Bin, Summary
from lifecycle.runtime.html import templates, write_page

IN_MATRIX = 24
IN_TABLE = 15
IN_RANKING = 15
CLOSE = 0.3
"""From here on a pair is worth a line."""
MOST_CARDS = 200
"""Columns with a picture; wider tables keep a line each."""


def page(summary: Summary) -> str:
    """The page; the same profile gives the same bytes."""
    environment = templates()
    environment.filters |= {
        "spell": spelled,
        "short": short,
        "share": share,
        "headline": headline,
    }
    by_strength = sorted(
        (column for column in summary.columns if column.relation),
        key=lambda column: -abs(column.relation.strength) if column.relation else 0.0,
    )
    return environment.get_template("profiling/profile.html.j2").render(
        p=summary,
        draw={"histogram": histogram, "means": means, "stacks": stacks, "matrix": matrix},
        target=next((column for column in summary.columns if column.role == "target"), None),
        ranking=by_strength[:IN_RANKING],
        ranked=len(by_strength),
        names=_in_matrix(summary),
        values={(pair.first, pair.second): pair.value for pair in summary.pairs},
        pairs=[pair for pair in summary.pairs[:IN_TABLE] if abs(pair.value) >= CLOSE],
        drifted=sorted(
            (column for column in summary.columns if column.drift),
            key=lambda column: -column.drift.statistic if column.drift else 0.0,
        ),
        lacking=sorted(
            (column for column in summary.columns if column.missing),
            key=lambda column: -column.missing,
        ),
        most_cards=MOST_CARDS,
        anchors={column.name: f"column-{at}" for at, column in enumerate(summary.columns)},
        missing_cells=_missing_cells(summary),
    )


def save_page(summary: Summary, path: Path) -> Path:
    """Write the page in one atomic step; the folder is made if needed.

    Raises:
        DataError: the place cannot be written.
    """
    try:
        return write_page(page(summary), path)
    except OSError as error:
        raise DataError(
            f"{path}: cannot write the page ({error.strerror}); name another place with --output"
        ) from None


def _in_matrix(summary: Summary) -> list[str]:
    """The columns of the closest pairs, in the order of the table."""
    chosen: dict[str, None] = {}
    for pair in summary.pairs:
        if len(chosen | {pair.first: None, pair.second: None}) <= IN_MATRIX:
            chosen |= {pair.first: None, pair.second: None}
    names = [column.name for column in summary.columns if column.name in chosen]
    return names if len(names) > 2 else []


def _missing_cells(summary: Summary) -> float:
    cells = summary.rows * len(summary.columns)
    return sum(column.missing for column in summary.columns) / cells if cells else 0.0


# Small pictures as inline SVG, in the page's colours; every mark has a title.

WIDTH, HEIGHT = 300, 80
CELL, LABEL, TOP = 20, 150, 100
"""Pixels of a matrix's cell, of its row labels, and of the room for the turned ones."""


def histogram(bars: Sequence[Bar], *, height: int = HEIGHT) -> Markup:
    """Upright bars, as high as their rows."""
    most = max((bar.rows for bar in bars), default=0) or 1
    step = WIDTH / max(len(bars), 1)
    marks = [
        _bar(at * step, step, height, bar.rows / most, f"{bar.label}: {bar.rows:,} rows", "bar")
        for at, bar in enumerate(bars)
    ]
    return _svg(marks, WIDTH, height, "rows by value")


def means(bins: Sequence[Bin], base: float, *, share: bool) -> Markup:
    """Upright bars, as high as the target's mean; dashed where it is over all rows."""
    values = [bin_.target[0] for bin_ in bins]
    low, high = min([0.0, base, *values]), max([0.0, base, *values])
    span = (high - low) or 1.0
    step = WIDTH / len(bins)
    marks = [
        _bar(
            at * step,
            step,
            HEIGHT,
            (bin_.target[0] - low) / span,
            f"{bin_.label}: {_value(bin_.target[0], share)}, {bin_.rows:,} rows",
            "target",
        )
        for at, bin_ in enumerate(bins)
    ]
    y = HEIGHT - (base - low) / span * (HEIGHT - 4)
    marks.append(
        Markup('<line class="base" x1="0" x2="{}" y1="{:.1f}" y2="{:.1f}"/>').format(WIDTH, y, y)
    )
    return _svg(marks, WIDTH, HEIGHT, "target by value")


def stacks(bins: Sequence[Bin], classes: Sequence[str]) -> Markup:
    """Upright bars divided by the share of each class."""
    step = WIDTH / len(bins)
    marks = []
    for at, bin_ in enumerate(bins):
        top = 0.0
        for place, part in enumerate(bin_.target):
            label = f"{bin_.label}: {classes[place] if classes else place} {part:.1%}"
            marks.append(
                Markup(
                    '<rect class="class{}" x="{:.1f}" y="{:.1f}" width="{:.1f}" height="{:.1f}">'
                    "<title>{}</title></rect>"
                ).format(place % 6, at * step + 0.5, top * HEIGHT, step - 1, part * HEIGHT, label)
            )
            top += part
    return _svg(marks, WIDTH, HEIGHT, "classes by value")


def matrix(names: Sequence[str], values: Mapping[tuple[str, str], float]) -> Markup:
    """A cell a pair, the fuller the closer; blue goes along, orange against."""
    side = CELL * len(names)
    marks = []
    for i, first in enumerate(names):
        y = i * CELL + TOP
        marks.append(
            Markup('<text x="{}" y="{}" text-anchor="end">{}<title>{}</title></text>').format(
                LABEL - 6, y + CELL - 6, _clipped(first), first
            )
        )
        for j, second in enumerate(names[:i]):
            value = values.get((first, second), values.get((second, first), 0.0))
            marks.append(
                Markup(
                    '<rect class="{}" x="{}" y="{}" width="{}" height="{}" fill-opacity="{:.2f}">'
                    "<title>{} and {}: {:.2f}</title></rect>"
                ).format(
                    "against" if value < 0 else "along",
                    LABEL + j * CELL,
                    y,
                    CELL - 1,
                    CELL - 1,
                    max(0.04, abs(value)),
                    first,
                    second,
                    value,
                )
            )
        turned = f"translate({LABEL + i * CELL + 13},{y + CELL - 4}) rotate(-45)"
        marks.append(
            Markup('<text class="turned" transform="{}">{}</text>').format(turned, _clipped(first))
        )
    return _svg(
        marks, LABEL + side + TOP, side + TOP + 4, "how closely columns go together", fixed=True
    )


def _bar(x: float, step: float, height: int, share: float, label: str, kind: str) -> Markup:
    tall = max(share * (height - 4), 1.0 if share > 0 else 0.0)
    gap = min(1.0, step / 8)
    return Markup(
        '<rect class="{}" x="{:.1f}" y="{:.1f}" width="{:.1f}" height="{:.1f}">'
        "<title>{}</title></rect>"
    ).format(kind, x + gap / 2, height - tall, step - gap, tall, label)


def _svg(
    marks: Sequence[Markup], width: int, height: int, label: str, fixed: bool = False
) -> Markup:
    size = Markup('width="{}" height="{}"').format(width, height) if fixed else Markup("")
    stretch = Markup("") if fixed else Markup('preserveAspectRatio="none"')
    return Markup('<svg role="img" aria-label="{}" viewBox="0 0 {} {}" {} {}>{}</svg>').format(
        label, width, height, size, stretch, Markup("").join(marks)
    )


def _value(value: float, share: bool) -> str:
    return f"{value:.1%}" if share else f"{value:.4g}"


def _clipped(name: str) -> str:
    text = short(name)
    return text if len(text) <= 20 else f"{text[:19]}…"
