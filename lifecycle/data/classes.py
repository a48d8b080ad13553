"""Multiclass answers: which class a row's probabilities mean, and what its columns are called."""

import re
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lifecycle.project import Scalar


def most_probable(probabilities: NDArray[np.float64], classes: Sequence[Scalar]) -> NDArray[Any]:
    """The class with the highest probability, shape (n,); of equal ones the first.

    Args:
        probabilities: (n, k), columns in the order of `classes`.

    Returns:
        Values of `classes`: objects where they are text, otherwise numbers.
    """
    text = any(isinstance(value, str) for value in classes)
    values = np.array(list(classes), dtype=object if text else None)
    found: NDArray[Any] = values[probabilities.argmax(axis=1)]
    return found


def probability_columns(classes: Sequence[Scalar]) -> tuple[str, ...]:
    """A column name a class, `probability_<class>`, in the order of `classes`.

    What a Delta table does not take in a name becomes `_`; as it does not tell case apart either,
    a name that is taken already gets a number.
    """
    names: list[str] = []
    for value in classes:
        name = plain = "probability_" + re.sub(r"[\s,;{}()=.]+", "_", str(value))
        number = 2
        while name.lower() in map(str.lower, names):
            name, number = f"{plain}_{number}", number + 1
        names.append(name)
    return tuple(names)
