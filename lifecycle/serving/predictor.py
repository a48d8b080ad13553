"""One served model: checked rows in, an answer out. No web framework and no protocol in here."""

import ctypes
import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self

import numpy as np
import pandas as pd
import treelite
from numpy.typing import NDArray
from treelite.gtil.gtil import GTILConfig
from treelite.libpath import find_lib_path

from lifecycle.errors import FeatureError, NotServedError, RequestError
from lifecycle.features.encode import build_features, encode, hook_digest, load_hook
from lifecycle.project import Project
from lifecycle.records import ModelVersion
from lifecycle.runtime.process import without_package
from lifecycle.serving.records import Answer, Column, PredictionRequest, identity
from lifecycle.serving.row_reader import LARGEST, Matrix, RowReader
from lifecycle.settings import Settings

if TYPE_CHECKING:
    from lifecycle.serving.online_features import ServedViews


logger = logging.getLogger(__name__)

Engine = Literal["treelite", "native"]
FEW = 16
"""Rows up to which treelite's interpreter is ahead of XGBoost, which is made for many."""
PARITY = 5e-5
"""How far the two may be apart on any row of the holdout, as a share of the largest answer there.

They add up the same 32-bit numbers in another order. Measured on 1,000 trees: 5e-6 for values of
any size and for probabilities, 2.4e-5 for counts around 500,000, whose logarithms are added.
"""


class ServedModel:
    """A verified bundle with its features hook, answering one request at a time.

    Args:
        engine: `treelite` runs few rows of a booster through treelite's interpreter; whoever asks
            for it has compared both, see `engine_for`.
        views: the feature views of the bundle; without them rows bring their features themselves.
    """

    def __init__(
        self,
        loaded: Any,
        model: ModelVersion,
        project: Project,
        engine: Engine,
        views: "ServedViews | None" = None,
    ) -> None:
        self.model = model
        self.project = project
        self.schema = loaded.schema
        self.views = views
        self._booster = loaded.model
        self._hook = load_hook(project)
        self._columns = tuple(loaded.schema.inputs)
        plain = self.schema.features if self._hook is None else None
        ignore = project.serving.unknown_fields == "ignore"
        self._reader = RowReader(loaded.schema.inputs, plain, project.entity, ignore)
        if views is not None:  # what protocols are told of is what a request brings
            inputs = views.entity | loaded.schema.own_inputs
            self.schema = loaded.schema.model_copy(update={"inputs": inputs})
        self._trees = _trees(self._booster) if engine == "treelite" else None
        self.engine: Engine = "treelite" if self._trees is not None else "native"

    @classmethod
    def open(
        cls,
        bundle: Path,
        model: ModelVersion,
        project: Project,
        engine: Engine = "native",
        settings: Settings | None = None,
    ) -> Self:
        """Verify the bundle, then load it.

        Args:
            settings: where its feature views are; None leaves them out.

        Raises:
            BundleError: the bundle is not the model's, or the features hook is not training's.
            FeatureError: the features hook cannot be loaded.
            BackendError: a feature view cannot be read.
        """
        with without_package("sklearn"):
            from lifecycle.training.bundle import load_bundle
            from lifecycle.training.predictor import check_hook

            loaded = load_bundle(bundle, model.digest)
        check_hook(loaded, project.features, hook_digest(project))
        views = None
        if loaded.schema.views and settings is not None:
            from lifecycle.serving.online_features import ServedViews

            views = ServedViews(loaded.schema.views, project, settings)
        return cls(loaded, model, project, engine, views)

    def entities(self, request: PredictionRequest) -> Column | None:
        """The entity of each row, where the request says it."""
        return self._reader.entities(request)

    def answer(self, request: PredictionRequest, name: str) -> Answer:
        """The model's answer for checked rows.

        Args:
            name: the prediction id.

        Raises:
            RequestError: a row cannot be answered as it is; names row and field.
            FeatureError: the features hook fails on these rows.
        """
        request = self.joined(request)
        matrix = self._reader.plain(request)
        if matrix is None:
            matrix = self._matrix(request)
        predictions = self._predict(matrix)
        schema = self.schema
        contributions = self._contributions(matrix) if request.explain else None
        return Answer(
            id=name,
            model=self.model,
            predictions=predictions,
            classes=schema.classes,
            chosen=schema.decided(predictions),
            labels=schema.labels,
            names=schema.features.names if request.explain else (),
            contributions=contributions,
            requested=request.name,
        )

    def joined(self, request: PredictionRequest) -> PredictionRequest:
        """The request with the features of the views, if the model has any.

        Raises:
            RequestError: a row does not say whom it is about; names row and field.
        """
        return request if self.views is None or request.joined else self.views.join(request)

    def distance(self, frame: pd.DataFrame) -> float:
        """Greatest distance between the engines' raw answers, as a share of the largest answer.

        0 if there is only one engine.

        Args:
            frame: rows of input columns, as training saw them.
        """
        if self._trees is None:
            return 0.0
        matrix = self._encoded(frame)
        return relative_distance(self._trees.predict(matrix), self._booster.predict(matrix, 1))

    def describe(self) -> dict[str, Any]:
        """Describe the model to clients: version, digest, task and the fields of a record."""
        schema = self.schema
        return {
            "model": identity(self.model),
            "task": schema.task,
            "target": schema.target,
            "positive": schema.positive,
            "classes": list(schema.classes),
            **({"decision": self._decision()} if schema.labels else {}),
            "inputs": {
                name: spec.model_dump(mode="json", exclude_none=True)
                for name, spec in schema.inputs.items()
            },
            **({"views": self._views()} if self.views else {}),
        }

    def _decision(self) -> dict[str, Any]:
        """Describe the probability from which `predicted` is the positive value."""
        negative, positive = self.schema.labels
        threshold = self.schema.threshold
        return {"threshold": threshold, "negative": negative, "positive": positive}

    def _views(self) -> dict[str, Any]:
        """Describe the version of each view that is looked up, and the features it brings."""
        versions = self.views.versions if self.views else {}
        return {
            name: {
                "version": version.version,
                "digest": version.digest,
                "features": self.schema.views[name].columns,
            }
            for name, version in versions.items()
        }

    def _matrix(self, request: PredictionRequest) -> Matrix:
        """The way of training: frame, features hook, matrix."""
        return self._encoded(self._reader.frame(request))

    def _encoded(self, frame: pd.DataFrame) -> Matrix:
        features = frame if self._hook is None else build_features(frame, self._columns, self._hook)
        try:
            return encode(features, self.schema.features)
        except FeatureError as error:  # a number the contract allows and the model cannot take
            raise RequestError(self._too_large(features) or str(error)) from None

    def _too_large(self, features: pd.DataFrame) -> str:
        """Describe the first value that does not fit into the model's 32-bit floats, if any."""
        for name in self.schema.features.names:
            if not pd.api.types.is_numeric_dtype(features[name].dtype):
                continue
            values = features[name].to_numpy(dtype=np.float64, na_value=np.nan)
            large = np.flatnonzero(np.abs(values) > LARGEST)
            if large.size and self._hook is None:
                value = float(values[large[0]])
                return f"row {large[0]}: {name}: {value:g} is too large for column {name!r}"
            if large.size:
                return f"row {large[0]}: {name!r}, which is computed from it, would be too large"
        return ""

    def _predict(self, matrix: Matrix) -> NDArray[np.float64]:
        predicted: NDArray[np.float64]
        if self._trees is not None and len(matrix) <= FEW:
            predicted = self._trees.predict(matrix)
        else:
            predicted = self._booster.predict(matrix, 1)
        calibration = self.schema.calibration
        return predicted if calibration is None else calibration.apply(predicted)

    def _contributions(self, matrix: Matrix) -> NDArray[np.float64]:
        contributions: NDArray[np.float64] | None = self._booster.contributions(matrix)
        if contributions is None:
            raise NotServedError("explain: this kind of model has no contributions of features")
        return contributions


def engine_for(
    bundle: Path, model: ModelVersion, project: Project, holdout: pd.DataFrame
) -> Engine:
    """`treelite` where it agrees with XGBoost on every row of the holdout, else `native`.

    Args:
        holdout: its rows, with the input columns.

    Raises:
        BundleError, FeatureError: the bundle cannot be opened.
    """
    served = ServedModel.open(bundle, model, project, "treelite")
    if served.engine == "native":
        return "native"
    distance = served.distance(holdout[list(project.input_columns)])
    if not distance <= PARITY:  # NaN too
        logger.warning(
            "%s: XGBoost itself answers single rows, since treelite is off on the holdout by %.2g "
            "of the largest answer (at most %g)",
            model.uri,
            distance,
            PARITY,
        )
        return "native"
    return "treelite"


def relative_distance(predicted: NDArray[np.float64], expected: NDArray[np.float64]) -> float:
    """Greatest distance of two models' answers, as a share of the largest expected one."""
    if not expected.size:
        return 0.0
    return float(np.abs(predicted - expected).max() / (np.abs(expected).max() or 1.0))


def _trees(model: Any) -> "Trees | None":
    """The booster's trees for treelite's interpreter; None if it does not know such a model."""
    if model.kind != "xgboost":
        return None

    try:
        return Trees(model.booster)
    except ValueError as error:
        logger.warning("treelite does not read this booster (%s); XGBoost answers", error)
        return None


# A booster's trees for single rows, through treelite's C interface.
#
# `treelite.gtil.predict` is the same call, but parses its configuration anew each time, which takes
# longer than the trees. Documented at https://treelite.readthedocs.io (C API, General Tree
# Inference Library).


class Trees:
    """Predicts as the booster does, up to the last bits of 32-bit floats.

    Args:
        booster: of XGBoost.

    Raises:
        ValueError: treelite does not read it, or reads it as something else than 32-bit floats.
    """

    def __init__(self, booster: Any) -> None:
        try:
            self._model = treelite.frontend.from_xgboost(booster)
        except treelite.TreeliteError as error:
            raise ValueError(str(error)) from None
        self.features = int(booster.num_features())
        if (self._model.input_type, self._model.num_feature) != ("float32", self.features):
            raise ValueError(f"treelite takes {self._model.input_type} of another shape")
        self._config = GTILConfig(predict_type="default", nthread=1)
        # a few microseconds' work: letting go of the interpreter would cost more, as another
        # thread may keep it for milliseconds
        self._call = ctypes.PyDLL(str(find_lib_path()[0])).TreeliteGTILPredict
        self._outputs = self._output_shape()

    def predict(self, matrix: Matrix) -> NDArray[np.float64]:
        """Shape (rows,), multiclass (rows, classes).

        Raises:
            ValueError: the matrix has another number of columns.
        """
        rows, columns = matrix.shape
        if columns != self.features:  # the library would read beyond the end
            raise ValueError(f"{columns} columns instead of {self.features}")
        matrix = np.ascontiguousarray(matrix, dtype=np.float32)
        answer = np.empty((rows, self._outputs), dtype=np.float32)
        failed = self._call(
            self._model.handle,
            ctypes.c_void_p(matrix.__array_interface__["data"][0]),
            b"float32",
            ctypes.c_uint64(rows),
            ctypes.c_void_p(answer.__array_interface__["data"][0]),
            self._config.handle,
        )
        if failed:
            raise ValueError("treelite cannot predict these rows")
        predicted = answer.astype(np.float64)
        return predicted if self._outputs > 1 else predicted[:, 0]

    def _output_shape(self) -> int:
        """Return the number of outputs per row."""
        rows = np.zeros((1, self.features), dtype=np.float32)
        return int(np.asarray(treelite.gtil.predict(self._model, rows, nthread=1)).size)
