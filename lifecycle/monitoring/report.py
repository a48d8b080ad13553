"""The monitoring report: the decision, quality, drift in numbers, and what drifted in plots."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from lifecycle.monitoring.charts import window_charts, window_list, worst_windows
from lifecycle.monitoring.drift import shares
from lifecycle.monitoring.history import WindowResult
from lifecycle.monitoring.scored import OpenWindow
from lifecycle.monitoring.sketch import as_floats
from lifecycle.project import Project
from lifecycle.records import (
    GIVEN_OTHERS,
    Alarm,
    ColumnDrift,
    ConditionalDrift,
    Decision,
    DriftReport,
    EstimatedQuality,
    Evaluation,
    Grade,
    Scored,
    counted,
)
from lifecycle.runtime.html import Cell, PageSection, Picture, Table, page

if TYPE_CHECKING:
    from matplotlib.axes import Axes

BINS = 30
LEVELS = 12
"""Levels of a category that a plot shows; the report's numbers are about all."""
HEADER = (
    "column",
    "state",
    "distance",
    "limit",
    "set by",
    "since the window before",
    "visible shift",
    "test",
    "reference",
    "current",
)
ALARM_HEADER = ("severity", "cause", "against", "distance or value", "limit", "alarm")
PLOTS = 12
"""Plots a window, the furthest drifted first."""
ESTIMATED = (
    "From no label of the window: the interval is where 95 of 100 measured values lie while the "
    "same rows still have the same truth. An estimate that was wrong is withdrawn."
)
REFERENCE, CURRENT = "#7a8696", "#c2410c"


@dataclass(frozen=True)
class WindowFindings:
    """Results of monitoring one window."""

    window: OpenWindow
    drift: DriftReport
    change: DriftReport | None
    """Against the window before."""
    quality: Evaluation | None
    alarms: Sequence[Alarm]
    estimated: EstimatedQuality | None = None
    """The deciding metric before the labels."""


def monitoring_page(
    project: Project,
    reference: tuple[Scored, OpenWindow],
    findings: Sequence[WindowFindings],
    released: Evaluation,
    decision: Decision,
    categorical: Sequence[str],
    history: Sequence[WindowResult] = (),
) -> str:
    """The report as a self-contained HTML page; newest window first.

    Args:
        history: every window that was monitored so far, in order.
    """
    scored, window = reference
    model = scored.model
    lead = (
        f"{model.name} v{model.version}. Reference: {len(window.features):,} rows of "
        f"{scored.dataset.uri.rsplit('/', 1)[-1]} version {scored.dataset.version}."
    )
    verdict = (
        Cell("Nothing to do", "good") if decision.passed else Cell("Retraining is asked for", "bad")
    )
    parts = [PageSection("Why", points=decision.reasons)]
    if newest := findings[-1].alarms:
        parts.append(PageSection("What happened", points=tuple(alarm.text for alarm in newest)))
    if history:
        parts.append(_timeline(project, history))
    parts.append(PageSection("Quality", table=_quality(released, findings)))
    if any(window_findings.estimated for window_findings in findings):
        parts.append(_estimates(findings))
    for window_findings in reversed(findings):
        sections = (
            _alarms(window_findings, project),
            _window(window_findings, window, categorical),
        )
        is_newest = window_findings is findings[-1]
        parts += [replace(section, folded=not is_newest) for section in sections]
    names = {str(window_findings.drift.window) for window_findings in findings}
    if before := [result for result in history if result.window not in names]:
        title = f"The {counted(len(before), 'window')} before"
        parts.append(PageSection(title, html=window_list(before, project.metric)))
    return page(f"Monitoring {project.name}", parts, lead=lead, verdict=verdict)


def _timeline(project: Project, history: Sequence[WindowResult]) -> PageSection:
    """Quality, drift and volume of all windows, and those that alarmed most."""
    worst = [
        (
            result.window,
            f"v{result.version}",
            Cell(str(result.alarms[0]), "bad" if result.alarms[0].severity == "high" else "warn"),
            f"{len(result.alarms)}",
        )
        for result in worst_windows(history)
    ]
    return PageSection(
        f"All {counted(len(history), 'window')}",
        table=Table(("worst windows", "version", "first alarm", "alarms"), tuple(worst))
        if worst
        else None,
        html=window_charts(history, project.metric),
    )


def _quality(released: Evaluation, findings: Sequence[WindowFindings]) -> Table:
    header = ("window", "labelled rows", *released.metrics)
    rows = [("release", f"{released.rows:,}", *_metrics(released, released))]
    for window_findings in reversed(findings):
        measured = window_findings.quality
        labelled = "no labels yet" if measured is None else f"{measured.rows:,}"
        rows.append(
            (f"window {window_findings.drift.window}", labelled, *_metrics(measured, released))
        )
    return Table(header, tuple(rows))


def _metrics(measured: Evaluation | None, released: Evaluation) -> list[str]:
    if measured is None:
        return ["–" for _ in released.metrics]
    metrics = (measured.metrics.get(name) for name in released.metrics)
    return [f"{m.value:.3g} ({m.low:.3g} to {m.high:.3g})" if m else "–" for m in metrics]


def _estimates(findings: Sequence[WindowFindings]) -> PageSection:
    """The deciding metric before the labels, beside what was measured, and how good it has been."""
    rows: list[tuple[str | Cell, ...]] = []
    metric = ""
    for window_findings in reversed(findings):
        name, estimated = f"window {window_findings.drift.window}", window_findings.estimated
        if estimated is None:
            rows.append((name, "too few rows", "–", "–"))
            continue
        metric = estimated.metric.replace("_", " ")
        measured = window_findings.quality
        value = measured and measured.metrics.get(estimated.metric)
        estimate, grade = estimated.estimate, estimated.grade
        rows.append(
            (
                name,
                Cell("withdrawn", "bad")
                if grade.withdrawn
                else f"{estimate.value:.3g} ({estimate.low:.3g} to {estimate.high:.3g})",
                f"{value.value:.3g} on {measured.rows:,} rows" if measured and value else "–",
                _grade_text(grade),
            )
        )
    header = ("window", f"{metric}, estimated", "measured", "estimates so far")
    return PageSection("Quality before labels", text=(ESTIMATED,), table=Table(header, tuple(rows)))


def _grade_text(grade: Grade) -> str:
    if not grade.windows:
        return "no labelled window yet"
    text = f"{grade.covered} of {grade.windows} labelled windows covered, bias {grade.bias:+.2g}"
    return f"{text}; withdrawn: {grade.withdrawn}" if grade.withdrawn else text


def _alarms(findings: WindowFindings, project: Project) -> PageSection:
    """What alarms in a window, and what it could have shown."""
    report, alarms = findings.drift, findings.alarms
    rows = tuple(
        (
            Cell(alarm.severity, "bad" if alarm.severity == "high" else "warn"),
            alarm.text,
            alarm.comparison,
            f"{alarm.metric.replace('_', ' ')} {alarm.value:.3g}",
            f"{alarm.limit:.3g}",
            alarm.id,
        )
        for alarm in alarms
    )
    text = [
        f"Limits by chance are for all columns, slices and comparisons together: "
        f"{project.monitoring.false_alarms} without drift alarm. For them the reference was "
        f"resampled in {report.drawn}.",
        *([visible] if (visible := visible_words(report)) else []),
    ]
    if not alarms:
        text.insert(0, "None.")
    table = Table(ALARM_HEADER, rows) if rows else None
    return PageSection(f"Alarms of window {report.window}", text=tuple(text), table=table)


def visible_words(report: DriftReport) -> str:
    """Say which shift of a numeric column the window would have shown; empty without any."""
    least: dict[str, float] = {}
    for drift in (*report.features, *report.conditional):
        if drift.visible is not None:
            least[drift.column] = min(drift.visible, least.get(drift.column, drift.visible))
    shifts = [*least.values()]
    if not shifts:
        return ""
    worst = max(shifts)
    middle = float(np.median(shifts))
    return (
        f"9 of 10 windows like this one would show a shift of {worst:.2g} σ in any one of "
        f"{len(shifts)} continuous features, of {middle:.2g} σ in half of them."
    )


def _window(
    findings: WindowFindings, reference: OpenWindow, categorical: Sequence[str]
) -> PageSection:
    report, current = findings.drift, findings.window
    change = findings.change
    before = (*change.features, *change.conditional) if change else ()
    since = {_name(drift): drift for drift in before}
    ordered = sorted(report.features, key=lambda c: -c.statistic / c.limit)
    labels = [report.labels] if report.labels else []
    conditional = [drift for drift in report.moved if isinstance(drift, ConditionalDrift)]
    columns: list[ColumnDrift] = [report.predictions, *labels, *conditional, *ordered]
    rows = {
        _name(column): (
            _name(column),
            _state(column),
            f"{column.statistic:.3f}",
            f"{column.limit:.3g}",
            "chance" if column.chance > column.threshold else "declared",
            _since(since.get(_name(column))),
            "–" if column.visible is None else f"{column.visible:.2g} σ",
            column.test.replace("_", " "),
            *_middles(column.column, reference, current, categorical),
        )
        for column in columns
    }
    plots = [
        column
        for column in columns
        if column not in conditional and (column.alarms or column is report.predictions)
    ]
    hidden = len(plots) - PLOTS
    return PageSection(
        f"Window {report.window}",
        text=(
            f"{report.current_rows:,} rows; {len(report.drifted)} of {len(report.features)} "
            "features drifted.",
            *([f"Plots of {hidden} more columns are left out."] if hidden > 0 else []),
        ),
        table=Table(HEADER, tuple(rows[_name(column)] for column in (*conditional, *plots))),
        more=Table(HEADER, tuple(rows.values()))
        if len(rows) > len(conditional) + len(plots)
        else None,
        pictures=tuple(_picture(c, reference, current, categorical) for c in plots[:PLOTS]),
    )


def _name(drift: ColumnDrift) -> str:
    return f"{drift.column}{GIVEN_OTHERS if isinstance(drift, ConditionalDrift) else ''}"


def _state(column: ColumnDrift) -> Cell:
    if column.drifted:
        return Cell("drifted", "bad")
    return Cell("alarm", "warn") if column.alarms else Cell("kept", "good")


def _since(drift: ColumnDrift | None) -> str:
    if drift is None:
        return "–"
    return f"{drift.statistic:.3f}{' (new)' if drift.alarms else ''}"


def _values(name: str, window: OpenWindow) -> pd.Series:
    """A feature, the target where it is known, or the model's answer."""
    if name in window.features:
        return window.features[name]
    return window.label.dropna() if name == window.target else window.answer


def _is_category(name: str, window: OpenWindow, categorical: Sequence[str]) -> bool:
    return name in categorical if name in window.features else bool(window.classes)


def _middles(
    name: str, reference: OpenWindow, current: OpenWindow, categorical: Sequence[str]
) -> tuple[str, str]:
    """Describe the centre of both windows: mean ± deviation, or the most frequent level."""
    before, after = _values(name, reference), _values(name, current)
    if _is_category(name, reference, categorical):
        table = shares(before, after)
        tops = [table[side].idxmax() for side in ("reference", "current")]
        return (
            f"{tops[0]} ({table['reference'].max():.0%})",
            f"{tops[1]} ({table['current'].max():.0%})",
        )
    return _typical(before), _typical(after)


def _typical(column: pd.Series) -> str:
    values = as_floats(column)
    lacking = float(np.isnan(values).mean())
    share = f"{lacking:.0%}" if lacking >= 0.01 else "under 1%"
    note = f", {share} missing" if lacking else ""
    if lacking == 1:
        return "all missing"
    if pd.api.types.is_datetime64_any_dtype(column.dtype):
        return f"{column.min():%Y-%m-%d} to {column.max():%Y-%m-%d}{note}"
    return f"{_short(float(np.nanmean(values)))} ± {_short(float(np.nanstd(values)))}{note}"


def _short(value: float) -> str:
    """Three digits, or whole thousands."""
    return f"{value:,.0f}" if 1000 <= abs(value) < 1e9 else f"{value:.3g}"


def _picture(
    column: ColumnDrift, reference: OpenWindow, current: OpenWindow, categorical: Sequence[str]
) -> Picture:
    from matplotlib.figure import Figure  # takes a second, and `score` draws nothing

    before, after = _values(column.column, reference), _values(column.column, current)
    figure = Figure(figsize=(4.6, 2.6))
    axes: Axes = figure.subplots()
    if _is_category(column.column, reference, categorical):
        _bars(axes, shares(before, after))
    else:
        _histogram(axes, as_floats(before), as_floats(after))
    axes.set_title(column.column, fontsize=10, loc="left")
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(labelsize=8)
    axes.legend(fontsize=8, frameon=False)
    test = column.test.replace("_", " ")
    caption = f"{test} {column.statistic:.3f}, limit {column.limit:.3g}; share of rows"
    return Picture(figure, f"{column.column}: {caption}")


def _histogram(axes: "Axes", reference: NDArray[np.float64], current: NDArray[np.float64]) -> None:
    """Shares over common bins between the 0.5 and 99.5 percentiles; a tail would hide the rest."""
    samples = [values[~np.isnan(values)] for values in (reference, current)]
    pooled = np.concatenate(samples)
    low, high = np.quantile(pooled, [0.005, 0.995]) if len(pooled) else (0.0, 1.0)
    edges = np.linspace(low, high if high > low else low + 1, BINS + 1)
    sides = zip(samples, ("reference", "current"), (REFERENCE, CURRENT), strict=True)
    for values, label, colour in sides:
        heights = np.histogram(values.clip(low, high), edges)[0] / max(len(values), 1)
        axes.stairs(heights, edges, label=label, color=colour, linewidth=1.6)


def _bars(axes: "Axes", table: pd.DataFrame) -> None:
    """The levels whose shares moved most, side by side."""
    moved = (table["reference"] - table["current"]).abs()
    levels = table.loc[moved.nlargest(LEVELS).index].sort_index()
    at = np.arange(len(levels))
    axes.bar(at - 0.2, levels["reference"], 0.4, label="reference", color=REFERENCE)
    axes.bar(at + 0.2, levels["current"], 0.4, label="current", color=CURRENT)
    names = [name if len(name) <= 14 else f"{name[:13]}…" for name in map(str, levels.index)]
    axes.set_xticks(
        at,
        names,
        rotation=45 if len(levels) > 4 else 0,
        ha="right" if len(levels) > 4 else "center",
    )
