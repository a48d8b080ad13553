"""An error of ours that comes out of Ray is one message, and Ray writes nothing to the screen."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lifecycle.errors import (
    BackendError,
    FeatureError,
    LifecycleError,
    ServingError,
    TrainingError,
)
from lifecycle.project import Project
from lifecycle.serving.deployment import deploy, rehearse, undeploy
from lifecycle.settings import Settings
from lifecycle.training.fit import train_model
from lifecycle.training.tuning.search import tune

pytestmark = pytest.mark.usefixtures("ray_cluster")
ON_WORKERS = pytest.mark.system
"""They start Ray Train's processes."""

TWO = {"rounds": 5, "early_stopping_rounds": 5, "threads": 1, "num_workers": 2}
IN_WORKER = """
from pathlib import Path

def in_worker():
    return "RayTrainWorker" in Path("/proc/self/cmdline").read_text()
"""
RAISES = (
    IN_WORKER
    + """
def build(inputs):
    if in_worker():
        raise ZeroDivisionError("of the user's")
    return inputs
"""
)
DAMAGES = (
    IN_WORKER
    + """
def build(inputs):
    if in_worker():  # the train part is read, the validation part will be
        for part in Path({folder!r}).glob("*.parquet"):
            part.write_bytes(part.read_bytes() + b" ")
    return inputs
"""
)
LACKS = (
    IN_WORKER
    + """
def build(inputs):
    return inputs.drop(columns="age") if in_worker() else inputs
"""
)
TRAINER = """
class Own:
    def fit(self, project, data, parameters, threads, on_round):
        return data.nothing
"""
METRIC = """
def score(truth, prediction):
    return truth.nothing
"""


@pytest.fixture
def told(capfd: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """The one line that a call fails with; nothing else reaches the screen."""

    def call(kind: type[LifecycleError], function: Callable[..., Any], *arguments: Any) -> str:
        capfd.readouterr()
        with pytest.raises(kind) as raised:
            function(*arguments)
        assert "\n" not in str(raised.value)
        assert raised.value.__cause__ is None
        assert raised.value.__suppress_context__ or raised.value.__context__ is None
        assert capfd.readouterr() == ("", "")
        return str(raised.value)

    return call


def damage(folder: str) -> str:
    """Flip a bit of a version's file; its name."""
    file = next(Path(folder).glob("part-*.parquet"))
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 16
    file.write_bytes(content)
    return file.name


@pytest.fixture
def elsewhere(settings: Settings) -> Settings:
    """Settings as of a joined cluster, where one worker is a task."""
    return settings.model_copy(update={"ray_address": "joined"})


@pytest.mark.parametrize("workers", [1, 2])
def test_a_damaged_part(
    workers: int, make_project: Any, prepare: Any, elsewhere: Settings, told: Callable[..., str]
) -> None:
    """One worker: found by its task of Ray's; two: by the tasks of Ray Data that look first."""
    project = make_project(training=TWO | {"num_workers": workers})
    split = prepare(project)
    name = damage(split.train.uri)
    arguments = (project, split.train, split.validation, {}, elsewhere)
    assert f"{name}: its SHA-256 is" in told(BackendError, train_model, *arguments)


@ON_WORKERS
def test_a_part_that_a_worker_of_ray_train_finds_damaged(
    make_project: Any, prepare: Any, settings: Settings, tmp_path: Path, told: Callable[..., str]
) -> None:
    hook = tmp_path / "features.py"
    hook.write_text("def build(inputs):\n    return inputs\n")
    project = make_project(features="features:build", training=TWO)
    split = prepare(project)
    hook.write_text(DAMAGES.format(folder=split.validation.uri))
    arguments = (project, split.train, split.validation, {}, settings)
    assert "its SHA-256 is" in told(BackendError, train_model, *arguments)


@ON_WORKERS
@pytest.mark.parametrize(
    ("hook", "message"),
    [
        (RAISES, "features.py:9: ZeroDivisionError: of the user's"),
        (LACKS, "age"),
    ],
)
def test_a_hook_that_fails_in_a_worker_of_ray_train(
    hook: str,
    message: str,
    make_project: Any,
    prepare: Any,
    settings: Settings,
    tmp_path: Path,
    told: Callable[..., str],
) -> None:
    (tmp_path / "features.py").write_text(hook)
    project = make_project(features="features:build", training=TWO)
    split = prepare(project)
    arguments = (project, split.train, split.validation, {}, settings)
    assert message in told(FeatureError, train_model, *arguments)


@ON_WORKERS
def test_a_metric_that_fails_in_a_worker_of_ray_train(
    make_project: Any, prepare: Any, settings: Settings, tmp_path: Path, told: Callable[..., str]
) -> None:
    (tmp_path / "metric.py").write_text(METRIC)
    project = make_project(metrics={"own": "metric:score"}, training=TWO | {"metric": "own"})
    split = prepare(project)
    arguments = (project, split.train, split.validation, {}, settings)
    assert "metric.py:3: AttributeError" in told(LifecycleError, train_model, *arguments)


def test_a_trainer_that_fails_in_a_task(
    make_project: Any, prepare: Any, elsewhere: Settings, tmp_path: Path, told: Callable[..., str]
) -> None:
    (tmp_path / "mine.py").write_text(TRAINER)
    project = make_project(training={"trainer": "mine:Own"})
    split = prepare(project)
    arguments = (project, split.train, split.validation, {}, elsewhere)
    assert "mine.py:4: AttributeError" in told(TrainingError, train_model, *arguments)


def test_a_task_that_ends_its_process(
    make_project: Any, prepare: Any, elsewhere: Settings, tmp_path: Path
) -> None:
    """Ray itself tells of the death in a line of its own."""
    (tmp_path / "features.py").write_text("import os\n\ndef build(inputs):\n    os._exit(3)\n")
    project = make_project(features="features:build", training={"max_failures": 0})
    split = prepare(project)
    with pytest.raises(TrainingError, match=r"^training on Ray failed: .*; run again$"):
        train_model(project, split.train, split.validation, {}, elsewhere)


def test_a_damaged_part_in_a_trial(
    make_project: Any, prepare: Any, tmp_path: Path, told: Callable[..., str]
) -> None:
    space = {"max_depth": {"type": "int", "low": 2, "high": 4}}
    project = make_project(tuning={"trials": 2, "workers": 1, "space": space})
    split = prepare(project)
    name = damage(split.train.uri)
    arguments = (project, split.train, split.validation, tmp_path / "study", lambda *_: None)
    assert f"{name}: its SHA-256 is" in told(BackendError, tune, *arguments)


@pytest.mark.system
def test_a_bundle_that_cannot_be_served(
    small_model: Any, serve_port: int, told: Callable[..., str]
) -> None:
    settings = small_model.settings.model_copy(update={"serve_port": serve_port})
    file = small_model.bundle.path / "model.ubj"
    file.write_bytes(file.read_bytes() + b" ")
    arguments = (small_model.bundle.path, small_model.model, small_model.project, settings)
    rows = small_model.holdout()[list(small_model.project.input_columns)].head(2)
    assert "model.ubj" in told(ServingError, rehearse, *arguments, rows)
    try:
        assert "model.ubj" in told(ServingError, deploy, *arguments)
    finally:
        undeploy(small_model.project.name)


@pytest.mark.system
def test_a_hook_that_is_gone_when_a_model_is_served(
    make_project: Callable[..., Project],
    train: Any,
    settings: Settings,
    tmp_path: Path,
    serve_port: int,
    told: Callable[..., str],
) -> None:
    (tmp_path / "features.py").write_text("def build(inputs):\n    return inputs\n")
    made = train(make_project(features="features:build"), settings)
    (tmp_path / "features.py").write_text("raise ZeroDivisionError\n")
    settings = settings.model_copy(update={"serve_port": serve_port})
    try:
        message = told(LifecycleError, deploy, made.bundle.path, made.model, made.project, settings)
        assert "features" in message
    finally:
        undeploy(made.project.name)
