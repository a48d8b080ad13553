"""The sections on monitoring and what may follow from it."""

from typing import Literal, Self

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
    max_drifted_share: float = Field(default=0.25, ge=0, le=1)
    """Share of features that may drift before a window counts as violating."""


class MonitoringSpec(Section):
    """Current windows against the reference window."""

    drift: DriftSpec = DriftSpec()
    labels: SourceSpec | None = None
    """Where labels come from that the windows' own rows do not have: a file, table or database with
    the target and `prediction_id`, or the entity and time of a row."""
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

    @model_validator(mode="after")
    def _possible(self) -> Self:
        if self.violations > self.windows:
            raise ValueError(f"violations exceed windows: got {self.violations=} {self.windows=}")
        return self


class RetrainingSpec(Section):
    """Triggers of retraining."""

    triggers: tuple[Literal["drift", "quality"], ...] = ("drift", "quality")
    """Findings of monitoring that lead to retraining."""
