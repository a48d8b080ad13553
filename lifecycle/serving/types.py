"""What passes between the protocols and the model: a request in any of them is `Asked`, what the
model says is `Answer`.

A protocol is a module with `read(body, headers, …) -> Asked` and `write(answer, …) -> bytes`.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from lifecycle.project import Scalar
from lifecycle.records import ModelVersion

Records = list[dict[str, Any]]
Column = Sequence[Any] | NDArray[Any]
Headers = Mapping[bytes, bytes]
"""Names in lower case, as ASGI gives them."""


class Asked(NamedTuple):
    """Rows to predict, as records or as columns of one length; values are JSON's or NumPy's."""

    rows: int
    records: Records | None = None
    columns: Mapping[str, Column] | None = None
    name: str = ""
    """The client's own name of the request, where its protocol has one; it gets it back."""
    explain: bool = False
    """Whether the contributions of the features are asked for."""
    outputs: tuple[tuple[str, bool], ...] = ()
    """Outputs wanted, and whether as raw bytes, where a protocol lets a client choose."""
    joined: bool = False
    """Whether the features of views are in it already."""
    matrix: NDArray[Any] | None = None
    """(rows, inputs), what `columns` are views of, if all came as one tensor of present numbers."""
    body: bytes = b""
    """The JSON that `records` are of, if it is `{"records": […]}` and nothing else."""


class Answer(NamedTuple):
    """What one model version says of the rows of one request."""

    id: str
    """Prediction id, unique; row i of the request is `<id>-<i>` in the prediction log."""
    model: ModelVersion
    predictions: NDArray[np.float64]
    """(rows,): probability of the positive class, value or count; multiclass (rows, classes)."""
    classes: tuple[Scalar, ...] = ()
    """Multiclass: what the columns of `predictions` are."""
    chosen: Sequence[Scalar] = ()
    """The class of each row: multiclass the most probable one, binary that of `labels`."""
    names: tuple[str, ...] = ()
    """Features, where contributions are given."""
    contributions: NDArray[np.float64] | None = None
    """(rows, features + 1), the last the bias; multiclass (rows, classes, features + 1)."""
    requested: str = ""
    """`Asked.name`."""
    labels: tuple[Scalar, ...] = ()
    """Binary with a `decision`: the two values that `chosen` has; empty otherwise."""


def identity(model: ModelVersion) -> dict[str, Any]:
    """Which model answers, as clients are told."""
    return {"name": model.name, "version": model.version, "digest": model.digest}
