"""An empty MLflow store, made once and copied (the migrations take seconds), and versions in it."""

import shutil
from pathlib import Path

import pytest

from lifecycle.records import ModelVersion
from lifecycle.release.registry import (
    BUNDLE,
    CHALLENGER,
    CHAMPION,
    COMPLETE,
    IDENTITY,
    as_record,
    set_alias,
)
from lifecycle.release.store import connect
from lifecycle.settings import Settings


@pytest.fixture(scope="session")
def empty_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    settings = Settings(home=tmp_path_factory.mktemp("store"))
    connect(settings)
    return settings.home / "mlflow.db"


@pytest.fixture
def settings(tmp_path: Path, empty_store: Path) -> Settings:
    settings = Settings(home=tmp_path / "lifecycle")
    shutil.copyfile(empty_store, settings.folder() / "mlflow.db")
    return settings


@pytest.fixture
def three(settings: Settings) -> tuple[ModelVersion, ModelVersion, ModelVersion]:
    """Registered versions without files: the first is champion, the second challenger."""
    client = connect(settings)
    client.create_registered_model("small")
    made = []
    for letter in "abc":
        tags = {IDENTITY: letter * 64, BUNDLE: letter.upper() * 64, COMPLETE: "true"}
        made.append(as_record(client.create_model_version("small", f"file:///{letter}", tags=tags)))
    one, two, third = made
    set_alias(one, CHAMPION, settings)
    set_alias(two, CHALLENGER, settings)
    return one, two, third
