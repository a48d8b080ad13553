"""Registering a model: one MLflow run that says everything about it, then one version.

The order makes it safe to be killed anywhere: files first, then the version with its tags, its
record and its card, the runs of the trials below it, the end of the run, the alias, and last the
tag that says nothing is missing. Registering the same identity again takes up a version that was
cut short, and closes cut-short runs as KILLED.
"""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from lifecycle.errors import BundleError
from lifecycle.project import Project
from lifecycle.quality.card_page import markdown
from lifecycle.records import Bundle, Identity, ModelVersion, Trained
from lifecycle.release.artifacts import RECORD, registered_bundle
from lifecycle.release.cards import draft_card, write_card
from lifecycle.release.lifetime import ORIGIN, begin_run, end_killed, end_run
from lifecycle.release.mlflow_model import create_model, log_model
from lifecycle.release.mlflow_run import log_files, log_numbers, log_search, numbers_of
from lifecycle.release.mlflow_store import backend_errors, connect
from lifecycle.release.registry import (
    BUNDLE,
    CHALLENGER,
    CHAMPION,
    COMPLETE,
    IDENTITY,
    TARGET,
    TASK,
    as_record,
    versions_of,
)
from lifecycle.release.wandb_mirror import mirror_run
from lifecycle.settings import Settings
from lifecycle.training.bundle import load_bundle

if TYPE_CHECKING:
    from mlflow import MlflowClient

logger = logging.getLogger(__name__)

NOTE = "mlflow.note.content"
"""Tag of a run and of a model that MLflow's pages show as its description, in Markdown."""
LONGEST_DESCRIPTION = 5000
"""Characters of a version's description that MLflow's database holds."""


def unregistered(project: Project, identity: Identity, bundle: Bundle) -> ModelVersion:
    """Return the value of `Trained.model` until `register` has given the model a version."""
    return ModelVersion(
        name=project.name,
        version=0,
        uri="",
        run_id="",
        digest=bundle.digest,
        identity=identity.digest,
    )


def register(
    project: Project,
    settings: Settings,
    *,
    bundle: Bundle,
    trained: Trained,
    plots: Sequence[Path] = (),
    report: Path | None = None,
) -> Trained:
    """Register a bundle with everything known about it, as the `challenger`.

    Args:
        trained: what training found out; its `model` is `unregistered`.
        plots: PNG files of the evaluation.
        report: the evaluation as a page.

    Returns:
        `trained` with the registered version.

    Raises:
        BackendError: MLflow cannot be reached or written.
        BundleError: the bundle is not what its digest says.
    """
    load_bundle(bundle.path, bundle.digest)
    client = connect(settings)
    model = _cut_short_version(client, project, trained, settings)
    if model is None:
        run_id = begin_run(
            project, settings, trained.identity, trained.split, origin=trained.origin
        )
        with backend_errors(settings):
            try:
                client.set_tag(run_id, BUNDLE, trained.model.digest)
                card = markdown(draft_card(project, trained, settings))
                description = f"{_summary(project, trained)}\n\n{card}"[:LONGEST_DESCRIPTION]
                client.set_tag(run_id, NOTE, description)
                tags = _tags(trained) | {NOTE: description}
                model_id = create_model(client, run_id, trained.tuned.parameters, tags)
                uri = log_model(client, run_id, model_id, project, bundle, trained.split)
                log_numbers(client, run_id, model_id, bundle, trained)
                log_files(client, run_id, trained.checks, plots, report)
                logged = run_id, uri, model_id
                model = _create_version(client, project, logged, trained, description)
            except Exception as error:
                end_run(settings, run_id, error)
                raise
    registered = trained.model_copy(update={"model": model})
    with backend_errors(settings):
        client.log_text(model.run_id, registered.model_dump_json(indent=1), RECORD)
    write_card(project, registered, settings)
    with backend_errors(settings):
        log_search(client, model.run_id, project, settings, registered)
        _finish(client, model)
    mirror_run(settings, registered, bundle, numbers_of(bundle, registered))
    return registered


def _cut_short_version(
    client: "MlflowClient", project: Project, trained: Trained, settings: Settings
) -> ModelVersion | None:
    """A version of this identity and bundle that is there already, whole on disk."""
    for version in versions_of(client, project.name, trained.identity.digest, settings):
        model = as_record(version)
        if model.digest != trained.model.digest:
            continue
        try:
            with registered_bundle(client, model, settings):
                return model
        except BundleError as error:
            logger.warning("%s is not registered: %s", model.uri, error)
    return None


def _tags(trained: Trained) -> dict[str, str]:
    tags = {IDENTITY: trained.identity.digest, BUNDLE: trained.model.digest}
    return tags | ({ORIGIN: str(trained.origin)} if trained.origin else {})


def _create_version(
    client: "MlflowClient",
    project: Project,
    logged: tuple[str, str, str],
    trained: Trained,
    description: str,
) -> ModelVersion:
    """The version with its tags, in one step.

    Args:
        logged: id of the run, then URI and id of the logged model; a server refuses the URI
            without its id.
    """
    from mlflow.exceptions import MlflowException

    try:
        client.create_registered_model(project.name, description=project.description)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
    run_id, source, model_id = logged
    tags = _tags(trained) | {TASK: project.task, TARGET: project.target}
    version = client.create_model_version(
        project.name,
        source,
        run_id,
        tags=tags,
        description=description,
        model_id=model_id,
    )
    return as_record(version)


def _summary(project: Project, trained: Trained) -> str:
    """Describe a version for people who have not opened its run."""
    metric, origin = project.metric, trained.origin
    rows = (origin or trained).split.train.rows
    learned = f"Learned from {rows:,} rows{f' of {origin.env}' if origin else ''}."
    promoted = f"Promoted from {origin}. " if origin else ""
    estimate, baseline_estimate = (
        trained.evaluation.metrics[metric],
        trained.baseline.metrics.get(metric),
    )
    against = f", baseline {baseline_estimate.value:.4g}" if baseline_estimate else ""
    gate = "passed" if trained.decision.passed else "did not pass"
    return (
        f"{promoted}{metric} {estimate.value:.4g} ({estimate.low:.4g} to {estimate.high:.4g}) on "
        f"{trained.evaluation.rows:,} holdout rows{against}. {learned} "
        f"The {trained.decision.gate} gate {gate}."
    )


def _finish(client: "MlflowClient", model: ModelVersion) -> None:
    """End the run, close those cut short before it, and make the version the challenger."""
    client.set_terminated(model.run_id, "FINISHED")
    experiment = client.get_run(model.run_id).info.experiment_id
    query = f"attributes.status = 'RUNNING' and tags.`{IDENTITY}` = '{model.identity}'"
    for run in client.search_runs([experiment], query):
        end_killed(client, run)
    champion = client.get_registered_model(model.name).aliases.get(CHAMPION)
    if str(champion) != str(model.version):
        client.set_registered_model_alias(model.name, CHALLENGER, str(model.version))
    client.set_model_version_tag(model.name, str(model.version), COMPLETE, "true")
