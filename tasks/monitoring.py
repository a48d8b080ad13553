"""Scoring and monitoring steps as Prefect tasks."""

from datetime import datetime

from prefect.artifacts import create_markdown_artifact

from lifecycle.labels import delivery
from lifecycle.monitoring import gauges, monitor
from lifecycle.project import Project
from lifecycle.quality import gates
from lifecycle.quality.summary import spoken
from lifecycle.records import (
    DriftReport,
    Ingested,
    Monitored,
    Scored,
    Trained,
    Window,
)
from lifecycle.release import artifacts
from lifecycle.serving import batch
from lifecycle.settings import Settings
from tasks.alarms import newest_alarms, say_alarms, send_alarms
from tasks.events import Details, Event, send_event
from tasks.policies import NOT_CACHED, RETRIES, slug, task
from tasks.progress import say, step
from tasks.retraining import ask


@task(name="score", **NOT_CACHED, **RETRIES)
def score_dataset(
    project: Project, settings: Settings, current: Ingested, champion: Trained
) -> Scored:
    """Predict for a current window with the champion; the same rows are scored once."""
    with step(
        "score", f"scoring {current.dataset.rows:,} rows of {spoken(project, current.window)}"
    ) as report:
        path = artifacts.bundle_path(champion.model, settings)
        scored = batch.score(
            project, settings, current.dataset, current.window, champion.model, path
        )
        how = "Ray Data" if scored.engine == "ray_data" else "one process"
        report(
            f"{spoken(project, current.window)}: {scored.predictions.rows:,} predictions of "
            f"v{champion.model.version} in {how} → predictions version {scored.predictions.version}"
        )
    numbers = {"rows": scored.predictions.rows, "version": scored.predictions.version}
    details = Details(scored.model, scored.predictions.uri, numbers=numbers)
    send_event(Event.SCORING_FINISHED, project, settings, details)
    return scored


@task(name="labels", **NOT_CACHED, **RETRIES)
def take_labels(project: Project, settings: Settings) -> delivery.Delivery | None:
    """Take in what has come true, from where `monitoring.labels` says; None without it."""
    if project.monitoring.labels is None:
        return None
    source = delivery.label_source(project)
    with step("labels", f"taking labels from {source.place}") as report:
        delivered = delivery.deliver(project, settings, source)
        report(f"{delivered.text} → {delivered.labels:,} in the ledger")
    return delivered


@task(name="monitor", **NOT_CACHED, **RETRIES)
def monitor_windows(
    project: Project,
    settings: Settings,
    champion: Trained,
    scored: list[Scored],
    as_of: datetime | None = None,
) -> Monitored:
    """Compare scored windows with the champion's holdout, and leave the findings to be seen."""
    with step(
        "monitor", f"comparing {spoken(project, scored[-1].window)} with the reference"
    ) as report:
        path = artifacts.bundle_path(champion.model, settings)
        holdout = champion.split.holdout
        reference = batch.score(project, settings, holdout, Window(), champion.model, path)
        reports = monitor.monitor_windows(
            project, settings, reference, scored, champion.evaluation, as_of
        )
        report(f"{_drift_line(project, reports.drift[-1])} → {reports.report}")
    lines = say_alarms(reports)
    verdict = "nothing to do" if reports.decision.passed else "retraining is asked for"
    say("monitor", "\n".join([f"{verdict}:", *(f"· {r}" for r in reports.decision.reasons)]))
    create_markdown_artifact(
        key=f"{slug(project)}-monitoring",
        markdown="\n\n".join([gates.render(reports.decision), *lines]),
    )
    if as_of is None:  # else nobody is to be told what was so once
        gauges.publish_findings(
            project, settings, champion.model, champion.evaluation, [reports], "monitoring"
        )
        _send_findings(project, settings, champion, reports)
    return reports


def _send_findings(
    project: Project, settings: Settings, champion: Trained, reports: Monitored
) -> None:
    columns = [column.column for column in reports.drift[-1].drifted]
    numbers = {
        "drifted": columns,
        "alarms": [alarm.column for alarm in newest_alarms(reports)],
        "causes": [alarm.text for alarm in newest_alarms(reports)],
        "retraining": not reports.decision.passed,
    }
    details = Details(champion.model, reports.report, reports.decision.reasons, numbers)
    if columns:
        send_event(Event.DRIFT_FOUND, project, settings, details)
    send_event(Event.MONITORING_FINISHED, project, settings, details)
    send_alarms(project, settings, champion, reports)
    ask(project, settings, champion, reports)


def _drift_line(project: Project, drift: DriftReport) -> str:
    drifted = ", ".join(f"{c.column} {c.statistic:.2f}" for c in drift.drifted) or "none"
    return f"{spoken(project, drift.window)}: drifted features of {len(drift.features)}: {drifted}"


def tell_no_retraining(monitored: Monitored) -> None:
    """Say why nothing is learned."""
    say("retrain", f"not needed: {monitored.decision.reasons[-1]}")
