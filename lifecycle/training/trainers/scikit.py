"""scikit-learn's estimators: fitted, then written as an ONNX graph, which is the model from there.

What is evaluated, served and scored is the graph, never the fitted Python object; so the graph is
held against the estimator, missing values included, before it is handed out.
"""

import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.compose import ColumnTransformer
from sklearn.impute import SimpleImputer
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler
from threadpoolctl import threadpool_limits

from lifecycle.errors import LifecycleError, TrainingError
from lifecycle.features.encode import FeatureSchema
from lifecycle.project import Project, Scalar
from lifecycle.training.matrix import Matrices
from lifecycle.training.trainers.convert import to_graph
from lifecycle.training.trainers.estimator import check_estimator, make_estimator
from lifecycle.training.trainers.graph import OnnxModel
from lifecycle.training.trainers.protocol import Fitted, Floats, Matrix, OnRound

TAKES_MISSING = ("HistGradientBoostingClassifier", "HistGradientBoostingRegressor")
"""Others that do, such as forests, lose which way a missing value goes when they are converted."""
TREES = ("sklearn.tree", "sklearn.ensemble")
"""Modules of estimators that scale makes no difference to; a scaled value may fall on the other
side of a threshold in the graph, which computes with 32 bits."""
COMPARED_ROWS = 2_000
HOLES = 0.1
"""Share of the compared cells that are made missing, in a second copy of the rows."""
TOLERANCE = 1e-3
"""Largest difference between graph and estimator: of a probability, or in standard deviations."""


class SklearnTrainer:
    """One estimator in this process; it has no rounds, so nothing stops it early."""

    def check(self, project: Project) -> None:
        check_estimator(project)

    def fit(
        self,
        project: Project,
        data: Matrices,
        parameters: Mapping[str, Scalar],
        threads: int,
        on_round: OnRound | None = None,
    ) -> Fitted:
        estimator = make_estimator(project, parameters, threads)
        name = type(estimator).__name__
        preparation = _preparation(estimator, data.schema)
        weights = {} if data.train_weights is None else {"sample_weight": data.train_weights}
        try:
            with threadpool_limits(threads), warnings.catch_warnings():
                # scikit-learn's own calls of SciPy and NumPy are nothing a user can mend, and what
                # its next versions will refuse is no matter in the one that is locked
                warnings.simplefilter("ignore", DeprecationWarning)
                warnings.simplefilter("ignore", FutureWarning)
                prepared = _fit_preparation(preparation, data.train)
                estimator.fit(prepared, _targets(project, data.train_labels), **weights)
        except LifecycleError:
            raise
        except Exception as error:
            raise TrainingError(
                f"training.trainer: {name} cannot be fitted with {dict(parameters)}: {error}"
            ) from None
        pipeline = Pipeline([("features", preparation), ("estimator", estimator)])
        _check_classes(project, pipeline)
        graph = _graph(project, pipeline, name, len(data.schema.names))
        model = OnnxModel(graph, _shares(pipeline, data.schema))
        _compare(project, pipeline, model, data.validation[:COMPARED_ROWS], name)
        return Fitted(model, {})

    def refit(
        self,
        project: Project,
        data: Matrices,
        parameters: Mapping[str, Scalar],
        threads: int,
        rounds: int,
    ) -> OnnxModel:
        """An estimator stops by no part: its refit is a fit on more rows."""
        model = self.fit(project, data, parameters, threads).model
        assert isinstance(model, OnnxModel)  # noqa: S101 - what `fit` makes
        return model


def _preparation(estimator: Any, schema: FeatureSchema) -> ColumnTransformer:
    """From the matrix to what the estimator takes.

    A category becomes a column a value, all zeros where it is missing or unknown. Numbers are
    imputed by the median, unless the estimator takes missing ones, and scaled to unit variance,
    unless it is made of trees.
    """
    numbers = [at for at, kind in enumerate(schema.kinds) if kind == "q"]
    categories = [at for at, kind in enumerate(schema.kinds) if kind == "c"]
    codes = [np.arange(len(schema.levels[schema.names[at]]), dtype="f4") for at in categories]
    plain: Any = "passthrough"
    if type(estimator).__name__ not in TAKES_MISSING:
        plain = make_pipeline(SimpleImputer(strategy="median", keep_empty_features=True))
        if not type(estimator).__module__.startswith(TREES):
            plain.steps.append(("scale", StandardScaler()))
    one_hot = make_pipeline(
        SimpleImputer(strategy="constant", fill_value=-1.0, keep_empty_features=True),
        OneHotEncoder(categories=codes, handle_unknown="ignore", sparse_output=False, dtype="f4"),
    )
    steps = [("numbers", plain, numbers), ("categories", one_hot, categories)]
    return ColumnTransformer([step for step in steps if step[2]])


def _fit_preparation(preparation: ColumnTransformer, matrix: Matrix) -> Matrix:
    """Fit the preparation and return the prepared matrix.

    Means and deviations are rounded to 32 bits, as the graph has them. A difference to a 64-bit
    mean cannot be computed with 32 bits where values are large and lie close together; the
    difference of two such 32-bit numbers is exact (Sterbenz, 1974).
    """
    preparation.fit(matrix)
    scaler = _scaler(preparation)
    if scaler is not None:
        scaler.mean_ = scaler.mean_.astype(np.float32).astype(np.float64)
        scaler.scale_ = scaler.scale_.astype(np.float32).astype(np.float64)
    prepared: Matrix = preparation.transform(matrix)
    return prepared


def _scaler(preparation: ColumnTransformer) -> StandardScaler | None:
    numbers = preparation.named_transformers_.get("numbers")
    return numbers.named_steps.get("scale") if isinstance(numbers, Pipeline) else None


def _targets(project: Project, truth: Floats) -> NDArray[Any]:
    return truth.astype(np.int64) if project.task in ("binary", "multiclass") else truth


def _check_classes(project: Project, pipeline: Pipeline) -> None:
    if project.task != "multiclass":
        return
    seen = set(pipeline.classes_.tolist())
    missing = [str(name) for code, name in enumerate(project.classes) if code not in seen]
    if missing:
        raise TrainingError(
            f"{project.target}: class {missing[0]!r} has no row in the train part, and "
            f"{project.training.trainer} needs one; leave the class out, or use trainer xgboost"
        )


def _graph(project: Project, pipeline: Pipeline, name: str, features: int) -> bytes:
    try:
        return to_graph(pipeline, features, project.task in ("binary", "multiclass"))
    except Exception as error:
        raise TrainingError(
            f"training.trainer: {name} cannot be written as an ONNX graph with these parameters: "
            f"{str(error).strip().splitlines()[0]}"
        ) from None


def _shares(pipeline: Pipeline, schema: FeatureSchema) -> Floats | None:
    """Share of the impurity decrease a feature brought, over its columns; None if it cannot say."""
    found = getattr(pipeline[-1], "feature_importances_", None)
    if found is None:
        return None
    columns = [at for at, kind in enumerate(schema.kinds) if kind == "q"]
    for at, kind in enumerate(schema.kinds):
        if kind == "c":
            columns += [at] * len(schema.levels[schema.names[at]])
    shares = np.bincount(columns, weights=found, minlength=len(schema.names))
    return shares / (shares.sum() or 1.0)


def _compare(
    project: Project, pipeline: Pipeline, model: OnnxModel, rows: Matrix, name: str
) -> None:
    """Hold the graph against the estimator on rows as they are and with values taken out."""
    holes = np.random.default_rng(project.training.seed).random(rows.shape) < HOLES
    rows = np.concatenate([rows, np.where(holes, np.float32(np.nan), rows)])
    if project.task in ("binary", "multiclass"):
        expected = pipeline.predict_proba(rows)
        expected = expected[:, 1] if project.task == "binary" else expected
        scale = 1.0
    else:
        expected = pipeline.predict(rows)
        scale = float(np.std(expected)) or 1.0
    answers = model.predict(rows)
    if answers.shape != expected.shape:
        raise TrainingError(
            f"training.trainer: the ONNX graph of {name} answers with shape {answers.shape} "
            f"where the estimator does with {expected.shape}; choose another estimator"
        )
    apart = float(np.abs(answers - expected).max()) / scale
    if not apart <= TOLERANCE:
        raise TrainingError(
            f"training.trainer: the ONNX graph of {name} answers differently from the estimator, "
            f"by up to {apart:.2g} (at most {TOLERANCE:g}); choose other parameters or estimator"
        )
