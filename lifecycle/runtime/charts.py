"""Charts as inline SVG: values over windows, and moments over time.

Only lines and dots are in the SVG, which stretches to the width of the page; all text is HTML
around it, so that it has one size on a phone and on a screen. The colours are those of
`runtime/style.html.j2`, light or dark. Whoever listens instead of looking gets a sentence.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from markupsafe import Markup

WIDTH, HEIGHT = 1000.0, 100.0
"""Units of a chart's drawing area, whatever its size on the screen."""
MAX_DOTS = 120
"""Windows up to which every value has a dot with its number; beyond, only the alarms have."""
MARK_GAP = 9.0
"""Per cent of the width that two labels of marks are apart, at least."""
MAX_TICKS = 13
Tone = Literal["first", "second", "alarm"]


@dataclass(frozen=True)
class Series:
    """Values over windows; None where there is no value."""

    name: str
    values: Sequence[float | None]
    tone: Tone = "first"
    low: Sequence[float | None] = ()
    """Lower ends of the intervals; empty without intervals."""
    high: Sequence[float | None] = ()
    alarms: Sequence[bool] = ()
    """Mask of the values that are alarms."""
    notes: Sequence[str] = ()
    """More text of the dot of each value."""


@dataclass(frozen=True)
class Mark:
    """A vertical line at a window."""

    at: int
    label: str


@dataclass(frozen=True)
class _Scale:
    """Place of a window and a value in the drawing area."""

    step: float
    low: float
    high: float

    def x(self, at: int) -> float:
        return (at + 0.5) * self.step

    def y(self, value: float) -> float:
        return HEIGHT - (value - self.low) / (self.high - self.low) * HEIGHT


@dataclass(frozen=True)
class TimelineRow:
    """Moments of one kind, each with what its dot says."""

    label: str
    moments: Sequence[tuple[datetime, str]]
    tone: Tone = "first"


def line_chart(
    title: str,
    windows: Sequence[str],
    series: Sequence[Series],
    *,
    limit: Sequence[float | None] = (),
    marks: Sequence[Mark] = (),
    from_zero: bool = False,
) -> Markup:
    """A figure of values over windows.

    Args:
        windows: their names, in order.
        limit: the value at which there is an alarm, for each window; drawn dashed.
        marks: releases.
        from_zero: whether the axis begins at 0.
    """
    scale = _Scale(WIDTH / max(len(windows), 1), *_span(series, limit, from_zero))
    drawn = [
        Markup('<path class="mark" d="M{:.1f} 0V{:g}"/>').format(scale.x(mark.at), HEIGHT)
        for mark in marks
    ]
    drawn += [band for line in series for band in _bands(line, scale)]
    legend: list[tuple[str, str]] = [(line.tone, line.name) for line in series]
    if any(value is not None for value in limit):
        drawn.append(Markup('<path class="limit" d="{}"/>').format(_path(limit, scale)))
        legend.append(("limit", "alarm limit"))
    for line in series:
        path = _path(line.values, scale)
        drawn.append(Markup('<path class="line {}" d="{}"/>').format(line.tone, path))
        drawn += _dots(line, windows, scale)
    labels = _apart([(scale.x(mark.at) / WIDTH * 100, mark.label) for mark in marks])
    return Markup(
        '<figure class="chart"><figcaption>{}{}</figcaption><div class="area">'
        '<div class="y" aria-hidden="true"><span>{}</span><span>{}</span></div>'
        '<div class="field"><div class="marks" aria-hidden="true">{}</div>{}'
        '<div class="marks x" aria-hidden="true">{}</div></div></div></figure>'
    ).format(
        title,
        _legend(legend) if len(legend) > 1 else "",
        spell(scale.high),
        spell(scale.low),
        Markup("").join(labels),
        svg(drawn, _sentence(title, windows, series, len(marks))),
        Markup("").join(_ends(windows)),
    )


def timeline(lanes: Sequence[TimelineRow], start: datetime, end: datetime) -> Markup:
    """A figure of moments: a lane per kind, with months below."""
    seconds = max((end - start).total_seconds(), 1.0)

    def x(moment: datetime) -> float:
        return min(max((moment - start).total_seconds() / seconds, 0.0), 1.0) * WIDTH

    rows = []
    for lane in lanes:
        dots = [
            Markup('<path class="dot {}" d="M{:.1f} 50h0"><title>{}</title></path>').format(
                lane.tone, x(moment), text
            )
            for moment, text in lane.moments
        ]
        count = len(lane.moments)
        last = f", the last on {lane.moments[-1][0]:%Y-%m-%d}" if lane.moments else ""
        rows.append(
            Markup('<div class="lane"><span>{} <b>{}</b></span>{}</div>').format(
                lane.label, count, svg(dots, f"{lane.label}: {count}{last}")
            )
        )
    ticks = _apart([(x(moment) / 10, label) for moment, label in _ticks(start, end)])
    return Markup(
        '<figure class="chart lanes">{}<div class="lane axis" aria-hidden="true"><span></span>'
        '<div class="marks">{}</div></div></figure>'
    ).format(Markup("").join(rows), Markup("").join(ticks))


def spell(value: float) -> str:
    """A number of an axis: three digits, or whole thousands."""
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def _span(
    series: Sequence[Series], limit: Sequence[float | None], from_zero: bool
) -> tuple[float, float]:
    """Ends of the axis, with room above and below."""
    numbers = [
        value for line in series for part in (line.values, line.low, line.high) for value in part
    ]
    present = [value for value in (*numbers, *limit) if value is not None]
    low, high = (min(present), max(present)) if present else (0.0, 1.0)
    if from_zero:
        low = min(low, 0.0)
    room = (high - low) * 0.06 or abs(high) * 0.1 or 1.0
    return (low if from_zero and low == 0 else low - room), high + room


def _runs(*values: Sequence[float | None]) -> list[list[int]]:
    """Stretches of windows in which all of these have a value."""
    runs: list[list[int]] = []
    is_open = False
    for at, each in enumerate(zip(*values, strict=True)):
        is_known = None not in each
        if is_known and not is_open:
            runs.append([])
        if is_known:
            runs[-1].append(at)
        is_open = is_known
    return runs


def _path(values: Sequence[float | None], scale: _Scale) -> str:
    """A line that is broken where there is no value; a lone value is a dot."""
    stretches = []
    for run in _runs(values):
        points = [f"{scale.x(at):.1f} {scale.y(values[at] or 0.0):.1f}" for at in run]
        stretches.append(f"M{points[0]}h0" + "".join(f"L{point}" for point in points[1:]))
    return "".join(stretches)


def _bands(line: Series, scale: _Scale) -> list[Markup]:
    """The interval of each value as an area."""
    areas = []
    for run in _runs(line.low, line.high) if line.low else ():
        half = scale.step * 0.3 if len(run) == 1 else 0.0
        above = [(scale.x(at), scale.y(line.high[at] or 0.0)) for at in run]
        below = [(scale.x(at), scale.y(line.low[at] or 0.0)) for at in reversed(run)]
        if half:  # a lone interval would have no width
            (at, top), (_, bottom) = above[0], below[0]
            above = [(at - half, top), (at + half, top)]
            below = [(at + half, bottom), (at - half, bottom)]
        points = "L".join(f"{x:.1f} {y:.1f}" for x, y in above + below)
        areas.append(Markup('<path class="band {}" d="M{}Z"/>').format(line.tone, points))
    return areas


def _dots(line: Series, windows: Sequence[str], scale: _Scale) -> list[Markup]:
    dots = []
    alarms = line.alarms or [False] * len(windows)
    for at, value in enumerate(line.values):
        if value is None or not (alarms[at] or len(windows) <= MAX_DOTS):
            continue
        interval = ""
        if line.low and (low := line.low[at]) is not None and (high := line.high[at]) is not None:
            interval = f" ({low:.3g} to {high:.3g})"
        note = f"; {line.notes[at]}" if line.notes and line.notes[at] else ""
        dots.append(
            Markup('<path class="dot {}" d="M{:.1f} {:.1f}h0"><title>{}</title></path>').format(
                "alarm" if alarms[at] else line.tone,
                scale.x(at),
                scale.y(value),
                f"{windows[at]}: {line.name} {spell(value)}{interval}{note}",
            )
        )
    return dots


def svg(drawn: Sequence[Markup], sentence: str) -> Markup:
    """A drawing area with the sentence that stands in for it."""
    return Markup(
        '<svg viewBox="0 0 {:g} {:g}" preserveAspectRatio="none" role="img" aria-label="{}">'
        "{}</svg>"
    ).format(WIDTH, HEIGHT, sentence, Markup("").join(drawn))


def _legend(items: Sequence[tuple[str, str]]) -> Markup:
    return Markup("").join(
        Markup('<span class="key {}">{}</span>').format(tone, name) for tone, name in items
    )


def _sentence(title: str, windows: Sequence[str], series: Sequence[Series], releases: int) -> str:
    """Text of the chart, for those who do not see it."""
    if not windows:
        return f"{title}: no windows"
    parts = [f"{title}, {len(windows)} windows from {windows[0]} to {windows[-1]}"]
    for line in series:
        present = [(at, value) for at, value in enumerate(line.values) if value is not None]
        if not present:
            parts.append(f"{line.name}: none")
            continue
        lowest, highest = (pick(present, key=lambda pair: pair[1]) for pick in (min, max))
        alarms = f", {sum(line.alarms)} alarms" if any(line.alarms) else ""
        parts.append(
            f"{line.name}: {spell(present[-1][1])} last, lowest {spell(lowest[1])} in "
            f"{windows[lowest[0]]}, highest {spell(highest[1])} in {windows[highest[0]]}{alarms}"
        )
    if releases:
        parts.append(f"another version from {releases} of the windows on")
    return "; ".join(parts)


def _ends(windows: Sequence[str]) -> list[Markup]:
    """The first, the middle and the last window, each below its value."""
    last = len(windows) - 1
    places = {0, last} | ({last // 2} if last > 3 else set())
    return _apart([((at + 0.5) / len(windows) * 100, windows[at]) for at in places if at >= 0])


def _apart(labels: Sequence[tuple[float, str]]) -> list[Markup]:
    """Labels at their per cent of the width; of those that would overlap, the later stays."""
    chosen: list[tuple[float, str]] = []
    for place, text in sorted(labels, reverse=True):
        if not chosen or chosen[-1][0] - place >= MARK_GAP:
            chosen.append((place, text))
    # moved back by its place, so that the first begins, and the last ends, within the width
    return [
        Markup('<span style="left:{0:.1f}%;transform:translateX(-{0:.1f}%)">{1}</span>').format(
            place, text
        )
        for place, text in reversed(chosen)
    ]


def _ticks(start: datetime, end: datetime) -> list[tuple[datetime, str]]:
    """First days of months; both ends where they are in one month."""
    months = (end.year - start.year) * 12 + end.month - start.month
    if not months:
        return [(start, f"{start:%Y-%m-%d %H:%M}"), (end, f"{end:%Y-%m-%d %H:%M}")]
    every = -(-months // MAX_TICKS)
    ticks: list[tuple[datetime, str]] = []
    for number in range(every, months + 1, every):
        year, month = divmod(start.month - 1 + number, 12)
        moment = start.replace(
            year=start.year + year, month=month + 1, day=1, hour=0, minute=0, second=0
        )
        ticks.append((moment, f"{moment:%b %Y}" if month == 0 or not ticks else f"{moment:%b}"))
    return ticks
