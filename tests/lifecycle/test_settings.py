"""Environments are the files that exist: found, overridden, refused in words."""

import os
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
from pydantic import TypeAdapter, ValidationError
from sqlalchemy.engine import make_url

from lifecycle import environments as module
from lifecycle.environments import Environment, environments
from lifecycle.errors import SettingsError
from lifecycle.governance.folder import open_folder
from lifecycle.lake.read import read_version
from lifecycle.lake.table import history
from lifecycle.lake.write import write_version
from lifecycle.runtime.identity import store_id
from lifecycle.runtime.servers import DATABASE, server_environment
from lifecycle.settings import (
    Settings,
    _warn_of_unknown,
    sqlite_file,
    sqlite_url,
    variables_of,
)


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working folder of somebody who has the wheel and no checkout."""
    monkeypatch.setattr(module, "__file__", str(tmp_path / "site" / "lifecycle" / "settings.py"))
    for name in ("LIFECYCLE_ENV", "LIFECYCLE_SERVE_PORT", "LIFECYCLE_MLFLOW_TRACKING_URI"):
        monkeypatch.delenv(name, raising=False)
    folder = tmp_path / "work"
    (folder / "deployments").mkdir(parents=True)
    monkeypatch.chdir(folder)
    return folder


def test_dev_needs_no_file(installed: Path) -> None:
    loaded = Settings.load()
    assert (loaded.env, loaded.local_ray) == ("dev", True)
    assert loaded.tracking_uri.startswith("sqlite:///")
    assert environments() == ("dev",)


@pytest.mark.parametrize("name", ["prod", "moon", "../work/deployments/qa"])
def test_an_environment_without_a_file_is_refused(installed: Path, name: str) -> None:
    (installed / "deployments" / "qa.env").write_text("")
    with pytest.raises(SettingsError, match="choose one of dev, qa") as refusal:
        Settings.load(name)
    for folder in (installed, installed.parent / "site"):
        assert str(folder / "deployments" / f"{name}.env") in str(refusal.value)


def test_the_variable_names_the_environment(
    installed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LIFECYCLE_ENV", "prod")
    with pytest.raises(SettingsError, match=r"prod\.env"):
        Settings.load()


def test_the_working_folder_comes_before_the_checkout_and_variables_before_both(
    installed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkout = installed.parent / "site" / "deployments"
    checkout.mkdir(parents=True)
    (checkout / "qa.env").write_text("LIFECYCLE_SERVE_PORT=8001\n")
    assert Settings.load("qa").serve_port == 8001
    (installed / "deployments" / "qa.env").write_text("LIFECYCLE_SERVE_PORT=8002\n")
    assert Settings.load("qa").serve_port == 8002
    assert Settings.load("qa").needs_keys
    monkeypatch.setenv("LIFECYCLE_SERVE_PORT", "8003")
    assert Settings.load("qa").serve_port == 8003


def test_a_wheel_has_environments_of_its_own(installed: Path) -> None:
    site = installed.parent / "site"
    for folder, port in ((site / "deployments", 8001), (site / "lifecycle" / "deployments", 8002)):
        folder.mkdir(parents=True)
        (folder / "qa.env").write_text(f"LIFECYCLE_SERVE_PORT={port}\n")
    assert Settings.load("qa").serve_port == 8002
    with pytest.raises(SettingsError) as refusal:
        Settings.load("moon")
    assert str(site / "lifecycle" / "deployments" / "moon.env") in str(refusal.value)
    assert str(site / "deployments" / "moon.env") not in str(refusal.value)


def test_a_misspelled_variable_is_warned_of_once(
    installed: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    (installed / "deployments" / "far.env").write_text(
        "LIFECYCLE_WORKSPACE=/srv\nLIFECYCLE_HOMES=/srv/home\n"
    )
    monkeypatch.setenv("LIFECYCLE_SERVE_PROT", "8001")
    monkeypatch.setenv("lifecycle_ray_cpus", "2")
    monkeypatch.setenv("LIFECYCLE_XYZXYZ", "secret")
    _warn_of_unknown.cache_clear()
    for _ in range(2):
        Settings.load("far")
    said = [record.getMessage() for record in caplog.records]
    assert sorted(said) == [
        "LIFECYCLE_HOMES is not a setting and is ignored; did you mean LIFECYCLE_HOME?",
        "LIFECYCLE_SERVE_PROT is not a setting and is ignored; did you mean LIFECYCLE_SERVE_PORT?",
        "LIFECYCLE_XYZXYZ is not a setting and is ignored",
    ]


def test_a_flow_takes_the_environments_that_exist(installed: Path) -> None:
    (installed / "deployments" / "qa.env").write_text("")
    adapter = TypeAdapter(Environment)
    assert adapter.validate_python("qa") == "qa"
    with pytest.raises(ValidationError, match="must be one of dev, qa"):
        adapter.validate_python("moon")
    assert {"dev", "staging", "prod"} <= set(adapter.json_schema()["enum"])


@pytest.mark.parametrize(
    ("tracking", "root", "place"),
    [
        ("", "", "file:///home/mlartifacts"),
        ("postgresql+psycopg://db/mlflow", "", "file:///home/mlartifacts"),
        ("http://mlflow:5000", "", None),
        ("http://mlflow:5000", "s3://models", "s3://models"),
    ],
)
def test_a_server_has_a_place_for_artifacts_of_its_own(
    tracking: str, root: str, place: str | None
) -> None:
    made = Settings(home=Path("/home"), mlflow_tracking_uri=tracking, mlflow_artifact_root=root)
    assert made.artifact_root == place


SERVED_NAMES = (
    *("a b", "100%", "50%x", "a:b", "a*b", "a&b", "ä&b", "日本", "a;b", "a+b", "a=b"),
    *("a@b", "a{b}", "a~b", "~x", "$x", "a'b", ".h", "a,b", "(a)", "a!b", 'a"b', "a<b>"),
    *("a#1", "#", "a?x", "a?b=c&d#e", "a::b"),
)
"""Names of folders that work."""
REFUSED_NAMES = (
    "a%20b",
    "50%25x",
    "x]y",
    "[a]",
    "a[b",
    "a\\b",
    "a|b",
    "a^b",
    "a\nb",
)


@pytest.mark.parametrize("name", SERVED_NAMES)
def test_a_folder_of_any_of_these_names_holds_lake_and_registry(name: str, tmp_path: Path) -> None:
    place = tmp_path / name
    settings = Settings(home=place / "home")
    uri = f"{settings.lake}/small/accepted"
    frame = pd.DataFrame({"a": [1, 2, 3]})
    ref = write_version(frame, uri, note={})
    assert read_version(ref)["a"].tolist() == [1, 2, 3]
    assert history(uri)["digest"].tolist() == [ref.digest]
    names = [Path(file).name for file in open_folder(settings.lake).files()]
    assert "00000000000000000000.json" in names
    assert (place / "home" / "lake" / "small" / "accepted" / "_delta_log").is_dir()
    assert make_url(settings.tracking_uri).database == str(settings.home / "mlflow.db")
    assert sqlite_file(settings.tracking_uri) == settings.home / "mlflow.db"
    assert settings.artifact_root
    assert open_folder(settings.artifact_root).path == str(settings.home / "mlartifacts")
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_the_file_of_a_url_is_the_one_that_sqlalchemy_opens(tmp_path: Path) -> None:
    for url in (
        *("sqlite:///rows.db", "sqlite:////data/rows.db", "sqlite:////a%20b/rows.db?timeout=3"),
        sqlite_url(tmp_path / "a?x#%20" / "rows.db"),
    ):
        assert str(sqlite_file(url)) == os.path.abspath(make_url(url).database or "")


def test_the_database_of_a_prefect_server_stays_in_its_home(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in DATABASE:
        monkeypatch.delenv(name, raising=False)
    home = tmp_path / "a?x"
    variables = server_environment(home, "http://127.0.0.1:1", "a:b")
    assert make_url(variables[DATABASE[0]]).database == str(home / "prefect.db")
    assert not set(DATABASE) & server_environment(tmp_path, "http://127.0.0.1:1", "a:b").keys()
    monkeypatch.setenv(DATABASE[1], "postgresql+asyncpg://db/prefect")
    assert not set(DATABASE) & server_environment(home, "http://127.0.0.1:1", "a:b").keys()


@pytest.mark.parametrize("name", REFUSED_NAMES)
@pytest.mark.parametrize("variable", ["LIFECYCLE_HOME", "LIFECYCLE_LAKE_URI"])
def test_a_folder_that_the_stores_would_not_find_is_refused_at_once(
    variable: str, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(variable, str(tmp_path / name / "home"))
    with pytest.raises(SettingsError, match=f"^{variable}: deltalake cannot open") as refusal:
        Settings.load()
    assert "\n" not in str(refusal.value)
    assert [*tmp_path.iterdir()] == []


def test_home_is_its_owners_alone(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path / "deep" / "home")
    settings.folder("reports", "small")
    assert stat.S_IMODE(settings.home.stat().st_mode) == 0o700
    shutil.rmtree(settings.home)
    store_id(settings)
    assert stat.S_IMODE(settings.home.stat().st_mode) == 0o700
    settings.home.chmod(0o750)
    settings.folder("reports")
    assert stat.S_IMODE(settings.home.stat().st_mode) == 0o750  # the owner's own choice stays


@pytest.mark.parametrize(
    ("home", "problem"),
    [("", "is empty; name a folder"), ("{file}", "is not a folder"), ("{file}/x", "cannot make")],
)
def test_a_home_that_is_no_folder(
    home: str, problem: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "file"
    file.write_text("")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LIFECYCLE_HOME", home.format(file=file))
    with pytest.raises(SettingsError, match=f"LIFECYCLE_HOME: .*{problem}"):
        Settings.load().folder()
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_an_error_of_all_settings_quotes_none_of_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LIFECYCLE_PII_KEY", "hunter2secret")
    monkeypatch.setenv("LIFECYCLE_DATABASES", "postgresql://u:pw123@h/db")
    monkeypatch.setenv("LIFECYCLE_SERVE_TLS_CERT", "/nope.pem")
    with pytest.raises(SettingsError) as refusal:
        Settings.load()
    assert str(refusal.value) == (
        "LIFECYCLE_SERVE_TLS_CERT and LIFECYCLE_SERVE_TLS_KEY belong together"
    )
    with pytest.raises(ValidationError) as error:
        Settings()
    assert "hunter2" not in str(error.value)
    assert "pw123" not in str(error.value)


@pytest.mark.parametrize(
    "variables",
    [
        {"PYTHONIOENCODING": "latin-1"},
        {"PYTHONIOENCODING": "ascii"},
        {"LANG": "C", "LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
    ],
    ids=["latin-1", "ascii", "C"],
)
def test_a_terminal_that_lacks_a_character(variables: dict[str, str], tmp_path: Path) -> None:
    script = (
        "from lifecycle.runtime.process import prepare_process; prepare_process()\n"
        "from rich.console import Console; from rich.table import Table; import sys\n"
        "table = Table('Größe → 日本'); table.add_row('…')\n"
        "Console().print(table, '… → ✓ 日本')\n"
        "sys.stderr.write('… → 日本\\n')\n"
    )
    file = tmp_path / "script.py"
    file.write_text(script, encoding="utf-8")
    ended = subprocess.run(
        [sys.executable, str(file)], env=os.environ | variables, capture_output=True, check=False
    )
    assert ended.returncode == 0, ended.stderr
    assert b"?" in ended.stdout
    assert ended.stderr.strip() == rb"\u2026 \u2192 \u65e5\u672c"


def test_another_environment_gets_variables_of_its_own_and_no_secret_of_this_one(
    installed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (installed / "deployments" / "eu-west.env").write_text("LIFECYCLE_HOME=west\n")
    for name, value in {
        "LIFECYCLE_ENV": "dev",
        "LIFECYCLE_HOME": "ours",
        "AWS_SECRET_ACCESS_KEY": "our-secret",
        "MLFLOW_TRACKING_PASSWORD": "our-password",
        "LIFECYCLE_EU_WEST__MLFLOW_TRACKING_URI": "http://west.example:5000",
        "LIFECYCLE_EU_WEST__MLFLOW_TRACKING_PASSWORD": "their-password",
        "LIFECYCLE_EU_EAST__MLFLOW_TRACKING_URI": "http://east.example:5000",
    }.items():
        monkeypatch.setenv(name, value)
    variables = variables_of("eu-west")
    assert "our-secret" not in variables.values()
    assert "our-password" not in variables.values()
    assert variables["MLFLOW_TRACKING_PASSWORD"] == "their-password"  # noqa: S105
    assert not [name for name in variables if "EAST" in name]
    for name in [name for name in os.environ if name.startswith("LIFECYCLE_")]:
        monkeypatch.delenv(name)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    theirs = Settings.load()
    assert (theirs.env, theirs.home.name) == ("eu-west", "west")
    assert theirs.tracking_uri == "http://west.example:5000"
    with pytest.raises(SettingsError, match="unknown environment 'moon'"):
        variables_of("moon")


def test_a_variable_for_one_environment_alone(
    installed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (installed / "deployments" / "eu-west.env").write_text("LIFECYCLE_SERVE_PORT=8001\n")
    monkeypatch.setenv("LIFECYCLE_EU_WEST__SERVE_PORT", "8002")
    assert Settings.load("dev").serve_port == 8000
    assert Settings.load("eu-west").serve_port == 8002
    monkeypatch.setenv("LIFECYCLE_SERVE_PORT", "8003")  # as a program's own is set for its child
    assert Settings.load("eu-west").serve_port == 8003
    monkeypatch.delenv("LIFECYCLE_SERVE_PORT")
    monkeypatch.setenv("LIFECYCLE_EU_WEST__SERVE_PORT", "many")
    with pytest.raises(SettingsError, match=r"LIFECYCLE_SERVE_PORT: .*'many'"):
        Settings.load("eu-west")
