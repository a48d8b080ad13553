"""The values that move between stages: small, frozen, JSON-able. References move, frames do not."""

from datetime import date
from pathlib import Path
from statistics import stdev
from typing import Annotated, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from lifecycle.specs import Metric, Scalar


class Record(BaseModel):
    """A frozen value without unknown fields."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


def _end(value: object) -> object:
    if isinstance(value, date):
        return value.isoformat()
    return int(value) if isinstance(value, str) and value.lstrip("-").isdigit() else value


WindowEnd = Annotated[int | str, BeforeValidator(_end)]
"""One spelling for one end, whether it comes from Python, JSON or a command line."""


class Window(Record):
    """A stretch of the time column, both ends included; an open end is None.

    Ends are whole numbers, or ISO 8601 text, where a date without a time means the whole day.
    """

    first: WindowEnd | None = None
    last: WindowEnd | None = None

    def __str__(self) -> str:
        if self.first == self.last:
            return "all rows" if self.first is None else str(self.first)
        first = "start" if self.first is None else self.first
        return f"{first} to {'end' if self.last is None else self.last}"


class DatasetVersion(Record):
    """One version of a Delta table."""

    uri: str
    """The table, without the version."""
    version: int
    digest: str
    """SHA-256 of the content: column names, types and values, in row order."""
    rows: int


class Split(Record):
    """The three parts of a dataset version; `withheld` rows are in none of them."""

    train: DatasetVersion
    validation: DatasetVersion
    holdout: DatasetVersion
    withheld: int
    """Rows left out to keep entities and times apart; the four add up to the dataset's rows."""
    rule: str
    """The rule in words, as it was applied."""


class Ingested(Record):
    """A dataset version, and what became of every row of the source."""

    dataset: DatasetVersion
    window: Window
    rows_in: int
    """Rows of the source inside the window: accepted + rejected."""
    rejected: DatasetVersion | None
    """Quarantined rows with their reasons; None if every row was accepted."""
    source_digest: str
    """SHA-256 of the source file."""

    @property
    def rows_rejected(self) -> int:
        return self.rejected.rows if self.rejected else 0


class Prepared(Record):
    """What `prepare` hands to `train`."""

    ingested: Ingested
    split: Split


class Identity(Record):
    """What a model is made from; equal identities make equal models."""

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


class Estimate(Record):
    """A metric with its 95 % bootstrap confidence interval."""

    value: float
    low: float
    high: float


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


class Evaluation(Record):
    """How one model does on one holdout."""

    subject: str
    """Who was evaluated: a model version, `candidate` or the baseline, in words."""
    metrics: dict[Metric, Estimate]
    holdout: str
    """Digest of the holdout: evaluations of different holdouts must not be compared."""
    rows: int
    method: str = ""
    """How the intervals were made, in words."""
    calibration_error: float | None = None
    """Expected calibration error (0 to 1) in 10 bins; None where nothing is a probability."""
    slices: tuple[Slice, ...] = ()
    gaps: tuple[Gap, ...] = ()
    """How far the groups of each protected attribute lie apart."""


class CheckReport(Record):
    """What the deepchecks suites found. A check that could not run is never counted as passed."""

    passed: tuple[str, ...]
    failed: dict[str, str]
    """Check → what it found."""
    warned: dict[str, str] = Field(default_factory=dict)
    """Check → what it found, where the check itself only warns: shown, never blocking."""
    not_run: dict[str, str]
    """Check → why not."""
    reports: tuple[Path, ...]
    """One HTML file a suite."""
    sampled_rows: int
    """Rows the suites looked at, at most."""


class Decision(Record):
    """A gate's verdict with its reasons, in words."""

    gate: str
    passed: bool
    reasons: tuple[str, ...]


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
    """What `train` hands to `release`."""

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


class Endpoint(Record):
    """Where a served model answers."""

    url: str
    application: str
    model: ModelVersion
    smoke_rows: int
    """Holdout rows whose answers over HTTP equalled the offline model's."""
    curl: str
    """A command that asks for one real row."""


class Traffic(Record):
    """Which version answers whom, as the replicas of an application follow it."""

    policy: Literal["straight", "canary", "shadow"] = "straight"
    candidate: ModelVersion | None = None
    """The version beside the champion; None if there is none."""
    share: float = Field(default=0.0, ge=0, le=1)
    """Canary: share of the entities that the candidate answers."""
    expires_at: float = 0.0
    """Unix time from which the champion answers all again, should nobody have said so before."""


class Observed(Record):
    """What one version did in a stretch of time, as the prediction log has it."""

    version: int
    requests: int
    errors: int
    p50_seconds: float
    p99_seconds: float
    """Time in the replica, without network and queue; 0 without requests."""
    predictions: tuple[float | int | str | bool, ...]
    """At most 10,000 of them, evenly taken: numbers, or multiclass the most probable classes."""
    ids: tuple[str, ...]
    """Their prediction ids."""


Action = Literal["deploy", "canary", "shadow", "promote", "rollback", "reject"]
"""What is done to a model version."""


class Change(Record):
    """One line of the audit trail: who did what to which version, and why."""

    time: str
    """UTC, ISO 8601."""
    who: str
    action: Action
    model: str
    version: int
    digest: str
    identity: str
    reasons: tuple[str, ...]
    """What the gate said, or why somebody did it by hand."""
    previous: str = ""
    """SHA-256 of the line before; empty in the first."""
    hash: str = ""
    """SHA-256 of this line without this field."""


class Release(Record):
    """What came of a challenger."""

    decision: Decision
    challenger: ModelVersion
    champion: ModelVersion | None
    """The champion after the release: the challenger if it passed."""
    evaluation: Evaluation
    champion_evaluation: Evaluation | None
    """The former champion on the same holdout."""
    endpoint: Endpoint | None
    """None if nothing was deployed."""


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

    @property
    def drifted(self) -> bool:
        return self.statistic > self.threshold


class DriftReport(Record):
    """Reference window against one current window."""

    window: Window
    reference_rows: int
    current_rows: int
    features: tuple[ColumnDrift, ...]
    predictions: ColumnDrift

    @property
    def drifted(self) -> tuple[ColumnDrift, ...]:
        return tuple(column for column in self.features if column.drifted)


class Monitored(Record):
    """What `monitor` found in the latest windows, oldest first."""

    drift: tuple[DriftReport, ...]
    quality: tuple[Evaluation | None, ...]
    """The champion's metrics a window; None where no labels have arrived."""
    decision: Decision
    """Passed means: nothing to do. Not passed asks for retraining."""
    report: Path


class Period(Record):
    """What happened with one arriving period."""

    scored: Scored
    monitored: Monitored
    release: Release | None
    """What came of retraining; None if there was none."""


class Cycle(Record):
    """The whole cycle, as `end_to_end` ran it."""

    prepared: Prepared
    trained: Trained
    release: Release
    periods: tuple[Period, ...]
    report: Path
    """The summary as one HTML page."""


class Evaluated(Record):
    """Candidate, trivial baseline and (where there is one) champion on the same holdout."""

    candidate: Evaluation
    baseline: Evaluation
    champion: Evaluation | None
    gain: Estimate | None
    """By how much the candidate's deciding metric is better than the champion's, paired."""
    report: Path | None = None
    """The evaluation as one HTML page; None if only the numbers were asked for."""
    plots: tuple[Path, ...] = ()
    """One PNG a figure of the report."""


class Duel(Record):
    """Challenger and champion on the challenger's holdout, and what the gate says."""

    champion: ModelVersion | None
    challenger_evaluation: Evaluation
    champion_evaluation: Evaluation | None
    decision: Decision
