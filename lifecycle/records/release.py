"""Results of release and serving."""

from typing import Literal

from pydantic import Field

from lifecycle.records.base import Link, Record
from lifecycle.records.data import Split
from lifecycle.records.training import (
    CheckReport,
    Decision,
    Evaluated,
    Evaluation,
    ModelVersion,
    Origin,
    Trained,
)


class Endpoint(Record):
    """Address of a served model, and the result of its smoke test."""

    url: str
    application: str
    model: ModelVersion
    smoke_rows: int
    """Holdout rows whose answers over HTTP equalled the offline model's, over every protocol."""
    p50_milliseconds: float
    """Median time of a request for one row in the smoke test."""
    p99_milliseconds: float
    curl: str
    """A command that asks for one real row."""


class Traffic(Record):
    """Routing between champion and candidate, which the replicas of an application follow."""

    policy: Literal["straight", "canary", "shadow"] = "straight"
    candidate: ModelVersion | None = None
    """The version next to the champion; None if there is none."""
    share: float = Field(default=0.0, ge=0, le=1)
    """Canary: share of the entities that the candidate answers."""
    expires_at: float = 0.0
    """Unix time from which the champion answers all requests again, unless it is renewed."""


class Observed(Record):
    """Requests to one version in a stretch of time, from the prediction log."""

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


Action = Literal[
    "deploy",
    "canary",
    "shadow",
    "promote",
    "rollback",
    "reject",
    "not released",
    "export",
    "import",
    "approve",
    "decline",
]
"""What is done to a model version. `not released` is no verdict: what serves was late or absent, or
the release was cut short, and running it again may help. `export` and `import` are the two sides of
a promotion between environments, `approve` and `decline` the answers of those who are asked."""


class Change(Link):
    """One line of the audit trail: who did what to which version, and why."""

    action: Action
    model: str
    version: int
    digest: str
    identity: str

    def __str__(self) -> str:
        # what is not registered here has no version
        return f"{self.action} {f'v{self.version}' if self.version else self.digest[:12]}"


class Release(Record):
    """Result of the release of a challenger."""

    decision: Decision
    challenger: ModelVersion
    champion: ModelVersion | None
    """The champion after the release: the challenger if it passed."""
    evaluation: Evaluation
    champion_evaluation: Evaluation | None
    """The former champion on the same holdout."""
    endpoint: Endpoint | None
    """None if nothing was deployed."""


class Duel(Record):
    """Challenger and champion on the challenger's holdout, and what the gate says."""

    champion: ModelVersion | None
    challenger_evaluation: Evaluation
    champion_evaluation: Evaluation | None
    decision: Decision


class Approval(Record):
    """Somebody's consent to a promotion between environments."""

    who: str
    reason: str


class Offer(Record):
    """The version that one environment offers to another, as its registry has it."""

    env: str
    trained: Trained
    """The record of its training there, with the version."""
    curve: dict[str, tuple[float, ...]] = Field(default_factory=dict)
    """`train` and `validation`: the stopping metric after each round."""
    registry: str
    """SHA-256 of the registry's address."""
    exported: str
    """Environment to which the newest export of the project went with this bundle; else empty."""

    @property
    def model(self) -> ModelVersion:
        """The version in that environment."""
        return self.trained.model

    @property
    def origin(self) -> Origin:
        """The part that its record keeps wherever it goes."""
        return self.trained.origin or Origin(
            env=self.env, model=self.model, split=self.trained.split
        )

    def __str__(self) -> str:
        return f"{self.env} v{self.model.version} (bundle {self.model.digest[:12]})"


class Judgement(Record):
    """Findings on an offer, on the data of the environment that it was offered to."""

    split: Split
    evaluated: Evaluated
    checks: CheckReport
    decision: Decision


class Promotion(Record):
    """Result of a promotion between environments."""

    offer: Offer
    decision: Decision
    """Of the gate on this environment's data, of the approval or of the rollout: the last."""
    approval: Approval | None = None
    """None where none was asked for or given."""
    model: ModelVersion | None = None
    """The version here; None if nothing was changed."""
    champion: ModelVersion | None = None
    """The champion here, after all."""
