"""Parts of the data with the model's answers, and samples of them."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

SEED = 42
"""deepchecks' own `random_state`."""


@dataclass(frozen=True)
class Answered:
    """A part of the data, as the model sees it, with truth and the model's answers."""

    features: pd.DataFrame
    """(n, k): features after the hook; categories not encoded."""
    truth: NDArray[np.float64]
    """(n,): 0 or 1 for binary, the class's code for multiclass, otherwise the target's own unit;
    NaN where it is missing."""
    prediction: NDArray[np.float64]
    """(n,): probability of 1, or the value; (n, classes) for multiclass: probabilities."""
    entity: NDArray[Any] | None = None
    """(n,): who or what each row is about."""
    time: NDArray[Any] | None = None
    """(n,): the time column."""
    threshold: float = 0.5
    """Binary: the probability from which a row counts as positive."""


def draw(part: Answered, rows: int | None = None) -> Answered:
    """At most so many rows with a truth, drawn at random without replacement, in their order.

    The rows that deepchecks' checks would draw, each anew, and with a look at the whole index for
    every prediction they ask for; so they are drawn once, before deepchecks sees them.
    """
    known = np.flatnonzero(np.isfinite(part.truth))
    if rows is not None and len(known) > rows:
        known = np.sort(np.random.RandomState(SEED).choice(known, rows, replace=False))
    elif len(known) == len(part.truth):
        return part
    return Answered(
        features=part.features.iloc[known],
        truth=part.truth[known],
        prediction=part.prediction[known],
        entity=None if part.entity is None else part.entity[known],
        time=None if part.time is None else part.time[known],
        threshold=part.threshold,
    )
