"""Databases of PostgreSQL are copied in use or not, swapped in one step, and put back."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
import sqlalchemy as sa
from pydantic import SecretStr

from lifecycle.errors import BackendError
from lifecycle.settings import Settings
from lifecycle.upgrade.databases import PostgresDatabase, find_databases, open_database
from lifecycle.upgrade.rehearsal import Upgrade
from tests.support.interpreter import interpreter, make_databases
from tests.support.postgres import Postgres


@pytest.fixture
def urls(postgres: Postgres) -> Iterator[tuple[str, str]]:
    """Databases of MLflow and Prefect, with a right and a setting of their own."""
    names = ("upgrade-mlflow", "upgrade_prefect")
    with psycopg.connect(postgres.url(driver=""), autocommit=True) as connection:
        for name in names:
            connection.execute(f'CREATE DATABASE "{name}"')
            connection.execute(f'REVOKE ALL ON DATABASE "{name}" FROM PUBLIC')
            connection.execute(f'GRANT CONNECT ON DATABASE "{name}" TO pg_monitor')
            connection.execute(f"ALTER DATABASE \"{name}\" SET statement_timeout TO '7min'")
        places = postgres.url(names[0]), postgres.url(names[1])
        make_databases(*places)
        yield places
        query = "SELECT datname FROM pg_database WHERE datname LIKE 'upgrade%'"
        for (name,) in connection.execute(query).fetchall():
            connection.execute(f'DROP DATABASE "{name}" WITH (FORCE)')


def dump(url: str) -> str:
    """All of a database, as text."""
    place = sa.make_url(url).set(drivername="postgresql").render_as_string(hide_password=False)
    command = ["pg_dump", "--create", place]
    text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return "\n".join(line for line in text.splitlines() if "restrict" not in line)


def environment(settings: Settings, urls: tuple[str, str]) -> Settings:
    databases = SecretStr(" ".join(urls))
    return settings.model_copy(update={"databases": databases, "mlflow_tracking_uri": urls[0]})


@pytest.mark.parametrize("in_use", [False, True])
def test_a_copy_has_the_rows_whether_the_database_is_in_use_or_not(
    settings: Settings, urls: tuple[str, str], in_use: bool
) -> None:
    database = find_databases(environment(settings, urls))[0]
    place = sa.make_url(urls[0]).set(drivername="postgresql").render_as_string(hide_password=False)
    connection = psycopg.connect(place, application_name="mlflow") if in_use else None
    try:
        assert database.users() == (["mlflow from 127.0.0.1"] if in_use else [])
        copy = database.copy()
        copy = database.copy()  # what a killed upgrade left is made again
        name = sa.make_url(copy.plain_url).database or ""
        assert name == "upgrade-mlflow_upgrade"
        assert dump(copy.plain_url).replace(name, "upgrade-mlflow") == dump(urls[0])
        assert copy.exists()
        copy.remove()
        assert not copy.exists()
    finally:
        if connection:
            connection.close()


def test_a_mark_is_of_what_programs_write_and_not_of_autovacuum(
    settings: Settings, urls: tuple[str, str]
) -> None:
    database = find_databases(environment(settings, urls))[0]
    place = sa.make_url(urls[0]).set(drivername="postgresql").render_as_string(hide_password=False)
    marks = []
    for statement in ("SELECT 1", "VACUUM ANALYZE", "UPDATE content SET number = 8"):
        with psycopg.connect(place, autocommit=True) as connection:
            connection.execute(statement)
        marks.append(database.mark())
    assert marks[0] == marks[1] != marks[2]


@pytest.mark.system
def test_an_upgrade_keeps_rights_and_goes_back(
    settings: Settings,
    urls: tuple[str, str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sys, "executable", str(interpreter(tmp_path / "former")))
    monkeypatch.setenv("PREFECT_API_URL", "http://127.0.0.1:1/api")
    served = environment(settings, urls)
    before = [dump(url) for url in urls]

    def upgrade_to(breaks: str) -> Upgrade:
        new = interpreter(tmp_path / "new", breaks)
        return Upgrade(served, [], new, lambda *_: None)

    for breaks in ("prefect", "list"):
        assert not upgrade_to(breaks).upgrade()
        assert [dump(url) for url in urls] == before, breaks
    upgrade = upgrade_to("")
    assert upgrade.upgrade(), upgrade.lines
    expected = [text.replace("\nformer\n", "\nnew\n") for text in before]
    assert [dump(url) for url in urls] == expected, "rights and settings, too"
    upgrade_to("").put_back()
    assert [dump(url) for url in urls] == before


def test_others_are_left_alone(tmp_path: Path, postgres: Postgres) -> None:
    with postgres.database("upgrade_of_others") as url:
        assert open_database(url) is None
    with pytest.raises(BackendError, match="only SQLite and PostgreSQL"):
        open_database("mysql://somebody:hidden-word@127.0.0.1/mlflow")
    assert open_database(f"sqlite:///{tmp_path}/none.db") is None


def test_prefect_gets_the_driver_it_waits_with() -> None:
    place = sa.make_url("postgresql+psycopg://a:b@db/prefect?sslmode=require")
    assert PostgresDatabase("Prefect", place).url == (
        "postgresql+asyncpg://a:b@db/prefect?ssl=require"
    )
    assert PostgresDatabase("MLflow", place).url.startswith("postgresql+psycopg://")
