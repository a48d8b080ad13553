"""An empty MLflow store, made once and copied: the migrations take seconds."""

import shutil
from pathlib import Path

import pytest

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
