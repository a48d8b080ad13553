"""What every trainer must keep, whichever library its model is of; one suite, run against all."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import pytest

from lifecycle.data.ingest import ingest
from lifecycle.data.split import split_dataset
from lifecycle.errors import ProjectError
from lifecycle.features.encode import labels
from lifecycle.lake.read import read_version
from lifecycle.project import Project
from lifecycle.records import Split, Window
from lifecycle.settings import Settings
from lifecycle.training.bundle import load_bundle, write_bundle
from lifecycle.training.evaluation.evaluate import Measurement, baseline, metric_value
from lifecycle.training.fit import bundle_schema
from lifecycle.training.matrix import Matrices, open_matrices
from lifecycle.training.predictor import Predictor, open_predictor
from lifecycle.training.pyfunc import _load_pyfunc
from lifecycle.training.trainers.protocol import Fitted
from lifecycle.training.trainers.registry import open_trainer

FORESTS = {"n_estimators": 20, "max_depth": 6}
BOOSTED = {"max_iter": 30, "min_samples_leaf": 10}
NETWORK = {"max_iter": 500, "hidden_layer_sizes": 8, "learning_rate_init": 0.02}
CASES: list[tuple[str, str, dict[str, Any]]] = [
    ("xgboost", "binary", {"eta": 0.2, "max_depth": 3}),
    ("xgboost", "multiclass", {"eta": 0.2, "max_depth": 3}),
    ("xgboost", "regression", {"eta": 0.2, "max_depth": 3, "subsample": 0.8}),
    ("xgboost", "count", {"eta": 0.2, "max_depth": 3}),
    ("sklearn:ensemble.HistGradientBoostingClassifier", "binary", BOOSTED),
    ("sklearn:ensemble.HistGradientBoostingClassifier", "multiclass", BOOSTED),
    ("sklearn:ensemble.HistGradientBoostingRegressor", "regression", BOOSTED),
    ("sklearn:ensemble.HistGradientBoostingRegressor", "count", BOOSTED | {"loss": "poisson"}),
    ("sklearn:ensemble.RandomForestClassifier", "binary", FORESTS),
    ("sklearn:ensemble.RandomForestClassifier", "multiclass", FORESTS),
    ("sklearn:ensemble.RandomForestRegressor", "regression", FORESTS),
    ("sklearn:ensemble.RandomForestRegressor", "count", FORESTS | {"criterion": "poisson"}),
    ("sklearn:linear_model.LogisticRegression", "binary", {}),
    ("sklearn:linear_model.LogisticRegression", "multiclass", {"C": 0.5}),
    ("sklearn:linear_model.Ridge", "regression", {}),
    ("sklearn:linear_model.PoissonRegressor", "count", {}),
    ("sklearn:ensemble.GradientBoostingClassifier", "binary", {"n_estimators": 30}),
    ("sklearn:svm.SVC", "binary", {"probability": True}),
    ("sklearn:neighbors.KNeighborsRegressor", "regression", {}),
    (
        "sklearn:neural_network.MLPClassifier",
        "multiclass",
        {"max_iter": 500, "hidden_layer_sizes": 8, "learning_rate_init": 0.02},
    ),
    ("plug:Stumps", "binary", {"trees": 30}),
    ("plug:LeastSquares", "regression", {}),
]

SHARE_LEFT = {"binary": 0.6, "multiclass": 0.7, "regression": 0.6, "count": 0.75}
"""What a model may leave of the trivial model's distance to perfection; counts are noisy."""


@dataclass(frozen=True)
class Case:
    project: Project
    split: Split
    data: Matrices
    fitted: Fitted
    predictor: Predictor
    """Of the bundle, as it was written and loaded."""

    def fit(self, **training: Any) -> Fitted:
        changed = self.project.training.model_copy(update=training)
        project = self.project.model_copy(update={"training": changed})
        data = open_matrices(project, self.split.train, self.split.validation)
        return open_trainer(project).fit(project, data, project.training.parameters, threads=1)


@pytest.fixture(scope="module", params=CASES, ids=lambda case: f"{case[0]} {case[1]}")
def case(request, tmp_path_factory, declare):
    trainer, task, parameters = request.param
    folder = tmp_path_factory.mktemp("case")
    training = {"trainer": trainer, "rounds": 60, "parameters": parameters}
    project = declare(folder, task, training=training)
    settings = Settings(home=folder / "lifecycle")
    split = split_dataset(project, settings, ingest(project, settings, Window()))
    open_trainer(project).check(project)
    data = open_matrices(project, split.train, split.validation)
    fitted = open_trainer(project).fit(project, data, parameters, threads=1)
    schema = bundle_schema(project, data.schema, fitted.model.kind)
    bundle = write_bundle(fitted.model, schema, "identity", folder / "bundles")
    predictor = open_predictor(load_bundle(bundle.path, bundle.digest), project)
    return Case(project, split, data, fitted, predictor)


def test_it_learns(case):
    frame = read_version(case.split.holdout)
    truth = labels(frame, case.project)
    train = labels(read_version(case.split.train), case.project)
    metric, task = case.project.metric, case.project.task
    trivial = baseline(train, truth, Measurement(task, 1), "holdout").metrics[metric].value
    reached = metric_value(metric, truth, case.predictor.predict(frame), task)
    perfect = 1.0 if metric == "roc_auc" else 0.0
    assert abs(reached - perfect) < SHARE_LEFT[task] * abs(trivial - perfect)


def test_equal_arguments_give_equal_bytes(case):
    assert case.fit().model.save() == case.fitted.model.save()


def test_a_bundle_gives_the_same_answers_bit_by_bit(case):
    loaded = case.predictor.loaded.model
    assert loaded.kind == case.fitted.model.kind
    assert loaded.rounds == case.fitted.model.rounds >= 1
    np.testing.assert_array_equal(
        loaded.predict(case.data.validation), case.fitted.model.predict(case.data.validation)
    )
    assert loaded.save() == case.fitted.model.save()


def test_answers_have_the_shape_and_range_of_the_task(case):
    frame = read_version(case.split.holdout)
    answers = case.predictor.predict(frame)
    assert answers.dtype == np.float64
    assert np.isfinite(answers).all()
    if case.project.task == "multiclass":
        assert answers.shape == (len(frame), 3)
        np.testing.assert_allclose(answers.sum(axis=1), 1, atol=1e-5)
        truth = labels(frame, case.project)
        assert (answers.argmax(axis=1) == truth).mean() > 0.6  # columns are in the classes' order
    else:
        assert answers.shape == (len(frame),)
    if case.project.task in ("binary", "multiclass"):
        assert answers.min() >= 0
        assert answers.max() <= 1


def test_one_row_answers_as_in_a_batch(case):
    frame = read_version(case.split.holdout).head(20)
    alone = [case.predictor.predict(frame.iloc[[row]])[0] for row in range(len(frame))]
    # a matrix product may add up one row in another order than many
    np.testing.assert_allclose(alone, case.predictor.predict(frame), rtol=1e-5, atol=1e-7)


def test_threads_do_not_change_answers(case):
    rows = case.data.validation
    model = case.fitted.model
    np.testing.assert_allclose(model.predict(rows, threads=2), model.predict(rows), rtol=1e-5)


def test_missing_values_and_unknown_categories_are_answered(case):
    rows = pd.DataFrame(
        {
            "age": [40.0, np.nan, np.nan, np.nan],
            "visits": [5.0, 5.0, np.nan, np.nan],
            "noise": [0.0, 0.0, 0.0, np.nan],
            "city": ["Rome", "Atlantis", None, None],
        }
    )
    answers = case.predictor.predict(rows)
    assert np.isfinite(answers).all()
    unknown = case.predictor.predict(rows.assign(city="Atlantis"))
    np.testing.assert_array_equal(unknown, case.predictor.predict(rows.assign(city=None)))


def test_weights_matter(case):
    if case.project.task not in ("binary", "multiclass"):
        pytest.skip("weights are of classes")
    first = "0" if case.project.task == "binary" else "small"

    def share_of_first(fitted):
        answers = fitted.model.predict(case.data.validation)
        return 1 - answers.mean() if answers.ndim == 1 else answers[:, 0].mean()

    weighted = case.fit(class_weight={first: 30.0})
    assert share_of_first(weighted) > share_of_first(case.fitted) + 0.01


def test_unknown_parameters_are_named(case):
    if case.project.training.trainer == "plug:LeastSquares":
        pytest.skip("it has no check, which is left to the user")
    training = case.project.training.model_copy(update={"parameters": {"deepness": 3}})
    project = case.project.model_copy(update={"training": training})
    with pytest.raises(ProjectError, match=r"training\.parameters\.deepness"):
        open_trainer(project).check(project)


def test_importances_are_shares_or_zeros(case):
    shares = case.predictor.loaded.importances()
    assert set(shares) == {"age", "visits", "noise", "city"}
    assert sum(shares.values()) == pytest.approx(1) or set(shares.values()) == {0.0}
    if "Forest" in case.project.training.trainer or case.fitted.model.kind == "xgboost":
        assert list(shares)[-1] == "noise"


def test_contributions_add_up_to_the_margin(case):
    rows = case.data.validation[:50]
    shap = case.fitted.model.contributions(rows)
    if case.fitted.model.kind == "onnx":
        assert shap is None
        return
    margin = shap.sum(axis=-1)
    answers = case.fitted.model.predict(rows)
    expected = {
        "binary": lambda: np.log(answers / (1 - answers)),
        "multiclass": lambda: np.log(answers) - np.log(answers).mean(axis=1, keepdims=True),
        "regression": lambda: answers,
        "count": lambda: np.log(answers),
    }[case.project.task]()
    if case.project.task == "multiclass":
        assert shap.shape == (50, 3, 5)
        margin = margin - margin.mean(axis=1, keepdims=True)
    np.testing.assert_allclose(margin, expected, rtol=1e-3, atol=1e-3)


def test_mlflows_loader_gives_the_same_answers(case):
    folder = next((case.project.folder / "bundles").iterdir())
    frame = read_version(case.split.holdout)[list(case.project.input_columns)]
    np.testing.assert_array_equal(
        _load_pyfunc(str(folder)).predict(frame), case.predictor.predict(frame)
    )
