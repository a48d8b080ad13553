"""Predictions of a loaded bundle: the same few lines in training, serving, scoring and MLflow."""

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from lifecycle.errors import BundleError
from lifecycle.features.encode import (
    Hook,
    build_features,
    encode,
    hook_digest,
    load_hook,
    view_uses,
)
from lifecycle.project import Project
from lifecycle.training.bundle import LoadedBundle


class Predictor:
    """A model that takes a frame of inputs, with the columns of `schema.inputs`.

    Args:
        hook: the features hook, already known to be the training's; see `open_predictor`.
        threads: 1 suits single rows (more make the slowest answers slower), more suit batches.
    """

    def __init__(self, loaded: LoadedBundle, hook: Hook | None, threads: int = 1) -> None:
        self.loaded = loaded
        self._hook = hook
        self._columns = tuple(loaded.schema.inputs)
        self._threads = threads

    def predict(self, inputs: pd.DataFrame) -> NDArray[np.float64]:
        """Probability of `schema.positive` (binary) or the value (regression, count), shape (n,);
        multiclass: the probabilities of `schema.classes`, shape (n, classes).

        Raises:
            FeatureError: an input column is missing, or the hook fails.
        """
        # without a hook the inputs are the features, and need not be copied for it
        plain = self._hook is None
        return self.predict_features(
            inputs if plain else build_features(inputs, self._columns, self._hook)
        )

    def predict_features(self, features: pd.DataFrame) -> NDArray[np.float64]:
        """The same for rows whose features are there already.

        Raises:
            FeatureError: a feature is missing or no number.
        """
        schema = self.loaded.schema
        matrix = encode(features, schema.features)
        predicted = self.loaded.model.predict(matrix, self._threads)
        return schema.calibration.apply(predicted) if schema.calibration else predicted


def open_predictor(loaded: LoadedBundle, project: Project, threads: int = 1) -> Predictor:
    """A predictor with the project's hook, which must be the one the model was trained with.

    Raises:
        BundleError: the project names another hook, or its code has changed since training.
        FeatureError: the hook cannot be loaded.
    """
    check_hook(loaded, project.features, hook_digest(project))
    return Predictor(loaded, load_hook(project), threads)


def check_views(loaded: LoadedBundle, project: Project) -> None:
    """Refuse features of views that are made otherwise than those the model has learned from.

    Raises:
        BundleError: a view's function, columns or features are others, or there is no such view.
        FeatureError: the module of a view's function is not there.
    """
    uses = view_uses(project)
    for name, use in loaded.schema.views.items():
        if use != uses.get(name):
            raise BundleError(
                f"model {loaded.digest[:12]}…: view {name!r} has changed since training (its "
                "function, columns, features or age); train again, or restore it"
            )


def check_hook(loaded: LoadedBundle, hook: str | None, digest: str) -> None:
    """Refuse features other than those of training, before any code of them runs.

    Raises:
        BundleError: the hook has another name or another digest.
    """
    schema = loaded.schema
    if hook != schema.hook:
        raise BundleError(
            f"model {loaded.digest[:12]}…: trained with features {schema.hook or 'without a hook'},"
            f" the project has {hook or 'none'}; train again, or use the project it was made with"
        )
    if digest != schema.hook_digest:
        raise BundleError(
            f"model {loaded.digest[:12]}…: the features hook {hook} has changed since training; "
            "train again, or restore the code the model was made with"
        )
