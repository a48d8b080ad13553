"""One pass over the windows that have arrived: drift, quality, decision, report."""

import json
import logging
import re
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from lifecycle.monitoring.drift import drift_report
from lifecycle.monitoring.report import monitoring_page
from lifecycle.monitoring.scored import categorical_features, open_window, quality
from lifecycle.project import Project
from lifecycle.quality.gates import decide_retraining
from lifecycle.records import Decision, DriftReport, Evaluation, Monitored, Scored
from lifecycle.runtime.html import write_page
from lifecycle.runtime.identity import sha256
from lifecycle.runtime.run import provenance
from lifecycle.settings import Settings

logger = logging.getLogger(__name__)

REPORT_FILES = "monitoring-*.json"
"""Files of a project's reports that say what was compared and found."""


def monitor_windows(
    project: Project,
    settings: Settings,
    reference: Scored,
    scored: Sequence[Scored],
    released: Evaluation,
) -> Monitored:
    """Compare the latest windows with the reference and decide whether to retrain.

    Args:
        reference: the holdout the model was released on, scored by that model: rows it did not
            learn from, so that its answers there are as uncertain as they are in the windows.
        scored: windows scored by the same model, oldest first; `monitoring.windows` of the latest
            are looked at.
        released: the model's evaluation at release.

    Raises:
        BackendError: a table cannot be read.
        DataError: a window has no rows, or its predictions belong to other rows.
        FeatureError: the features hook fails.
        ValueError: no windows, or a window was scored by another model than the reference.
    """
    if not scored:
        raise ValueError("no window to monitor: score one first")
    latest = list(scored)[-project.monitoring.windows :]
    for window in latest:
        if window.model.digest != reference.model.digest:
            raise ValueError(
                f"window {window.window} was scored by {window.model.uri}, the reference by "
                f"{reference.model.uri}: predictions of two models cannot be compared"
            )
    before = open_window(reference, project)
    categorical = categorical_features(before.features, project)
    windows = [(window, open_window(window, project)) for window in latest]
    spec = project.monitoring.drift
    drifts = tuple(
        drift_report(before, scored_window, spec, window.window, categorical)
        for window, scored_window in windows
    )
    qualities = tuple(
        quality(scored_window, window, project, released.threshold)
        for window, scored_window in windows
    )
    decision = decide_retraining(
        drifts, qualities, released, project.monitoring, project.retraining, project.metric
    )
    html = monitoring_page(
        project, (reference, before), windows, drifts, qualities, released, decision, categorical
    )
    name = f"{re.sub(r'[^0-9A-Za-z]+', '-', str(latest[-1].window))}-{_digest(reference, latest)}"
    folder = settings.folder("reports", project.name)
    report = write_page(html, folder / f"monitoring-{name}.html")
    _record(report, reference, latest, drifts, decision)
    logger.info("Monitoring report: %s", report)
    return Monitored(drift=drifts, quality=qualities, decision=decision, report=report)


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
        "made": provenance(),
    }
    write_page(json.dumps(content, indent=1), report.with_suffix(".json"))


def _digest(reference: Scored, windows: Sequence[Scored]) -> str:
    """Short name of what was compared: the same comparison writes the same file."""
    return sha256([s.predictions.digest for s in (reference, *windows)])[:10]
