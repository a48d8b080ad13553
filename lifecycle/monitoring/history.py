"""All monitored windows of a project, as its two tables have them: for charts and pages."""

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from lifecycle.lake.rows import read_rows
from lifecycle.lake.table import table_uri
from lifecycle.monitoring.results import ALARMS, ALL, METRICS
from lifecycle.records import CONDITIONAL, GIVEN_OTHERS, Record
from lifecycle.settings import Settings

ESTIMATED = " estimated"
"""Ends the name of a metric that is estimated before the labels."""
FURTHEST = 5
"""Distances of a window that are kept, the furthest first; those that alarm are kept always."""


class StoredQuality(Record):
    """A quality in a window."""

    metric: str
    value: float | None
    low: float | None = None
    high: float | None = None
    limit: float | None = None
    rows: int | None = None
    alarm: bool = False


class StoredDistance(Record):
    """Distance of a column, or of the predictions of a slice, from the reference."""

    column: str
    slice: str
    metric: str
    value: float
    limit: float
    alarm: bool

    @property
    def ratio(self) -> float:
        """The distance in limits: above 1 there is an alarm."""
        return self.value / self.limit if self.limit else 0.0

    def __str__(self) -> str:
        within = "" if self.slice == ALL else f" where {self.slice}"
        suffix = GIVEN_OTHERS if self.metric.startswith(CONDITIONAL) else ""
        return f"{self.column}{suffix}{within}"


class WindowAlarm(Record):
    """An alarm as the table has it."""

    comparison: str
    cause: str
    severity: str
    column: str
    columns: tuple[str, ...]
    slice: str
    metric: str
    value: float
    limit: float | None
    time: str
    """UTC, ISO 8601: when it was found."""
    since: str = ""
    evidence: str = ""
    """Of a cause, how it was seen; tables of old have neither."""
    id: str = ""
    """By which it is acknowledged; rows of old have none."""

    def __str__(self) -> str:
        others = f", together with {', '.join(self.columns[1:])}" if self.columns[1:] else ""
        within = "" if self.slice == ALL else f" where {self.slice}"
        since = f" since {self.since}" if self.since else ""
        evidence = f": {self.evidence}" if self.evidence else ""
        return f"{self.cause}: {self.column}{within}{others}{since}{evidence}"


class WindowResult(Record):
    """Findings of monitoring in a window."""

    window: str
    version: int
    source: str
    """Writer of the row: `monitoring`, or what watches the endpoint."""
    rows: int | None
    measured: tuple[StoredQuality, ...]
    estimated: StoredQuality | None
    distances: tuple[StoredDistance, ...]
    """Against the reference: those that alarm, then the others, each the furthest first."""
    compared: int
    """Count of the distances."""
    alarms: tuple[WindowAlarm, ...]

    def quality(self, metric: str) -> StoredQuality | None:
        """The measured value of a metric; None before its labels."""
        return next((measure for measure in self.measured if measure.metric == metric), None)


def read_windows(
    settings: Settings, project_name: str, source: str | None = None
) -> list[WindowResult]:
    """Every window that was monitored, by the version that was monitored last, in order.

    Args:
        source: who wrote them; by default anybody.

    Raises:
        BackendError: a table cannot be read. (Without tables there are no windows.)
    """
    metrics = read_rows(table_uri(settings, project_name, METRICS))
    if metrics is None:
        return []
    if source is not None:
        metrics = metrics.filter(pc.equal(metrics["source"], source))
    chosen = metrics.filter(pc.is_in(metrics["comparison"], pa.array(["reference", "release"])))
    rows: dict[tuple[str, str], dict[int, list[dict[str, Any]]]] = defaultdict(
        lambda: defaultdict(list)
    )
    for row in chosen.to_pylist():
        rows[row["source"], row["window"]][row["version"]].append(row)
    alarms: dict[tuple[str, str, int], list[WindowAlarm]] = defaultdict(list)
    stored = read_rows(table_uri(settings, project_name, ALARMS))
    for row in stored.to_pylist() if stored is not None else ():
        alarms[row["source"], row["window"], row["version"]].append(_alarm(row))
    results = []
    for (source, window), versions in rows.items():
        version = max(versions)
        own_alarms = alarms[source, window, version]
        results.append(_result(source, window, version, versions[version], own_alarms))
    return sorted(results, key=lambda result: (result.source, _place(result.window)))


def _result(
    source: str,
    window: str,
    version: int,
    rows: Sequence[Mapping[str, Any]],
    alarms: Sequence[WindowAlarm],
) -> WindowResult:
    qualities = [
        StoredQuality(**{name: row[name] for name in StoredQuality.model_fields})
        for row in rows
        if row["comparison"] == "release"
    ]
    drifts = [row for row in rows if row["comparison"] == "reference" and row["value"] is not None]
    drifts.sort(key=lambda row: (not row["alarm"], -row["value"] / (row["limit"] or 1.0)))
    estimates = [measure for measure in qualities if measure.metric.endswith(ESTIMATED)]
    counts = [row["rows"] for row in rows if row["slice"] == ALL and row["rows"] is not None]
    return WindowResult(
        window=window,
        version=version,
        source=source,
        rows=max(counts, default=None),
        measured=tuple(measure for measure in qualities if measure not in estimates),
        estimated=estimates[0] if estimates else None,
        distances=tuple(
            StoredDistance(**{name: row[name] for name in StoredDistance.model_fields})
            for at, row in enumerate(drifts)
            if at < FURTHEST or row["alarm"]
        ),
        compared=len(drifts),
        alarms=tuple(sorted(alarms, key=lambda alarm: (alarm.severity != "high", alarm.column))),
    )


def _alarm(row: Mapping[str, Any]) -> WindowAlarm:
    values = {name: row[name] for name in WindowAlarm.model_fields if row.get(name) is not None}
    values["columns"] = tuple(row["columns"] or ())
    return WindowAlarm.model_validate(values | {"time": row["time"].isoformat(timespec="seconds")})


def _place(window: str) -> tuple[tuple[int, float, str], ...]:
    """Order of windows by their last end, numbers as numbers; an open end comes last."""
    ends = [_end(end) for end in reversed(window.split(" to "))]
    return tuple(ends)


def _end(end: str) -> tuple[int, float, str]:
    if end in ("end", "all rows"):
        return 2, 0.0, ""
    if re.fullmatch(r"-?\d+", end):
        return 0, float(end), ""
    return (0, float("-inf"), "") if end == "start" else (1, 0.0, end)
