"""Small pictures as inline SVG; they take the page's colours, and every mark says what it is."""

from collections.abc import Mapping, Sequence

from markupsafe import Markup

from lifecycle.profiling.bars import short
from lifecycle.profiling.record import Bar, Bin

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
    values = [one.target[0] for one in bins]
    low, high = min([0.0, base, *values]), max([0.0, base, *values])
    span = (high - low) or 1.0
    step = WIDTH / len(bins)
    marks = [
        _bar(
            at * step,
            step,
            HEIGHT,
            (one.target[0] - low) / span,
            f"{one.label}: {_value(one.target[0], share)}, {one.rows:,} rows",
            "target",
        )
        for at, one in enumerate(bins)
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
    for at, one in enumerate(bins):
        top = 0.0
        for place, share in enumerate(one.target):
            said = f"{one.label}: {classes[place] if classes else place} {share:.1%}"
            marks.append(
                Markup(
                    '<rect class="class{}" x="{:.1f}" y="{:.1f}" width="{:.1f}" height="{:.1f}">'
                    "<title>{}</title></rect>"
                ).format(place % 6, at * step + 0.5, top * HEIGHT, step - 1, share * HEIGHT, said)
            )
            top += share
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


def _bar(x: float, step: float, height: int, share: float, said: str, kind: str) -> Markup:
    tall = max(share * (height - 4), 1.0 if share > 0 else 0.0)
    gap = min(1.0, step / 8)
    return Markup(
        '<rect class="{}" x="{:.1f}" y="{:.1f}" width="{:.1f}" height="{:.1f}">'
        "<title>{}</title></rect>"
    ).format(kind, x + gap / 2, height - tall, step - gap, tall, said)


def _svg(
    marks: Sequence[Markup], width: int, height: int, said: str, fixed: bool = False
) -> Markup:
    size = Markup('width="{}" height="{}"').format(width, height) if fixed else Markup("")
    stretch = Markup("") if fixed else Markup('preserveAspectRatio="none"')
    return Markup('<svg role="img" aria-label="{}" viewBox="0 0 {} {}" {} {}>{}</svg>').format(
        said, width, height, size, stretch, Markup("").join(marks)
    )


def _value(value: float, share: bool) -> str:
    return f"{value:.1%}" if share else f"{value:.4g}"


def _clipped(name: str) -> str:
    text = short(name)
    return text if len(text) <= 20 else f"{text[:19]}…"
