"""What crosses to a machine that has none of the flow's folders: code, settings, a bundle."""

import pickle
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from pydantic import SecretStr

from lifecycle.errors import BackendError, FeatureError, SettingsError
from lifecycle.project import Project
from lifecycle.records import ModelVersion
from lifecycle.runtime.nodes import on_this_machine
from lifecycle.runtime.plugins import load_plug, plug_file, plugs_digest
from lifecycle.serving.node_bundle import local_bundle
from lifecycle.settings import Settings

HOOK = "def make(frame):\n    return {}\n"


@pytest.fixture
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of another machine."""
    folder = tmp_path / "node"
    monkeypatch.setenv("LIFECYCLE_HOME", str(folder))
    return folder


@pytest.fixture
def project(make_project: Callable[..., Project], tmp_path: Path) -> Project:
    (tmp_path / "own_hook.py").write_text(HOOK.format(1))
    return make_project(features="own_hook:make")


def received(content: bytes) -> Project:
    arrived: Project = pickle.loads(content)  # noqa: S301 - made here
    return arrived


def sent(project: Project) -> Project:
    return received(pickle.dumps(project))


def test_code_goes_by_content_to_a_machine_without_it(
    project: Project, elsewhere: Path, tmp_path: Path
) -> None:
    digest, content = plugs_digest(project), pickle.dumps(project)
    (tmp_path / "own_hook.py").unlink()
    arrived = received(content)
    assert load_plug(arrived, "own_hook:make", "features")(None) == 1
    assert plug_file(arrived, "own_hook:make", "features")[0].is_relative_to(elsewhere)
    assert plugs_digest(arrived) == digest
    assert load_plug(sent(arrived), "own_hook:make", "features")(None) == 1, "and on from there"
    with pytest.raises(FeatureError):  # where it was never sent
        plug_file(project, "own_hook:make", "features")


def test_code_of_another_content_beside_the_file_is_not_used(
    project: Project, elsewhere: Path, tmp_path: Path
) -> None:
    arrived = sent(project)
    assert plug_file(arrived, "own_hook:make", "features")[0] == tmp_path / "own_hook.py"
    (tmp_path / "own_hook.py").write_text(HOOK.format(2))
    assert load_plug(arrived, "own_hook:make", "features")(None) == 1
    moved = arrived.at(tmp_path / "project.yaml")
    assert load_plug(moved, "own_hook:make", "features")(None) == 2, "what is there now"


def test_settings_of_another_machine(elsewhere: Path, tmp_path: Path) -> None:
    home = tmp_path / "of-the-flow"
    settings = Settings(home=home, pii_key=SecretStr("of-all-nodes"))
    assert on_this_machine(settings).home == elsewhere
    home.mkdir()
    assert on_this_machine(settings) is settings


def test_a_secret_that_was_only_at_home_refuses(elsewhere: Path, tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="set LIFECYCLE_PII_KEY where the flows run"):
        on_this_machine(Settings(home=tmp_path / "of-the-flow"))
    keyed = Settings(
        home=tmp_path / "of-the-flow", pii_key=SecretStr("of-all-nodes"), serve_access="keys"
    )
    with pytest.raises(SettingsError, match="set LIFECYCLE_SERVE_KEYS to a file"):
        on_this_machine(keyed)
    assert not (elsewhere / "pii-key").exists()


def test_a_bundle_that_is_not_here_is_fetched_and_a_failure_is_one_line(
    elsewhere: Path, tmp_path: Path
) -> None:
    here = tmp_path / "bundle"
    model = ModelVersion(
        name="small", version=3, uri="models:/small/3", digest="0" * 64, identity="", run_id=""
    )
    url = "http://127.0.0.1:9/"  # the discard port: nobody answers
    settings = Settings(home=elsewhere, mlflow_tracking_uri=url)
    with pytest.raises(BackendError, match=r"http://127\.0\.0\.1:9"):
        local_bundle(here, model, settings)
    here.mkdir()
    assert local_bundle(here, model, settings) == here
    shutil.rmtree(here)
