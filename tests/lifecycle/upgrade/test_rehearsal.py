"""An upgrade changes nothing unless everything went well; then the former databases are kept."""

import re
import sqlite3
import subprocess
import sys
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import pytest
from pydantic import SecretStr

from lifecycle.errors import BackendError, SettingsError
from lifecycle.runtime.process import process_start
from lifecycle.runtime.servers import prefect_home
from lifecycle.runtime.warm_server import WarmServer, in_use, running_server, write_record
from lifecycle.settings import Settings, sqlite_url
from lifecycle.upgrade import rehearsal
from lifecycle.upgrade.answers import RegistryAnswers, VersionAnswers
from lifecycle.upgrade.databases import SqliteDatabase, find_databases
from lifecycle.upgrade.rehearsal import Upgrade
from lifecycle.upgrade.report import compare
from tests.support.interpreter import interpreter, make_databases


@pytest.fixture
def settings(settings: Settings) -> Settings:
    users = SecretStr(sqlite_url(settings.home / "users.db"))
    return settings.model_copy(update={"databases": users})


@pytest.fixture
def home(settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home with all databases, and a former interpreter that answers in a moment."""
    databases = settings.folder() / "mlflow.db", settings.folder("prefect") / "prefect.db"
    make_databases(*map(sqlite_url, (*databases, settings.home / "users.db")))
    monkeypatch.setattr(sys, "executable", str(interpreter(tmp_path / "former")))
    monkeypatch.delenv("PREFECT_API_URL", raising=False)
    return settings.home


def content(home: Path) -> dict[str, bytes]:
    """All files but the lock."""
    files = [file for file in home.rglob("*") if file.is_file()]
    empty = {".upgrade.lock", "warm-server.start", "warm-server.users"}
    return {str(f.relative_to(home)): f.read_bytes() for f in files if f.name not in empty}


def upgrade_to(settings: Settings, python: Path) -> Upgrade:
    return Upgrade(settings, [Path("project.yaml")], python, lambda *_: None)


def texts(upgrade: Upgrade, state: str) -> str:
    return "\n".join(f"{s}: {text}" for s, line_state, text in upgrade.lines if line_state == state)


def test_a_rehearsal_tries_all_of_it_and_changes_nothing(
    settings: Settings, home: Path, tmp_path: Path
) -> None:
    before = content(home)
    upgrade = upgrade_to(settings, interpreter(tmp_path / "new"))
    assert upgrade.rehearse(), "\n".join(map(str, upgrade.lines))
    assert content(home) == before
    assert {line.state for line in upgrade.lines} == {"ok"}
    report = texts(upgrade, "ok")
    assert "MLflow: copy migrated in 0 s: from former to new" in report
    assert "Prefect: copy migrated in 0 s: from former to new" in report
    assert "users: copy migrated in 0 s: from former to new" in report
    assert "1 version, 7 rows of their holdouts: every answer is equal, byte for byte" in report
    assert "small v1 answered 7 rows over every protocol" in report
    assert f"lake ({settings.lake}) and artifacts: only read" in report


@pytest.mark.parametrize(
    ("breaks", "answer", "reason"),
    [
        ("mlflow", "same", "MLflow: .* ended with 1: column runs.later: the migration ends here"),
        ("prefect", "same", "Prefect: .* ended with 1: column runs.later"),
        ("mlflow.server.auth", "same", "users: .* ended with 1: column runs.later"),
        ("answers", "same", "answers: .* ended with 1: no such column"),
        ("endpoint", "same", "endpoint: .* the replica does not start"),
        ("list", "same", "check: .* ended with 1: no such column"),
        ("", "other", "answers: small v1: other answers, byte for byte, than before"),
    ],
)
def test_whatever_fails_leaves_every_byte(
    settings: Settings, home: Path, tmp_path: Path, breaks: str, answer: str, reason: str
) -> None:
    before = content(home)
    upgrade = upgrade_to(settings, interpreter(tmp_path / "new", breaks, answer))
    assert not upgrade.upgrade()
    assert content(home) == before
    assert re.search(reason, texts(upgrade, "fail")), upgrade.lines
    assert ("back: the former databases were in place again" in texts(upgrade, "ok")) == (
        breaks == "list"
    )


def test_an_upgrade_keeps_the_former_databases_and_goes_back_to_them(
    settings: Settings, home: Path, tmp_path: Path
) -> None:
    before = content(home)
    new = interpreter(tmp_path / "new")
    assert upgrade_to(settings, new).upgrade()
    after = content(home)
    assert after["mlflow.db"] != before["mlflow.db"]
    kept = [name for name in after if ".before-" in name]
    assert sorted(after[name] for name in kept) == sorted(before.values())
    assert (home / "mlflow.db").stat().st_mode == (home / kept[0]).stat().st_mode

    upgrade = upgrade_to(settings, new)
    upgrade.put_back()
    again = content(home)
    assert {name: again[name] for name in before} == before
    undone = {name: text for name, text in again.items() if ".undone-" in name}
    assert sorted(undone.values()) == sorted(after[name] for name in before)
    with pytest.raises(SettingsError, match="there is nothing to go back to"):
        upgrade.put_back()


def test_an_upgrade_that_was_killed_between_two_databases_is_put_back(
    settings: Settings, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = content(home)
    upgrade = upgrade_to(settings, interpreter(tmp_path / "new"))
    monkeypatch.setattr(Upgrade, "_undo", lambda *_: None)  # as after SIGKILL
    swaps: list[str] = []
    original = SqliteDatabase.swap

    def swap(self: SqliteDatabase, new: str, old: str) -> None:
        if swaps:
            raise BackendError("killed")
        swaps.append(new)
        original(self, new, old)

    with monkeypatch.context() as patch:
        patch.setattr(SqliteDatabase, "swap", swap)
        assert not upgrade.upgrade()
    assert content(home)["mlflow.db"] != before["mlflow.db"]
    with pytest.raises(SettingsError, match="was cut short: `lifecycle upgrade --back`"):
        upgrade.upgrade()
    upgrade.put_back()
    again = content(home)
    assert {name: again[name] for name in before} == before


def test_a_database_in_use_is_not_replaced(
    settings: Settings, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rehearsal, "LEAVING_S", 0.0)
    before = content(home)
    with (home / "mlflow.db").open("rb") as file:
        holder = subprocess.Popen(["sleep", "60"], stdin=file)
    try:
        upgrade = upgrade_to(settings, interpreter(tmp_path / "new"))
        with pytest.raises(BackendError, match=f"is in use by process {holder.pid}: end servers"):
            upgrade.upgrade()
        assert upgrade.rehearse(), "a rehearsal does not mind"
    finally:
        holder.kill()
        holder.wait()
    assert content(home) == before


def test_what_was_written_meanwhile_is_not_lost(
    settings: Settings, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def write(*_: object) -> None:
        with closing(sqlite3.connect(home / "mlflow.db")) as connection, connection:
            connection.execute("INSERT INTO content VALUES (8)")

    monkeypatch.setattr(Upgrade, "_serve", write)
    upgrade = upgrade_to(settings, interpreter(tmp_path / "new"))
    assert not upgrade.upgrade()
    assert "mlflow.db was written to meanwhile" in texts(upgrade, "fail")
    with closing(sqlite3.connect(home / "mlflow.db")) as connection:
        assert connection.execute("SELECT max(number) FROM content").fetchall() == [(8,)]


def test_a_prefect_server_that_waits_for_scripts_is_ended(
    settings: Settings, home: Path, tmp_path: Path
) -> None:
    prefect = prefect_home(settings)
    waiting = subprocess.Popen(["sleep", "60"])
    warm = WarmServer(
        url="http://127.0.0.1:1",
        process=waiting.pid,
        process_start=process_start(waiting.pid),
        started=datetime.now(UTC),
        minutes=10,
        key="",
        home=str(prefect),
    )
    write_record(prefect, warm)
    upgrade = upgrade_to(settings, interpreter(tmp_path / "new"))
    with in_use(prefect), pytest.raises(BackendError, match="a script uses the Prefect server"):
        upgrade.upgrade()
    assert running_server(prefect) == warm
    assert upgrade.upgrade()
    assert running_server(prefect) is None
    assert waiting.poll() is not None


def test_what_cannot_be_upgraded_is_said_at_once(settings: Settings, tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="no database of MLflow is known for dev"):
        find_databases(settings)
    urls = [sqlite_url(tmp_path / f"{name}.db") for name in "abcd"]
    make_databases(*urls[:2])
    make_databases(*urls[2:])
    several = settings.model_copy(update={"databases": SecretStr(" ".join(urls))})
    with pytest.raises(SettingsError, match="names 2 databases of"):
        find_databases(several)


def test_answers_are_compared_version_by_version() -> None:
    def answers(**changes: object) -> RegistryAnswers:
        entries = [
            VersionAnswers(
                name="m", version=n, digest="d", aliases=(), rows=5, answers=f"a{n}"
            ).model_copy(update=changes if n == 2 else {})
            for n in (1, 2)
        ]
        return RegistryAnswers(packages={"mlflow": "1", "numpy": "1"}, versions=tuple(entries))

    def lines(before: RegistryAnswers, after: RegistryAnswers) -> list[tuple[str, str]]:
        return [(line.state, line.text) for line in compare(before, after)[1:]]

    newer = answers().model_copy(update={"packages": {"mlflow": "2", "scipy": "1"}})
    assert compare(answers(), newer)[0].text == "mlflow 1 → 2, 2 other packages differ"
    assert compare(answers(), newer, is_same=True)[0].state == "warn"
    assert lines(answers(), answers()) == [
        ("ok", "2 versions, 10 rows of their holdouts: every answer is equal, byte for byte")
    ]
    lost = answers(error="its holdout is gone", answers="")
    assert lines(lost, lost)[0] == (
        "warn",
        "m v2 could not be asked before either: its holdout is gone",
    )
    assert lines(answers(), lost)[0] == ("fail", "m v2 cannot answer: its holdout is gone")
    assert lines(lost, answers())[0][0] == "ok", "it can again"
    assert lines(answers(), answers(answers="b"))[0][0] == "fail"
    assert "other versions, bundles or aliases" in lines(answers(), answers(digest="e"))[0][1]
