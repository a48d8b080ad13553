"""The model registry (MLflow): versions by identity, by alias, and their verified bundles."""

import logging
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pydantic import ValidationError

from lifecycle.errors import BundleError, RegistryError
from lifecycle.project import Project
from lifecycle.records import Evaluation, ModelVersion, Trained
from lifecycle.release.run import CHECKS, as_signed
from lifecycle.release.store import backend_errors, connect
from lifecycle.settings import Settings
from lifecycle.training.bundle import load_bundle

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities.model_registry import ModelVersion as Registered

logger = logging.getLogger(__name__)

CHAMPION, CHALLENGER = "champion", "challenger"
IDENTITY, BUNDLE, COMPLETE = "lifecycle.identity", "lifecycle.bundle", "lifecycle.complete"
"""Tags of a version: digest of its identity, digest of its bundle, and that nothing is missing."""
RECORD = "lifecycle/trained.json"
DATA = "data"
"""Folder of a registered pyfunc model that holds the bundle, under the bundle's digest."""


def find_by_identity(project: Project, settings: Settings, identity: str) -> ModelVersion | None:
    """The newest complete version made from this identity whose registered bundle is unchanged.

    Args:
        identity: digest of the identity.

    Raises:
        BackendError: the registry cannot be reached.
    """
    client = connect(settings)
    for found in versions_of(client, project.name, identity, settings):
        if COMPLETE not in found.tags:
            continue
        model = as_record(found)
        try:
            with registered_bundle(client, model, settings):
                return model
        except BundleError as error:
            logger.warning("%s version %d is passed over: %s", model.name, model.version, error)
    return None


def by_alias(project_name: str, alias: str, settings: Settings) -> ModelVersion | None:
    """The version that bears an alias; None if no version does.

    Raises:
        BackendError: the registry cannot be reached.
        RegistryError: the version was not registered by this project.
    """
    client = connect(settings)
    with backend_errors(settings):
        # asked for through the list of aliases, because a missing one is no error here
        for found in client.search_registered_models(f"name = '{project_name}'"):
            if alias in found.aliases:
                return as_record(client.get_model_version(project_name, found.aliases[alias]))
    return None


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
        as_record(found)
        for found in versions_of(client, project_name, None, settings)
        if COMPLETE in found.tags
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


def bundle_path(model: ModelVersion, settings: Settings) -> Path:
    """The version's bundle as a verified local folder; fetched from the registry if it is not here.

    Raises:
        BackendError: the registry cannot be reached.
        BundleError: the registered bundle is incomplete or was changed.
    """
    folder = settings.folder("bundles", model.name)
    path = folder / model.digest
    try:
        load_bundle(path, model.digest)
    except BundleError:
        with registered_bundle(connect(settings), model, settings) as found:
            _put(found, path)
    return path


def predict_of(
    model: ModelVersion, settings: Settings
) -> Callable[[pd.DataFrame], NDArray[np.float64]]:
    """The version as a function, with the features hook it was trained with.

    Through MLflow's pyfunc, whose loader verifies bundle and hook before any of it runs: a
    champion can be measured although the project's hook has changed since.

    Raises:
        BackendError: the registry cannot be reached.
        BundleError, FeatureError: bundle or hook are not what they were.
    """
    client = connect(settings)
    import mlflow

    with backend_errors(settings):
        source = client.get_model_version_download_uri(model.name, str(model.version))
    with _aside(source) as aside:
        loaded = mlflow.pyfunc.load_model(model.uri, dst_path=aside)

    def predict(frame: pd.DataFrame) -> NDArray[np.float64]:
        try:
            return np.asarray(loaded.predict(as_signed(frame)), dtype=np.float64)
        except mlflow.exceptions.MlflowException as error:
            reason = next(iter(str(error).splitlines()), "")
            raise BundleError(f"{model.uri} cannot answer for these rows: {reason}") from None

    return predict


def record_of(model: ModelVersion, settings: Settings) -> Trained:
    """What training handed on when this version was registered, marked as cached.

    Raises:
        BackendError: the registry cannot be reached.
        RegistryError: the version carries no readable record.
    """
    connect(settings)
    import mlflow

    with backend_errors(settings):
        text = mlflow.artifacts.load_text(f"runs:/{model.run_id}/{RECORD}")
    try:
        trained = Trained.model_validate_json(text)
    except ValidationError as error:
        raise RegistryError(
            f"{model.uri}: its record {RECORD} cannot be read ({error.error_count()} problems); "
            "train again with the installed version"
        ) from None
    reports = _reports(model, trained.checks.reports, settings)
    checks = trained.checks.model_copy(update={"reports": reports})
    return trained.model_copy(update={"model": model, "checks": checks, "cached": True})


def _reports(
    model: ModelVersion, reports: tuple[Path, ...], settings: Settings
) -> tuple[Path, ...]:
    """The check reports where they were written or, on another machine, fetched beside there."""
    if all(report.is_file() for report in reports):
        return reports
    folder = settings.folder("reports", model.name) / f"{model.digest[:12]}-registered"
    if not all((folder / report.name).is_file() for report in reports):
        with backend_errors(settings), tempfile.TemporaryDirectory() as aside:
            fetched = connect(settings).download_artifacts(model.run_id, CHECKS, aside)
            _put(Path(fetched), folder)
    return tuple(folder / report.name for report in reports)


def evaluation_of(model: ModelVersion, settings: Settings) -> Evaluation:
    """The version's evaluation on the holdout of its training.

    Raises:
        BackendError, RegistryError: see `record_of`.
    """
    return record_of(model, settings).evaluation


def versions_of(
    client: "MlflowClient", name: str, identity: str | None, settings: Settings
) -> list["Registered"]:
    """Registered versions, newest first; with an identity only those made from it."""
    query = f"name = '{name}'" + (f" and tag.`{IDENTITY}` = '{identity}'" if identity else "")
    with backend_errors(settings):
        found = list(_pages(client, query))
    return sorted(found, key=lambda version: -int(version.version))


@contextmanager
def registered_bundle(
    client: "MlflowClient", model: ModelVersion, settings: Settings
) -> Iterator[Path]:
    """The bundle as the registry holds it, verified: in place for a local store, else a copy that
    is gone after the block, as rows are beside it.

    Raises:
        BackendError: the registry cannot be reached.
        BundleError: the registered bundle is missing, incomplete or was changed.
    """
    import mlflow

    with backend_errors(settings):
        source = client.get_model_version_download_uri(model.name, str(model.version))
    with _aside(source) as aside:
        try:
            local = mlflow.artifacts.download_artifacts(source, dst_path=aside)
        except Exception as error:
            # each kind of artifact store raises its own errors; a missing folder is one of them
            raise BundleError(
                f"{model.uri}: the registry's files cannot be fetched ({error}); train again"
            ) from None
        path = Path(local) / DATA / model.digest
        load_bundle(path, model.digest)
        yield path


@contextmanager
def _aside(source: str) -> Iterator[str | None]:
    """Where MLflow may put what is not on this machine; by itself it leaves that behind."""
    from mlflow.utils.uri import is_local_uri

    if is_local_uri(source):  # type: ignore[no-untyped-call]  # MLflow leaves it untyped
        yield None
        return
    with tempfile.TemporaryDirectory() as aside:
        yield aside


def as_record(found: "Registered") -> ModelVersion:
    """A registered version as a record.

    Raises:
        RegistryError: it does not carry the tags this project gives to its versions.
    """
    if BUNDLE not in found.tags or IDENTITY not in found.tags:
        raise RegistryError(
            f"models:/{found.name}/{found.version}: was not registered by this project (no tag "
            f"{BUNDLE}); give the alias to a version that was, or delete that version"
        )
    return ModelVersion(
        name=found.name,
        version=int(found.version),
        uri=f"models:/{found.name}/{found.version}",
        run_id=found.run_id or "",
        digest=found.tags[BUNDLE],
        identity=found.tags[IDENTITY],
    )


def _pages(client: "MlflowClient", query: str) -> Iterator["Registered"]:
    token: str | None = None
    while True:
        page = client.search_model_versions(query, max_results=200, page_token=token)
        yield from page
        token = page.token
        if not token:
            return


def _put(source: Path, path: Path) -> None:
    """Copy aside, then one rename; a broken bundle in its place is moved away first."""
    aside = Path(tempfile.mkdtemp(prefix=".fetching-", dir=path.parent))
    try:
        shutil.copytree(source, aside / "bundle")
        if path.exists():
            path.rename(aside / "broken")
        (aside / "bundle").rename(path)
    finally:
        shutil.rmtree(aside, ignore_errors=True)
