"""A small project with a person whose values are told apart, in every place that holds rows."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lifecycle.project.loader import load_project
from lifecycle.records import Trained
from lifecycle.settings import Settings
from tests.support.person import Planted, plant


@pytest.fixture(scope="session")
def planted_once(tmp_path_factory: pytest.TempPathFactory, train: Callable[..., Any]) -> Planted:
    folder = tmp_path_factory.mktemp("planted")
    return plant(folder, Settings(home=folder / "lifecycle"), train)


@pytest.fixture
def planted(planted_once: Planted, tmp_path: Path) -> Planted:
    """A copy for one test: a project's folder and its home may be copied to another place."""
    made = planted_once.project.folder
    shutil.copytree(made, tmp_path, dirs_exist_ok=True)
    trained = planted_once.trained.model_dump_json().replace(str(made), str(tmp_path))
    return Planted(
        load_project(tmp_path / "project.yaml"),
        Settings(home=tmp_path / "lifecycle"),
        Trained.model_validate_json(trained),
    )
