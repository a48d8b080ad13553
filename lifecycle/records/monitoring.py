"""Results of scoring, of monitoring and of the whole cycle."""

from pathlib import Path
from typing import Literal

from lifecycle.records.base import Record, Window
from lifecycle.records.data import DatasetVersion, Prepared
from lifecycle.records.release import Release
from lifecycle.records.training import Decision, Evaluation, ModelVersion, Trained


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


class DriftReport(Record):
    """Reference window against one current window."""

    window: Window
    reference_rows: int
    current_rows: int
    features: tuple[ColumnDrift, ...]
    predictions: ColumnDrift
    labels: LabelDrift | None = None
    """None where no labels have arrived."""

    @property
    def drifted(self) -> tuple[ColumnDrift, ...]:
        return tuple(column for column in self.features if column.drifted)


class Monitored(Record):
    """Findings of `monitor` in the latest windows, oldest first."""

    drift: tuple[DriftReport, ...]
    quality: tuple[Evaluation | None, ...]
    """The champion's metrics per window; None where no labels have arrived."""
    decision: Decision
    """Passed: nothing to do. Not passed: retraining is due."""
    report: Path


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
