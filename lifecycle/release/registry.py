"""The model registry (MLflow): versions by identity and by alias."""

import logging
from collections.abc import Iterator
from typing import TYPE_CHECKING

from lifecycle.audit.model_trail import TABLE as AUDIT
from lifecycle.audit.model_trail import history
from lifecycle.errors import BackendError, BundleError, ProjectError, RegistryError
from lifecycle.lake.table import table_uri
from lifecycle.project import Project
from lifecycle.records import ModelVersion
from lifecycle.redaction import redact
from lifecycle.release.artifacts import registered_bundle
from lifecycle.release.mlflow_store import backend_errors, connect
from lifecycle.settings import Settings

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities.model_registry import ModelVersion as Registered

logger = logging.getLogger(__name__)

CHAMPION, CHALLENGER = "champion", "challenger"
IDENTITY, BUNDLE, COMPLETE = "lifecycle.identity", "lifecycle.bundle", "lifecycle.complete"
"""Tags of a version: digest of its identity, digest of its bundle, and that nothing is missing."""
ERASED = "lifecycle.erased_rows"
"""Begins tags of a version, one per request: rows it learned from that were erased since."""
TASK, TARGET = "lifecycle.task", "lifecycle.target"
"""Tags of a version: what it predicts."""


def check_name(project: Project, settings: Settings) -> None:
    """See that the versions under the project's name predict what the project does: a champion of
    another target could neither be compared with nor gone back to.

    Raises:
        BackendError: the registry cannot be reached, or has lost the versions.
        ProjectError: they have another task or target.
    """
    tagged = [
        (version.tags[TASK], version.tags[TARGET], int(version.version))
        for version in versions_of(connect(settings), project.name, None, settings)
        if TASK in version.tags and TARGET in version.tags
    ]
    if not tagged:
        _refuse_emptied(project.name, settings)
        return
    if tagged[0][:2] == (project.task, project.target):
        return
    task, target, _ = tagged[0]
    since = min(version for *aim, version in tagged if aim == [task, target])
    raise ProjectError(
        f"name: {project.name!r} has been the name of models with task {task!r} and target "
        f"{target!r} since version {since}, and this project has task {project.task!r} and target "
        f"{project.target!r}: choose another name"
    )


def find_by_identity(project: Project, settings: Settings, identity: str) -> ModelVersion | None:
    """The newest complete version made from this identity whose registered bundle is unchanged.

    Args:
        identity: digest of the identity.

    Raises:
        BackendError: the registry cannot be reached.
    """
    client = connect(settings)
    for version in versions_of(client, project.name, identity, settings):
        if COMPLETE not in version.tags:
            continue
        model = as_record(version)
        try:
            with registered_bundle(client, model, settings):
                return model
        except BundleError as error:
            logger.warning("%s version %d is skipped: %s", model.name, model.version, error)
    return None


def by_alias(project_name: str, alias: str, settings: Settings) -> ModelVersion | None:
    """The version that bears an alias; None if no version does.

    Raises:
        BackendError: the registry cannot be reached, or has lost the versions.
        RegistryError: the version was not registered by this project.
    """
    client = connect(settings)
    with backend_errors(settings):
        # asked for through the list of aliases, because a missing one is no error here
        models = list(client.search_registered_models(f"name = '{project_name}'"))
        for model in models:
            if alias in model.aliases:
                return as_record(client.get_model_version(project_name, model.aliases[alias]))
    if not models:
        _refuse_emptied(project_name, settings)
    return None


def _refuse_emptied(project_name: str, settings: Settings) -> None:
    """Tell a registry that has no version from one that has lost them.

    Raises:
        BackendError: the audit trail names versions, and the registry has none.
    """
    lines = [line for line in history(settings, project_name) if line.version]
    if not lines:
        return
    last = lines[-1]
    raise BackendError(
        f"MLflow at {redact(settings.tracking_uri)} has no version of {project_name}, "
        f"but the audit trail names v{last.version} (bundle {last.digest[:12]}, {last.time[:10]}): "
        "its database was emptied or replaced; restore it from a backup, or point "
        "LIFECYCLE_MLFLOW_TRACKING_URI to the right one. To start again without the old versions, "
        f"move {table_uri(settings, project_name, AUDIT)} away"
    )


def versions(project_name: str, settings: Settings) -> dict[ModelVersion, tuple[str, ...]]:
    """Every complete version, newest first, with its aliases.

    Raises:
        BackendError: the registry cannot be reached.
    """
    client = connect(settings)
    with backend_errors(settings):
        aliases = {
            name: int(version)
            for model in client.search_registered_models(f"name = '{project_name}'")
            for name, version in model.aliases.items()
        }
    models = [
        as_record(version)
        for version in versions_of(client, project_name, None, settings)
        if COMPLETE in version.tags
    ]
    return {
        model: tuple(sorted(name for name, at in aliases.items() if at == model.version))
        for model in models
    }


def set_alias(model: ModelVersion, alias: str, settings: Settings) -> None:
    """Let an alias point to this version, in one step; again is the same as once.

    Raises:
        BackendError: the registry cannot be reached.
    """
    client = connect(settings)
    with backend_errors(settings):
        client.set_registered_model_alias(model.name, alias, str(model.version))


def delete_alias(model: ModelVersion, alias: str, settings: Settings) -> None:
    """Take an alias away from this version; nothing happens if it points elsewhere or nowhere.

    Raises:
        BackendError: the registry cannot be reached.
    """
    if by_alias(model.name, alias, settings) == model:
        with backend_errors(settings):
            connect(settings).delete_registered_model_alias(model.name, alias)


def note_erasure(model: ModelVersion, rows: int, request: str, settings: Settings) -> None:
    """Keep with a version that rows it learned from were erased; a request counts once.

    Raises:
        BackendError: the registry cannot be reached.
    """
    client, tag = connect(settings), f"{ERASED}.{request}"
    with backend_errors(settings):
        client.set_model_version_tag(model.name, str(model.version), tag, str(rows))


def erased_rows_of(model: ModelVersion, settings: Settings) -> int:
    """Rows that a version learned from and that were erased since.

    Raises:
        BackendError: the registry cannot be reached.
    """
    client = connect(settings)
    with backend_errors(settings):
        tags = client.get_model_version(model.name, str(model.version)).tags
    return sum(int(rows) for tag, rows in tags.items() if tag.startswith(ERASED))


def versions_of(
    client: "MlflowClient", name: str, identity: str | None, settings: Settings
) -> list["Registered"]:
    """Registered versions, newest first; with an identity only those made from it."""
    query = f"name = '{name}'" + (f" and tag.`{IDENTITY}` = '{identity}'" if identity else "")
    with backend_errors(settings):
        found_versions = list(_pages(client, query))
    return sorted(found_versions, key=lambda version: -int(version.version))


def as_record(registered: "Registered") -> ModelVersion:
    """A registered version as a record.

    Raises:
        RegistryError: it does not carry the tags this project gives to its versions.
    """
    if BUNDLE not in registered.tags or IDENTITY not in registered.tags:
        raise RegistryError(
            f"models:/{registered.name}/{registered.version}: was not registered by this project "
            "(no tag "
            f"{BUNDLE}); give the alias to a version that was, or delete that version"
        )
    return ModelVersion(
        name=registered.name,
        version=int(registered.version),
        uri=f"models:/{registered.name}/{registered.version}",
        run_id=registered.run_id or "",
        digest=registered.tags[BUNDLE],
        identity=registered.tags[IDENTITY],
    )


def _pages(client: "MlflowClient", query: str) -> Iterator["Registered"]:
    token: str | None = None
    while True:
        page = client.search_model_versions(query, max_results=200, page_token=token)
        yield from page
        token = page.token
        if not token:
            return
