"""An alarm computed again from what it was computed from, to be held against it digit by digit.

The row of an alarm names the versions of the tables that it came from (`AlarmOrigin`), and until
when labels were known. Versions are held against their digests when they are read.
"""

from datetime import datetime

from lifecycle.errors import DataError
from lifecycle.labels.ledger import Ledger, content_digest
from lifecycle.monitoring.alarms import alarm_of
from lifecycle.monitoring.labels import with_ledger
from lifecycle.monitoring.monitor import examine_window
from lifecycle.monitoring.results import identified
from lifecycle.monitoring.scored import categorical_features, open_window
from lifecycle.project import Project
from lifecycle.records import Alarm, AlarmOrigin, Record, StoredAlarm
from lifecycle.settings import Settings

COMPARED_FIELDS = (
    "comparison",
    "cause",
    "severity",
    "column",
    "columns",
    "slice",
    "metric",
    "value",
    "limit",
    "since",
    "evidence",
)
"""Fields of an alarm that must be the same."""


class Reproduction(Record):
    """An alarm, and what comes of the same rows today."""

    alarm: StoredAlarm
    result: Alarm | None
    """None if it does not alarm any more."""
    differences: tuple[str, ...]
    """Each in words; none if it is the same to the digit."""
    notes: tuple[str, ...]
    """Differences from what it was then."""

    @property
    def same(self) -> bool:
        return not self.differences


def reproduce(project: Project, settings: Settings, name: str) -> Reproduction:
    """Compute an alarm again.

    Args:
        name: its id, or the first digits.

    Raises:
        BackendError: a table cannot be read.
        DataError: there is no such alarm, or it does not say what it was computed from.
        FeatureError: the features hook fails.
    """
    alarm = alarm_of(project, settings, name)
    if not alarm.origin:
        raise DataError(f"alarm {alarm.id} does not say what it was computed from")
    origin = AlarmOrigin.model_validate_json(alarm.origin)
    notes = []
    if origin.monitoring != project.monitoring:
        notes.append("The project's section `monitoring` has changed since: the former was taken.")
        project = project.model_copy(update={"monitoring": origin.monitoring})
    ledger = Ledger(settings, project.name).rows(datetime.fromisoformat(origin.known_at))
    labels = content_digest(ledger) if ledger.num_rows else ""
    if labels != origin.labels:
        notes.append(f"Labels known by {origin.known_at[:19]} are others now: some came or went.")
    reference = open_window(origin.reference, project, settings)
    current, previous = (
        None
        if each is None
        else with_ledger(open_window(each, project, settings), each, project, ledger)
        for each in (origin.window, origin.previous)
    )
    assert current is not None  # noqa: S101 - the window itself is always there
    examined = examine_window(
        project,
        categorical_features(reference.features, project),
        (reference, previous, current),
        origin.window,
        origin.released,
    )
    alarms = identified(examined.alarms, origin.window.model, alarm.source)
    result = next((each for each in alarms if each.id == alarm.id), None)
    return Reproduction(
        alarm=alarm, result=result, differences=_differences(alarm, result), notes=tuple(notes)
    )


def _differences(alarm: StoredAlarm, result: Alarm | None) -> tuple[str, ...]:
    if result is None:
        return ("it does not alarm any more",)
    pairs = ((name, getattr(alarm, name), getattr(result, name)) for name in COMPARED_FIELDS)
    return tuple(f"{name}: {was!r}, now {now!r}" for name, was, now in pairs if was != now)
