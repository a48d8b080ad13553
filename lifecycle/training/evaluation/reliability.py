"""Whether predictions mean what they say: predicted against observed in bins of equal size."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from lifecycle.project import TaskKind
from lifecycle.training.evaluation.metrics import Floats

BINS = 10


@dataclass(frozen=True)
class Reliability:
    """Bins of equally many rows, in order of the prediction; each (bins,)."""

    predicted: Floats
    """Mean prediction."""
    observed: Floats
    """Mean truth, or the share of positives, or of right answers (multiclass)."""
    rows: Floats

    @property
    def error(self) -> float:
        """Mean distance of predicted and observed over the rows.

        For probabilities this is the expected calibration error (Naeini et al., 2015), with bins of
        equal size as Nguyen and O'Connor (2015) have them: bins of equal width may be almost empty.
        """
        return float(np.average(np.abs(self.predicted - self.observed), weights=self.rows))


def reliability(truth: ArrayLike, prediction: ArrayLike, task: TaskKind) -> Reliability:
    """The bins of a reliability diagram.

    For multiclass the prediction is the probability of the most probable class, and the truth is
    whether that class is right (Guo et al., 2017).

    Args:
        truth: (n,), as `evaluate` takes it.
        prediction: (n,), multiclass (n, k).
    """
    y, p = np.asarray(truth, dtype=np.float64), np.asarray(prediction, dtype=np.float64)
    if task == "multiclass":
        y, p = (p.argmax(axis=1) == y).astype(np.float64), p.max(axis=1)
    bins = [rows for rows in np.array_split(np.argsort(p, kind="stable"), BINS) if len(rows)]
    return Reliability(
        predicted=np.array([p[rows].mean() for rows in bins]),
        observed=np.array([y[rows].mean() for rows in bins]),
        rows=np.array([len(rows) for rows in bins], dtype=np.float64),
    )
