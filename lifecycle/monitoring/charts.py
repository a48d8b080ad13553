"""Quality, drift and volume over all monitored windows, with the versions that answered."""

from collections.abc import Sequence

from markupsafe import Markup

from lifecycle.monitoring.history import StoredQuality, WindowResult
from lifecycle.project.base import greater_is_better
from lifecycle.records import counted
from lifecycle.runtime.charts import Mark, Series, Tone, line_chart


def window_charts(windows: Sequence[WindowResult], metric: str) -> Markup:
    """Three figures over the same windows; empty without any.

    Args:
        windows: of one source, in order.
        metric: the deciding one.
    """
    if not windows:
        return Markup("")
    names = [window.window for window in windows]
    marks = releases(windows)
    charts = [
        chart
        for chart in (
            _quality(windows, names, marks, metric),
            _drift(windows, names, marks),
            line_chart(
                "Volume: rows per window",
                names,
                [Series("rows", [window.rows for window in windows])],
                marks=marks,
                from_zero=True,
            ),
        )
        if chart
    ]
    return Markup('<div class="charts">{}</div>').format(Markup("").join(charts))


def releases(windows: Sequence[WindowResult]) -> list[Mark]:
    """The windows from which another version answered."""
    return [
        Mark(at, f"v{window.version}")
        for at, window in enumerate(windows)
        if at == 0 or window.version != windows[at - 1].version
    ]


def _quality(
    windows: Sequence[WindowResult], names: Sequence[str], marks: Sequence[Mark], metric: str
) -> Markup | None:
    measured = [window.quality(metric) for window in windows]
    estimated = [window.estimated for window in windows]
    lines = []
    sides: list[tuple[str, Tone, list[StoredQuality | None]]] = [
        ("estimated before the labels", "second", estimated),
        ("measured", "first", measured),
    ]
    for name, tone, measures in sides:
        if not any(measure and measure.value is not None for measure in measures):
            continue
        lines.append(
            Series(
                name,
                [measure.value if measure else None for measure in measures],
                tone=tone,
                low=[measure.low if measure else None for measure in measures],
                high=[measure.high if measure else None for measure in measures],
                alarms=[bool(measure and measure.alarm) for measure in measures],
                notes=[f"v{window.version}" for window in windows],
            )
        )
    if not lines:
        return None
    better = "higher" if greater_is_better(metric) else "lower"
    title = f"Quality: {metric.replace('_', ' ')}, {better} is better"
    limit = [measure.limit if measure else None for measure in measured]
    return line_chart(title, names, lines, limit=limit, marks=marks)


def _drift(
    windows: Sequence[WindowResult], names: Sequence[str], marks: Sequence[Mark]
) -> Markup | None:
    furthest = [window.distances[0] if window.distances else None for window in windows]
    if not any(furthest):
        return None
    line = Series(
        "furthest column",
        [distance.ratio if distance else None for distance in furthest],
        alarms=[bool(distance and distance.alarm) for distance in furthest],
        notes=[f"{distance}" if distance else "" for distance in furthest],
    )
    title = "Drift: distance of the furthest column, in alarm limits"
    return line_chart(title, names, [line], limit=[1.0] * len(names), marks=marks, from_zero=True)


# Windows as a list.


def worst_windows(windows: Sequence[WindowResult], count: int = 5) -> list[WindowResult]:
    """The windows that alarmed most, worst first; of those alike, the newest."""
    alarming = [window for window in reversed(windows) if window.alarms]

    def badness(window: WindowResult) -> tuple[int, float]:
        high = sum(alarm.severity == "high" for alarm in window.alarms)
        return -high, -max((distance.ratio for distance in window.distances), default=0.0)

    return sorted(alarming, key=badness)[:count]


def window_list(windows: Sequence[WindowResult], metric: str) -> Markup:
    """A line per window, the newest first, with what changed in it, the furthest first."""
    return Markup("").join(_window(window, metric) for window in reversed(windows))


def _window(window: WindowResult, metric: str) -> Markup:
    measured = window.quality(metric) or window.estimated
    quality = ""
    if measured is not None and measured.value is not None:
        quality = f"{measured.metric.replace('_', ' ')} {measured.value:.3g}"
    rows = [
        Markup(
            '<tr><td>{}</td><td class="number">{:.3f}</td><td class="number">{:.3g}</td></tr>'
        ).format(distance, distance.value, distance.limit)
        for distance in window.distances
    ]
    alarms = [
        Markup('<li class="{}">{}</li>').format(
            "bad" if alarm.severity == "high" else "warn", f"{alarm}, against {alarm.comparison}"
        )
        for alarm in window.alarms
    ]
    state = f"{counted(len(alarms), 'alarm')}" if alarms else ""
    tone = "bad" if any(alarm.severity == "high" for alarm in window.alarms) else "warn"
    return Markup(
        '<details class="window"><summary><span><b>{}</b></span><span>v{}</span><span>{}</span>'
        '<span>{}</span><span class="{}">{}</span></summary>{}<div class="wide" tabindex="0">'
        "<table><thead><tr><th>furthest of {}</th><th>distance</th><th>alarm limit</th></tr>"
        "</thead><tbody>{}</tbody></table></div></details>"
    ).format(
        window.window,
        window.version,
        counted(window.rows or 0, "row"),
        quality,
        tone,
        state,
        Markup("<ul>{}</ul>").format(Markup("").join(alarms)) if alarms else "",
        window.compared,
        Markup("").join(rows),
    )
