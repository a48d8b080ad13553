"""`mlflow.pyfunc.load_model` gives the predictor's answers, from data and verified code only."""

from pathlib import Path

import mlflow
import numpy as np
import pytest

from lifecycle.errors import BundleError, FeatureError
from lifecycle.lake.read import read_version
from lifecycle.training.bundle import MODEL, load_bundle, write_bundle
from lifecycle.training.fit import bundle_schema
from lifecycle.training.matrix import open_matrices
from lifecycle.training.predictor import open_predictor
from lifecycle.training.trainers.registry import open_trainer

pytestmark = pytest.mark.component
HOOK = "def build(inputs):\n    return inputs.assign(old=(inputs['age'] > 60) * 1)\n"


@pytest.fixture
def saved(make_project, prepare, tmp_path):
    """Save a model with MLflow; gives its folder, the inputs and the predictor's answers."""

    def save(code: list[str] | None = None, **changes):
        (tmp_path / "features.py").write_text(HOOK)
        project = make_project(**changes)
        split = prepare(project)
        data = open_matrices(project, split.train, split.validation)
        model = open_trainer(project).fit(project, data, {}, threads=1).model
        schema = bundle_schema(project, data.schema, model.kind)
        bundle = write_bundle(model, schema, "identity", tmp_path / "bundles")
        inputs = read_version(split.holdout)[list(schema.inputs)]
        expected = open_predictor(load_bundle(bundle.path), project).predict(inputs)
        mlflow.pyfunc.save_model(
            tmp_path / "model",
            loader_module="lifecycle.training.pyfunc",
            data_path=str(bundle.path),
            code_paths=code,
            pip_requirements=["xgboost==3.2.0"],
            input_example=inputs.head(3),
        )
        return tmp_path / "model", inputs, expected

    return save


def only(folder: Path, name: str) -> Path:
    (found,) = folder.rglob(name)
    return found


def test_same_answers_and_no_pickle(saved):
    folder, inputs, expected = saved()
    np.testing.assert_array_equal(mlflow.pyfunc.load_model(folder).predict(inputs), expected)
    assert not [f for f in folder.rglob("*") if f.suffix in {".pkl", ".pickle", ".cloudpickle"}]


def test_a_graph_of_three_classes_answers_the_same(saved):
    forest = {"trainer": "sklearn:ensemble.ExtraTreesClassifier"}
    folder, inputs, expected = saved(task="multiclass", target="city", training=forest)
    assert expected.shape == (len(inputs), 3)
    np.testing.assert_array_equal(mlflow.pyfunc.load_model(folder).predict(inputs), expected)
    assert not [f for f in folder.rglob("*") if f.suffix in {".pkl", ".pickle", ".cloudpickle"}]


def test_hook_comes_from_the_models_code_folder(saved, tmp_path):
    folder, inputs, expected = saved([str(tmp_path / "features.py")], features="features:build")
    (tmp_path / "features.py").unlink()
    np.testing.assert_array_equal(mlflow.pyfunc.load_model(folder).predict(inputs), expected)


def test_changed_hook_does_not_run(saved, tmp_path):
    folder, _, _ = saved([str(tmp_path / "features.py")], features="features:build")
    only(folder, "features.py").write_text("raise SystemExit('executed')")
    with pytest.raises(BundleError, match="has changed since training"):
        mlflow.pyfunc.load_model(folder)


def test_missing_hook_is_named(saved, tmp_path):
    (tmp_path / "left_behind.py").write_text(HOOK)
    folder, _, _ = saved(features="left_behind:build")
    with pytest.raises(FeatureError, match="left_behind:build"):
        mlflow.pyfunc.load_model(folder)


def test_changed_model_file_is_refused(saved):
    folder, _, _ = saved()
    file = only(folder, MODEL)
    file.write_bytes(file.read_bytes() + b" ")
    with pytest.raises(BundleError, match="changed since the bundle was written"):
        mlflow.pyfunc.load_model(folder)
