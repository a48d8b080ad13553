"""The protocol of trainers: the same for XGBoost, scikit-learn and a team's own trainer."""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Literal, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from lifecycle.features.encode import Floats
from lifecycle.project import Project, Scalar

if TYPE_CHECKING:
    from lifecycle.training.matrix import Matrices  # a replica that runs a model opens no table


Matrix = NDArray[np.float32]
ModelKind = Literal["xgboost", "onnx"]

OnRound = Callable[[int, float], bool]
"""Round (from 0) and validation score, in the direction of `training_metric`; True stops."""

Curve = dict[str, tuple[float, ...]]
"""`train` and `validation`: XGBoost's stopping metric after each round; empty without rounds."""


class Model(Protocol):
    """A fitted model that is data only: an XGBoost booster or an ONNX graph."""

    @property
    def kind(self) -> ModelKind: ...

    @property
    def rounds(self) -> int:
        """Boosting rounds; 1 where there are none."""

    @property
    def features(self) -> int:
        """Columns of the matrix it takes."""

    def predict(self, matrix: Matrix, threads: int = 1) -> Floats:
        """(rows,): probability of the positive class, or the value; multiclass (rows, classes)."""

    def importances(self) -> Floats:
        """(features,): share of the total gain, sums to 1; zeros where the model cannot say."""

    def contributions(self, matrix: Matrix, threads: int = 1) -> Floats | None:
        """(rows, features + 1), the last the bias; multiclass (rows, classes, features + 1).

        SHAP values on the margin's scale; None where the model cannot say.
        """

    def save(self) -> bytes:
        """UBJSON or ONNX; equal models give equal bytes."""


class Fitted(NamedTuple):
    """Result of a trainer."""

    model: Model
    curve: Curve
    pruned: bool = False
    """Whether `on_round` stopped it."""


class Refitter(Protocol):
    """Fits the final model, once it is known when to stop."""

    def refit(
        self,
        project: Project,
        data: "Matrices",
        parameters: Mapping[str, Scalar],
        threads: int,
        rounds: int,
    ) -> Model:
        """Learn from the train part of `data` for exactly so many rounds.

        Args:
            data: pooled: its train part has the rows of the validation part too.

        Raises:
            TrainingError: it cannot be fitted with these parameters.
        """


class Trainer(Protocol):
    """Fits one model in one process. `module:Class` is called without arguments."""

    def check(self, project: Project) -> None:
        """See that the project's parameters and ranges can be used, before any data are read.

        Raises:
            ProjectError: one cannot; names the key.
        """

    def fit(
        self,
        project: Project,
        data: "Matrices",
        parameters: Mapping[str, Scalar],
        threads: int,
        on_round: OnRound | None = None,
    ) -> Fitted:
        """Learn from the train part, with the validation part to stop by.

        Equal arguments give equal models.

        Raises:
            TrainingError: it cannot be fitted with these parameters.
        """


# Loading of a model from its bytes, of which nothing is executed.
