"""Base class and types of the sections of a project file."""

from collections.abc import Iterable
from datetime import date
from difflib import get_close_matches
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

NAMES_SHOWN = 12
"""Names that a message lists, at most."""
Scalar = bool | int | float | str
TimeValue = int | date | str
Share = Annotated[float, Field(gt=0, lt=1)]
Loss = Annotated[float, Field(ge=0)] | Annotated[str, Field(pattern=r"^\d+(\.\d+)? ?%$")]
"""How much worse a metric may be: a number in its own units, or a share of what it was, `5%`."""
TaskKind = Literal["binary", "multiclass", "regression", "count"]
Metric = str
"""A name of `METRICS`, or one that the project declares under `metrics`."""
ColumnType = Literal["integer", "number", "boolean", "string", "category", "datetime"]
METRICS: dict[TaskKind, tuple[Metric, ...]] = {
    "binary": ("roc_auc", "average_precision", "log_loss", "brier", "accuracy"),
    "multiclass": ("log_loss", "accuracy", "roc_auc", "f1_macro"),
    "regression": ("rmse", "mae", "r2"),
    "count": ("poisson_deviance", "rmse", "mae"),
}
SCORING_RULES: dict[TaskKind, Metric] = {
    "binary": "log_loss",
    "multiclass": "log_loss",
    "regression": "rmse",
    "count": "poisson_deviance",
}
"""What training minimises: a proper scoring rule, best in expectation for the true distribution or
mean and for no other answer (Gneiting and Raftery, 2007; for means Gneiting, 2011)."""
GREATER_IS_BETTER: dict[Metric, bool] = {
    "roc_auc": True,
    "average_precision": True,
    "log_loss": False,
    "brier": False,
    "accuracy": True,
    "rmse": False,
    "mae": False,
    "r2": True,
    "f1_macro": True,
    "poisson_deviance": False,
}


def meant(name: str, choices: Iterable[str]) -> str:
    """The end of a message on an unknown name: what may have been meant, and what there is.

    Args:
        name: as it was written.
        choices: the names there are.
    """
    names = list(choices)
    close = get_close_matches(name, names, n=1) or [
        other for other in names if other.lower() == name.lower()
    ]
    more = ", …" if len(names) > NAMES_SHOWN else ""
    listing = f"There are: {', '.join(names[:NAMES_SHOWN])}{more}"
    return f"; did you mean {close[0]!r}? {listing}" if close else f". {listing}"


def greater_is_better(metric: Metric) -> bool:
    """The direction of a metric; one of a project's own is a score, as scikit-learn's scorers."""
    return GREATER_IS_BETTER.get(metric, True)


def allowed_loss(loss: Loss, value: float) -> float:
    """A loss in the metric's own units.

    Args:
        value: what the metric was; a share is one of its size.
    """
    if isinstance(loss, str):
        return float(loss.rstrip(" %")) / 100 * abs(value)
    return loss


class Section(BaseModel):
    """A part of the project file: frozen, and without room for keys nobody reads."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)
