"""One predictor everywhere: it agrees with XGBoost's own matrix, and refuses other features."""

import dataclasses

import numpy as np
import pandas as pd
import pytest
import xgboost

from lifecycle.errors import BundleError, FeatureError
from lifecycle.lake.read import read_version
from lifecycle.training.bundle import load_bundle, write_bundle
from lifecycle.training.calibration import Calibration
from lifecycle.training.fit import bundle_schema
from lifecycle.training.matrix import open_matrices
from lifecycle.training.predictor import open_predictor
from lifecycle.training.trainers.xgb import XGBoostTrainer

HOOK = "def build(inputs):\n    return inputs.assign(old=(inputs['age'] > 60) * 1)\n"


@pytest.fixture
def trained(make_project, prepare, tmp_path):
    """Project changes → project, its matrices, split and loaded bundle."""

    def make(**changes):
        (tmp_path / "features.py").write_text(HOOK)
        project = make_project(**changes)
        split = prepare(project)
        data = open_matrices(project, split.train, split.validation)
        model = XGBoostTrainer().fit(project, data, {"max_depth": 3}, threads=1).model
        schema = bundle_schema(project, data.schema)
        bundle = write_bundle(model, schema, "identity", tmp_path / "bundles")
        return project, data, split, load_bundle(bundle.path, bundle.digest)

    return make


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"features": "features:build"},
        {"task": "regression", "target": "visits"},
        {"task": "multiclass", "target": "city"},
    ],
    ids=["plain", "hook", "regression", "classes"],
)
def test_predictions_are_those_of_xgboosts_own_matrix(trained, changes):
    project, data, split, loaded = trained(**changes)
    predicted = open_predictor(loaded, project).predict(read_version(split.validation))
    matrix = xgboost.DMatrix(
        data.validation, feature_types=list(data.schema.kinds), enable_categorical=True
    )
    assert predicted.dtype == np.float64
    classes = (3,) if project.classes else ()
    assert predicted.shape == (split.validation.rows, *classes)
    np.testing.assert_array_equal(predicted, loaded.model.booster.predict(matrix))


def test_rows_alone_answer_as_rows_together(trained):
    project, _, split, loaded = trained()
    frame, predictor = read_version(split.holdout), open_predictor(loaded, project)
    alone = [predictor.predict(frame.iloc[[row]])[0] for row in range(20)]
    np.testing.assert_array_equal(alone, predictor.predict(frame)[:20])


def test_threads_do_not_change_answers(trained):
    project, _, split, loaded = trained()
    frame = read_version(split.train)
    one = open_predictor(loaded, project, threads=1).predict(frame)
    np.testing.assert_array_equal(one, open_predictor(loaded, project, threads=2).predict(frame))


def test_categories_are_learned_and_unknown_ones_count_as_missing(trained):
    project, _, _, loaded = trained()
    predictor = open_predictor(loaded, project)

    def answer(city):
        return predictor.predict(pd.DataFrame({"age": [40.0], "visits": [5], "city": [city]}))[0]

    assert answer("Rome") > answer("Oslo")  # as the data have it
    assert answer("Atlantis") == answer(None)


def test_a_calibration_in_the_schema_is_applied(trained):
    project, _, split, loaded = trained()
    frame = read_version(split.holdout)
    plain = open_predictor(loaded, project).predict(frame)
    steps = Calibration(method="isotonic", points=(0.2, 0.8), values=(0.4, 0.5))
    schema = loaded.schema.model_copy(update={"calibration": steps})
    calibrated = dataclasses.replace(loaded, schema=schema)
    np.testing.assert_array_equal(
        open_predictor(calibrated, project).predict(frame), steps.apply(plain)
    )


def test_missing_input_column_is_named(trained):
    project, _, _, loaded = trained()
    with pytest.raises(FeatureError, match="visits"):
        open_predictor(loaded, project).predict(pd.DataFrame({"age": [40.0], "city": ["Rome"]}))


def test_a_changed_hook_is_refused_before_it_runs(trained, tmp_path):
    project, _, _, loaded = trained(features="features:build")
    (tmp_path / "features.py").write_text("raise SystemExit('executed')\n" + HOOK)
    with pytest.raises(BundleError, match="features:build has changed since training"):
        open_predictor(loaded, project)


def test_another_or_no_hook_is_refused(trained, make_project):
    _, _, _, loaded = trained(features="features:build")
    with pytest.raises(BundleError, match="the project has none"):
        open_predictor(loaded, make_project())
    with pytest.raises(BundleError, match="the project has features:other"):
        open_predictor(loaded, make_project(features="features:other"))
