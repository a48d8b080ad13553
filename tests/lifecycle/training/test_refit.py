"""The final model learns from the validation part too, once that part has said when to stop."""

import numpy as np
import pytest
import xgboost

from lifecycle.errors import ProjectError
from lifecycle.runtime.identity import project_digest
from lifecycle.training.fit import train_model
from lifecycle.training.matrix import as_dmatrix, open_matrices, pool
from lifecycle.training.parameters import xgboost_parameters
from lifecycle.training.trainers.registry import open_trainer

TRAINING = {"rounds": 100, "early_stopping_rounds": 5}


@pytest.fixture
def trained(make_project, prepare, settings):
    """Changes of `training` and of the project → project, data and what training hands out."""

    def make(training, **changes):
        project = make_project(training=TRAINING | training, **changes)
        split = prepare(project)
        parameters = project.training.parameters
        found = train_model(project, split.train, split.validation, parameters, settings)
        return project, open_matrices(project, split.train, split.validation), found

    return make


def test_the_model_is_that_of_both_parts_with_the_rounds_found(trained):
    project, data, found = trained({})
    _, _, stopped = trained({"refit": False})
    rounds = int(np.argmin(stopped.curve["validation"])) + 1
    assert rounds < TRAINING["rounds"]
    assert found.model.rounds == stopped.model.rounds == rounds
    assert found.curve == stopped.curve  # the curve stays that of the fit that was stopped
    matrix = np.concatenate([data.train, data.validation])
    truth = np.concatenate([data.train_labels, data.validation_labels])
    given = xgboost_parameters(project, {}, threads=1)
    bare = xgboost.train(given, as_dmatrix(matrix, truth, data.schema, 1), rounds)
    np.testing.assert_array_equal(
        found.model.predict(data.train), bare.inplace_predict(data.train).astype("f8")
    )
    assert (found.model.predict(data.train) != stopped.model.predict(data.train)).any()


def test_equal_arguments_give_equal_bytes(trained):
    training = {"parameters": {"subsample": 0.6, "colsample_bynode": 0.5}}
    _, _, first = trained(training)
    _, _, second = trained(training)
    assert first.model.save() == second.model.save()


def test_weights_are_those_of_both_parts(trained):
    project, data, _ = trained({"class_weight": "balanced"})
    both = pool(project, data)
    ones = both.train_labels == 1
    assert both.train_weights[ones].sum() == pytest.approx(both.train_weights[~ones].sum())
    assert len(both.train_weights) == len(data.train) + len(data.validation)


def test_calibration_is_of_rows_that_the_model_had_not_learned_from(trained):
    _, _, found = trained({"calibration": "sigmoid"})
    _, _, stopped = trained({"calibration": "sigmoid", "refit": False})
    assert found.calibration == stopped.calibration
    assert found.calibration is not None


def test_an_estimator_learns_from_both_parts(trained):
    ridge = {"trainer": "sklearn:linear_model.Ridge"}
    changes = {"task": "regression", "target": "visits"}
    project, data, found = trained(ridge, **changes)
    both = open_trainer(project).fit(project, pool(project, data), {}, 1).model
    train = open_trainer(project).fit(project, data, {}, 1).model
    assert found.model.save() == both.save() != train.save()


def test_several_workers_and_own_trainers_do_not_refit(make_project):
    assert make_project().training.refits
    assert not make_project(training={"num_workers": 2}).training.refits
    assert not make_project(training={"trainer": "mine:Own"}).training.refits
    for training in ({"num_workers": 2}, {"trainer": "mine:Own"}):
        with pytest.raises(ProjectError, match=r"training\.refit: several workers keep"):
            make_project(training=training | {"refit": True})


def test_it_is_part_of_the_identity(make_project):
    refitted = make_project(training=TRAINING)
    stopped = make_project(training=TRAINING | {"refit": False})
    assert project_digest(refitted) != project_digest(stopped)
