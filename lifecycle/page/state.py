"""State of a project in an environment, as frozen values that a process hands to another."""

from pydantic import Field

from lifecycle.lineage.graph import NOTHING_TO_DO, Lineage
from lifecycle.monitoring.history import WindowResult
from lifecycle.records import Attempt, Change, Estimate, Record


class VersionState(Record):
    """A registered model version with the training that made it."""

    version: int
    digest: str
    identity: str
    aliases: tuple[str, ...]
    trained: str = ""
    """UTC, ISO 8601; empty if the run is not there any more."""
    seconds: float | None = None
    """From the start of the training to its end, tuning and checks in it."""
    who: str = ""
    commit: str = ""
    run_id: str = ""
    """Of MLflow."""
    flow_run: str = ""
    """Of Prefect."""
    flow_run_name: str = ""
    origin: str = ""
    """Environment and version that it was promoted from."""
    metrics: dict[str, Estimate] = Field(default_factory=dict)
    """On the holdout."""
    baseline: float | None = None
    """The deciding metric of the trivial baseline."""
    parts: dict[str, str] = Field(default_factory=dict)
    """`training` → `train@5`."""
    pages: dict[str, str] = Field(default_factory=dict)
    """Name → file on the machine of the environment's reports."""


class Monitoring(Record):
    """A pass of monitoring over the newest windows."""

    window: str
    time: str
    verdict: str
    drifted: str
    who: str = ""
    flow_run: str = ""
    flow_run_name: str = ""
    page: str

    @property
    def asks(self) -> bool:
        """True if it asks for retraining."""
        return self.verdict != NOTHING_TO_DO


class FailedTraining(Record):
    """A training whose run failed or was killed."""

    time: str
    """UTC, ISO 8601."""
    reason: str
    flow_run: str = ""
    """Of Prefect."""


class EnvironmentState(Record):
    """A project in one environment."""

    env: str
    problem: str = ""
    """Why nothing could be read; empty if it could."""
    promotes_from: str = ""
    approval: bool = False
    """Whether a person is asked before a version is promoted to here."""
    mlflow: str = ""
    """Address of an MLflow server; empty where MLflow is a file in `home`."""
    experiment: str = ""
    prefect: str = ""
    """Address of a Prefect server's pages; empty where each script has its own."""
    endpoint: str = ""
    reports: str = ""
    """Folder of the project's reports."""
    versions: tuple[VersionState, ...] = ()
    """Newest first."""
    changes: tuple[Change, ...] = ()
    """The audit trail of the versions, oldest first."""
    windows: tuple[WindowResult, ...] = ()
    acknowledged: dict[str, str] = Field(default_factory=dict)
    """Id of an alarm → who acknowledged its cause, when and why."""
    failed_training: FailedTraining | None = None
    """The newest."""
    monitorings: tuple[Monitoring, ...] = ()
    """Oldest first."""
    attempts: tuple[Attempt, ...] = ()
    """Of retraining, oldest first."""
    lineage: Lineage | None = None
    """Of the champion, without the many alike."""

    def version(self, number: int) -> VersionState | None:
        return next((state for state in self.versions if state.version == number), None)

    def holder(self, alias: str) -> VersionState | None:
        """The version that bears an alias."""
        return next((state for state in self.versions if alias in state.aliases), None)
