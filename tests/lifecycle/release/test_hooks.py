"""A version is served with the features hook of its training, whatever became of the file."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lifecycle.errors import BundleError
from lifecycle.features.encode import hook_digest
from lifecycle.project import Project
from lifecycle.release.hooks import as_trained
from lifecycle.settings import Settings
from lifecycle.training.bundle import load_bundle
from lifecycle.training.predictor import open_predictor

pytestmark = pytest.mark.component

OLD = "def build(inputs):\n    return inputs\n"
NEW = "def build(inputs):\n    return inputs.assign(old=inputs['age'] > 60)\n"


@pytest.fixture
def hooked(
    make_project: Callable[..., Project], settings: Settings, tmp_path: Path, train: Any
) -> Any:
    (tmp_path / "features.py").write_text(OLD)
    return train(make_project(features="features:build"), settings)


@pytest.mark.parametrize("change", ["changed", "gone", "not named"])
def test_a_changed_hook_is_the_former_one_for_the_former_version(
    hooked: Any, tmp_path: Path, change: str
) -> None:
    model = hooked.register().model
    project: Project = hooked.project
    if change == "gone":
        (tmp_path / "features.py").unlink()
    else:
        (tmp_path / "features.py").write_text(NEW)
    if change == "not named":
        project = project.model_copy(update={"features": None})
    for _ in range(2):  # from the registry, then from the copy
        former = as_trained(project, model, hooked.settings)
        loaded = load_bundle(hooked.bundle.path, model.digest)
        assert hook_digest(former) == loaded.schema.hook_digest
        frame = hooked.holdout()[list(project.input_columns)]
        assert len(open_predictor(loaded, former).predict(frame)) == len(frame)
    assert project.folder == tmp_path, "the caller's project is as it was"


def test_an_unchanged_hook_is_kept_before_it_changes(hooked: Any, tmp_path: Path) -> None:
    model = hooked.register().model
    former = as_trained(hooked.project, model, hooked.settings)
    (tmp_path / "features.py").write_text(NEW)
    assert former.folder != tmp_path
    assert (former.folder / "features.py").read_text() == OLD


def test_a_tampered_copy_is_made_anew(hooked: Any) -> None:
    model = hooked.register().model
    file = as_trained(hooked.project, model, hooked.settings).folder / "features.py"
    file.write_text(NEW)
    as_trained(hooked.project, model, hooked.settings)
    assert file.read_text() == OLD


def test_without_a_hook_there_is_none(small_model: Any) -> None:
    model = small_model.register().model
    hooked = small_model.project.model_copy(update={"features": "features:build"})
    assert as_trained(hooked, model, small_model.settings).features is None


def test_a_hook_that_is_nowhere_is_told(hooked: Any, tmp_path: Path) -> None:
    model = hooked.register().model
    (tmp_path / "features.py").write_text(NEW)
    for copy in hooked.settings.home.rglob("code/features.py"):
        copy.unlink()
    with pytest.raises(BundleError, match=r"put features\.py back"):
        as_trained(hooked.project, model, hooked.settings)
