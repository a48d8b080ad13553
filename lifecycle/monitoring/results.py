"""Results of monitoring as rows of two Delta tables, `monitoring_metrics` and `monitoring_alarms`.

A window that is monitored again replaces its own rows, so that both say what is so by now.
"""

from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from typing import Any, Literal

import pyarrow as pa

from lifecycle.lake.rows import replace_rows
from lifecycle.lake.table import table_uri
from lifecycle.project import Project
from lifecycle.quality.gates import is_worse, quality_limit
from lifecycle.records import (
    Alarm,
    AlarmOrigin,
    ColumnDrift,
    ConditionalDrift,
    DriftReport,
    EstimatedQuality,
    Evaluation,
    LabelDrift,
    ModelVersion,
    Record,
    SliceDrift,
    Window,
)
from lifecycle.runtime.identity import sha256
from lifecycle.settings import Settings

METRICS, ALARMS = "monitoring_metrics", "monitoring_alarms"
PREDICTIONS = "predictions"
"""Table of the windows that were scored."""
LIVE, LIVE_PREDICTIONS = "live", "live_predictions"
"""Tables of the windows that are cut from the prediction log: their rows, and what was answered."""
REPORT_FILES = "monitoring-*.json"
"""Files of a project's reports that say what was compared and found."""
ALL = "all"
"""The slice that is no slice."""
ID_DIGITS = 10
Source = Literal["monitoring", "live", "operations"]
"""Who wrote a row: each writer replaces its own. `monitoring`: of windows that were scored; `live`:
of windows of the prediction log; `operations`: of the endpoint in the latter."""
Comparison = Literal["reference", "window before", "release"]
KEY = [
    pa.field("window", pa.string(), nullable=False),
    pa.field("model", pa.string(), nullable=False),
    pa.field("version", pa.int64(), nullable=False),
    pa.field("source", pa.string(), nullable=False),
    pa.field("comparison", pa.string(), nullable=False),
    pa.field("slice", pa.string(), nullable=False),
    pa.field("column", pa.string(), nullable=False),
    pa.field("metric", pa.string(), nullable=False),
    pa.field("value", pa.float64()),
]
METRICS_SCHEMA = pa.schema(
    [
        *KEY,
        pa.field("low", pa.float64()),
        pa.field("high", pa.float64()),
        pa.field("limit", pa.float64()),
        pa.field("chance", pa.float64()),
        pa.field("visible", pa.float64()),
        pa.field("rows", pa.int64()),
        pa.field("alarm", pa.bool_()),
    ]
)
"""`low` and `high`: 95 % interval of a quality. `limit`: from where there is an alarm; `chance`:
what it is by chance alone. `visible`: see `ColumnDrift.visible`. `rows`: what was measured on."""
ALARMS_SCHEMA = pa.schema(
    [
        *KEY,
        pa.field("limit", pa.float64()),
        pa.field("cause", pa.string(), nullable=False),
        pa.field("severity", pa.string(), nullable=False),
        pa.field("columns", pa.list_(pa.string())),
        pa.field("time", pa.timestamp("us", "UTC"), nullable=False),
        pa.field("since", pa.string()),
        pa.field("evidence", pa.string()),
        pa.field("id", pa.string()),
        pa.field("origin", pa.string()),
    ]
)
"""`origin`: an `AlarmOrigin` as JSON, from which the alarm can be computed again."""


class MetricRow(Record):
    """One value of a window."""

    comparison: str
    column: str
    metric: str
    value: float | None
    slice: str = ALL
    low: float | None = None
    high: float | None = None
    limit: float | None = None
    chance: float | None = None
    visible: float | None = None
    rows: int | None = None
    alarm: bool = False


def drift_rows(report: DriftReport, comparison: Comparison) -> Iterator[MetricRow]:
    """Yield the distances of a window with their limits."""
    alarming = [id(drift) for drift in report.alarms]
    for drift in compared(report, comparison):
        yield MetricRow(
            comparison=comparison,
            column=drift.column,
            metric=drift.test,
            value=drift.statistic,
            slice=drift.slice if isinstance(drift, SliceDrift) else ALL,
            limit=drift.alarm_limit,
            chance=drift.chance,
            visible=drift.visible,
            rows=drift.rows if isinstance(drift, SliceDrift | LabelDrift) else report.current_rows,
            alarm=id(drift) in alarming,
        )


def quality_rows(
    measured: Evaluation, released: Evaluation, project: Project, alpha: float
) -> Iterator[MetricRow]:
    """Yield the metrics of a window with their intervals, and the deciding one's limit."""
    for name, estimate in measured.metrics.items():
        limit = None
        if name == project.metric:
            limit = quality_limit(measured, released, project.monitoring, name, alpha)
        yield MetricRow(
            comparison="release",
            column=project.target,
            metric=name,
            value=estimate.value,
            low=estimate.low,
            high=estimate.high,
            limit=limit,
            rows=measured.rows,
            alarm=limit is not None and is_worse(estimate.value, limit, name),
        )


def estimate_row(estimated: EstimatedQuality, target: str, rows: int) -> MetricRow:
    """Return the deciding metric as it is estimated before the labels; no value if withdrawn."""
    estimate = None if estimated.grade.withdrawn else estimated.estimate
    return MetricRow(
        comparison="release",
        column=target,
        metric=f"{estimated.metric} estimated",
        value=estimate and estimate.value,
        low=estimate and estimate.low,
        high=estimate and estimate.high,
        rows=rows,
    )


def compared(report: DriftReport, comparison: Comparison) -> Sequence[ColumnDrift]:
    """Return what counts of a comparison.

    Of the window before, the model may have learned: its predictions there are no measure.
    """
    if comparison == "reference":
        return report.columns
    labels = [report.labels] if report.labels else []
    return [*report.features, *labels, *report.conditional]


def drift_alarms(report: DriftReport, comparison: Comparison) -> Iterator[Alarm]:
    """Yield one alarm for each group of features that move together, and for what else alarms."""
    alarming = [drift for drift in compared(report, comparison) if drift.alarms]
    features = {drift.column: drift for drift in report.features}
    for names in report.groups:
        group = [features[name] for name in names]
        yield _alarm(report, comparison, "features", group)
    if conditional := [drift for drift in report.alarms if isinstance(drift, ConditionalDrift)]:
        yield _alarm(report, comparison, "features", conditional)
    for drift in alarming:
        if isinstance(drift, LabelDrift):
            yield _alarm(report, comparison, "labels", [drift])
    predictions = [
        drift for drift in alarming if drift is report.predictions or isinstance(drift, SliceDrift)
    ]
    if predictions:
        yield _alarm(report, comparison, "predictions", predictions[:1])


def _alarm(
    report: DriftReport,
    comparison: Comparison,
    cause: Literal["features", "predictions", "labels"],
    group: Sequence[ColumnDrift],
) -> Alarm:
    furthest = group[0]
    return Alarm(
        window=report.window,
        comparison=comparison,
        cause=cause,
        severity="high" if any(drift.drifted for drift in group) else "low",
        column=furthest.column,
        columns=tuple(drift.column for drift in group),
        slice=furthest.slice if isinstance(furthest, SliceDrift) else ALL,
        metric=furthest.test,
        value=furthest.statistic,
        limit=furthest.alarm_limit,
    )


def quality_alarms(rows: Iterable[MetricRow], window: Window) -> Iterator[Alarm]:
    """Yield an alarm if the deciding metric is worse than at release."""
    for row in rows:
        if row.alarm and row.value is not None and row.limit is not None:
            yield Alarm(
                window=window,
                comparison="release",
                cause="quality",
                severity="high",
                column=row.column,
                columns=(row.column,),
                slice=row.slice,
                metric=row.metric,
                value=row.value,
                limit=row.limit,
            )


def identified(alarms: Iterable[Alarm], model: ModelVersion, source: str) -> list[Alarm]:
    """Give each alarm its name: the same cause in the same window has the same one."""
    results = []
    for alarm in alarms:
        parts = [alarm.comparison, alarm.cause, alarm.column, alarm.slice]
        digest = sha256([source, model.digest, str(alarm.window), *parts])
        results.append(alarm.model_copy(update={"id": digest[:ID_DIGITS]}))
    return results


def write_results(
    project: Project,
    settings: Settings,
    model: ModelVersion,
    window: Window,
    metrics: Sequence[MetricRow],
    alarms: Sequence[Alarm],
    source: Source = "monitoring",
    origin: AlarmOrigin | None = None,
) -> None:
    """Replace a window's rows in both tables, each in one commit.

    Args:
        origin: what the alarms were computed from.

    Raises:
        BackendError: a table cannot be written.
    """
    key: dict[str, str | int] = {
        "window": str(window),
        "model": model.name,
        "version": model.version,
        "source": source,
    }
    now = datetime.now(UTC)
    values: list[dict[str, Any]] = [key | row.model_dump() for row in metrics]
    table = pa.Table.from_pylist(values, schema=METRICS_SCHEMA)
    replace_rows(table_uri(settings, project.name, METRICS), table, key)
    text = None if origin is None else origin.model_dump_json()
    values = [alarm.model_dump() | key | {"time": now, "origin": text} for alarm in alarms]
    table = pa.Table.from_pylist(values, schema=ALARMS_SCHEMA)
    replace_rows(table_uri(settings, project.name, ALARMS), table, key)
