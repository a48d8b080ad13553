"""A parameter XGBoost would ignore or refuse is a mistake, named with its key."""

import pytest

from lifecycle.errors import ProjectError
from lifecycle.features.encode import FeatureSchema
from lifecycle.settings import Settings
from lifecycle.training.parameters import (
    STOPPING,
    check_parameters,
    constrained,
    threads_of,
    xgboost_parameters,
)


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
        ({"nthread": 3}, r"nthread: leave this out: training\.threads is their number"),
        ({"device": "cuda"}, r"device: leave this out: training\.device is the device"),
        ({"monotone_constraints": "(1)"}, r"leave this out: training\.monotone has the"),
        ({"eval_metric": "auc"}, r"parameters\.eval_metric: leave this out: training\.metric"),
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
    project = make_project(training={"seed": 4, "metric": "brier", "parameters": {"eta": 0.2}})
    given = xgboost_parameters(project, {"eta": 0.1}, threads=2)
    assert given["eval_metric"] == STOPPING["brier"] == "rmse"
    assert (given["eta"], given["seed"], given["nthread"]) == (0.1, 4, 2)


def test_regression_may_choose_its_objective(make_project):
    project = make_project(
        task="regression", target="visits", training=training(objective="count:poisson")
    )
    check_parameters(project)
    assert (
        xgboost_parameters(project, project.training.parameters, 1)["objective"] == "count:poisson"
    )


@pytest.mark.parametrize(
    ("task", "target", "objective", "metric"),
    [
        ("binary", "bought", "binary:logistic", "logloss"),
        ("multiclass", "city", "multi:softprob", "mlogloss"),
        ("regression", "age", "reg:squarederror", "rmse"),
        ("count", "visits", "count:poisson", "poisson-nloglik"),
    ],
)
def test_each_task_has_its_objective_and_stopping_metric(
    make_project, task, target, objective, metric
):
    """The fitted loss stops training, a proper scoring rule, whatever the gate decides by."""
    gates = {"binary": "accuracy", "multiclass": "accuracy", "regression": "r2", "count": "mae"}
    project = make_project(task=task, target=target, gate={"metric": gates[task]})
    check_parameters(project)
    given = xgboost_parameters(project, {}, 1)
    assert (given["objective"], given["eval_metric"]) == (objective, metric)
    assert given.get("num_class") == (3 if task == "multiclass" else None)


def test_a_median_is_stopped_by_the_loss_that_a_median_minimises(make_project):
    median = training(objective="reg:absoluteerror")
    project = make_project(task="regression", target="age", training=median)
    assert project.training_metric == "mae"
    named = make_project(task="regression", target="age", training=median | {"metric": "rmse"})
    assert named.training_metric == "rmse"


def test_constraints_go_by_the_features_places(make_project):
    project = make_project(training={"monotone": {"visits": -1}})
    schema = FeatureSchema(names=("age", "visits", "city"), kinds=("q", "q", "c"), levels={})
    given = constrained(project, {"eta": 0.1}, schema)
    assert given == {"eta": 0.1, "monotone_constraints": "(0,-1,0)"}
    assert constrained(make_project(), {"eta": 0.1}, schema) == {"eta": 0.1}


def test_threads_are_declared_or_the_machines_shared(make_project):
    settings = Settings(ray_cpus=8)
    assert threads_of(make_project(training={"threads": 3}), settings) == 3
    assert threads_of(make_project(training={"num_workers": 3}), settings) == 2
    assert threads_of(make_project(training={"num_workers": 9}), settings) == 1
