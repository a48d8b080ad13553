"""What MLflow is told of a model's answers is what it gives."""

from collections.abc import Callable
from typing import Any

import mlflow
import numpy as np
import pandas as pd
import pytest

from lifecycle.project import Project
from lifecycle.release.artifacts import predict_of
from lifecycle.release.mlflow_model import _signature
from lifecycle.settings import Settings
from tests.support.graded import graded_project
from tests.support.small import SMALL, small_frame


def test_a_number_a_row_or_one_a_class(make_project: Callable[..., Project]) -> None:
    assert _signature(make_project()).outputs.to_dict() == [{"type": "double", "required": True}]
    (answers,) = _signature(graded_project(make_project)).outputs.inputs
    assert (answers.name, answers.type, answers.shape) == (
        "probabilities",
        np.dtype(np.float64),
        (-1, 3),
    )


@pytest.mark.component
def test_a_whole_number_that_may_be_missing(
    make_project: Callable[..., Project], train: Callable[..., Any], settings: Settings
) -> None:
    """MLflow has no such type, and converts none to its doubles."""
    frame = small_frame().astype({"visits": "Int64"})
    frame.loc[::9, "visits"] = pd.NA
    contract = SMALL["contract"]
    visits = contract["columns"]["visits"] | {"nullable": True}
    columns = contract["columns"] | {"visits": visits}
    made = train(make_project(frame, contract=contract | {"columns": columns}), settings)
    registered = made.register().model
    inputs = made.holdout()[list(made.project.input_columns)]
    assert str(inputs["visits"].dtype) == "Int64"
    predict = predict_of(registered, settings)
    np.testing.assert_array_equal(predict(inputs), made.expected(inputs))


@pytest.mark.component
def test_the_registered_model_gives_probabilities(
    make_project: Callable[..., Project], train: Callable[..., Any], settings: Settings
) -> None:
    made = train(graded_project(make_project), settings)
    made.register()
    inputs = made.holdout()[list(made.project.input_columns)]
    loaded = mlflow.pyfunc.load_model("models:/small@challenger")
    np.testing.assert_array_equal(loaded.predict(inputs), made.expected(inputs))
    assert loaded.metadata.signature.outputs.inputs[0].shape == (-1, 3)
