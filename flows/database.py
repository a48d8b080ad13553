"""The database of a local Prefect server: a new home gets a copy of an empty one.

Prefect makes a database by all its migrations, one after the other: 7 s of one CPU. That is done
once per environment and Prefect version; the result, tables without a row, is kept beside the
environment. Its name holds the digest of its content, so that a damaged one is not taken. The
server of each home looks for migrations in any case, and finds none to run.
"""

import asyncio
import hashlib
import sys
from contextlib import suppress
from pathlib import Path

import prefect
from fastapi import FastAPI
from prefect.server.api import server
from prefect.server.database import provide_database_interface
from prefect.server.database.configurations import AioSqliteConfiguration
from prefect.server.database.dependencies import temporary_database_config
from prefect.settings import PREFECT_API_DATABASE_CONNECTION_URL, PREFECT_HOME

from lifecycle.runtime.files import creating, sweep_files, write_atomic

TEMPLATES = Path(sys.prefix) / "share" / "lifecycle"
DATABASE = "prefect.db"
"""Prefect's own name for it, in its home."""


def create_app() -> FastAPI:
    """Prefect's server, with its database made; what a script's server process runs."""
    database = PREFECT_HOME.value() / DATABASE
    if PREFECT_API_DATABASE_CONNECTION_URL.value() == _url(database):
        make_database(database)
    return server.create_app()


def make_database(database: Path, templates: Path = TEMPLATES) -> None:
    """Make an empty database with all tables, unless there is one.

    Raises:
        OSError: the home cannot be written.
    """
    if database.exists():
        return
    sweep_files(database.parent, f".{database.name}.")
    with creating(database) as scratch:
        if content := template(templates):
            scratch.write_bytes(content)
            return
        asyncio.run(_migrate(scratch))
        with suppress(OSError):  # an environment that its user cannot write does without
            keep_template(templates, scratch.read_bytes())


def template(folder: Path) -> bytes | None:
    """The empty database of this Prefect version, if one is whole."""
    with suppress(OSError):
        for file in sorted(folder.glob(_template_name("*"))):
            content = file.read_bytes()
            if file.name == _template_name(hashlib.sha256(content).hexdigest()):
                return content
    return None


def keep_template(folder: Path, content: bytes) -> None:
    """Keep an empty database for the homes to come, instead of any other of this version.

    Raises:
        OSError: the folder cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for file in folder.glob(_template_name("*")):
        file.unlink(missing_ok=True)
    write_atomic(folder / _template_name(hashlib.sha256(content).hexdigest()), content)


def _template_name(digest: str) -> str:
    return f"prefect-{prefect.__version__}-{digest}.db"


def _url(database: Path) -> str:
    return f"sqlite+aiosqlite:///{database}"


async def _migrate(database: Path) -> None:
    # a setting would not do: the interface keeps to the first database that it was asked for
    with temporary_database_config(AioSqliteConfiguration(connection_url=_url(database))):
        interface = provide_database_interface()
        await interface.create_db()
        engine = await interface.engine()
        await engine.dispose()  # SQLite then has all of it in the one file
