"""Monitoring of the prediction log as a Prefect task."""

from prefect.artifacts import create_markdown_artifact

from lifecycle.monitoring import gauges
from lifecycle.monitoring.live import live_windows
from lifecycle.monitoring.live_monitor import monitor_log
from lifecycle.project import Project
from lifecycle.quality import gates
from lifecycle.records import Decision, Monitored, Trained, Window
from lifecycle.release import artifacts
from lifecycle.serving import batch
from lifecycle.settings import Settings
from tasks.alarms import newest_alarms, say_alarms, send_alarms
from tasks.events import Details, Event, send_event
from tasks.policies import NOT_CACHED, RETRIES, slug, task
from tasks.progress import say, step
from tasks.retraining import ask


@task(name="monitor-live", **NOT_CACHED, **RETRIES)
def monitor_live_windows(
    project: Project, settings: Settings, champion: Trained
) -> list[Monitored]:
    """Compare what the endpoint answered with the champion's holdout, window by window."""
    if project.monitoring.live is None:
        say("monitor", "monitoring.live is not declared: the prediction log is not monitored")
        return []
    model = champion.model
    with step("monitor", "comparing the prediction log with the reference") as report:
        path = artifacts.bundle_path(model, settings)
        reference = batch.score(project, settings, champion.split.holdout, Window(), model, path)
        reports = monitor_log(project, settings, reference, champion.evaluation)
        report(_line(reports))
    newest = [str(each.stretch.window) for each in live_windows(project, settings, model, 1)]
    has_newest = [str(findings.drift[-1].window) for findings in reports[-1:]] == newest
    gauges.publish_findings(
        project, settings, model, champion.evaluation, reports, "live", has_newest
    )
    for findings in reports:
        _show(project, settings, champion, findings)
    return reports


def _line(reports: list[Monitored]) -> str:
    if not reports:
        return "no window of the prediction log is over that has not been compared"
    windows = ", ".join(str(findings.drift[-1].window) for findings in reports[-3:])
    more = f"{len(reports) - 3} more and " if len(reports) > 3 else ""
    return f"{more}{windows} → {reports[-1].report}"


def _show(project: Project, settings: Settings, champion: Trained, findings: Monitored) -> None:
    """Leave a window's decision where people look, and send what was found."""
    decision: Decision = findings.decision
    verdict = "nothing to do" if decision.passed else "retraining is asked for"
    say("monitor", "\n".join([f"{verdict}:", *(f"· {reason}" for reason in decision.reasons)]))
    text = "\n\n".join([gates.render(decision), *say_alarms(findings)])
    create_markdown_artifact(key=f"{slug(project)}-live", markdown=text)
    drift = findings.drift[-1]
    numbers = {
        "window": str(drift.window),
        "rows": drift.current_rows,
        "drifted": [column.column for column in drift.drifted],
        "alarms": [alarm.column for alarm in newest_alarms(findings)],
        "causes": [alarm.text for alarm in newest_alarms(findings)],
        "retraining": not decision.passed,
    }
    details = Details(champion.model, findings.report, decision.reasons, numbers)
    if drift.drifted:
        send_event(Event.DRIFT_FOUND, project, settings, details)
    send_event(Event.LIVE_MONITORED, project, settings, details)
    send_alarms(project, settings, champion, findings)
    ask(project, settings, champion, findings)
