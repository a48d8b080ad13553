"""The MLflow run of a training while it lives: begun, taken over after a kill, failed.

It is there from the start of training, so that people see what runs, and says what goes in: who
trains, from which code, project file and data, with which parameters. What comes out is added when
the model is registered.
"""

import logging
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from lifecycle.errors import LifecycleError, first_line
from lifecycle.project import Project
from lifecycle.records import Identity, Origin, Split
from lifecycle.redaction import redact
from lifecycle.release.mlflow_model import table_schema
from lifecycle.release.mlflow_run import log_datasets
from lifecycle.release.mlflow_store import backend_errors, connect, experiment_id
from lifecycle.release.registry import BUNDLE, IDENTITY, versions_of
from lifecycle.runtime.run import provenance
from lifecycle.settings import Settings

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

logger = logging.getLogger(__name__)

MADE_PREFIX = "lifecycle.made."
"""Begins the tags of an MLflow run that hold `provenance`."""
ENVIRONMENT = "lifecycle.env"
FAILURE = "lifecycle.failure"
"""Tag of a run that failed: why, in one line."""
INPUTS = "lifecycle.inputs"
"""Tag of a run that has all that is known at its start."""
ORIGIN = "lifecycle.origin"
"""Tag of a run and of a version that was promoted: environment and version it comes from."""
LONGEST_VALUE = 6000
"""Characters of a parameter's value that MLflow takes."""
SHAPING = ("training", "tuning", "split")
"""Sections of the project file whose keys are parameters of the run."""


def begin_run(
    project: Project,
    settings: Settings,
    identity: Identity,
    split: Split,
    is_alone: bool = False,
    origin: Origin | None = None,
) -> str:
    """Id of the open run of a training: a new one, or that of a training that was killed.

    A run that was killed while its model was registered is ended, since it holds half of what it
    should. Where the identity has a version already, its run is taken.

    Args:
        is_alone: whether nobody else trains this project in this environment, so that whatever is
            open there was left by a process that was killed, and is ended.
        origin: of a promoted version: its run has learned nothing, it has a holdout alone.

    Raises:
        BackendError: MLflow cannot be reached or written.
    """
    client = connect(settings)
    with backend_errors(settings):
        for version in versions_of(client, project.name, identity.digest, settings):
            if version.run_id:
                return str(version.run_id)
        experiment = experiment_id(client, project.name, settings)
        earlier_run: Run | None = None
        for run in _open_runs(client, experiment):
            tags = run.data.tags
            is_same = tags[IDENTITY] == identity.digest
            if is_same and earlier_run is None and BUNDLE not in tags:
                earlier_run = run
            elif is_same or (is_alone and tags.get(ENVIRONMENT) == settings.env):
                end_killed(client, run)
        if earlier_run is None:
            name = f"{project.name}-{identity.digest[:8]}"
            tags = run_tags(settings, identity) | ({ORIGIN: str(origin)} if origin else {})
            earlier_run = client.create_run(experiment, tags=tags, run_name=name)
        run_id = str(earlier_run.info.run_id)
        if INPUTS not in earlier_run.data.tags:
            if origin:
                log_datasets(client, run_id, {"holdout": split.holdout}, table_schema(project))
                client.set_tag(run_id, INPUTS, "true")
            else:
                _log_inputs(client, run_id, project, split)
        return run_id


def end_killed(client: "MlflowClient", run: "Run") -> None:
    """End a run whose process was killed, and its model if that has no files yet."""
    query = f"source_run_id = '{run.info.run_id}'"
    for model in client.search_logged_models([run.info.experiment_id], query):
        if str(model.status) == "PENDING":
            client.finalize_logged_model(model.model_id, "FAILED")
    client.set_terminated(run.info.run_id, "KILLED")


def end_run(settings: Settings, run_id: str, error: BaseException) -> None:
    """End a run whose training did not come to its end; a failure to do so is logged."""
    status: Literal["FAILED", "KILLED"] = "FAILED" if isinstance(error, Exception) else "KILLED"
    reason = redact(first_line(error))
    try:
        client = connect(settings)
        with backend_errors(settings):
            if client.get_run(run_id).info.status == "RUNNING":
                client.set_tag(run_id, FAILURE, reason[:LONGEST_VALUE])
                client.set_terminated(run_id, status)
    except LifecycleError as problem:
        logger.error("the MLflow run %s stays open: %s", run_id, problem)


def run_tags(settings: Settings, identity: Identity) -> dict[str, str]:
    """Identity and origin of a run, the latter also under the names that MLflow's pages show."""
    parts = identity.model_dump(exclude={"digest"})
    origin = provenance()
    who, commit = origin.get("who", ""), origin.get("commit", "")
    scheduled = who.startswith("deployment ")
    tags = {
        IDENTITY: identity.digest,
        ENVIRONMENT: settings.env,
        "mlflow.user": who,
        "mlflow.source.type": "JOB" if scheduled else "LOCAL",
        "mlflow.source.name": who if scheduled else "/".join(Path(sys.argv[0]).parts[-2:]),
        "mlflow.source.git.commit": commit.removesuffix("-dirty"),
        "mlflow.source.git.dirty": str(commit.endswith("-dirty")).lower() if commit else "",
    }
    tags |= {f"{IDENTITY}.{part}": str(value) for part, value in parts.items()}
    tags |= {f"{MADE_PREFIX}{key}": value for key, value in origin.items()}
    return {key: value for key, value in tags.items() if value}


def parameters(project: Project) -> dict[str, str]:
    """Return the declarations that shape the model, by their keys in the project file.

    The trainer's own parameters are omitted: a search may choose others.
    """
    declared = project.model_dump(mode="json", include={*SHAPING})
    declared["training"].pop("parameters", None)
    values: dict[str, Any] = {
        "task": project.task,
        "target": project.target,
        "metric": project.metric,
        "inputs": ", ".join(project.input_columns),
        "features": project.features,
    } | dict(_flat(declared))
    return {key: str(value)[:LONGEST_VALUE] for key, value in values.items() if value is not None}


def _flat(values: Mapping[str, Any], before: str = "") -> Iterator[tuple[str, Any]]:
    """Keys of nested mappings joined with dots; empty ones are left out."""
    for key, value in values.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{before}{key}.")
        else:
            yield f"{before}{key}", value


def _open_runs(client: "MlflowClient", experiment: str) -> list["Run"]:
    """Runs of trainings that have not ended, newest first."""
    runs = client.search_runs([experiment], "attributes.status = 'RUNNING'")
    return [run for run in runs if IDENTITY in run.data.tags]


def _log_inputs(client: "MlflowClient", run_id: str, project: Project, split: Split) -> None:
    """Parameters, data and project file."""
    from mlflow.entities import Param

    params = [Param(name, value) for name, value in parameters(project).items()]
    client.log_batch(run_id, params=params)
    parts = {"training": split.train, "validation": split.validation, "holdout": split.holdout}
    log_datasets(client, run_id, parts, table_schema(project))
    if project.file.is_file():
        client.log_artifact(run_id, str(project.file))
    client.set_tag(run_id, INPUTS, "true")
