"""A booster's trees for single rows, through treelite's C interface.

`treelite.gtil.predict` is the same call, but parses its configuration anew each time, which takes
longer than the trees. Documented at https://treelite.readthedocs.io (C API, General Tree Inference
Library).
"""

import ctypes
from typing import Any

import numpy as np
import treelite
from numpy.typing import NDArray
from treelite.core import _LIB
from treelite.gtil.gtil import GTILConfig

Matrix = NDArray[np.float32]


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
        self._call = ctypes.PyDLL(_LIB._name).TreeliteGTILPredict
        self._outputs = self._output_shape()

    def predict(self, matrix: Matrix) -> NDArray[np.float64]:
        """Shape (rows,), multiclass (rows, classes).

        Raises:
            ValueError: the matrix has another number of columns.
        """
        rows, columns = matrix.shape
        if columns != self.features:  # the library would read beyond the end
            raise ValueError(f"{columns} columns for {self.features} features")
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
        """How many numbers a row has."""
        rows = np.zeros((1, self.features), dtype=np.float32)
        return int(np.asarray(treelite.gtil.predict(self._model, rows, nthread=1)).size)
