"""The sections on monitoring and what may follow from it."""

from datetime import timedelta
from typing import Annotated, Literal, NamedTuple, Self

from pydantic import Field, model_validator

from lifecycle.project.base import Loss, Section
from lifecycle.project.data import SourceSpec


class DriftSpec(Section):
    """Tests and thresholds of drift (test statistics, not p-values).

    A difference that chance alone can make between samples of these sizes is never drift, whatever
    the thresholds.
    """

    numeric_test: Literal["kolmogorov_smirnov", "wasserstein"] = "kolmogorov_smirnov"
    numeric_threshold: float = Field(default=0.1, gt=0)
    """Wasserstein is in standard deviations of the reference."""
    categorical_test: Literal["cramers_v", "total_variation"] = "cramers_v"
    categorical_threshold: float = Field(default=0.15, gt=0)
    prediction_threshold: float = Field(default=0.1, gt=0)
    """Threshold for the predictions, with the numeric test; multiclass: for the predicted class,
    with the categorical test."""
    alarm_from: float = Field(default=0.5, gt=0, le=1)
    """Share of a threshold from which a distance beyond chance is an alarm. What is below it is
    harmless, however many rows show it."""
    max_drifted_share: float = Field(default=0.25, ge=0, le=1)
    """Share of features that may drift before a window counts as violating."""


class LiveWindowSpec(NamedTuple):
    """Length of a window over the prediction log: minutes or rows, the other is 0."""

    minutes: int
    rows: int


MINUTES = {"minute": 1, "hour": 60, "day": 1440}
Duration = Annotated[str, Field(pattern=r"^\d+ (minutes?|hours?|days?)$")]


def duration(text: str) -> timedelta:
    """Length of time that a text such as `1 day` or `90 minutes` says."""
    count, unit = text.removesuffix("s").split()
    return timedelta(minutes=int(count) * MINUTES[unit])


class MonitoringSpec(Section):
    """Current windows against the reference window."""

    drift: DriftSpec = DriftSpec()
    live: Annotated[str, Field(pattern=r"^[1-9]\d* (rows?|minutes?|hours?|days?)$")] | None = None
    """Length of the windows over the prediction log, `1 day` or `5000 rows`: what the endpoint
    answered is then monitored as scored tables are. Not without it."""
    live_delay: Duration = "1 minute"
    """How long after its end a window of the prediction log is read. What a replica logs later, as
    when the lake is down, is in no window."""
    labels: SourceSpec | None = None
    """Where labels come from that the windows' own rows do not have: a file, table or database with
    the target and `prediction_id`, or the entity and time of a row."""
    false_alarms: Annotated[str, Field(pattern=r"^\d+ per \d+ windows$")] = "1 per 100 windows"
    """How often a window without drift may alarm: by any of its columns and slices, in any of its
    comparisons and looks. Between 1 per 1000 windows and 1 per 5."""
    looks: int = Field(default=1, ge=1)
    """How often a window is monitored while it fills; its false alarms are shared between them."""
    max_quality_loss: Loss = "5%"
    """How much worse the gate's metric may be in a window than on the holdout at release: a number
    in the metric's own units, or a share of the value at release, such as `5%`. A loss within
    chance never counts."""
    min_rows: int = Field(default=100, ge=1)
    """A window with fewer rows says nothing, good or bad; nor does quality on fewer labels."""
    windows: int = Field(default=1, ge=1)
    """How many of the latest windows are looked at."""
    violations: int = Field(default=1, ge=1)
    """Retraining is asked for if this many of them violate, the newest among them."""

    tell_from: Literal["low", "high"] = "high"
    """Severity from which people are told of an alarm, once its cause is in `violations` of the
    latest `windows`, until somebody acknowledges it."""

    @model_validator(mode="after")
    def _possible(self) -> Self:
        if self.violations > self.windows:
            raise ValueError(f"violations exceed windows: got {self.violations=} {self.windows=}")
        if not 1 / 1000 <= self.alarm_rate <= 1 / 5:
            raise ValueError(
                f"false_alarms: {self.false_alarms}: what can be kept is between 1 per 1000 "
                "windows and 1 per 5 windows"
            )
        return self

    @property
    def live_window(self) -> LiveWindowSpec | None:
        """Length of the windows over the prediction log."""
        if self.live is None:
            return None
        count, unit = self.live.removesuffix("s").split()
        number = int(count)
        return (
            LiveWindowSpec(0, number)
            if unit == "row"
            else LiveWindowSpec(number * MINUTES[unit], 0)
        )

    @property
    def alarm_rate(self) -> float:
        """Share of the windows without drift that may alarm."""
        count, windows = self.false_alarms.removesuffix(" windows").split(" per ")
        return int(count) / max(int(windows), 1)


WindowKind = Literal["rolling", "change"]
"""A stretch of the newest training rows."""


class RetrainingSpec(Section):
    """Triggers of retraining, and limits of a machine that retrains by itself."""

    triggers: tuple[Literal["drift", "quality", "estimate"], ...] = ("quality",)
    """Findings of monitoring that lead to retraining. With `drift` among them, drift alone is
    reason enough, even if the measured quality is no worse. `estimate`: the quality that is
    estimated before the labels."""
    new_rows: int | None = Field(default=None, ge=1)
    """Retraining is asked for by as many rows that have arrived since the champion's data, or since
    the last try."""
    every: Duration | None = None
    """Retraining is asked for by this age of the champion's data, and again that long after a
    try."""
    cooldown: Duration = "1 day"
    """Between two tries of the machine, at least."""
    budget: Annotated[str, Field(pattern=r"^[1-9]\d* per [1-9]\d* days?$")] = "10 per 30 days"
    """Tries of the machine, at most."""
    give_up_after: int = Field(default=3, ge=1)
    """Tries in a row without a release that still holds: then the machine stops, and a person is
    called."""
    probation: Duration = "7 days"
    """If measured quality falls so soon after a release, the version before serves again."""
    windows: tuple[WindowKind, ...] = ("rolling", "change")
    """What may be learned from in place of all rows, where the validation part says that it is
    better: as long a stretch as the champion learned from, the rows since the change that
    monitoring found. Needs `time`."""

    @property
    def asks(self) -> bool:
        """Tell whether anything is declared that asks for retraining."""
        return bool(self.triggers or self.new_rows or self.every)

    @property
    def budget_numbers(self) -> tuple[int, timedelta]:
        """Tries, and the time they are for."""
        count, _, days, _ = self.budget.split()
        return int(count), timedelta(days=int(days))
