"""Results of training, evaluation and checks."""

from pathlib import Path
from statistics import stdev
from typing import Literal

from pydantic import Field

from lifecycle.project import Metric, Scalar, WindowKind
from lifecycle.records.base import Record
from lifecycle.records.data import Split


class Identity(Record):
    """Inputs of a model; equal identities make equal models."""

    data: str
    code: str
    lock: str
    project: str
    seed: int
    digest: str
    """SHA-256 over the five."""


class Trial(Record):
    """One trial of a search."""

    number: int
    """From 0, which is the project's own parameters."""
    state: Literal["complete", "pruned"]
    value: float | None
    """The metric on the validation part; None if it was pruned."""
    parameters: dict[str, Scalar]
    """All that the trainer was given, the suggested ones among them."""
    seconds: float
    rounds: int
    """Rounds it went; 0 with a trainer that has none."""


class Tuned(Record):
    """The best parameters a search found on the validation part."""

    parameters: dict[str, Scalar]
    value: float | None
    """The metric on the validation part; None if there was no search."""
    trials: int
    """Trials that ended, the pruned ones among them."""
    pruned: int = 0
    history: tuple[Trial, ...] = ()
    """In the order they were suggested."""


class Bundle(Record):
    """A model on disk: UBJSON or ONNX, schema and manifest."""

    path: Path
    digest: str
    """SHA-256 of the manifest, which holds the SHA-256 of every other file."""
    rounds: int
    """Boosting rounds kept after early stopping."""
    curve: dict[str, tuple[float, ...]] = Field(default_factory=dict)
    """`train` and `validation`: the stopping metric after each round; empty without rounds."""
    warnings: tuple[str, ...] = ()
    """What a person should know of how it was fitted, and what to do; blocks nothing."""


class Estimate(Record):
    """A metric with its 95 % bootstrap confidence interval."""

    value: float
    low: float
    high: float


class Gain(Estimate):
    """Gain of one model over another on the same rows; above 0 it is better."""

    least: float
    """Lower end of the one-sided interval of the gain, with `confidence`."""
    confidence: float


class TrainingWindow(Record):
    """A stretch of the training part, and how a model of its rows does on the validation part."""

    kind: Literal["all"] | WindowKind
    first: str
    """Name of its first period."""
    rows: int
    value: float
    """The deciding metric."""
    gain: Gain | None
    """Over a model of all rows, on the same rows; None of all rows."""


class WindowChoice(Record):
    """The windows that were compared, all rows first, and a split that has the best of them."""

    split: Split
    windows: tuple[TrainingWindow, ...]
    reason: str
    """In words, with the metric of each."""


class Slice(Record):
    """Some rows of a holdout, with the deciding metric on them."""

    by: str
    """The column, or `segment`."""
    value: str
    """The column's value or range, or the segment's name."""
    rows: int
    estimate: Estimate | None
    """None if the slice was only counted."""
    note: str = ""
    """Why it was only counted."""


class Gap(Record):
    """A measure's largest difference between the groups of a protected attribute."""

    attribute: str
    measure: str
    value: float
    """Highest minus lowest; 0 means that all groups are treated alike."""
    lowest: str
    """The group, or groups, at either end."""
    highest: str
    low: float | None = None
    """95 % interval, for all pairs of groups at once; None in records of old."""
    high: float | None = None


class Evaluation(Record):
    """Performance of one model on one holdout."""

    subject: str
    """The evaluated model: a model version, `candidate` or the baseline, in words."""
    metrics: dict[Metric, Estimate]
    holdout: str
    """Digest of the holdout: evaluations of different holdouts must not be compared."""
    rows: int
    method: str = ""
    """How the intervals were made, in words."""
    threshold: float | None = None
    """Binary: the probability from which a row counts as positive; None for 0.5."""
    at_threshold: dict[str, Estimate] = Field(default_factory=dict)
    """Binary: precision, recall and other metrics of the classes that `threshold` makes."""
    calibration_error: float | None = None
    """Expected calibration error (0 to 1) in 10 bins; None where nothing is a probability."""
    slices: tuple[Slice, ...] = ()
    gaps: tuple[Gap, ...] = ()
    """How far the groups of each protected attribute lie apart."""
    warnings: tuple[str, ...] = ()
    """Of the fit and of the probabilities: what a person should know; blocks nothing."""


class CheckReport(Record):
    """Result of the deepchecks suites. A check that could not run never counts as passed."""

    passed: tuple[str, ...]
    failed: dict[str, str]
    """Check → its finding."""
    warned: dict[str, str] = Field(default_factory=dict)
    """Check → its finding, for checks that only warn: shown, never blocking."""
    not_run: dict[str, str]
    """Check → the reason it could not run."""
    reports: tuple[Path, ...]
    """One HTML file a suite."""
    sampled_rows: int
    """Rows the suites looked at, at most."""

    @property
    def ran(self) -> bool:
        """Return whether any check ran."""
        return bool(self.passed or self.failed or self.warned)


class Decision(Record):
    """A gate's verdict with its reasons, in words."""

    gate: str
    passed: bool
    reasons: tuple[str, ...]
    blocking: tuple[str, ...] = ()
    """Those of a promotion's reasons that do not let it pass; of retraining, what asks for it:
    `drift`, `quality`, `estimate`."""


class ModelVersion(Record):
    """A registered model version."""

    name: str
    version: int
    uri: str
    """`models:/name/version`."""
    run_id: str
    digest: str
    """The bundle's digest."""
    identity: str
    """The digest of the identity."""


class Origin(Record):
    """The environment where a promoted version was trained."""

    env: str
    model: ModelVersion
    """The version there."""
    split: Split
    """The data it learned from, which are that environment's."""

    def __str__(self) -> str:
        return f"{self.env} v{self.model.version}"


class Noise(Record):
    """The deciding metric on the holdout after training with other seeds: what chance does."""

    metric: Metric
    values: dict[int, float]
    """Training seed → metric; the candidate's own seed first."""

    @property
    def deviation(self) -> float:
        """Sample standard deviation over the seeds."""
        return stdev(self.values.values())


class Trained(Record):
    """Result of `train`, the input of `release`."""

    model: ModelVersion
    evaluation: Evaluation
    baseline: Evaluation
    checks: CheckReport
    decision: Decision
    split: Split
    tuned: Tuned
    identity: Identity
    noise: Noise | None = None
    """None if it was not measured (`gate.seeds`, or `--seeds`)."""
    cached: bool = False
    """Whether the model was found under its identity rather than trained."""
    origin: Origin | None = None
    """Of a version that was promoted from another environment: `split` is this one's then, on
    which it was evaluated, and not what it learned from."""


class Evaluated(Record):
    """Candidate, trivial baseline and (where there is one) champion on the same holdout."""

    candidate: Evaluation
    baseline: Evaluation
    champion: Evaluation | None
    gain_over_baseline: Gain
    """In the deciding metric, measured in pairs on the same rows."""
    gain_over_champion: Gain | None
    """None where there is no champion."""
    report: Path | None = None
    """The evaluation as one HTML page; None if only the numbers were asked for."""
    plots: tuple[Path, ...] = ()
    """One PNG a figure of the report."""


class Candidate(Record):
    """Everything a training has made, before it is registered."""

    identity: Identity
    split: Split
    tuned: Tuned
    bundle: Bundle
    evaluated: Evaluated
    checks: CheckReport
    decision: Decision
    noise: Noise | None = None
    """None if it was trained with one seed."""
