"""Artifacts of a version in the registry: its verified bundle, and its training's record."""

import pickle
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pydantic import ValidationError

from lifecycle.errors import BundleError, LifecycleError, RegistryError, first_line
from lifecycle.lake.table import relocated
from lifecycle.records import Evaluation, ModelVersion, Trained
from lifecycle.release.mlflow_model import as_signed
from lifecycle.release.mlflow_run import CHECKS
from lifecycle.release.mlflow_store import backend_errors, connect
from lifecycle.settings import Settings
from lifecycle.training.bundle import load_bundle

if TYPE_CHECKING:
    from mlflow import MlflowClient

RECORD = "lifecycle/trained.json"
DATA = "data"
"""Folder of a registered pyfunc model that holds the bundle, under the bundle's digest."""


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
    with _scratch_folder(source) as folder:
        try:
            local = mlflow.artifacts.download_artifacts(source, dst_path=folder)
        except Exception as error:
            # each kind of artifact store raises its own errors; a missing folder is one of them
            raise BundleError(
                f"{model.uri}: the registry's files cannot be fetched ({error}); train again"
            ) from None
        path = Path(local) / DATA / model.digest
        load_bundle(path, model.digest)
        yield path


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
        with registered_bundle(connect(settings), model, settings) as bundle_folder:
            _put(bundle_folder, path)
    return path


def keep_bundle(source: Path, model: ModelVersion, settings: Settings) -> Path:
    """Keep a bundle that another environment's registry had, unless it is here; a verified folder.

    Raises:
        BundleError: it is not what the version's digest says.
    """
    path = settings.folder("bundles", model.name) / model.digest
    try:
        load_bundle(path, model.digest)
    except BundleError:
        load_bundle(source, model.digest)
        _put(source, path)
    return path


def threshold_of(model: ModelVersion, settings: Settings) -> float | None:
    """Binary: the probability from which the version counts a row as positive.

    Raises:
        BackendError, BundleError: see `bundle_path`.
    """
    return load_bundle(bundle_path(model, settings), model.digest).schema.threshold


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
    with _scratch_folder(source) as folder:
        # by `models:/NAME/VERSION` MLflow would leave a file in a local registry's artifacts
        loaded = mlflow.pyfunc.load_model(source, dst_path=folder)

    def predict(frame: pd.DataFrame) -> NDArray[np.float64]:
        try:
            return np.asarray(loaded.predict(as_signed(frame)), dtype=np.float64)
        except mlflow.exceptions.MlflowException as error:
            raise BundleError(
                f"{model.uri} cannot answer for these rows: {first_line(error)}"
            ) from None

    return predict


def record_of(model: ModelVersion, settings: Settings) -> Trained:
    """Load the record of the training that made this version, marked as cached.

    Raises:
        BackendError: the registry cannot be reached.
        RegistryError: the version has no readable record.
    """
    trained = relocated(logged_record(model, settings), settings)
    reports = _reports(model, trained.checks.reports, settings)
    checks = trained.checks.model_copy(update={"reports": reports})
    return trained.model_copy(update={"model": model, "checks": checks, "cached": True})


def logged_record(model: ModelVersion, settings: Settings) -> Trained:
    """The record of a version as it was logged, where its tables and reports were then.

    Raises:
        BackendError, RegistryError: see `record_of`.
    """
    connect(settings)
    import mlflow

    with backend_errors(settings):
        text = mlflow.artifacts.load_text(f"runs:/{model.run_id}/{RECORD}")
    try:
        return Trained.model_validate_json(text)
    except ValidationError as error:
        raise RegistryError(
            f"{model.uri}: its record {RECORD} cannot be read ({error.error_count()} problems); "
            "train again with the installed version"
        ) from None


def evaluation_of(model: ModelVersion, settings: Settings) -> Evaluation:
    """The version's evaluation on the holdout of its training.

    Raises:
        BackendError, RegistryError: see `record_of`.
    """
    return record_of(model, settings).evaluation


def _reports(
    model: ModelVersion, reports: tuple[Path, ...], settings: Settings
) -> tuple[Path, ...]:
    """The check reports where they were written or, on another machine, fetched beside there."""
    if all(report.is_file() for report in reports):
        return reports
    folder = settings.folder("reports", model.name) / f"{model.digest[:12]}-registered"
    if not all((folder / report.name).is_file() for report in reports):
        with backend_errors(settings), tempfile.TemporaryDirectory() as scratch:
            fetched = connect(settings).download_artifacts(model.run_id, CHECKS, scratch)
            _put(Path(fetched), folder)
    return tuple(folder / report.name for report in reports)


@contextmanager
def _scratch_folder(source: str) -> Iterator[str | None]:
    """Give MLflow a temporary folder for remote files, which it would not delete by itself."""
    from mlflow.utils.uri import is_local_uri

    if is_local_uri(source):  # type: ignore[no-untyped-call]  # MLflow leaves it untyped
        yield None
        return
    with tempfile.TemporaryDirectory() as folder:
        yield folder


def _put(source: Path, path: Path) -> None:
    """Copy aside, then one rename; a broken bundle in its place is moved away first."""
    scratch = Path(tempfile.mkdtemp(prefix=".fetching-", dir=path.parent))
    try:
        shutil.copytree(source, scratch / "bundle")
        if path.exists():
            path.rename(scratch / "broken")
        with suppress(OSError):  # ENOTEMPTY: another process was faster, with the same files
            (scratch / "bundle").rename(path)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def main() -> int:
    """Fetch the bundle that stdin names, for `serving.node_bundle`; an error of ours is pickled."""
    model, settings = pickle.load(sys.stdin.buffer)  # noqa: S301 - the parent process wrote it
    try:
        bundle_path(model, settings)
    except LifecycleError as error:
        sys.stdout.buffer.write(pickle.dumps(error))
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
