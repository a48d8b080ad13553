"""A parameter XGBoost would ignore or refuse is a mistake, named with its key."""

import pytest

from lifecycle.errors import ProjectError
from lifecycle.training.parameters import STOPPING, check_parameters, xgboost_parameters


def training(**parameters):
    return {"rounds": 5, "parameters": parameters}


def test_good_parameters_pass(make_project, health):
    check_parameters(health)
    check_parameters(make_project(training=training(eta=0.1, max_depth=3, tree_method="approx")))


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"etaa": 0.1}, r"training\.parameters\.etaa: XGBoost does not use"),
        ({"eta": "fast"}, r"training\.parameters\.eta: XGBoost refuses 'fast'"),
        ({"max_depth": -3}, r"training\.parameters\.max_depth: .*should be greater equal to 0"),
        ({"seed": 3}, r"parameters\.seed: leave this out: training\.seed is the seed"),
        ({"eval_metric": "auc"}, r"parameters\.eval_metric: leave this out: gate\.metric"),
        ({"objective": "reg:squarederror"}, "task 'binary' takes binary:logistic"),
        ({"eta": 0.1, "learning_rate": 0.2}, "'eta' and 'learning_rate' are one parameter"),
    ],
)
def test_unusable_parameters_are_named(make_project, parameters, message):
    with pytest.raises(ProjectError, match=message):
        check_parameters(make_project(training=training(**parameters)))


@pytest.mark.parametrize(
    ("space", "message"),
    [
        ({"subsample": {"type": "float", "low": 0.5, "high": 1.5}}, r"space\.subsample.*1\.5"),
        ({"depth": {"type": "int", "low": 1, "high": 3}}, r"space\.depth: XGBoost does not use"),
        ({"grow_policy": {"type": "choice", "values": ["lossguide", "x"]}}, r"refuses 'x'"),
    ],
)
def test_both_ends_of_the_space_are_tried(make_project, space, message):
    with pytest.raises(ProjectError, match=message):
        check_parameters(make_project(tuning={"space": space}))


def test_project_decides_metric_seed_and_silence(make_project):
    project = make_project(
        training={"seed": 4, "parameters": {"eta": 0.2}}, gate={"metric": "brier"}
    )
    given = xgboost_parameters(project, {"eta": 0.1, "nthread": 2})
    assert given["eval_metric"] == STOPPING["brier"] == "rmse"
    assert (given["eta"], given["seed"], given["nthread"]) == (0.1, 4, 2)
    assert xgboost_parameters(project, {})["nthread"] == 1


def test_regression_may_choose_its_objective(make_project):
    project = make_project(
        task="regression", target="visits", training=training(objective="count:poisson")
    )
    check_parameters(project)
    assert xgboost_parameters(project, project.training.parameters)["objective"] == "count:poisson"
