"""Alarms of monitoring, as people are told of them."""

from lifecycle.monitoring.alarms import alarms_to_tell
from lifecycle.project import Project
from lifecycle.records import Alarm, Monitored, Trained, counted
from lifecycle.settings import Settings
from tasks.events import Details, Event, send_event
from tasks.progress import say


def newest_alarms(findings: Monitored) -> list[Alarm]:
    """Alarms of the newest window, the surest cause first."""
    newest = findings.drift[-1].window
    return [alarm for alarm in findings.alarms if alarm.window == newest]


def say_alarms(findings: Monitored) -> list[str]:
    """Say what happened in the newest window; return it as lines of Markdown."""
    alarms = newest_alarms(findings)
    lines = [f"· {alarm.text} ({alarm.severity}, alarm {alarm.id})" for alarm in alarms]
    if lines:
        say("monitor", "\n".join([f"{counted(len(lines), 'alarm')}:", *lines]))
    return lines


def send_alarms(
    project: Project, settings: Settings, champion: Trained, findings: Monitored
) -> None:
    """Send an event for each cause that people are to be told of."""
    windows = [drift.window for drift in findings.drift]
    for alarm in alarms_to_tell(project, settings, findings.alarms, windows):
        numbers = {
            "alarm": alarm.id,
            "cause": alarm.cause,
            "broken": alarm.broken,
            "severity": alarm.severity,
            "columns": list(alarm.columns),
            "segment": alarm.slice,
            "since": alarm.since,
            "window": str(alarm.window),
        }
        details = Details(champion.model, findings.report, (alarm.text,), numbers)
        send_event(Event.ALARM_RAISED, project, settings, details)
