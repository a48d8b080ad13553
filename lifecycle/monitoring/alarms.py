"""Alarms that were raised: which there are, who acknowledged which, and who is still to be told.

An acknowledgement is a line of the audit trail of the data: who, when and why. It holds for the
cause, not for one window: the same kind of cause, in the same segment, in one of the same columns,
of the same model version. A release begins anew.
"""

from collections.abc import Sequence

from lifecycle.audit.data_trail import data_chain, record_data
from lifecycle.errors import DataError
from lifecycle.lake.rows import read_rows
from lifecycle.lake.table import table_uri
from lifecycle.monitoring.results import ALARMS
from lifecycle.project import Project
from lifecycle.records import Alarm, DataAction, DataChange, StoredAlarm, Window
from lifecycle.settings import Settings

ACTION: DataAction = "acknowledge"
MAX_IDS = 10
"""Ids that a message names."""


def stored_alarms(project: Project, settings: Settings) -> list[StoredAlarm]:
    """Alarms of the table, the newest first, each with who acknowledged its cause.

    Raises:
        BackendError: the table or the audit trail cannot be read.
    """
    table = read_rows(table_uri(settings, project.name, ALARMS))
    if table is None:
        return []
    fields = StoredAlarm.model_fields.keys() - {"acknowledged"}
    alarms = [
        StoredAlarm(**{name: value for name, value in row.items() if name in fields})
        for row in table.to_pylist()
        if row.get("id")  # rows of former releases have none
    ]
    lines = acknowledgements(project, settings)
    by_id = {alarm.id: alarm for alarm in alarms}
    results = [
        alarm.model_copy(update={"acknowledged": _words(alarm, lines, by_id)}) for alarm in alarms
    ]
    return sorted(results, key=lambda alarm: (alarm.time, alarm.id), reverse=True)


def alarm_of(project: Project, settings: Settings, name: str) -> StoredAlarm:
    """The alarm that an id, or its first digits, names.

    Raises:
        DataError: there is none, or several.
        BackendError: the table or the audit trail cannot be read.
    """
    alarms = stored_alarms(project, settings)
    matches = [alarm for alarm in alarms if name and alarm.id.startswith(name)]
    if len({alarm.id for alarm in matches}) != 1:
        ids = ", ".join([alarm.id for alarm in matches or alarms][:MAX_IDS]) or "none"
        problem = "several alarms begin with" if matches else "there is no alarm"
        raise DataError(f"{project.name}: {problem} {name!r}; there are: {ids}")
    return matches[0]


def acknowledge(project: Project, settings: Settings, name: str, reason: str) -> StoredAlarm:
    """Note who knows of an alarm's cause and why nobody is to be told again.

    Args:
        reason: in words; never a personal value.

    Raises:
        DataError: there is no such alarm, or no reason.
        BackendError: a table cannot be read or written.
    """
    if not reason.strip():
        raise DataError("an alarm is acknowledged for a reason: add --reason '…'")
    alarm = alarm_of(project, settings, name)
    words = (f"alarm {alarm.id}, {alarm.cause} in window {alarm.window}", reason.strip())
    record_data(settings, project.name, ACTION, ALARMS, None, alarm.id, words)
    return alarm_of(project, settings, alarm.id)


def acknowledgements(project: Project, settings: Settings) -> list[DataChange]:
    """Lines of the audit trail that acknowledge an alarm, the oldest first.

    Raises:
        BackendError: the trail cannot be read.
    """
    lines = data_chain(settings, project.name).lines()
    return [line for line in lines if line.action == ACTION]


def alarms_to_tell(
    project: Project, settings: Settings, alarms: Sequence[Alarm], windows: Sequence[Window]
) -> list[Alarm]:
    """Alarms of the newest window that people are to be told of.

    Their cause is in `monitoring.violations` of the latest `monitoring.windows` windows, is severe
    enough (`monitoring.tell_from`), and nobody has acknowledged it.

    Args:
        alarms: of all these windows, as they are in the table.
        windows: the oldest first.

    Raises:
        BackendError: the table or the audit trail cannot be read.
    """
    spec = project.monitoring
    newest = [alarm for alarm in alarms if alarm.window == windows[-1]]
    frequent = [
        alarm
        for alarm in newest
        if len({str(other.window) for other in alarms if is_same_cause(alarm, other)})
        >= spec.violations
        and (spec.tell_from == "low" or alarm.severity == "high")
    ]
    if not frequent:
        return []
    stored = {alarm.id: alarm for alarm in stored_alarms(project, settings)}
    return [
        alarm for alarm in frequent if alarm.id not in stored or not stored[alarm.id].acknowledged
    ]


def is_same_cause(alarm: Alarm | StoredAlarm, other: Alarm | StoredAlarm) -> bool:
    """Tell whether two alarms are of one cause: kind and segment, and a column in common."""
    return (
        alarm.cause == other.cause
        and alarm.slice == other.slice
        and bool({alarm.column, *alarm.columns} & {other.column, *other.columns})
    )


def _words(alarm: StoredAlarm, lines: Sequence[DataChange], alarms: dict[str, StoredAlarm]) -> str:
    """The acknowledgement of an alarm's cause: who, when, why; empty without one."""
    for line in reversed(lines):
        other = alarms.get(line.digest)
        same = line.digest == alarm.id or (
            other is not None
            and (other.model, other.version) == (alarm.model, alarm.version)
            and is_same_cause(alarm, other)
        )
        if same:
            return f"{line.who} on {line.time[:10]}: {line.reasons[-1]}"
    return ""
