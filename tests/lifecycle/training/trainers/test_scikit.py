"""Estimators that cannot be used are named with their key, before or at the fit."""

import numpy as np
import pytest

from lifecycle.data.ingest import ingest
from lifecycle.data.split import split_dataset
from lifecycle.errors import ProjectError, TrainingError
from lifecycle.records import Window
from lifecycle.training.matrix import open_matrices
from lifecycle.training.trainers import scikit
from lifecycle.training.trainers.onnx import OnnxModel
from lifecycle.training.trainers.scikit import SklearnTrainer

HIST = "sklearn:ensemble.HistGradientBoostingClassifier"


def trainer(name, **parameters):
    return {"trainer": name, "parameters": parameters}


@pytest.mark.parametrize(
    ("task", "training", "message"),
    [
        ("binary", trainer("sklearn:ensemble.Nope"), r"trainer: scikit-learn has no estimator 'en"),
        ("binary", trainer("sklearn:nope.Forest"), "scikit-learn has no estimator 'nope.Forest'"),
        ("binary", trainer("sklearn:Forest"), "write it as in sklearn:ensemble"),
        ("binary", trainer("sklearn:metrics.roc_auc_score"), "has no estimator"),
        (
            "binary",
            trainer("sklearn:linear_model.Ridge"),
            r"Ridge is not a classifier, which task 'b",
        ),
        ("count", trainer("sklearn:svm.SVC"), "SVC is not a regressor, which task 'count'"),
        (
            "multiclass",
            trainer("sklearn:neighbors.NearestCentroid"),
            "NearestCentroid cannot be written as an ONNX graph",
        ),
        ("binary", trainer("sklearn:svm.LinearSVC"), "LinearSVC gives no probabilities"),
        ("binary", trainer("sklearn:svm.SVC", C=2.0), "no probabilities with these training.para"),
        (
            "binary",
            trainer("sklearn:ensemble.VotingClassifier"),
            "cannot be made from a project file",
        ),
        ("binary", trainer(HIST, max_itr=3), r"parameters\.max_itr: .* did you mean 'max_iter'"),
        ("binary", trainer(HIST, eta=3), r"parameters\.eta: Hist.* no such parameter. There are"),
        ("binary", trainer(HIST, max_iter=-3), r"parameters\.max_iter: scikit-learn refuses it"),
        ("binary", trainer(HIST, random_state=3), r"random_state: leave this out: training\.seed"),
        (
            "binary",
            trainer("sklearn:neighbors.KNeighborsClassifier") | {"class_weight": "balanced"},
            r"training\.class_weight: KNeighborsClassifier cannot weight rows",
        ),
    ],
)
def test_what_cannot_be_used_is_named_before_data_are_read(declared, task, training, message):
    with pytest.raises(ProjectError, match=message):
        SklearnTrainer().check(declared(task, training=training))


def test_both_ends_of_the_space_are_tried(declared):
    space = {"learning_rate": {"type": "float", "low": -0.1, "high": 0.5}}
    project = declared("binary", training=trainer(HIST), tuning={"space": space})
    with pytest.raises(ProjectError, match=r"tuning\.space\.learning_rate: scikit-learn refuses"):
        SklearnTrainer().check(project)


@pytest.fixture
def opened(declared, settings):
    def make(task, **changes):
        project = declared(task, **changes)
        split = split_dataset(project, settings, ingest(project, settings, Window()))
        return project, open_matrices(project, split.train, split.validation)

    return make


def test_a_fit_that_fails_is_named(opened):
    logistic = trainer("sklearn:linear_model.LogisticRegression", solver="liblinear")
    project, data = opened("multiclass", training=logistic)
    with pytest.raises(TrainingError, match=r"LogisticRegression cannot be fitted with .*libl"):
        SklearnTrainer().fit(project, data, project.training.parameters, threads=1)


def test_a_parameter_that_tuning_chose_is_checked_too(opened):
    project, data = opened("binary", training=trainer(HIST))
    with pytest.raises(
        ProjectError, match=r"training\.parameters: scikit-learn refuses it: .*iter"
    ):
        SklearnTrainer().fit(project, data, {"max_iter": -1}, threads=1)


def test_a_class_without_a_row_is_named(opened):
    project, data = opened("multiclass", training=trainer(HIST))
    data.train_labels[data.train_labels == 2] = 1
    with pytest.raises(TrainingError, match="plan: class 'large' has no row in the train part"):
        SklearnTrainer().fit(project, data, {}, threads=1)


def test_a_graph_that_answers_otherwise_is_not_handed_out(opened, monkeypatch):
    project, data = opened("regression", training=trainer("sklearn:linear_model.Ridge"))

    class Wrong(OnnxModel):
        def predict(self, matrix, threads=1):
            answers = super().predict(matrix, threads)
            answers[np.isnan(matrix).any(axis=1)] += 1.0  # only where a value is missing
            return answers

    monkeypatch.setattr(scikit, "OnnxModel", Wrong)
    with pytest.raises(TrainingError, match=r"graph of Ridge answers differently .* by up to"):
        SklearnTrainer().fit(project, data, {}, threads=1)


def test_a_conversion_that_fails_is_named(opened, monkeypatch):
    project, data = opened("regression", training=trainer("sklearn:linear_model.Ridge"))

    def fails(*arguments):
        raise NotImplementedError("no such operator\nand much more")

    monkeypatch.setattr(scikit, "to_graph", fails)
    with pytest.raises(TrainingError, match=r"Ridge cannot be written .*: no such operator$"):
        SklearnTrainer().fit(project, data, {}, threads=1)


def test_seed_and_threads_are_the_projects(opened):
    forest = "sklearn:ensemble.ExtraTreesClassifier"
    training = trainer(forest, n_estimators=5)
    project, data = opened("binary", training=training)
    other = opened("binary", training=training | {"seed": 3})[0]
    first = SklearnTrainer().fit(project, data, project.training.parameters, threads=1)
    two = SklearnTrainer().fit(project, data, project.training.parameters, threads=2)
    seeded = SklearnTrainer().fit(other, data, project.training.parameters, threads=1)
    assert first.model.save() == two.model.save() != seeded.model.save()
