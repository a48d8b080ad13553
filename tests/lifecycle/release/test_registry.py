"""The registry: register, find again, aliases, bundles that were tampered with, kills."""

import getpass
import json
import logging
import pickle
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lifecycle.errors import BackendError, BundleError, ProjectError, RegistryError
from lifecycle.lake.read import read_version
from lifecycle.project import Project
from lifecycle.release import mlflow_store
from lifecycle.release.artifacts import bundle_path, evaluation_of, record_of
from lifecycle.release.mlflow_store import connect
from lifecycle.release.registry import (
    BUNDLE,
    CHALLENGER,
    CHAMPION,
    IDENTITY,
    TARGET,
    TASK,
    by_alias,
    check_name,
    find_by_identity,
    set_alias,
    versions,
)
from lifecycle.settings import Settings
from tests.support.small import write_project
from tests.support.trained import Made, train_small


def registered_files(made: Any, version: int = 1) -> Path:
    client = connect(made.settings)
    uri = client.get_model_version_download_uri(made.project.name, str(version))
    return Path(uri.removeprefix("file://")) / "data" / made.bundle.digest


@pytest.mark.component
def test_a_name_is_of_one_task_and_target(
    make_project: Callable[..., Project], settings: Settings
) -> None:
    project = make_project()
    check_name(project, settings)  # nothing is registered
    client = connect(settings)
    client.create_registered_model("small")
    tags = {IDENTITY: "a" * 64, BUNDLE: "b" * 64}
    client.create_model_version("small", "file:///a", tags=tags)  # before there were such tags
    check_name(project, settings)
    for letter in "cd":
        aim = {TASK: "binary", TARGET: "bought"}
        client.create_model_version("small", f"file:///{letter}", tags=tags | aim)
    check_name(project, settings)
    for change in ({"target": "visits", "task": "count"}, {"target": "visits"}, {"task": "count"}):
        other = project.model_copy(update=change)
        with pytest.raises(ProjectError) as caught:
            check_name(other, settings)
        assert str(caught.value) == (
            "name: 'small' has been the name of models with task 'binary' and target 'bought' "
            f"since version 2, and this project has task {other.task!r} and target "
            f"{other.target!r}: choose another name"
        )


@pytest.mark.component
def test_a_registered_model_says_everything(small_model: Any, tmp_path: Path) -> None:
    report = tmp_path / "integrity.html"
    report.write_text("<h1>fine</h1>")
    trained = small_model.register((report,))
    model = trained.model
    assert (model.name, model.version, model.uri) == ("small", 1, "models:/small/1")
    assert model.digest == small_model.bundle.digest

    client = connect(small_model.settings)
    tags = client.get_model_version("small", "1").tags
    assert (tags[TASK], tags[TARGET]) == ("binary", "bought")
    run = client.get_run(model.run_id)
    assert run.info.status == "FINISHED"
    shaping = {"eta": "0.3", "max_depth": "3", "task": "binary", "target": "bought"}
    shaping |= {"training.rounds": "10", "split.holdout": "0.25", "training.trainer": "xgboost"}
    assert shaping.items() <= run.data.params.items()
    assert run.data.tags["mlflow.user"] == getpass.getuser()
    assert run.data.tags["mlflow.source.type"] == "LOCAL"
    assert sys.argv[0].endswith(run.data.tags["mlflow.source.name"])
    assert len(run.data.tags["mlflow.source.git.commit"]) == 40
    description = client.get_model_version("small", "1").description
    assert description.startswith("roc_auc 0.")
    assert "The training gate passed." in description
    assert run.data.tags["lifecycle.identity"] == small_model.identity.digest
    assert run.data.tags["lifecycle.identity.data"] == small_model.identity.data
    roc_auc = trained.evaluation.metrics["roc_auc"]
    assert run.data.metrics["holdout/roc_auc"] == roc_auc.value
    assert run.data.metrics["holdout/roc_auc.low"] == roc_auc.low
    assert "baseline/brier" in run.data.metrics
    inputs = {i.dataset.name: i for i in run.inputs.dataset_inputs}
    assert set(inputs) == {"training", "validation", "holdout"}
    tags = {t.key: t.value for t in inputs["holdout"].tags}
    assert tags["lifecycle.digest"] == small_model.split.holdout.digest
    assert {f.path for f in client.list_artifacts(model.run_id)} == {
        "checks",
        "evaluation.html",
        "lifecycle",
        "card.json",
        "model_card.html",
        "model_card.md",
        "plots",
        "project.yaml",
    }
    assert [f.path for f in client.list_artifacts(model.run_id, "plots")] == ["plots/roc.png"]
    logged = client.search_logged_models([run.info.experiment_id])
    assert [(entry.status, entry.source_run_id) for entry in logged] == [("READY", model.run_id)]
    assert registered_files(small_model).is_relative_to(small_model.settings.home)
    files = [p for p in registered_files(small_model).parents[1].rglob("*") if p.is_file()]
    assert not [p for p in files if p.suffix in (".pkl", ".py")]

    found = record_of(model, small_model.settings)
    assert found.cached
    assert found.checks.reports[0].read_text() == "<h1>fine</h1>"
    assert found.model_copy(update={"cached": False, "checks": trained.checks}) == trained
    assert evaluation_of(model, small_model.settings) == trained.evaluation


@pytest.mark.component
def test_found_by_identity_and_by_alias(small_model: Any) -> None:
    project, settings = small_model.project, small_model.settings
    assert find_by_identity(project, settings, small_model.identity.digest) is None
    assert by_alias("small", CHALLENGER, settings) is None
    model = small_model.register().model
    assert find_by_identity(project, settings, small_model.identity.digest) == model
    assert find_by_identity(project, settings, "another") is None
    assert by_alias("small", CHALLENGER, settings) == model
    assert by_alias("small", CHAMPION, settings) is None
    set_alias(model, CHAMPION, settings)
    set_alias(model, CHAMPION, settings)
    assert by_alias("small", CHAMPION, settings) == model
    assert versions("small", settings) == {model: (CHALLENGER, CHAMPION)}


@pytest.mark.component
def test_registering_again_makes_no_second_version(small_model: Any) -> None:
    first = small_model.register()
    assert small_model.register() == first
    assert len(versions("small", small_model.settings)) == 1


@pytest.mark.component
def test_pyfunc_predicts_what_the_bundle_does(small_model: Any) -> None:
    import mlflow

    set_alias(small_model.register().model, CHAMPION, small_model.settings)
    holdout = read_version(small_model.split.holdout)
    inputs = holdout[list(small_model.project.input_columns)]
    loaded = mlflow.pyfunc.load_model("models:/small@champion")
    np.testing.assert_array_equal(loaded.predict(inputs), small_model.expected(holdout))


def test_pyfunc_finds_the_features_hook(
    health: Project, settings: Settings, train: Callable[..., Any]
) -> None:
    import mlflow

    made = train(health, settings)
    made.register()
    holdout = made.holdout().head(200)
    loaded = mlflow.pyfunc.load_model("models:/health_visits@challenger")
    predicted = loaded.predict(holdout[list(health.input_columns)])
    np.testing.assert_array_equal(predicted, made.expected(holdout))


@pytest.mark.component
def test_a_changed_file_in_the_registry_is_noticed(small_model: Any) -> None:
    model = small_model.register().model
    file = registered_files(small_model) / "model.ubj"
    file.write_bytes(file.read_bytes()[:-1] + b"!")
    digest = small_model.identity.digest
    assert find_by_identity(small_model.project, small_model.settings, digest) is None
    shutil.rmtree(small_model.bundle.path)
    with pytest.raises(BundleError, match=r"model\.ubj"):
        bundle_path(model, small_model.settings)
    assert not small_model.bundle.path.exists()


@pytest.mark.component
def test_a_lost_local_bundle_is_fetched_again(small_model: Any) -> None:
    model = small_model.register().model
    path = bundle_path(model, small_model.settings)
    assert path == small_model.bundle.path
    (path / "model.ubj").write_bytes(b"broken")
    assert bundle_path(model, small_model.settings) == path
    shutil.rmtree(path)
    assert bundle_path(model, small_model.settings) == path
    assert [p.name for p in path.parent.iterdir()] == [path.name]


@pytest.mark.component
def test_a_version_somebody_else_registered(small_model: Any) -> None:
    client = connect(small_model.settings)
    client.create_registered_model("small")
    client.create_model_version("small", "file:///nowhere")
    client.set_registered_model_alias("small", CHAMPION, "1")
    with pytest.raises(RegistryError, match=r"models:/small/1: was not registered by this project"):
        by_alias("small", CHAMPION, small_model.settings)
    assert versions("small", small_model.settings) == {}
    assert small_model.register().model.version == 2


@pytest.mark.component
def test_the_store_is_made_without_noise(
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(mlflow_store, "_make", mlflow_store._make.__wrapped__)  # type: ignore[attr-defined]
    settings = Settings(home=tmp_path / "new")
    caplog.set_level(logging.INFO)
    connect(settings)
    connect(settings).search_experiments()
    assert capfd.readouterr() == ("", "")
    assert [p.name for p in settings.home.iterdir()] == ["mlflow.db"]


@pytest.mark.component
def test_a_server_that_is_down(settings: Settings) -> None:
    down = settings.model_copy(update={"mlflow_tracking_uri": "http://127.0.0.1:1"})
    start = time.monotonic()
    with pytest.raises(BackendError, match=r"MLflow at http://127\.0\.0\.1:1: .*refused"):
        connect(down)
    assert time.monotonic() - start < 10


@pytest.mark.component
def test_a_store_that_is_no_database(settings: Settings) -> None:
    (settings.folder() / "mlflow.db").write_text("this is not a database" * 100)
    with pytest.raises(BackendError, match="MLflow at sqlite"):
        connect(settings).search_experiments()


KILLED = """
import os, pickle, signal, sys
import lifecycle.release.register as recording
import mlflow.pyfunc  # once for all

def register(made, step, when):
    real = getattr(recording, step)
    def die(*args, **kwargs):
        if when == "after":
            real(*args, **kwargs)
        os.kill(os.getpid(), signal.SIGKILL)
    setattr(recording, step, die)
    recording.register(made["project"], made["settings"], bundle=made["bundle"],
                       trained=made["trained"])

for arguments in pickle.load(open(sys.argv[1], "rb")):
    if (child := os.fork()) == 0:
        register(*arguments)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""
"""The real steps, each time in a process of its own, with a real SIGKILL before or after one."""
KILLS = (("log_files", "before"), ("log_model", "after"), ("_create_version", "after"))


@pytest.fixture(scope="module")
def killed(tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, str], Made]:
    """Step and moment → what was registered until then."""
    arguments, models = [], {}
    for kill in KILLS:
        folder = tmp_path_factory.mktemp("killed")
        made = train_small(write_project(folder), Settings(home=folder / "lifecycle"))
        connect(made.settings)
        given = {"project": made.project, "settings": made.settings, "bundle": made.bundle}
        arguments.append((given | {"trained": made.trained()}, *kill))
        models[kill] = made
    file = tmp_path_factory.mktemp("killed") / "arguments.pickle"
    file.write_bytes(pickle.dumps(arguments))
    done = subprocess.run(
        [sys.executable, "-c", KILLED, str(file)], capture_output=True, text=True, check=False
    )
    assert done.stdout.split() == [str(-signal.SIGKILL)] * len(KILLS), done.stderr
    return models


@pytest.mark.parametrize(("step", "when"), KILLS)
@pytest.mark.system
def test_killed_in_the_middle_then_run_again(
    killed: dict[tuple[str, str], Made], step: str, when: str
) -> None:
    made = killed[step, when]
    identity = made.identity.digest
    assert find_by_identity(made.project, made.settings, identity) is None
    model = made.register().model
    client = connect(made.settings)
    assert list(versions("small", made.settings)) == [model]
    assert len(client.search_model_versions("name = 'small'")) == 1
    experiment = client.get_experiment_by_name("small")
    assert experiment
    runs = client.search_runs([experiment.experiment_id])
    statuses = sorted(run.info.status for run in runs)
    assert statuses == (["FINISHED"] if step == "_create_version" else ["FINISHED", "KILLED"])
    assert find_by_identity(made.project, made.settings, identity) == model
    assert by_alias("small", CHALLENGER, made.settings) == model
    assert json.loads(record_of(model, made.settings).model_dump_json())["cached"]


@pytest.mark.component
def test_an_emptied_registry_is_not_one_without_versions(settings: Settings) -> None:
    from lifecycle.audit.model_trail import Trail
    from tests.support.versions import model

    assert by_alias("small", "champion", settings) is None
    Trail(settings, "small", "me").record("promote", model(3), ("It is better.",))
    with pytest.raises(BackendError, match="the audit trail names v3") as told:
        by_alias("small", "champion", settings)
    assert "emptied or replaced; restore it from a backup" in str(told.value)
