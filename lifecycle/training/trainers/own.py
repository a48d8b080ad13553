"""`module:Class`: the user's own trainer, and what is asked of what it returns."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from lifecycle.errors import LifecycleError, TrainingError
from lifecycle.project import Project, Scalar
from lifecycle.runtime.plugins import load_plug, plug_file, where
from lifecycle.training.matrix import Matrices
from lifecycle.training.trainers.booster import XGBoostModel
from lifecycle.training.trainers.onnx import OnnxModel
from lifecycle.training.trainers.protocol import Fitted, OnRound

KEY = "training.trainer"


class OwnTrainer:
    """The user's class behind the protocol; its failures name file and line.

    Raises:
        FeatureError: there is no such module or class.
        TrainingError: it cannot be made without arguments, or has no `fit`.
    """

    def __init__(self, project: Project) -> None:
        self._reference = project.training.trainer
        self._file = plug_file(project, self._reference, KEY)[0]
        trainer = load_plug(project, self._reference, KEY)
        self._trainer = _with_line(trainer, self._file)()
        if not callable(getattr(self._trainer, "fit", None)):
            raise TrainingError(f"{KEY}: {self._file}: {self._reference} has no method `fit`")

    def check(self, project: Project) -> None:
        check = getattr(self._trainer, "check", None)
        if check is not None:
            _with_line(check, self._file)(project)

    def fit(
        self,
        project: Project,
        data: Matrices,
        parameters: Mapping[str, Scalar],
        threads: int,
        on_round: OnRound | None = None,
    ) -> Fitted:
        fit = _with_line(self._trainer.fit, self._file)
        fitted = fit(project, data, parameters, threads, on_round)
        if not isinstance(fitted, Fitted) or not isinstance(fitted.model, XGBoostModel | OnnxModel):
            type_name = type(fitted.model if isinstance(fitted, Fitted) else fitted).__name__
            raise TrainingError(
                f"{KEY}: {self._file}: {self._reference}.fit returned {type_name}; return "
                "Fitted(XGBoostModel(booster), curve) or Fitted(OnnxModel(graph), curve)"
            )
        self._check_answers(project, data, fitted)
        return fitted

    def _check_answers(self, project: Project, data: Matrices, fitted: Fitted) -> None:
        """A model that cannot answer is the trainer's mistake, and said before it is bundled."""
        columns, features = fitted.model.features, len(data.schema.names)
        if columns != features:
            raise TrainingError(
                f"{KEY}: {self._file}: the model of {self._reference} takes {columns} features, "
                f"and the data have {features}"
            )
        rows = data.validation[:100]
        answers = _with_line(fitted.model.predict, self._file)(rows)
        shape = (len(rows), len(project.classes)) if project.classes else (len(rows),)
        if answers.shape != shape or not np.isfinite(answers).all():
            raise TrainingError(
                f"{KEY}: {self._file}: the model of {self._reference} answers {len(rows)} rows "
                f"with shape {answers.shape}, or with values that are not numbers; task "
                f"{project.task!r} needs numbers of shape {shape}"
            )
        if project.task in ("binary", "multiclass") and (answers.min() < 0 or answers.max() > 1):
            raise TrainingError(
                f"{KEY}: {self._file}: the model of {self._reference} answers between "
                f"{answers.min():.3g} and {answers.max():.3g}, which are not probabilities"
            )


def _with_line(function: Callable[..., Any], file: Path) -> Callable[..., Any]:
    """The function, with its failures told as one message that names the line."""

    def call(*arguments: Any) -> Any:
        try:
            return function(*arguments)
        except LifecycleError:
            raise
        except Exception as error:
            raise TrainingError(f"{KEY}: {where(error, file)}") from None

    return call
