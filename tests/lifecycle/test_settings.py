"""Environments are the files that exist: found, overridden, refused in words."""

from pathlib import Path

import pytest
from pydantic import TypeAdapter, ValidationError

from lifecycle import settings as module
from lifecycle.errors import SettingsError
from lifecycle.settings import Environment, Settings, environments


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
