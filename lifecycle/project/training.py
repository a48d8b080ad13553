"""The sections on training, tuning, checks, evaluation and the gate."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from lifecycle.project.base import Metric, Scalar, Section, Share


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
    """Rounds that the validation part's metric may fail to improve before training stops."""
    metric: Metric | None = None
    """Stops training early and ranks the trials of a search, on the validation part; by default
    the task's proper scoring rule (log_loss, rmse, poisson_deviance), whatever `gate.metric` is."""
    parameters: dict[str, Scalar] = Field(default_factory=dict)
    """The trainer's parameters that tuning does not choose."""
    refit: bool | None = None
    """Whether the model is fitted once more on train and validation part, with the rounds found;
    by default wherever that can be done: not by several workers or a trainer of your own."""
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

    @property
    def own_trainer(self) -> bool:
        """Return whether the trainer is a class of the user's own."""
        return ":" in self.trainer and not self.trainer.startswith("sklearn:")

    @property
    def refits(self) -> bool:
        """Return whether the model is trained on the validation part too, after early stopping."""
        if self.refit is None:
            return self.num_workers == 1 and not self.own_trainer
        return self.refit


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


class CostsSpec(Section):
    """Cost of a wrong answer, in any unit; a right answer costs nothing."""

    false_positive: float = Field(gt=0, allow_inf_nan=False)
    """Cost of a negative row that is predicted positive."""
    false_negative: float = Field(gt=0, allow_inf_nan=False)
    """Cost of a positive row that is predicted negative."""


class DecisionSpec(Section):
    """Probability from which a row counts as positive; exactly one key must be given."""

    threshold: Share | None = None
    """The probability itself."""
    costs: CostsSpec | None = None
    """The threshold that makes wrong answers cheapest."""
    rate: Share | None = None
    """Share of rows to call positive, such as those there is capacity to act on; the threshold is
    that quantile of the predictions for the validation part."""

    @model_validator(mode="after")
    def _check_one_rule(self) -> Self:
        fields = [
            name for name in ("threshold", "costs", "rate") if getattr(self, name) is not None
        ]
        if len(fields) != 1:
            names = " and ".join(fields) or "none"
            raise ValueError(f"give exactly one of threshold, costs and rate: got {names}")
        return self


FairnessMeasure = Literal[
    "demographic_parity_difference",
    "equal_opportunity_difference",
    "equalized_odds_difference",
    "metric_difference",
]
"""fairlearn's names; `metric_difference` is that of the deciding metric."""


class GateSpec(Section):
    """Requirements on a model before it may be released."""

    metric: Metric | None = None
    """The metric that decides; by default the first of the task in `METRICS`."""
    floor: float | None = None
    """Worst value of the metric that is good enough, in the metric's own direction."""
    gain_over_baseline: float = 0.0
    """Minimum gain over the trivial baseline, beyond chance: the lower end of the gain's 95 %
    interval, measured in pairs on the same rows, must reach it."""
    gain_over_champion: float = 0.0
    """By how much the metric must be better than the champion's on the same holdout, beyond chance
    with `confidence`. A tie keeps the champion."""
    confidence: float = Field(default=0.9, ge=0.5, lt=1)
    """One-sided confidence that the gain over the champion is as large as asked for."""
    seeds: int = Field(default=1, ge=1)
    """With how many seeds training is repeated, to know what chance does to the metric."""
    gain_over_noise: float = Field(default=0.0, ge=0)
    """The gain over the champion must exceed this many standard deviations over the seeds."""
    require_checks: bool = True
    """Whether a failed check (not accepted under `checks.accept`) blocks."""
    max_fairness_gap: dict[str, dict[FairnessMeasure, Annotated[float, Field(ge=0)]]] = Field(
        default_factory=dict
    )
    """Protected attribute → measure → how far its groups may lie apart. A gap blocks when its
    whole 95 % interval is above the limit."""

    @model_validator(mode="after")
    def _noise_is_known(self) -> Self:
        if self.gain_over_noise and self.seeds < 3:
            raise ValueError(
                f"gain_over_noise needs seeds: 3 or more to know the noise: got {self.seeds=}"
            )
        return self


class EvaluationSpec(Section):
    """Parts of the holdout that the evaluation reports separately."""

    slices: tuple[str, ...] = ()
    """Contract columns whose values (numbers: quartiles) are evaluated apart."""
    segments: dict[str, str] = Field(default_factory=dict)
    """Name → condition on contract columns as `DataFrame.query` takes it, such as `age >= 65`."""
    min_rows: int = Field(default=50, ge=1)
    """Slices with fewer rows are counted, not measured."""
    explain_rows: int = Field(default=500, ge=10)
    """Rows of the holdout that the SHAP summary is made from, at most."""
