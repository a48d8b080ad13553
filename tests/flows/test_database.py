"""A new home's Prefect database: migrated once per environment, then copied."""

import os
import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

import prefect
import pytest
from prefect.settings import PREFECT_API_DATABASE_CONNECTION_URL, PREFECT_HOME, temporary_settings

from flows import database
from flows.database import DATABASE, create_app, keep_template, make_database, template

MIGRATION_S = 120.0
SCRIPT = """
import sys
from pathlib import Path
from flows.database import make_database
make_database(Path(sys.argv[1]), Path(sys.argv[2]))
"""

SERVER = """
import asyncio, sys
from pathlib import Path
import httpx
from prefect.settings import PREFECT_HOME
from flows.database import DATABASE, create_app, make_database

async def main():  # uvicorn, too, makes the application in its loop
    make_database(PREFECT_HOME.value() / DATABASE, Path(sys.argv[1]))
    app = create_app()
    transport = httpx.ASGITransport(app)
    async with app.router.lifespan_context(app):
        async with httpx.AsyncClient(transport=transport, base_url="http://server") as client:
            (await client.post("/api/flows/", json={"name": "hello"})).raise_for_status()

asyncio.run(main())
"""


@pytest.fixture(scope="module")
def templates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the template that the first home made."""
    folder = tmp_path_factory.mktemp("templates")
    make_database(folder / DATABASE, folder / "kept")
    return folder / "kept"


def tables(file: Path) -> dict[str, int]:
    """Rows per table."""
    with closing(sqlite3.connect(file)) as connection:
        names = connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall()
        return {
            name: connection.execute(f'SELECT count(*) FROM "{name}"').fetchone()[0]  # noqa: S608
            for (name,) in names
        }


@pytest.fixture
def no_migration(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Migrations that make an empty file; the list says where they ran."""
    places: list[Path] = []

    async def migrate(file: Path) -> None:
        places.append(file)
        file.write_bytes(b"migrated")

    monkeypatch.setattr(database, "_migrate", migrate)
    return places


@pytest.mark.component
def test_a_new_home_gets_a_copy_without_a_migration(
    templates: Path, tmp_path: Path, no_migration: list[Path]
) -> None:
    make_database(tmp_path / DATABASE, templates)
    assert no_migration == []
    rows = tables(tmp_path / DATABASE)
    assert "flow_run" in rows
    assert {name for name, count in rows.items() if count} == {"alembic_version"}
    assert [file.name for file in tmp_path.iterdir()] == [DATABASE]


@pytest.mark.component
def test_a_database_stays_as_it_is(templates: Path, tmp_path: Path) -> None:
    (tmp_path / DATABASE).write_bytes(b"mine")
    make_database(tmp_path / DATABASE, templates)
    assert (tmp_path / DATABASE).read_bytes() == b"mine"


@pytest.mark.component
@pytest.mark.parametrize("damage", ["cut", "changed", "other version", "no digest"])
def test_a_damaged_or_foreign_template_is_replaced(
    templates: Path, tmp_path: Path, no_migration: list[Path], damage: str
) -> None:
    content = template(templates)
    assert content
    folder = tmp_path / "kept"
    keep_template(folder, content)
    (file,) = folder.iterdir()
    if damage == "cut":
        file.write_bytes(content[:-1])
    elif damage == "changed":
        file.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    elif damage == "other version":
        file.rename(folder / file.name.replace("prefect-", "prefect-1."))
    else:
        file.rename(folder / f"prefect-{prefect.__version__}-.db")
    assert template(folder) is None
    make_database(tmp_path / DATABASE, folder)
    assert len(no_migration) == 1
    assert (tmp_path / DATABASE).read_bytes() == template(folder) == b"migrated"


@pytest.mark.component
def test_an_environment_that_cannot_be_written_does_without(
    tmp_path: Path, no_migration: list[Path]
) -> None:
    (tmp_path / "kept").write_text("a file where the folder would be")
    make_database(tmp_path / DATABASE, tmp_path / "kept")
    assert (tmp_path / DATABASE).read_bytes() == b"migrated"


@pytest.mark.system
def test_a_migration_killed_leaves_nothing_that_the_next_one_takes(tmp_path: Path) -> None:
    home, kept = tmp_path / "home", tmp_path / "kept"
    home.mkdir()
    killed = subprocess.Popen(
        [sys.executable, "-c", SCRIPT, str(home / DATABASE), str(kept)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    end = time.monotonic() + MIGRATION_S
    while not any(file.stat().st_size for file in home.iterdir()) and time.monotonic() < end:
        time.sleep(0.02)
    os.kill(killed.pid, signal.SIGKILL)
    killed.wait()
    assert [file.name for file in home.iterdir()] != []
    assert not (home / DATABASE).exists()
    assert not kept.exists()
    make_database(home / DATABASE, kept)
    assert [file.name for file in home.iterdir()] == [DATABASE]
    assert "flow_run" in tables(home / DATABASE)
    assert template(kept) == (home / DATABASE).read_bytes()


@pytest.mark.component
def test_a_database_elsewhere_is_not_ours_to_make(
    tmp_path: Path, no_migration: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[Path] = []
    monkeypatch.setattr(database, "make_database", made.append)
    elsewhere = f"sqlite+aiosqlite:///{tmp_path}/elsewhere.db"
    with temporary_settings(
        {PREFECT_HOME: tmp_path, PREFECT_API_DATABASE_CONNECTION_URL: elsewhere}
    ):
        create_app()
    assert made == []
    with temporary_settings(
        {PREFECT_HOME: tmp_path}, restore_defaults={PREFECT_API_DATABASE_CONNECTION_URL}
    ):
        create_app()
    assert made == [tmp_path / DATABASE]


@pytest.mark.system
@pytest.mark.parametrize("copied", [True, False])
def test_a_server_works_with_the_database_it_made(
    templates: Path, tmp_path: Path, copied: bool
) -> None:
    home = tmp_path / "home"
    home.mkdir()
    outside = {k: v for k, v in os.environ.items() if not k.startswith("PREFECT")}
    subprocess.run(
        [sys.executable, "-c", SERVER, str(templates if copied else tmp_path / "kept")],
        env=outside | {"PREFECT_HOME": str(home), "PREFECT_SERVER_ANALYTICS_ENABLED": "false"},
        check=True,
        timeout=MIGRATION_S,
    )
    assert tables(home / DATABASE)["flow"] == 1
    kept = template(templates if copied else tmp_path / "kept")
    assert kept
    (tmp_path / "kept.db").write_bytes(kept)
    assert tables(tmp_path / "kept.db")["flow"] == 0
