"""Quality, drift and volume over all monitored windows, with the versions that answered."""

from collections.abc import Sequence

from markupsafe import Markup

from lifecycle.monitoring.history import StoredQuality, WindowResult
from lifecycle.project.base import greater_is_better
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
