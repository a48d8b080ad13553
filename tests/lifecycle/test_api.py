"""What `import lifecycle` offers to notebooks: on frames, without a server or Ray."""

import bdb
import subprocess
import sys
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np
import pytest

import lifecycle
from lifecycle.data.ingest import ingest
from lifecycle.data.split import split_dataset
from lifecycle.data.windows import first_window
from lifecycle.errors import DataError, LifecycleError, ProjectError, RegistryError
from lifecycle.settings import Settings
from tests.support.small import small_frame
from tests.support.trained import train_small


@pytest.fixture
def at_home(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Settings:
    monkeypatch.setenv("LIFECYCLE_HOME", str(settings.home))
    return settings


def test_it_is_imported_when_it_is_used() -> None:
    code = "import lifecycle, sys; print('pandas' in sys.modules, hasattr(lifecycle, 'nothing'))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "False"]


def test_an_experiment_on_a_frame(
    make_project: Any, at_home: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    project = make_project()
    monkeypatch.setenv("LIFECYCLE_LAKE_URI", str(tmp_path / "shared-lake"))
    rows = lifecycle.open_dataset(project)
    assert len(rows) == len(small_frame())
    shallow = lifecycle.train(project, rows, {"max_depth": 1})
    deep = lifecycle.train(project, rows, {"max_depth": 4})
    assert not (at_home.home / "mlflow.db").exists()
    assert not (tmp_path / "shared-lake").exists()
    holdout = shallow.parts["holdout"]
    assert set(shallow.parts) == {"train", "validation", "holdout"}
    assert holdout.equals(deep.parts["holdout"]), "the same rows are held out"
    scores = deep.evaluate(holdout)
    assert (scores["low"] <= scores["value"]).all()
    assert (scores["value"] <= scores["high"]).all()
    assert scores.loc["roc_auc", "value"] != shallow.evaluate(holdout).loc["roc_auc", "value"]

    answers = deep.predict(holdout.sample(frac=1, random_state=1))
    assert answers["prediction"].between(0, 1).all()
    assert set(answers.index) == set(holdout.index)

    worst = deep.errors(holdout, rows=5)
    assert worst["loss"].is_monotonic_decreasing
    first = worst.iloc[0]
    probability = first["prediction"] if first["bought"] else 1 - first["prediction"]
    assert first["loss"] == pytest.approx(-np.log(probability))


def test_the_model_is_that_of_the_flow(make_project: Any, at_home: Settings) -> None:
    project = make_project(training={"rounds": 10, "threads": 1, "refit": False, "seed": 1})
    made = train_small(project, at_home)
    rows = lifecycle.open_dataset(project)
    model = lifecycle.train(project, rows, {"max_depth": 3, "subsample": 0.7})
    holdout = made.holdout()
    np.testing.assert_array_equal(model.answer(holdout), made.expected(holdout))


def test_a_version_of_the_lake(make_project: Any, at_home: Settings) -> None:
    project = make_project()
    ingested = ingest(project, at_home, first_window(project))
    split_dataset(project, at_home, ingested)
    assert len(lifecycle.open_dataset(project, "train")) > 0
    assert len(lifecycle.open_dataset(project, version=0)) == ingested.dataset.rows
    with pytest.raises(DataError, match="accepted has no version 7"):
        lifecycle.open_dataset(project, version=7)
    with pytest.raises(DataError, match="nonsense has no version in"):
        lifecycle.open_dataset(project, "nonsense")


@pytest.mark.component
def test_a_registered_model(make_project: Any, at_home: Settings) -> None:
    made = train_small(make_project(), at_home)
    made.register()
    model = lifecycle.open_model(made.project, 1)
    assert model.version is not None
    assert model.version.version == 1
    holdout = made.holdout()
    np.testing.assert_array_equal(model.answer(holdout), made.expected(holdout))
    with pytest.raises(RegistryError, match="has no version 9; `lifecycle versions` lists them"):
        lifecycle.open_model(made.project, 9)
    with pytest.raises(RegistryError, match="has no 'champion'"):
        lifecycle.open_model(made.project)


def test_drift_of_a_frame(make_project: Any, at_home: Settings) -> None:
    project = make_project(small_frame(1500))
    model = lifecycle.train(project, lifecycle.open_dataset(project))
    before = model.parts["train"]
    same = lifecycle.monitor(model, before, model.parts["holdout"])
    assert {"age", "prediction", "bought"} <= set(same["column"])
    assert not same["alarm"].any()
    shifted = model.parts["holdout"].assign(age=lambda rows: rows["age"] + 30)
    table = lifecycle.monitor(model, before, shifted)
    assert table.loc[0, "column"] == "age"
    assert table.loc[0, "alarm"]


def test_the_errors_of_numbers(make_project: Any, at_home: Settings) -> None:
    numbers = make_project(task="regression", target="visits")
    model = lifecycle.train(numbers, lifecycle.open_dataset(numbers))
    worst = model.errors(model.parts["holdout"], rows=3)
    assert list(worst["loss"]) == list((worst["prediction"] - worst["visits"]).abs())


class Debugger(bdb.Bdb):
    """Counts the stops at its breakpoints."""

    stops = 0

    def user_line(self, frame: FrameType) -> None:
        self.stops += bool(self.break_here(frame))
        self.set_continue()


def test_a_breakpoint_in_the_hook_holds(
    make_project: Any, at_home: Settings, tmp_path: Path
) -> None:
    hook = tmp_path / "features.py"
    hook.write_text("def build(inputs):\n    return inputs.assign(double=inputs['age'] * 2)\n")
    project = make_project(features="features:build")
    rows = lifecycle.open_dataset(project)
    debugger = Debugger()
    assert debugger.set_break(str(hook), 2) is None
    debugger.runcall(lifecycle.train, project, rows)
    assert debugger.stops


def test_a_column_that_is_missing(make_project: Any, at_home: Settings) -> None:
    project = make_project()
    rows = lifecycle.open_dataset(project)
    with pytest.raises(ProjectError, match="the frame has no column age, an input of small"):
        lifecycle.train(project, rows.drop(columns="age"))
    model = lifecycle.train(project, rows)
    with pytest.raises(DataError, match="the frame has no column age"):
        model.predict(rows.drop(columns="age"))
    with pytest.raises(LifecycleError, match="nonsense"):
        lifecycle.train(project, rows, {"nonsense": 1})
