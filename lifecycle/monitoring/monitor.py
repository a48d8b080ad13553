"""One pass over the windows that have arrived: drift, quality, decision, report."""

import json
import logging
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

import numpy as np
import pyarrow as pa

from lifecycle.labels.ledger import Ledger, content_digest
from lifecycle.monitoring.causes import name_causes
from lifecycle.monitoring.claims import claim_alarms
from lifecycle.monitoring.drift import drift_report
from lifecycle.monitoring.grades import estimate_windows
from lifecycle.monitoring.history import read_windows
from lifecycle.monitoring.labels import with_ledger
from lifecycle.monitoring.report import WindowFindings, monitoring_page
from lifecycle.monitoring.results import (
    LIVE_PREDICTIONS,
    PREDICTIONS,
    MetricRow,
    drift_alarms,
    drift_rows,
    estimate_row,
    identified,
    quality_alarms,
    quality_rows,
    write_results,
)
from lifecycle.monitoring.scored import OpenWindow, categorical_features, open_window, quality
from lifecycle.project import Project
from lifecycle.quality.gates import decide_retraining
from lifecycle.records import (
    Alarm,
    AlarmOrigin,
    Decision,
    DriftReport,
    Evaluation,
    Monitored,
    Scored,
    Window,
)
from lifecycle.runtime.html import write_page
from lifecycle.runtime.identity import sha256
from lifecycle.runtime.run import provenance
from lifecycle.settings import Settings

logger = logging.getLogger(__name__)


def monitor_windows(
    project: Project,
    settings: Settings,
    reference: Scored,
    scored: Sequence[Scored],
    released: Evaluation,
    as_of: datetime | None = None,
    source: Literal["monitoring", "live"] = "monitoring",
) -> Monitored:
    """Compare the latest windows with the reference and decide whether to retrain.

    Each is compared with the window before it as well. What was measured becomes rows of two
    tables (`monitoring.results`), in which a window that was monitored before replaces its own.

    Args:
        reference: the holdout the model was released on, scored by that model: rows it did not
            learn from, so that its answers there are as uncertain as they are in the windows.
        scored: windows scored by the same model, oldest first; `monitoring.windows` of the latest
            are judged, and the one before these is what the first of them is compared with.
        released: the model's evaluation at release.
        as_of: labels of the ledger as known then, and no results in the tables; by default, now.
        source: where the windows come from, as the tables have it.

    Raises:
        BackendError: a table cannot be read, or the results cannot be written.
        DataError: a window has no rows, or its predictions belong to other rows.
        FeatureError: the features hook fails.
        ValueError: no windows, or a window was scored by another model than the reference.
    """
    comparison = _open(project, settings, reference, scored, as_of)
    categorical = categorical_features(comparison.reference[1].features, project)
    examined = [
        examine_window(
            project,
            categorical,
            (comparison.reference[1], former[1] if former else None, frame),
            each,
            released,
        )
        for (each, frame), former in zip(comparison.windows, comparison.previous, strict=True)
    ]
    estimates = estimate_windows(
        project,
        settings,
        comparison.reference,
        comparison.windows,
        released,
        comparison.ledger,
        as_of,
        table=LIVE_PREDICTIONS if source == "live" else PREDICTIONS,
    )
    drifts = tuple(each.drift for each in examined)
    qualities = tuple(each.quality for each in examined)
    decision = decide_retraining(
        drifts,
        qualities,
        released,
        project.monitoring,
        project.retraining,
        project.metric,
        estimates,
    )
    findings = [
        WindowFindings(
            frame,
            looked.drift,
            looked.change,
            looked.quality,
            identified(looked.alarms, each.model, source),
            estimated,
        )
        for (each, frame), looked, estimated in zip(
            comparison.windows, examined, estimates, strict=True
        )
    ]
    if as_of is None:
        for number, (looked, finding) in enumerate(zip(examined, findings, strict=True)):
            _store(project, settings, comparison, number, looked, finding, released, source)
    html = monitoring_page(
        project,
        comparison.reference,
        findings,
        released,
        decision,
        categorical,
        # the tables say what is so by now, and not what was known then
        read_windows(settings, project.name, source) if as_of is None else (),
    )
    name = re.sub(r"[^0-9A-Za-z]+", "-", str(scored[-1].window))
    folder = settings.folder("reports", project.name)
    report = write_page(html, folder / f"monitoring-{name}-{comparison.digest}.html")
    _record(report, reference, [each for each, _ in comparison.windows], drifts, decision)
    logger.info("Monitoring report: %s", report)
    return Monitored(
        drift=drifts,
        quality=qualities,
        decision=decision,
        report=report,
        estimates=estimates,
        before=tuple(each.change for each in examined),
        alarms=tuple(alarm for finding in findings for alarm in finding.alarms),
    )


WindowRows = tuple[Scored, OpenWindow]
"""A window and its rows."""


@dataclass(frozen=True)
class _Comparison:
    """Windows that are looked at, with their rows and with what they are compared with."""

    reference: WindowRows
    windows: list[WindowRows]
    """Oldest first."""
    previous: list[WindowRows | None]
    """The one before each."""
    ledger: pa.Table
    labels: str
    """Digest of the ledger; empty if it is."""
    known_at: datetime
    """When the ledger was read."""
    digest: str
    """Short name of all of it: the same comparison writes the same file."""


def _open(
    project: Project,
    settings: Settings,
    reference: Scored,
    scored: Sequence[Scored],
    as_of: datetime | None,
) -> _Comparison:
    """Open the latest windows and the one before them, with the labels known by then."""
    compared = list(scored)[-project.monitoring.windows - 1 :]
    _check_models(reference, compared)
    known_at = datetime.now(UTC)
    ledger = Ledger(settings, project.name).rows(as_of)
    pairs = [
        (each, with_ledger(open_window(each, project, settings), each, project, ledger))
        for each in compared
    ]
    windows = pairs[-project.monitoring.windows :]
    labels = content_digest(ledger) if ledger.num_rows else ""
    digests = [each.predictions.digest for each in (reference, *compared)]
    return _Comparison(
        reference=(reference, open_window(reference, project, settings)),
        windows=windows,
        previous=[None, *pairs][: len(pairs)][-len(windows) :],
        ledger=ledger,
        labels=labels,
        known_at=known_at,
        digest=sha256([*digests, labels] if labels else digests)[:10],
    )


def _store(
    project: Project,
    settings: Settings,
    comparison: _Comparison,
    number: int,
    looked: "Examined",
    finding: WindowFindings,
    released: Evaluation,
    source: Literal["monitoring", "live"],
) -> None:
    """Write what was found in a window into the tables, with what it was computed from.

    Args:
        number: of the window among those that are looked at.
    """
    window, previous = comparison.windows[number][0], comparison.previous[number]
    rows = list(looked.rows)
    if finding.estimated is not None:
        rows.append(estimate_row(finding.estimated, project.target, looked.drift.current_rows))
    origin = AlarmOrigin(
        reference=comparison.reference[0],
        previous=previous[0] if previous else None,
        window=window,
        released=released,
        known_at=comparison.known_at.isoformat(),
        labels=comparison.labels,
        monitoring=project.monitoring,
    )
    write_results(
        project, settings, window.model, window.window, rows, finding.alarms, source, origin
    )


def _check_models(reference: Scored, windows: Sequence[Scored]) -> None:
    """Check that there are windows, and that all were scored by the model of the reference.

    Raises:
        ValueError: there are none, or one was scored by another.
    """
    if not windows:
        raise ValueError("no window to monitor: score one first")
    for window in windows:
        if window.model.digest != reference.model.digest:
            raise ValueError(
                f"window {window.window} was scored by {window.model.uri}, the reference by "
                f"{reference.model.uri}: predictions of two models cannot be compared"
            )


@dataclass(frozen=True)
class Examined:
    """Results of looking at a window."""

    drift: DriftReport
    change: DriftReport | None
    """Against the window before."""
    quality: Evaluation | None
    rows: list[MetricRow]
    alarms: list[Alarm]
    """One per cause, and one per claim of the model card that the window disproves."""


def examine_window(
    project: Project,
    categorical: Sequence[str],
    windows: tuple[OpenWindow, OpenWindow | None, OpenWindow],
    scored: Scored,
    released: Evaluation,
) -> Examined:
    """Compare a window with the reference and with the window before, and name causes.

    Args:
        windows: reference, window before, and the window itself.
        scored: the window.
        released: the model's evaluation at release.

    Raises:
        DataError: a window has no rows.
        FeatureError: the features hook fails.
    """
    measured = quality(windows[2], scored, project, released.threshold)
    reference, previous, current = windows
    drift, change = _compare(project, categorical, reference, previous, scored.window, current)
    rows, signs = _results(project, drift, change, measured, released)
    alarms = name_causes(project, categorical, windows, (drift, change), signs)
    if not any(alarm.broken for alarm in alarms):
        window = scored.window
        alarms += claim_alarms(project, current, window, measured, released, drift.alpha)
    return Examined(drift, change, measured, rows, alarms)


def _compare(
    project: Project,
    categorical: Sequence[str],
    reference: OpenWindow,
    previous: OpenWindow | None,
    window: Window,
    current: OpenWindow,
) -> tuple[DriftReport, DriftReport | None]:
    """Compare a window with the reference, and with the window before it if there is one.

    The false alarms that the project allows are shared between these, the measured quality if
    there is one, and the looks at a window.
    """
    spec = project.monitoring
    parts = 1 + (previous is not None) + bool((~np.isnan(current.truth)).any())
    alpha = spec.alarm_rate / spec.looks / parts
    drift = drift_report(reference, current, spec.drift, window, categorical, alpha=alpha)
    if previous is None or set(previous.features.columns) != set(current.features.columns):
        return drift, None
    change = drift_report(
        previous, current, spec.drift, window, categorical, alpha=alpha, with_visible=False
    )
    return drift, change


def _results(
    project: Project,
    drift: DriftReport,
    change: DriftReport | None,
    measured: Evaluation | None,
    released: Evaluation,
) -> tuple[list[MetricRow], list[Alarm]]:
    """The rows of a window for the tables, and its alarms: no alarm with too few rows."""
    rows = [*drift_rows(drift, "reference")]
    alarms = [*drift_alarms(drift, "reference")]
    if change is not None:
        rows += drift_rows(change, "window before")
        alarms += drift_alarms(change, "window before")
    if measured is not None:
        judged = [*quality_rows(measured, released, project, drift.alpha)]
        rows += judged
        alarms += quality_alarms(judged, drift.window)
    if drift.current_rows < project.monitoring.min_rows:
        return [row.model_copy(update={"alarm": False}) for row in rows], []
    return rows, alarms


def _record(
    report: Path,
    reference: Scored,
    windows: Sequence[Scored],
    drifts: Sequence[DriftReport],
    decision: Decision,
) -> None:
    """Write the comparison and its findings as JSON next to the report, for the lineage."""
    content = {
        "window": str(windows[-1].window),
        "time": datetime.now(UTC).isoformat(timespec="milliseconds"),
        "reference": reference.predictions.digest,
        "windows": [scored.predictions.digest for scored in windows],
        "passed": decision.passed,
        "drifted": [column.column for column in drifts[-1].drifted],
        "alarms": [column.column for column in drifts[-1].alarms],
        "made": provenance(),
    }
    write_page(json.dumps(content, indent=1), report.with_suffix(".json"))
