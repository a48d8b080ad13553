"""scikit-learn's estimators: fitted, then written as an ONNX graph, which is the model from there.

What is evaluated, served and scored is the graph, never the fitted Python object; so the graph is
held against the estimator, missing values included, before it is handed out.
"""

import importlib
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from skl2onnx import convert_sklearn, get_model_alias
from skl2onnx.common import tree_ensemble
from skl2onnx.common.data_types import FloatTensorType
from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import HistGradientBoostingRegressor
from sklearn.impute import SimpleImputer
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler
from sklearn.utils.validation import has_fit_parameter
from threadpoolctl import threadpool_limits

from lifecycle.errors import LifecycleError, ProjectError, TrainingError, first_line
from lifecycle.features.encode import FeatureSchema, Floats
from lifecycle.project import Project, Scalar
from lifecycle.project.base import meant
from lifecycle.project.loader import error_at
from lifecycle.training.matrix import Matrices
from lifecycle.training.parameters import declared
from lifecycle.training.trainers.onnx import OnnxModel, graphs_of
from lifecycle.training.trainers.protocol import Fitted, Matrix, OnRound

# Conversion of a fitted scikit-learn pipeline to ONNX: the same bytes for the same pipeline.

OPSET = {"": 18, "ai.onnx.ml": 3}
"""Written down, so that another release of the converter writes the same graph."""

LOG_LINKS = ("poisson", "gamma")
"""Losses with which histogram boosting adds up logarithms; the converter leaves it at that."""

TREE_OPERATORS = ("TreeEnsembleClassifier", "TreeEnsembleRegressor")


def to_graph(pipeline: Pipeline, features: int, classifier: bool) -> bytes:
    """The pipeline as a graph from a float matrix (rows, features) to one output.

    Raises:
        TrainingError: this skl2onnx makes the nodes of trees in another way.
        Exception: whatever the converter raises where it cannot.
    """
    with warnings.catch_warnings(), _exact_nodes() as changed_nodes:
        warnings.simplefilter("ignore")  # of the converter about its own libraries
        model = convert_sklearn(
            pipeline,
            name="model",
            initial_types=[("matrix", FloatTensorType([None, features]))],
            options={id(pipeline): {"zipmap": False}} if classifier else None,
            target_opset=OPSET,
        )
    for output in list(model.graph.output):
        if classifier and output.name != "probabilities":  # the label follows from them
            model.graph.output.remove(output)
    if not changed_nodes and any(node.op_type in TREE_OPERATORS for node in model.graph.node):
        raise _replaced("skl2onnx", "common.tree_ensemble.add_node")
    if isinstance(pipeline[-1], HistGradientBoostingRegressor) and pipeline[-1].loss in LOG_LINKS:
        _exponentiate(model)
    _rename(model)
    content: bytes = model.SerializeToString(deterministic=True)
    return content


def _exponentiate(model: onnx.ModelProto) -> None:
    (output,) = model.graph.output
    total, output.name = output.name, "expected"
    model.graph.node.append(onnx.helper.make_node("Exp", [total], ["expected"]))


def _rename(model: onnx.ModelProto) -> None:
    """Name values and nodes by their place: the converter counts on from one model to the next."""
    reserved = {"", *(entry.name for entry in (*model.graph.input, *model.graph.output))}
    names: dict[str, str] = {}

    def new(name: str) -> str:
        return name if name in reserved else names.setdefault(name, f"v{len(names)}")

    for at, graph in enumerate(graphs_of(model.graph)):
        graph.name = f"graph{at}"
        for entry in (*graph.input, *graph.output, *graph.value_info, *graph.initializer):
            entry.name = new(entry.name)
        for sparse in graph.sparse_initializer:
            sparse.values.name = new(sparse.values.name)
        for place, node in enumerate(graph.node):
            node.name = f"{at}.{place}"
            node.input[:] = [new(name) for name in node.input]
            node.output[:] = [new(name) for name in node.output]


@contextmanager
def _exact_nodes() -> Iterator[list[Any]]:
    """Convert trees so that every row takes the same way through them; yields the nodes' modes.

    A touch of skl2onnx's internals (https://github.com/onnx/sklearn-onnx/issues/1192): a graph
    compares with 32-bit thresholds where scikit-learn has 64-bit ones. As all features are 32-bit,
    `x <= threshold` stays exactly the same comparison if the threshold is rounded down; skl2onnx
    1.20 does so for single trees and forests, and rounds those of histogram boosting to the
    nearest number, past values that lie close together. It also writes False there where ONNX has
    an integer, which protobuf refuses from version 6 on.
    """
    original, modes = tree_ensemble.add_node, []

    def add_node(
        pairs: dict[str, Any],
        *positional: Any,
        nodes_missing_value_tracks_true: Any = 0,
        **options: Any,
    ) -> None:
        tracks = int(nodes_missing_value_tracks_true)
        original(pairs, *positional, nodes_missing_value_tracks_true=tracks, **options)
        modes.append(pairs["nodes_modes"][-1])
        if modes[-1] == "BRANCH_LEQ":
            pairs["nodes_values"][-1] = _rounded_down(pairs["nodes_values"][-1])

    tree_ensemble.add_node = add_node
    try:
        yield modes
    finally:
        tree_ensemble.add_node = original


def _rounded_down(threshold: float) -> float:
    """The greatest 32-bit float that is not above a threshold."""
    nearest = np.float32(threshold)
    if float(nearest) > threshold:  # NumPy would compare with 32 bits
        nearest = np.nextafter(nearest, np.float32(-np.inf))
    return float(nearest)


# `sklearn:<dotted estimator>`: which class that is, and whether it can be used with this project.
#
# Only what scikit-learn says about itself is read here; `scikit.py` fits.

RESERVED = {
    "random_state": "training.seed is the seed",
    "n_jobs": "training.threads is their number",
    "class_weight": "training.class_weight has the weights",
    "verbose": "training is silent",
}


def estimator_class(project: Project) -> type[Any]:
    """The class that `training.trainer` names.

    Raises:
        ProjectError: scikit-learn has no such estimator, it is of another kind than the task
            needs, or no ONNX graph can be made of it.
    """
    dotted = project.training.trainer.removeprefix("sklearn:")
    module, _, name = dotted.rpartition(".")
    try:
        class_ = getattr(
            importlib.import_module(f"sklearn.{module}" if module else "sklearn"), name
        )
    except (ImportError, AttributeError):
        class_ = None
    if not (isinstance(class_, type) and issubclass(class_, BaseEstimator)):
        raise ProjectError(
            f"training.trainer: scikit-learn has no estimator {dotted!r}; write it as in "
            "sklearn:ensemble.HistGradientBoostingClassifier"
        )
    classes = project.task in ("binary", "multiclass")
    if not issubclass(class_, ClassifierMixin if classes else RegressorMixin):
        raise ProjectError(
            f"training.trainer: {dotted} is not a {'classifier' if classes else 'regressor'}, "
            f"which task {project.task!r} needs"
        )
    try:
        get_model_alias(class_)
    except RuntimeError:  # skl2onnx does not know the class
        raise ProjectError(
            f"training.trainer: {dotted} cannot be written as an ONNX graph, which is what a "
            "bundle holds: choose another, or make the graph yourself in a trainer of your own"
        ) from None
    return class_


def check_estimator(project: Project) -> None:
    """Try every parameter and both ends of every range of the search space.

    Raises:
        ProjectError: as `estimator_class`; or a parameter is unknown or refused, or the estimator
            cannot weigh rows or give probabilities where it has to. Names the key.
    """
    chosen = estimator_class(project)
    _instance(project, chosen, "training.trainer", {})
    names = sorted(chosen().get_params())
    for key, name, value in declared(project):
        if name in RESERVED:
            raise error_at(project, f"{key}.{name}", f"leave this out: {RESERVED[name]}")
        if name not in names:
            message = f"{chosen.__name__} has no such parameter{meant(name, names)}"
            raise error_at(project, f"{key}.{name}", message)
        _instance(project, chosen, f"{key}.{name}", {name: value})
    fixed = {**project.training.parameters}
    estimator = _instance(project, chosen, "training.parameters", fixed)
    if project.task in ("binary", "multiclass") and not hasattr(estimator, "predict_proba"):
        raise ProjectError(
            f"training.trainer: {chosen.__name__} gives no probabilities"
            + (" with these training.parameters" if fixed else "")
            + ", which a classification needs; choose another"
        )
    if project.training.class_weight and not has_fit_parameter(chosen, "sample_weight"):
        raise ProjectError(
            f"training.class_weight: {chosen.__name__} cannot weight rows; omit it, or choose "
            "another trainer"
        )


def make_estimator(project: Project, parameters: Mapping[str, Scalar], threads: int) -> Any:
    """An estimator with these parameters, the project's seed and that many threads.

    Raises:
        ProjectError: as `estimator_class`; or a parameter is refused.
    """
    chosen = estimator_class(project)
    estimator = _instance(project, chosen, "training.parameters", parameters)
    implied = {"random_state": project.training.seed, "n_jobs": threads}
    defaults = estimator.get_params()
    estimator.set_params(**{name: value for name, value in implied.items() if name in defaults})
    return estimator


def _instance(
    project: Project, chosen: type[Any], key: str, parameters: Mapping[str, Scalar]
) -> Any:
    try:
        estimator = chosen(**parameters)
    except TypeError as error:
        problem = f"{project.training.trainer} cannot be made from a project file ({error})"
        raise error_at(project, key, problem) from None
    if refusal := _refusal(estimator):
        raise error_at(project, key, f"scikit-learn refuses it: {refusal}")
    return estimator


def _refusal(estimator: Any) -> str:
    """Why scikit-learn would not fit an estimator with its parameters; empty if it would.

    A touch of its internals: only `fit` checks parameters publicly, and it needs data
    (https://github.com/scikit-learn/scikit-learn/issues/28903).

    Raises:
        TrainingError: this scikit-learn checks them in another way.
    """
    if not hasattr(estimator, "_validate_params"):
        raise _replaced("scikit-learn", "BaseEstimator._validate_params")
    try:
        estimator._validate_params()
    except ValueError as error:
        return str(error)
    return ""


def _replaced(library: str, name: str) -> TrainingError:
    return TrainingError(
        f"this version of {library} does not use {name}, which lifecycle relies on; install the "
        "version in requirements.lock"
    )


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
    """Build the transformer from the matrix to the estimator's input.

    A category becomes one column per value, all zeros where it is missing or unknown. Numbers are
    imputed by the median unless the estimator accepts missing values, and scaled to unit variance
    unless the estimator consists of trees.
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
    classes = set(pipeline.classes_.tolist())
    missing = [str(name) for code, name in enumerate(project.classes) if code not in classes]
    if missing:
        raise TrainingError(
            f"{project.target}: class {missing[0]!r} has no row in the train part, and "
            f"{project.training.trainer} needs one; omit the class, or use trainer xgboost"
        )


def _graph(project: Project, pipeline: Pipeline, name: str, features: int) -> bytes:
    try:
        return to_graph(pipeline, features, project.task in ("binary", "multiclass"))
    except Exception as error:
        raise TrainingError(
            f"training.trainer: {name} cannot be written as an ONNX graph with these parameters: "
            f"{first_line(error)}"
        ) from None


def _shares(pipeline: Pipeline, schema: FeatureSchema) -> Floats | None:
    """Share of the impurity decrease a feature brought, over its columns; None if it cannot say."""
    importances = getattr(pipeline[-1], "feature_importances_", None)
    if importances is None:
        return None
    columns = [at for at, kind in enumerate(schema.kinds) if kind == "q"]
    for at, kind in enumerate(schema.kinds):
        if kind == "c":
            columns += [at] * len(schema.levels[schema.names[at]])
    shares = np.bincount(columns, weights=importances, minlength=len(schema.names))
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
    distance = float(np.abs(answers - expected).max()) / scale
    if not distance <= TOLERANCE:
        raise TrainingError(
            f"training.trainer: the ONNX graph of {name} answers differently from the estimator, "
            f"by up to {distance:.2g} (at most {TOLERANCE:g}); choose other parameters or estimator"
        )
