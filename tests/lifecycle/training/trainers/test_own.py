"""A trainer of the user's own: what it must return, and how its failures are told."""

import re
from pathlib import Path

import pytest

from lifecycle.data.ingest import ingest
from lifecycle.data.split import split_dataset
from lifecycle.errors import FeatureError, ProjectError, TrainingError
from lifecycle.records import Window
from lifecycle.training.matrix import open_matrices
from lifecycle.training.trainers.own import OwnTrainer
from lifecycle.training.trainers.registry import open_trainer

BAD = """
import numpy as np
import xgboost
from lifecycle.errors import ProjectError
from lifecycle.training.trainers.protocol import Fitted
from lifecycle.training.trainers.booster import XGBoostModel


class Fails:
    def check(self, project):
        return project.training.nothing

    def fit(self, project, data, parameters, threads, on_round=None):
        return data.train @ data.train


class Unfinished:
    def fit(self, project, data, parameters, threads, on_round=None):
        return None


class Pickled:
    def fit(self, project, data, parameters, threads, on_round=None):
        return Fitted({"a": "model"}, {})


class NoFit:
    pass


class Argument:
    def __init__(self, needed):
        pass


class Learns:
    columns, objective = slice(None), "binary:logistic"

    def check(self, project):
        raise ProjectError("training.parameters: not these")

    def fit(self, project, data, parameters, threads, on_round=None):
        values = data.train[:, self.columns]
        rows = xgboost.DMatrix(values, data.train_labels)
        booster = xgboost.train({"objective": self.objective}, rows, 3)
        return Fitted(XGBoostModel(booster), {})


class Narrow(Learns):
    columns = slice(2)


class Margins(Learns):
    objective = "binary:logitraw"


class Alike(Learns):
    objective = "reg:squarederror"
"""


@pytest.fixture
def opened(declared, settings):
    """Class → project and matrices."""

    def make(name, task="binary"):
        project = declared(task, training={"trainer": f"bad:{name}"})
        (project.folder / "bad.py").write_text(BAD)
        split = split_dataset(project, settings, ingest(project, settings, Window()))
        return project, open_matrices(project, split.train, split.validation)

    return make


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("Fails", r"training\.trainer: .*bad\.py:14: ValueError: "),
        ("Unfinished", r"bad:Unfinished\.fit returned NoneType; return Fitted\(XGBoostModel"),
        ("Pickled", r"bad:Pickled\.fit returned dict; return Fitted"),
        ("Narrow", r"the model of bad:Narrow takes 2 features, and the data have 4"),
        ("Margins", r"answers between -.* and .*, which are not probabilities"),
    ],
)
def test_what_fit_does_wrong_is_told_with_its_place(opened, name, message):
    project, data = opened(name)
    with pytest.raises(TrainingError, match=message):
        open_trainer(project).fit(project, data, {}, threads=1)


def test_answers_of_another_shape_are_refused(opened):
    project, data = opened("Alike", task="multiclass")
    with pytest.raises(TrainingError, match=r"with shape \(100,\).* numbers of shape \(100, 3\)"):
        open_trainer(project).fit(project, data, {}, threads=1)


def test_check_is_called_and_its_errors_pass(opened):
    with pytest.raises(TrainingError, match=r"bad\.py:11: AttributeError"):
        OwnTrainer(opened("Fails")[0]).check(opened("Fails")[0])
    with pytest.raises(ProjectError, match="not these"):
        OwnTrainer(opened("Learns")[0]).check(opened("Learns")[0])
    OwnTrainer(opened("Unfinished")[0]).check(opened("Unfinished")[0])  # has none


@pytest.mark.parametrize(
    ("name", "error", "message"),
    [
        ("NoFit", TrainingError, "bad:NoFit has no method `fit`"),
        ("Argument", TrainingError, r"TypeError: .*missing 1 required positional argument"),
        ("Nowhere", FeatureError, r"training\.trainer: .*bad\.py has no .*'Nowhere'"),
    ],
)
def test_a_class_that_is_no_trainer_is_refused(opened, name, error, message):
    with pytest.raises(error, match=message):
        open_trainer(opened(name)[0])


def test_the_example_of_the_documentation_learns(declared, settings):
    page = Path(__file__).parents[4] / "docs" / "how-to" / "trainers.md"
    code = re.search(r"```python\n(.*?)```", page.read_text(), re.DOTALL)[1]
    training = {"trainer": "trainer:RandomForest", "parameters": {"trees": 50}}
    project = declared("binary", training=training)
    (project.folder / "trainer.py").write_text(code)
    split = split_dataset(project, settings, ingest(project, settings, Window()))
    data = open_matrices(project, split.train, split.validation)
    trainer = open_trainer(project)
    trainer.check(project)
    fitted = trainer.fit(project, data, project.training.parameters, threads=1)
    right = (fitted.model.predict(data.validation) >= 0.5) == data.validation_labels
    assert right.mean() > 0.75
    wrong = declared("binary", training=training | {"parameters": {"leaves": 3}})
    with pytest.raises(ProjectError, match=r"parameters\.leaves: there is only `trees`"):
        open_trainer(wrong).check(wrong)
