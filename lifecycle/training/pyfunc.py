"""MLflow's `loader_module`: `mlflow.pyfunc.load_model` of a registered model, without a pickle.

The features hook is the user's code, not part of the bundle. It is taken from the MLflow model's
`code` folder (`code_paths` when it was logged) or, failing that, imported; either way its digest
must be the training's before it runs.
"""

from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from lifecycle.project import ColumnSpec, ContractSpec, Project, SourceSpec
from lifecycle.training.bundle import BundleSchema, load_bundle
from lifecycle.training.predictor import Predictor, open_predictor

CODE = "code"
"""Where MLflow keeps `code_paths` in a model's folder."""


class BundleModel:
    """MLflow model of a bundle; answers exactly as serving does."""

    def __init__(self, predictor: Predictor) -> None:
        self._predictor = predictor

    def predict(self, model_input: pd.DataFrame) -> NDArray[np.float64]:
        """Predict as `Predictor.predict`: shape (n,), or (n, classes) for multiclass."""
        return self._predictor.predict(model_input)


def _load_pyfunc(path: str) -> BundleModel:
    """Verify the bundle at `path`, then load it.

    Raises:
        BundleError: the bundle or the hook is not what it was at training.
        FeatureError: the hook is not there.
    """
    loaded = load_bundle(path)
    return BundleModel(open_predictor(loaded, _project(loaded.schema, _code_folder(Path(path)))))


def _project(schema: BundleSchema, folder: Path) -> Project:
    """Rebuild from a bundle, which has no project file, the parts that find the hook."""
    target = ColumnSpec(
        type="category" if schema.classes else "number", categories=schema.classes or None
    )
    columns = schema.inputs | {schema.target: target}
    project = Project(
        name=schema.project,
        source=SourceSpec(path="none"),
        task=schema.task,
        target=schema.target,
        features=schema.hook,
        contract=ContractSpec(columns=columns),
    )
    project._file = folder / "project.yaml"
    return project


def _code_folder(bundle: Path) -> Path:
    """The `code` folder of the MLflow model that holds the bundle."""
    model = next((p for p in bundle.absolute().parents if (p / "MLmodel").is_file()), bundle)
    return model / CODE
