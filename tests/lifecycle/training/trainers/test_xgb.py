"""XGBoost: constraints, the project's own metric, the device, and bins of the train part."""

from pathlib import Path

import numpy as np
import pytest
import xgboost

from lifecycle.data.ingest import ingest
from lifecycle.data.split import split_dataset
from lifecycle.errors import FeatureError, ProjectError, TrainingError
from lifecycle.records import Window
from lifecycle.training.matrix import open_matrices
from lifecycle.training.trainers import xgb
from lifecycle.training.trainers.booster import XGBoostModel, load_booster
from lifecycle.training.trainers.xgb import XGBoostTrainer, boost, parts_of

RECALL = """
def recall(truth, prediction):
    assert set(truth) <= {0.0, 1.0} and prediction.min() >= 0 and prediction.max() <= 1
    return float((prediction[truth == 1] >= 0.5).mean())

def timid(truth, prediction):
    return -float(prediction.std())

def sure(truth, prediction):
    assert prediction.shape == (len(truth), 3) and abs(prediction.sum(axis=1) - 1).max() < 1e-5
    return float(prediction[range(len(truth)), truth.astype(int)].mean())

def broken(truth, prediction):
    return truth / 0 if False else 1 / 0

def nothing(truth, prediction):
    return float("nan")
"""


@pytest.fixture
def opened(declared, settings):
    """Task and changes → project and its matrices."""

    def make(task, **changes):
        project = declared(task, **changes)
        (project.folder / "own.py").write_text(RECALL)
        split = split_dataset(project, settings, ingest(project, settings, Window()))
        return project, open_matrices(project, split.train, split.validation)

    return make


def fit(project, data, **parameters):
    return XGBoostTrainer().fit(project, data, {"max_depth": 3, **parameters}, threads=1)


def test_the_curve_has_both_parts_and_ends_at_the_best_round(opened):
    project, data = opened("regression", training={"early_stopping_rounds": 5})
    fitted = fit(project, data, eta=0.5)
    validation = fitted.curve["validation"]
    assert len(fitted.curve["train"]) == len(validation) > fitted.model.rounds
    assert fitted.model.rounds == np.argmin(validation) + 1
    answers = fitted.model.predict(data.validation)
    rmse = np.sqrt(np.mean((answers - data.validation_labels) ** 2))
    assert rmse == pytest.approx(min(validation), rel=1e-5)


def test_the_train_curve_of_many_rows_is_a_samples(opened, monkeypatch):
    project, data = opened("regression", training={"rounds": 5})
    monkeypatch.setattr(xgb, "SAMPLE_ROWS", 100)
    assert parts_of(project, data, 1)["sample"].num_row() == 100
    sampled = fit(project, data)
    monkeypatch.undo()
    whole = fit(project, data)
    assert sampled.model.save() == whole.model.save()
    assert sampled.curve["train"] != whole.curve["train"]
    assert sampled.curve["train"] == pytest.approx(whole.curve["train"], rel=0.3)


@pytest.mark.parametrize("task", ["binary", "multiclass", "regression"])
def test_bins_give_the_same_booster_as_values(opened, task):
    weights = {"class_weight": "balanced"} if task != "regression" else {}
    project, data = opened(task, training={"rounds": 10, **weights})
    parameters = {"max_depth": 4, "max_bin": 32, "subsample": 0.8}
    binned = XGBoostTrainer().fit(project, data, parameters, threads=1)
    values = boost(project, parts_of(project, data, 1), parameters, 1)
    assert binned.model.save() == XGBoostModel(values.booster).save()


@pytest.mark.parametrize("sign", [1, -1])
def test_monotone_constraints_hold_for_every_row(opened, sign):
    training = {"monotone": {"noise": sign, "visits": 1}, "rounds": 30}
    project, data = opened("binary", training=training)
    free = opened("binary", training={"rounds": 30})[0]
    ladder = np.repeat(data.validation[:40], 20, axis=0)
    ladder[:, data.schema.names.index("noise")] = np.tile(np.linspace(-3, 3, 20), 40)

    def steps(which):
        answers = fit(which, data, max_depth=6).model.predict(ladder)
        return np.diff(answers.reshape(40, 20), axis=1)

    assert (sign * steps(project) >= 0).all()
    assert (sign * steps(free) < 0).any()


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("city", r"training\.monotone\.city: this feature is a category"),
    ],
)
def test_constraints_that_cannot_hold_are_named(opened, name, message):
    project, data = opened("binary", training={"monotone": {name: 1}})
    with pytest.raises(ProjectError, match=message):
        fit(project, data)


def test_an_unknown_constraint_is_named_before_data_are_read(declared):
    with pytest.raises(ProjectError, match=r":\d+: training\.monotone\.height: there is no such"):
        declared("binary", training={"monotone": {"height": 1}})


def test_a_parameters_typo_is_told_with_its_line_and_what_was_meant(declared):
    project = declared("binary", training={"parameters": {"eta": 0.2, "max_dept": 3}})
    with pytest.raises(ProjectError, match="did you mean 'max_depth'") as caught:
        XGBoostTrainer().check(project)
    place, _, _ = str(caught.value).partition(": training.parameters.max_dept: ")
    file, _, line = place.rpartition(":")
    assert "max_dept" in Path(file).read_text().splitlines()[int(line) - 1]


def test_a_gpu_that_is_not_there_is_an_error_and_no_slow_training(opened):
    project, data = opened("binary", training={"device": "cuda"})
    XGBoostTrainer().check(project)  # may run elsewhere than training does
    with pytest.raises(TrainingError, match=r"training\.device: 'cuda', and XGBoost finds no such"):
        fit(project, data)


def own(metric, function):
    return {"metrics": {metric: f"own:{function}"}, "training": {"metric": metric}}


def test_an_own_metric_stops_by_probabilities(opened):
    project, data = opened("binary", **own("recall", "recall"))
    fitted = fit(project, data, eta=0.3)
    assert fitted.model.rounds == np.argmax(fitted.curve["validation"]) + 1
    found = fitted.model.predict(data.validation)[data.validation_labels == 1] >= 0.5
    assert found.mean() == pytest.approx(max(fitted.curve["validation"]), abs=1e-5)


def test_the_gates_metric_does_not_stop_training(opened):
    gated = {"metrics": {"worse": "own:timid"}, "gate": {"metric": "worse"}}
    project, data = opened("binary", **gated)
    plain, _ = opened("binary")
    assert fit(project, data).curve == fit(plain, data).curve


def test_an_own_metric_decides_and_nothing_else(opened):
    project, data = opened("binary", **own("worse", "timid"))
    assert fit(project, data).model.rounds == 1  # learning makes this metric worse


def test_an_own_metric_of_classes_is_given_all_probabilities(opened):
    project, data = opened(
        "multiclass", **own("loss", "sure") | {"training": {"metric": "loss", "rounds": 10}}
    )
    fitted = fit(project, data)
    assert fitted.curve["validation"][-1] > 0.5
    assert fitted.curve["validation"][-1] > fitted.curve["validation"][0]


@pytest.mark.parametrize(
    ("function", "message"),
    [("broken", r"own\.py:\d+: ZeroDivisionError"), ("nothing", "not a finite number")],
)
def test_an_own_metric_that_fails_is_told_with_its_place(opened, function, message):
    project, data = opened("binary", **own("mine", function))
    with pytest.raises(FeatureError, match=rf"metrics\.mine: .*{message}"):
        fit(project, data)


def test_what_xgboost_says_is_told_plainly(opened):
    project, data = opened("binary")
    with pytest.raises(TrainingError, match=r"^XGBoost could not train: .*max_depth"):
        fit(project, data, max_depth=-4)


@pytest.mark.parametrize("content", [b"", b"{}", b"{" * 100])
def test_what_is_no_booster_is_refused(content):
    with pytest.raises(ValueError, match="does not read it"):
        load_booster(content)


def test_importances_go_by_the_boosters_own_names():
    rows = np.random.default_rng(1).normal(size=(200, 2)).astype("f4")
    named = xgboost.DMatrix(rows, rows[:, 1], feature_names=["first", "second"])
    model = XGBoostModel(xgboost.train({}, named, 3))
    assert model.importances()[1] > 0.9
    assert model.contributions(rows).shape == (200, 3)


def test_a_model_without_a_split_has_no_importances():
    rows = xgboost.DMatrix(np.ones((4, 2)), label=np.ones(4))
    assert XGBoostModel(xgboost.train({}, rows, 1)).importances().tolist() == [0.0, 0.0]
