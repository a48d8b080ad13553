"""An MLflow database whose `home` was moved: its artifacts are found where they are now.

MLflow keeps whole URIs: of each experiment, run, logged model and version. Artifacts of a store in
`home` lie in `home`, so that after `mv home elsewhere` each begins with a folder that is gone.
"""

import sqlite3
from contextlib import closing
from pathlib import Path

from lifecycle.settings import Settings

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
        known = connection.execute("SELECT name, artifact_location FROM experiments").fetchall()
        moves = {
            old: f"{root}/{name}"
            for name, old in known
            if old
            and old.endswith(f"{FOLDER}/{name}")
            and old != f"{root}/{name}"
            and (settings.home / FOLDER.strip("/") / name).is_dir()
        }
        if not moves:
            return 0
        with connection:
            for table, columns in COLUMNS.items():
                there = {row[1] for row in connection.execute(f"PRAGMA table_info({table})")}
                for column in there.intersection(columns):
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
