"""What a bundle says of its model: what it takes, what it gives, which files belong to it."""

from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from lifecycle.features.encode import FeatureSchema, most_probable
from lifecycle.features.view_use import ViewUse
from lifecycle.project import ColumnSpec, Scalar, TaskKind
from lifecycle.records import Record
from lifecycle.training.calibration import Calibration
from lifecycle.training.trainers.protocol import ModelKind


class BundleSchema(Record):
    """What a model takes and what it gives."""

    project: str
    model: ModelKind = "xgboost"
    """Which library runs it, and so which file holds it."""
    task: TaskKind
    target: str
    positive: Scalar | None
    """Binary: the target value whose probability is predicted."""
    threshold: float | None
    """Binary: the probability from which a row counts as positive."""
    labels: tuple[Scalar, ...] = ()
    """Binary with a `decision`: the target's value below the threshold, and that from it on."""
    classes: tuple[Scalar, ...] = ()
    """Multiclass: what the columns of the predicted probabilities are, in order."""
    inputs: dict[str, ColumnSpec]
    """Columns the model takes, in order, with what the contract promises of each."""
    features: FeatureSchema
    """Columns of the matrix the model sees."""
    hook: str | None
    """`module:function` that turns inputs into features; its code is not in the bundle."""
    hook_digest: str
    """SHA-256 of the hook at training; empty if there is none."""
    views: dict[str, ViewUse] = Field(default_factory=dict)
    """Feature views, whose columns among the inputs a request does not bring."""
    calibration: Calibration | None = None
    """Binary: what turns the model's own answers into calibrated probabilities."""

    def decided(self, predictions: NDArray[np.float64]) -> list[Scalar]:
        """The class of each row: multiclass the most probable one, binary with a `decision` what
        the threshold makes of the probability; empty for anything else.

        Args:
            predictions: (n,), multiclass (n, classes).
        """
        if self.classes:
            found: list[Scalar] = most_probable(predictions, self.classes).tolist()
            return found
        if not self.labels or self.threshold is None:
            return []
        negative, positive = self.labels
        chosen = (predictions >= self.threshold).tolist()
        return [positive if one else negative for one in chosen]

    @property
    def own_inputs(self) -> dict[str, ColumnSpec]:
        """The inputs that no view makes: those of a request, beside the entity."""
        made = {name for use in self.views.values() for name in use.columns}
        return {name: spec for name, spec in self.inputs.items() if name not in made}


class Manifest(Record):
    """What belongs to a bundle."""

    format: Literal[1] = 1
    identity: str
    """Digest of the identity the model was made from."""
    rounds: int = Field(ge=1)
    files: dict[str, str]
    """File name → SHA-256."""
