"""Every place that may hold rows: the lake, `home`, artifacts, databases; of all projects."""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from lifecycle.governance.folder import Folder, open_folder
from lifecycle.governance.requests import FOLDER as REQUESTS
from lifecycle.settings import SQLITE, Settings, sqlite_file

SQLITE_MAGIC = b"SQLite format 3\0"
SECRET = ("pii-key", "serve-keys.json", "store-id")
"""Files of `home` without rows, whose content nobody should copy."""
SERVER = "://"


@dataclass(frozen=True)
class Places:
    """Where to look; no folder lies in another."""

    folders: tuple[Folder, ...]
    databases: tuple[str, ...]
    """URLs of databases that are no files."""
    unsearched: tuple[str, ...]
    pages: str
    """Where a script's Prefect server keeps a copy of its package's own pages."""

    def files(self) -> Iterator[tuple[Folder, str]]:
        """Every file with its folder; requests for erasure, keys and Prefect's pages left out."""
        for folder in self.folders:
            for path in folder.files():
                inside = folder.inside(path)
                kept_out = inside in SECRET or inside.startswith(f"{REQUESTS}/")
                if not (kept_out or path.startswith(self.pages)):
                    yield folder, path


def find_places(settings: Settings) -> Places:
    """What these settings and Prefect's own variables name."""
    roots = [str(settings.home), settings.lake, settings.ray_storage]
    databases: list[str] = []
    unsearched: list[str] = []
    tracking = settings.tracking_uri
    if tracking.startswith(("http://", "https://")):
        if not settings.databases:
            unsearched.append(
                f"MLflow's database behind {_host(tracking)}: name it in LIFECYCLE_DATABASES"
            )
    elif tracking.startswith(SQLITE):
        roots.append(str(sqlite_file(tracking)))
    else:
        databases.append(tracking)
    artifacts = settings.artifact_root
    if artifacts is None or artifacts.startswith(("http://", "https://", "mlflow-artifacts:")):
        unsearched.append(
            "the artifacts of the MLflow server: name their folder or bucket in "
            "LIFECYCLE_MLFLOW_ARTIFACT_ROOT"
        )
    else:
        roots.append(artifacts)
    roots.append(str(prefect_home(settings)))
    if (
        (api := os.environ.get("PREFECT_API_URL", ""))
        and not settings.databases
        and (urlsplit(api).hostname not in ("127.0.0.1", "localhost", "::1"))
    ):
        unsearched.append(
            f"the database of the Prefect server {_host(api)}: name it in LIFECYCLE_DATABASES"
        )
    if settings.databases:
        databases += settings.databases.get_secret_value().split()
    folders = {}
    for root in filter(None, roots):
        folder = open_folder(root)
        folders[type(folder.fs), folder.path] = folder
    return Places(
        folders=_outermost([*folders.values()]),
        databases=tuple(databases),
        unsearched=tuple(unsearched),
        pages=f"{open_folder(str(prefect_home(settings) / 'ui')).path}/",
    )


def prefect_home(settings: Settings) -> Path:
    """Where a script's Prefect keeps database and results."""
    return Path(os.environ.get("PREFECT_HOME") or settings.home / "prefect").expanduser()


def is_sqlite(folder: Folder, path: str) -> bool:
    """Whether a local file is a SQLite database."""
    if not folder.local:
        return False
    with open(path, "rb") as file:
        return file.read(len(SQLITE_MAGIC)) == SQLITE_MAGIC


def _outermost(folders: list[Folder]) -> tuple[Folder, ...]:
    def within(inner: Folder, outer: Folder) -> bool:
        same = type(inner.fs) is type(outer.fs)
        return same and inner.path.startswith(outer.path.rstrip("/") + "/")

    return tuple(one for one in folders if not any(within(one, other) for other in folders))


def _host(uri: str) -> str:
    parts = urlsplit(uri)
    return f"{parts.scheme}://{parts.hostname}" + (f":{parts.port}" if parts.port else "")
