"""Results of scoring, of monitoring and of the whole cycle."""

from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Literal, get_args

from lifecycle.project import Metric, MonitoringSpec
from lifecycle.records.base import Record, Window
from lifecycle.records.data import DatasetVersion, Prepared
from lifecycle.records.release import Release
from lifecycle.records.training import Decision, Estimate, Evaluation, ModelVersion, Trained


class Scored(Record):
    """Predictions of one model version for one dataset version."""

    dataset: DatasetVersion
    predictions: DatasetVersion
    model: ModelVersion
    window: Window
    engine: Literal["process", "ray_data"]


class ColumnDrift(Record):
    """One column's distance between reference and current window."""

    column: str
    test: str
    statistic: float
    threshold: float
    """What the project declares."""
    chance: float = 0.0
    """What chance alone hardly exceeds at these two sample sizes."""
    alarm_from: float = 1.0
    """Share of the threshold that is worth an alarm."""
    visible: float | None = None
    """Smallest shift, in standard deviations, that 9 of 10 such windows would have shown as an
    alarm; None if no shift is, or the column has few values."""

    @property
    def alarm_limit(self) -> float:
        """Distance from which there is an alarm: part of the threshold, or chance if larger."""
        return max(self.threshold * self.alarm_from, self.chance)

    @property
    def alarms(self) -> bool:
        return self.statistic > self.alarm_limit

    @property
    def limit(self) -> float:
        """Distance from which there is drift: the threshold, or chance if that is larger."""
        return max(self.threshold, self.chance)

    @property
    def drifted(self) -> bool:
        return self.statistic > self.limit


class LabelDrift(ColumnDrift):
    """The target's distance, on the rows whose labels have arrived."""

    rows: int
    means: tuple[float, float] | None = None
    """Mean in the reference and in the window, for a binary target the positive rate; None for
    several classes."""


class SliceDrift(ColumnDrift):
    """The predictions' distance in one slice of the rows."""

    slice: str
    """Attribute and level, `female=1`."""
    rows: int


CONDITIONAL = "conditional_"
"""Begins the test's name of a distance given the other columns."""
GIVEN_OTHERS = " given the others"
"""Follows the column's name in words."""


class ConditionalDrift(ColumnDrift):
    """The distance of a number given the other columns, in its standard deviations."""


class DriftReport(Record):
    """Reference window against one current window."""

    window: Window
    reference_rows: int
    current_rows: int
    features: tuple[ColumnDrift, ...]
    predictions: ColumnDrift
    labels: LabelDrift | None = None
    """None where no labels have arrived."""
    slices: tuple[SliceDrift, ...] = ()
    conditional: tuple[ConditionalDrift, ...] = ()
    """Numbers given the other features; none with too few rows for a regression."""
    drawn: str = "single rows"
    """What the reference was resampled in, for the limits by chance."""
    groups: tuple[tuple[str, ...], ...] = ()
    """Features that alarm, those that move together in the reference in one group."""
    alpha: float = 0.01
    """In how many windows without drift anything is beyond its limit by chance."""

    @property
    def answers(self) -> tuple[ColumnDrift, ...]:
        """Predictions and labels, and the predictions of slices."""
        labels = () if self.labels is None else (self.labels,)
        return (self.predictions, *labels, *self.slices)

    @property
    def columns(self) -> tuple[ColumnDrift, ...]:
        """Everything that was compared."""
        return (*self.features, *self.answers, *self.conditional)

    @property
    def moved(self) -> tuple[ColumnDrift, ...]:
        """Features that alarm: by themselves, or where none does, given the others.

        A feature that has moved takes residuals of others with it: a straight line is not all that
        they have to do with each other.
        """
        moved = tuple(column for column in self.features if column.alarms)
        return moved or tuple(column for column in self.conditional if column.alarms)

    @property
    def alarms(self) -> tuple[ColumnDrift, ...]:
        """Distances beyond chance that are large enough to be told, the furthest first."""
        beyond = [*self.moved, *(column for column in self.answers if column.alarms)]
        return tuple(sorted(beyond, key=lambda column: -column.statistic / column.alarm_limit))

    @property
    def drifted(self) -> tuple[ColumnDrift, ...]:
        return tuple(column for column in self.features if column.drifted)


BrokenKind = Literal[
    "unit changed",
    "missing or filled",
    "level renamed",
    "stuck value",
    "late feed",
    "duplicated batch",
]
ChangedKind = Literal["covariate shift", "label shift", "concept shift", "segment"]
CauseKind = BrokenKind | ChangedKind
BROKEN: tuple[BrokenKind, ...] = get_args(BrokenKind)
"""Causes that are a mistake in the data."""
CHANGED: tuple[ChangedKind, ...] = get_args(ChangedKind)
"""Causes that are a world that has changed."""


class Cause(Record):
    """Reason for which a window alarms: one for everything that has moved for the same reason."""

    kind: CauseKind
    columns: tuple[str, ...]
    """Columns that it shows in, the one it is in first; for a late feed or a duplicated batch, as
    for what changed in all of them, those that moved."""
    segment: str = "all"
    """`all`, or column and level."""
    since: str = ""
    """Time of the first row that shows it, ISO 8601; empty where rows have no order in time."""
    evidence: str
    """What was seen, in words."""
    metric: str = ""
    """What `value` is; empty where a distance of the columns says how far it went."""
    value: float = 0.0
    limit: float = 0.0

    @property
    def broken(self) -> bool:
        return self.kind in BROKEN

    def __str__(self) -> str:
        return cause_text(self.kind, self.columns, self.segment, self.since, self.evidence)


def cause_text(
    kind: str, columns: Sequence[str], segment: str = "all", since: str = "", evidence: str = ""
) -> str:
    """Return a cause in one line: what, in which columns, where, since when, and how it is seen."""
    first_columns = ", ".join(columns[:3])
    more = len(columns) - 3
    group = "broken data: " if kind in BROKEN else "changed world: " if kind in CHANGED else ""
    parts = [
        f"{group}{kind}",
        f"in {first_columns}{f' and {more} more' if more > 0 else ''}" if first_columns else "",
        f"where {segment}" if segment != "all" else "",
        f"since {since}" if since else "",
    ]
    return " ".join(filter(None, parts)) + (f": {evidence}" if evidence else "")


class Alarm(Record):
    """Something that monitoring found in a window, beyond chance and large enough to be told."""

    window: Window
    comparison: Literal["reference", "window before", "release"]
    """What the window was compared with."""
    cause: Literal["features", "predictions", "labels", "quality"] | CauseKind
    """Why, once that was looked into; before, what moved."""
    severity: Literal["low", "high"]
    """High from the declared threshold on; low from the part of it that is worth an alarm."""
    column: str
    """The one that moved furthest; of quality, the metric."""
    columns: tuple[str, ...]
    """All that move together with it."""
    slice: str
    """`all`, or attribute and level."""
    metric: str
    value: float
    limit: float
    since: str = ""
    """See `Cause.since`."""
    evidence: str = ""
    """See `Cause.evidence`."""
    id: str = ""
    """Name of the alarm in the table of alarms."""

    @property
    def broken(self) -> bool:
        """Tell whether the data are at fault, not the world."""
        return self.cause in BROKEN

    @property
    def text(self) -> str:
        """Cause, or what moved, in one line."""
        return cause_text(self.cause, self.columns, self.slice, self.since, self.evidence)


class StoredAlarm(Record):
    """An alarm as the table has it."""

    id: str
    window: str
    model: str
    version: int
    source: str
    comparison: str
    cause: str
    severity: str
    column: str
    columns: tuple[str, ...]
    slice: str
    metric: str
    value: float
    limit: float
    since: str
    evidence: str
    time: datetime
    """When it was written, UTC."""
    origin: str | None
    """An `AlarmOrigin` as JSON."""
    acknowledged: str = ""
    """Who acknowledged its cause, when and why; empty if nobody did."""

    @property
    def text(self) -> str:
        """Cause in one line."""
        return cause_text(self.cause, self.columns, self.slice, self.since, self.evidence)


class Grade(Record):
    """Former estimates of a model's quality, held against the labels that came."""

    windows: int
    """Labelled windows that were looked at."""
    covered: int
    """Of these, windows whose measured quality lies in the 95 % interval of the estimate."""
    bias: float
    """Mean of estimate less measured quality."""
    withdrawn: str = ""
    """Why the estimate says nothing any more, in words; empty while it does."""


class AlarmOrigin(Record):
    """Everything that the alarms of a window were computed from: the same again makes the same."""

    reference: Scored
    previous: Scored | None
    """The window before it."""
    window: Scored
    released: Evaluation
    """The model's evaluation at release."""
    known_at: str
    """UTC, ISO 8601: labels as known then."""
    labels: str
    """Digest of these labels; empty without any."""
    monitoring: MonitoringSpec
    """As the project declared it."""


class EstimatedQuality(Record):
    """The deciding metric of a window, before its labels."""

    metric: Metric
    estimate: Estimate
    """With the interval that the measured quality is expected in, in 95 of 100 windows."""
    grade: Grade


class Monitored(Record):
    """Findings of `monitor` in the latest windows, oldest first."""

    drift: tuple[DriftReport, ...]
    quality: tuple[Evaluation | None, ...]
    """The champion's metrics per window; None where no labels have arrived."""
    decision: Decision
    """Passed: nothing to do. Not passed: retraining is due."""
    report: Path
    estimates: tuple[EstimatedQuality | None, ...] = ()
    """The deciding metric per window, estimated from no label of it; None of few rows."""
    before: tuple[DriftReport | None, ...] = ()
    """Each window against the one before it; None where there is none."""
    alarms: tuple[Alarm, ...] = ()
    """Of all these windows, the oldest window's first."""


class Period(Record):
    """Results for one arriving period."""

    scored: Scored
    monitored: Monitored
    release: Release | None
    """Result of retraining; None if there was none."""


class Cycle(Record):
    """The whole cycle, as `end_to_end` ran it."""

    prepared: Prepared
    trained: Trained
    release: Release
    periods: tuple[Period, ...]
    report: Path
    """The summary as one HTML page."""


# Retraining without a hand.

Trigger = Literal["drift", "quality", "estimate", "new data", "schedule"]


class RetrainingRequest(Record):
    """A request for retraining, as monitoring makes it and an event carries it."""

    version: int
    """The champion that it is about: of another one by now it says nothing."""
    triggers: tuple[Trigger, ...]
    reasons: tuple[str, ...]


class Attempt(Record):
    """One run that learned a model, or tried to."""

    id: str
    """Of the flow run: taken up again it is the same attempt."""
    time: datetime
    """When it began."""
    by_hand: bool
    """Whether a person started it: then the count of useless tries begins anew."""
    triggers: tuple[str, ...] = ()
    outcome: Literal["running", "released", "finding", "failed", "rolled back"] = "running"
    """`finding`: the model did not beat the champion, or waits for an approval, and is kept as
    challenger. What is `running` while no run is under way was killed."""
    version: int | None = None
    """Of the new model."""
    seconds: float | None = None
    reasons: tuple[str, ...] = ()
