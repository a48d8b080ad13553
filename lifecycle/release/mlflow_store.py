"""The MLflow store: reached, or made on first use, without the noise it makes by itself."""

import logging
import os
import socket
import sqlite3
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from lifecycle.errors import BackendError, RegistryError, first_line
from lifecycle.redaction import redact
from lifecycle.runtime.files import creating, sweep_files
from lifecycle.settings import SQLITE, Settings, sqlite_file, sqlite_url

if TYPE_CHECKING:
    from mlflow import MlflowClient


# Relocation of an MLflow database after its `home` was moved.
#
# MLflow keeps whole URIs: of each experiment, run, logged model and version. Artifacts of a store
# in `home` lie in `home`, so that after `mv home elsewhere` each begins with a folder that is gone.

COLUMNS = {
    "experiments": ("artifact_location",),
    "runs": ("artifact_uri",),
    "logged_models": ("artifact_location",),
    "model_versions": ("source", "storage_location"),
}
"""Where MLflow's schema has URIs of artifacts."""
FOLDER = "/mlartifacts"
WAIT_S = 60.0
"""Seconds to wait for another writer."""


def relocate(database: Path, settings: Settings) -> int:
    """Point a database in `home` to the artifacts in `home`; nothing happens if it does already.

    Only experiments whose artifacts are there are touched, in one transaction.

    Returns:
        How many experiments were pointed elsewhere.

    Raises:
        sqlite3.Error: the database cannot be read or written.
    """
    root = settings.artifact_root
    own = not settings.mlflow_tracking_uri and not settings.mlflow_artifact_root
    if not own or root is None or not database.is_file():
        return 0
    with closing(sqlite3.connect(database, timeout=WAIT_S)) as connection:
        experiments = connection.execute(
            "SELECT name, artifact_location FROM experiments"
        ).fetchall()
        moves = {
            old: f"{root}/{name}"
            for name, old in experiments
            if old
            and old.endswith(f"{FOLDER}/{name}")
            and old != f"{root}/{name}"
            and (settings.home / FOLDER.strip("/") / name).is_dir()
        }
        if not moves:
            return 0
        with connection:
            for table, columns in COLUMNS.items():
                table_columns = {
                    row[1] for row in connection.execute(f"PRAGMA table_info({table})")
                }
                for column in table_columns.intersection(columns):
                    for old, new in moves.items():
                        _replace(connection, table, column, old, new)
    return len(moves)


def _replace(connection: sqlite3.Connection, table: str, column: str, old: str, new: str) -> None:
    """Begin a column's values with `new` where they are `old` or below it."""
    connection.execute(
        f"UPDATE {table} SET {column} = ? || substr({column}, ?) "  # noqa: S608 - names of COLUMNS
        f"WHERE {column} = ? OR substr({column}, 1, ?) = ?",
        (new, len(old) + 1, old, len(old) + 1, f"{old}/"),
    )


PROBE_SECONDS = 5.0
PORTS = {"postgresql": 5432, "postgres": 5432, "mysql": 3306, "mssql": 1433}
"""Where a database listens unless its URL says otherwise."""
CHATTY = ("alembic", "mlflow")
"""Loggers that tell every migration and every download at INFO."""


def connect(settings: Settings) -> "MlflowClient":
    """Client of the tracking store and registry of these settings; made if it is a SQLite file.

    The fluent API of this process is pointed to the same store.

    Raises:
        BackendError: the store cannot be reached, made or read.
    """
    mlflow = load_mlflow(settings)
    for name in CHATTY:
        logging.getLogger(name).setLevel(logging.ERROR)
    uri = settings.tracking_uri
    with backend_errors(settings):
        if uri.startswith(SQLITE):
            _make(sqlite_file(uri), settings)
            relocate(sqlite_file(uri), settings)
        else:
            require_store(settings)
        mlflow.set_tracking_uri(uri)
        mlflow.set_registry_uri(uri)
        client: MlflowClient = mlflow.MlflowClient(tracking_uri=uri, registry_uri=uri)
        return client


def load_mlflow(settings: Settings) -> ModuleType:
    """MLflow, imported with what it reads at import; takes 3 s the first time."""
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")  # by default it retries minutes
    os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")  # of a server's runs
    import mlflow

    if settings.tracking_uri.startswith(SQLITE):
        import mlflow.store.tracking.sqlalchemy_store  # or it does at the first call
    return mlflow


def experiment_id(client: "MlflowClient", project_name: str, settings: Settings) -> str:
    """The project's experiment; made on first use, with its artifacts under the settings' root, or
    where the MLflow server puts them.

    Raises:
        BackendError: the store cannot be written.
    """
    from mlflow.exceptions import MlflowException

    with backend_errors(settings):
        experiment = client.get_experiment_by_name(project_name)
        if experiment is None:
            root = settings.artifact_root
            location = f"{root.rstrip('/')}/{project_name}" if root else None
            try:
                return str(client.create_experiment(project_name, location))
            except MlflowException:  # another process was first
                experiment = client.get_experiment_by_name(project_name)
                if experiment is None:
                    raise
        return str(experiment.experiment_id)


@contextmanager
def backend_errors(settings: Settings) -> Iterator[None]:
    """Turn what MLflow and its database raise into one message that names the store."""
    from mlflow.exceptions import MlflowException
    from sqlalchemy.exc import SQLAlchemyError

    try:
        yield
    except (MlflowException, SQLAlchemyError, sqlite3.Error, OSError) as error:
        if getattr(error, "error_code", "") == "INVALID_PARAMETER_VALUE":  # the store is well
            reason = " ".join(str(error).split())
            raise RegistryError(f"MLflow refused the request: {reason}") from error
        raise _unreachable(settings, first_line(error)) from error


def _make(file: Path, settings: Settings) -> None:
    """Make the database aside and put it in place whole: a killed migration leaves none.

    A touch of MLflow's internals: its public ways start a server, or make the tables in place,
    where processes that start together fail (https://github.com/mlflow/mlflow/issues/19943).

    Raises:
        BackendError: this MLflow makes them in another way.
    """
    sweep_files(file.parent, f".{file.name}.")
    if file.exists():
        return
    from mlflow.store.db.utils import _initialize_tables, create_sqlalchemy_engine_with_retry
    from sqlalchemy import inspect

    settings.folder()
    file.parent.mkdir(parents=True, exist_ok=True)
    with creating(file) as scratch:
        # mlflow leaves these two without types
        engine = create_sqlalchemy_engine_with_retry(sqlite_url(scratch))  # type: ignore[no-untyped-call]
        try:
            _initialize_tables(engine)  # type: ignore[no-untyped-call]
            if not {"runs", "alembic_version"} <= set(inspect(engine).get_table_names()):
                reason = "this version of MLflow did not make its tables; see requirements.lock"
                raise _unreachable(settings, reason)
        finally:
            engine.dispose()


def require_store(settings: Settings, timeout: float = PROBE_SECONDS) -> None:
    """See that the server or database of MLflow answers, which MLflow itself would ask for minutes.

    Args:
        timeout: seconds for each step of it.

    Raises:
        BackendError: it does not answer.
    """
    uri = settings.tracking_uri
    try:
        if uri.startswith(("http://", "https://")):
            _probe(uri, timeout)
        elif not uri.startswith("sqlite") and (
            port := PORTS.get(uri.partition(":")[0].partition("+")[0])
        ):
            place = urlsplit(uri)
            if place.hostname:
                socket.create_connection((place.hostname, place.port or port), timeout).close()
    except (OSError, ValueError) as error:
        raise _unreachable(settings, str(error) or type(error).__name__) from None


def _probe(uri: str, timeout: float) -> None:
    """One quick request, so that a server that is down is reported within seconds."""
    try:
        with urllib.request.urlopen(f"{uri.rstrip('/')}/health", timeout=timeout):  # noqa: S310 - http(s) only
            pass
    except urllib.error.HTTPError:
        pass  # it answers; a proxy in front may not let this path through


def _unreachable(settings: Settings, reason: str) -> BackendError:
    return BackendError(
        f"MLflow at {redact(settings.tracking_uri)}: {reason}; start that server, "
        "repair or move that file, or set LIFECYCLE_MLFLOW_TRACKING_URI"
    )
