"""The sections of a project file: small frozen values, each documented where it is declared."""

from datetime import date
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

Scalar = bool | int | float | str
TimeValue = int | date | str
Share = Annotated[float, Field(gt=0, lt=1)]
TaskKind = Literal["binary", "multiclass", "regression", "count"]
Metric = str
"""A name of `METRICS`, or one that the project declares under `metrics`."""
ColumnType = Literal["integer", "number", "boolean", "string", "category", "datetime"]

METRICS: dict[TaskKind, tuple[Metric, ...]] = {
    "binary": ("roc_auc", "average_precision", "log_loss", "brier", "accuracy"),
    "multiclass": ("log_loss", "accuracy", "roc_auc", "f1_macro"),
    "regression": ("rmse", "mae", "r2"),
    "count": ("poisson_deviance", "rmse", "mae"),
}
GREATER_IS_BETTER: dict[Metric, bool] = {
    "roc_auc": True,
    "average_precision": True,
    "log_loss": False,
    "brier": False,
    "accuracy": True,
    "rmse": False,
    "mae": False,
    "r2": True,
    "f1_macro": True,
    "poisson_deviance": False,
}


def greater_is_better(metric: Metric) -> bool:
    """The direction of a metric; one of a project's own is a score, as scikit-learn's scorers."""
    return GREATER_IS_BETTER.get(metric, True)


class Section(BaseModel):
    """A part of the project file: frozen, and without room for keys nobody reads."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


class SourceSpec(Section):
    """Where the raw data are."""

    path: str
    """File path relative to the project file, an absolute path, or `package://name/inside/file`."""
    format: Literal["csv", "parquet"] = "csv"
    separator: str = Field(default=",", min_length=1, max_length=1)
    """Field separator of a CSV file."""
    encoding: str = "utf-8"
    """Text encoding of a CSV file."""


class TimeSpec(Section):
    """The column that orders rows in time, and how time is cut into periods."""

    column: str
    period: Literal["value", "day", "week", "month"] = "value"
    """What one period is: each distinct value, or a calendar period of a datetime column."""
    arrives_from: TimeValue | None = None
    """Rows from here on arrive later, period by period: scored, monitored, then learned from."""


class ColumnSpec(Section):
    """What the contract promises of one column."""

    type: ColumnType
    nullable: bool = False
    unique: bool = False
    minimum: float | None = None
    maximum: float | None = None
    categories: tuple[Scalar, ...] | None = None
    """Allowed values; a `category` column without them takes the values seen in training."""
    pii: Literal["keep", "hash", "drop"] | None = None
    """Personal data, and what a prediction log makes of it: kept, a keyed hash, or left out."""
    description: str = ""

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.categories is not None and not self.categories:
            raise ValueError("categories is empty: name the allowed values or leave it out")
        if self.categories is not None and len({isinstance(v, str) for v in self.categories}) > 1:
            raise ValueError("categories: texts and numbers are mixed: put quotes around all")
        if self.minimum is not None and self.maximum is not None and self.minimum > self.maximum:
            raise ValueError(f"minimum is above maximum: got {self.minimum=} {self.maximum=}")
        if self.type not in ("integer", "number") and (self.minimum, self.maximum) != (None, None):
            raise ValueError(f"minimum and maximum are for numbers: got {self.type=}")
        return self


class FreshnessSpec(Section):
    """How new the newest row must be; exactly one of the two."""

    max_age_days: float | None = Field(default=None, gt=0)
    """For a datetime time column: the newest row is at most this old, in days."""
    at_least: int | None = None
    """For an integer time column: the newest value is at least this."""

    @model_validator(mode="after")
    def _one(self) -> Self:
        if (self.max_age_days is None) == (self.at_least is None):
            raise ValueError("give exactly one of max_age_days and at_least")
        return self


class ContractSpec(Section):
    """The data contract: what every row of the source must keep."""

    columns: dict[str, ColumnSpec] = Field(min_length=1)
    unique_together: tuple[tuple[str, ...], ...] = ()
    """Column groups whose combination identifies a row."""
    freshness: FreshnessSpec | None = None
    max_rejected_share: float = Field(default=0.0, ge=0, lt=1)
    """Share of rows that may go to quarantine before the whole batch is refused."""
    extra_columns: Literal["refuse", "drop"] = "drop"
    """What to do with columns of the source that the contract does not name."""

    @model_validator(mode="after")
    def _storable(self) -> Self:
        seen: dict[str, str] = {}
        for name in self.columns:
            if name.startswith("__"):
                raise ValueError(f"columns: names with two leading underscores are ours: {name!r}")
            if other := seen.get(name.lower()):
                raise ValueError(
                    f"columns: {other!r} and {name!r} differ only in case, which Delta tables "
                    "cannot keep apart: rename one in the source"
                )
            seen[name.lower()] = name
        return self


class SplitSpec(Section):
    """How rows are divided: the holdout is never seen by tuning or training.

    With an entity, whole entities are held out (by a seeded hash, so an entity keeps its part for
    ever). With time, the holdout is the newest part. With both, it is the newest periods of the
    held-out entities, and training takes the earlier periods of the others.
    """

    holdout: Share = 0.2
    """Share of entities (or, without an entity, of rows) held out."""
    validation: Share = 0.15
    """Share of entities (or rows) for early stopping and tuning."""
    holdout_periods: int | None = Field(default=None, ge=1)
    """With time: how many of the newest periods are the holdout; without it the share decides."""
    seed: int = 17


class TrainingSpec(Section):
    """The trainer, and how it runs on Ray."""

    trainer: str = Field(
        default="xgboost",
        pattern=r"^(xgboost|sklearn:[A-Za-z_][\w.]*|[A-Za-z_][\w.]*:[A-Za-z_]\w*)$",
    )
    """`xgboost`, `sklearn:<dotted estimator>`, or `module:Class` with a trainer of your own."""
    rounds: int = Field(default=200, ge=1)
    """Boosting rounds at most; early stopping may end sooner."""
    early_stopping_rounds: int = Field(default=20, ge=1)
    parameters: dict[str, Scalar] = Field(default_factory=dict)
    """The trainer's parameters that tuning does not choose."""
    class_weight: Literal["balanced"] | dict[str, float] | None = None
    """Classification: weight of a row by its class, or `balanced`, as scikit-learn has it."""
    monotone: dict[str, Literal[-1, 1]] = Field(default_factory=dict)
    """Feature → 1 if the prediction may only rise with it, -1 if only fall (xgboost)."""
    calibration: Literal["none", "sigmoid", "isotonic"] = "none"
    """Binary: how probabilities are calibrated, on the validation part."""
    device: str = Field(default="cpu", pattern=r"^(cpu|cuda(:\d+)?)$")
    """XGBoost's device."""
    threads: int | None = Field(default=None, ge=1)
    """Threads a worker trains with; by default the machine's CPUs, divided among the workers."""
    num_workers: int = Field(default=1, ge=1)
    """Ray Train workers; with several, each holds its share of the rows only (xgboost)."""
    checkpoint_rounds: int = Field(default=25, ge=1)
    """With several workers: rounds between checkpoints, so what a lost worker costs at most."""
    max_failures: int = Field(default=3, ge=0)
    """With several workers: how often training resumes from a checkpoint before it gives up."""
    seed: int = 17


def _check_range(low: float, high: float, log: bool) -> None:
    if low > high:
        raise ValueError(f"low is above high: got {low=} {high=}")
    if log and low <= 0:
        raise ValueError(f"a log range starts above 0: got {low=}")


class IntRange(Section):
    """An integer parameter of the search space, both ends included."""

    type: Literal["int"]
    low: int
    high: int
    log: bool = False

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        _check_range(self.low, self.high, self.log)
        return self


class FloatRange(Section):
    """A real parameter of the search space, both ends included."""

    type: Literal["float"]
    low: float
    high: float
    log: bool = False

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        _check_range(self.low, self.high, self.log)
        return self


class Choice(Section):
    """A parameter of the search space with listed values."""

    type: Literal["choice"]
    values: tuple[Scalar, ...] = Field(min_length=1)


Range = Annotated[IntRange | FloatRange | Choice, Field(discriminator="type")]


class TuningSpec(Section):
    """Optuna over Ray; no search space means no tuning."""

    trials: int = Field(default=20, ge=1)
    workers: int = Field(default=2, ge=1)
    """Trials that run at the same time, one CPU each."""
    pruner: Literal["none", "median", "halving", "hyperband"] = "median"
    """Optuna's pruner that stops bad trials by their metric after each round (xgboost)."""
    max_seconds: float | None = Field(default=None, gt=0)
    """No trial starts later than this after the search began; finished ones count."""
    space: dict[str, Range] = Field(default_factory=dict)


Suite = Literal["data_integrity", "train_test_validation", "model_evaluation"]


class ChecksSpec(Section):
    """The deepchecks suites."""

    suites: tuple[Suite, ...] = ("data_integrity", "train_test_validation", "model_evaluation")
    """Which suites run; without any, `gate.require_checks` has to be false."""
    sample_rows: int = Field(default=10_000, ge=100)
    """Rows a suite looks at, at most; the report states the sampling."""
    accept: dict[str, str] = Field(default_factory=dict)
    """Checks whose failure does not block, each with the reason why."""


class GateSpec(Section):
    """What a model must show before it moves on."""

    metric: Metric | None = None
    """The metric that decides; by default the first of the task in `specs.METRICS`."""
    floor: float | None = None
    """Worst value of the metric that is good enough, in the metric's own direction."""
    gain_over_baseline: float = 0.0
    """By how much the metric must be better than the trivial baseline's."""
    gain_over_champion: float = 0.0
    """By how much the metric must be better than the champion's on the same holdout."""
    seeds: int = Field(default=1, ge=1)
    """With how many seeds training is repeated, to know what chance does to the metric."""
    gain_over_noise: float = Field(default=0.0, ge=0)
    """The gain over the champion must exceed this many standard deviations over the seeds."""
    require_checks: bool = True
    """Whether a failed check (not accepted under `checks.accept`) blocks."""

    @model_validator(mode="after")
    def _noise_is_known(self) -> Self:
        if self.gain_over_noise and self.seeds < 3:
            raise ValueError(
                f"gain_over_noise needs seeds: 3 or more to know the noise: got {self.seeds=}"
            )
        return self


class EvaluationSpec(Section):
    """What the evaluation report looks at beyond the whole holdout."""

    slices: tuple[str, ...] = ()
    """Contract columns whose values (numbers: quartiles) are evaluated apart."""
    segments: dict[str, str] = Field(default_factory=dict)
    """Name → condition on contract columns as `DataFrame.query` takes it, such as `age >= 65`."""
    min_rows: int = Field(default=50, ge=1)
    """Slices with fewer rows are counted, not measured."""
    explain_rows: int = Field(default=500, ge=10)
    """Rows of the holdout that the SHAP summary is made from, at most."""


class RolloutSpec(Section):
    """How a challenger takes over from the champion, and what sends it back."""

    policy: Literal["straight", "canary", "shadow"] = "straight"
    """`straight`: all requests at once. `canary`: in steps. `shadow`: first it answers beside the
    champion, and its answers are compared, never returned."""
    steps: tuple[Annotated[float, Field(gt=0, le=1)], ...] = (0.01, 0.1, 0.5, 1.0)
    """Canary: shares of the entities, by a hash, so that an entity keeps its version."""
    bake_seconds: float = Field(default=60.0, gt=0)
    """How long each step is held, and how long a shadow answers."""
    min_requests: int = Field(default=20, ge=1)
    """Answers of the challenger a step needs before it may go on; it bakes longer if they lack."""
    max_wait_seconds: float = Field(default=3600.0, gt=0)
    """After this long without `min_requests` the step fails."""
    max_error_rate: float = Field(default=0.01, ge=0, le=1)
    """Share of the challenger's requests that may fail, beyond the champion's."""
    max_p99_ratio: float = Field(default=2.0, gt=0)
    """How much longer the challenger's 99th percentile may be than the champion's."""
    max_p99_milliseconds: float = Field(default=10.0, gt=0)
    """A 99th percentile up to this never fails a step, whatever the ratio."""
    max_prediction_drift: float = Field(default=0.25, gt=0)
    """Distance of its predictions from the champion's: Kolmogorov-Smirnov's statistic, or Cramer's
    V of the classes."""
    max_quality_loss: float = Field(default=0.05, ge=0)
    """Where labels have come: how much worse than the champion's the gate's metric may be."""

    @model_validator(mode="after")
    def _rising(self) -> Self:
        if not self.steps or list(self.steps) != sorted(set(self.steps)) or self.steps[-1] != 1:
            raise ValueError(f"steps: they must rise and end with 1.0, got {list(self.steps)}")
        return self


class ServingSpec(Section):
    """The Ray Serve application; host and port belong to the settings."""

    replicas: int = Field(default=1, ge=1)
    """Replicas, or with `max_replicas` the fewest."""
    max_replicas: int | None = Field(default=None, ge=1)
    """Autoscaling up to this many replicas; without it their number is fixed."""
    target_ongoing_requests: float = Field(default=2.0, gt=0)
    """Autoscaling: requests in work per replica that it aims at."""
    upscale_delay_seconds: float = Field(default=10.0, ge=0)
    downscale_delay_seconds: float = Field(default=60.0, ge=0)
    max_ongoing_requests: int = Field(default=100, ge=1)
    """Requests one replica works on at the same time; more wait."""
    max_queued_requests: int = Field(default=1000, ge=1)
    """Requests that may wait at a replica before it answers 503 with `Retry-After`."""
    max_rows: int = Field(default=10_000, ge=1)
    """Rows of one request, at most."""
    max_body_bytes: int = Field(default=16 * 2**20, ge=1)
    """Bytes of one request's body, at most, after decompression."""
    smoke_rows: int = Field(default=25, ge=1)
    """Holdout rows sent over HTTP before a model becomes champion."""
    log_predictions: bool = True
    """Whether answers are recorded in the Delta table `prediction_log`."""
    rollout: RolloutSpec = RolloutSpec()

    @model_validator(mode="after")
    def _bounds(self) -> Self:
        if self.max_replicas is not None and self.max_replicas < self.replicas:
            raise ValueError(f"max_replicas: {self.max_replicas} is below {self.replicas=}")
        if self.rollout.policy != "straight" and not self.log_predictions:
            raise ValueError(
                f"rollout.policy: {self.rollout.policy} compares logged predictions: set "
                "log_predictions: true, or policy: straight"
            )
        return self


class ScoringSpec(Section):
    """Batch inference."""

    ray_data_above_rows: int = Field(default=2_000_000, ge=1)
    """Datasets with more rows are scored on Ray Data, smaller ones in one process."""


class DriftSpec(Section):
    """When a distribution counts as drifted (test statistics, not p-values)."""

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
    max_quality_loss: float = Field(default=0.05, ge=0)
    """How much worse the gate's metric may be in a window than on the holdout at release."""
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
    """What may start retraining."""

    triggers: tuple[Literal["drift", "quality"], ...] = ("drift", "quality")
    """Findings of monitoring that lead to retraining."""
