"""Statistics of a column that arrives in batches, in bounded memory, however it is cut."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from lifecycle.data.contract.unique import keys_of
from lifecycle.project import ExpectSpec

SIZE = 1 << 16
"""Values of a block and of a sample: up to so many, median and distinct are exact."""
KEYS = 2.0**64


class RunningMoments:
    """Mean and sample standard deviation, exact to a few units in the last place.

    Values are gathered in blocks of a fixed size, and the blocks' sums of squares merged (Chan,
    Golub, LeVeque, 1979): the result is the same to the last bit however the values came.
    """

    def __init__(self) -> None:
        self._block = np.empty(SIZE)
        self._filled = 0
        self._count, self._mean, self._squares = 0, 0.0, 0.0

    def add(self, values: NDArray[np.float64]) -> None:
        """Take in values, none of them missing."""
        while len(values):
            part = values[: SIZE - self._filled]
            self._block[self._filled : self._filled + len(part)] = part
            self._filled += len(part)
            values = values[len(part) :]
            if self._filled == SIZE:
                self._merge()

    def mean(self) -> float | None:
        """None without a value."""
        self._merge()
        return self._mean if self._count else None

    def deviation(self) -> float | None:
        """Standard deviation with n - 1 in the denominator; None with fewer than two values."""
        self._merge()
        return math.sqrt(self._squares / (self._count - 1)) if self._count > 1 else None

    def _merge(self) -> None:
        block = self._block[: self._filled]
        if not len(block):
            return
        with np.errstate(over="ignore"):  # squares of 1e200 are infinite, and out of any bounds
            mean = float(block.mean())
            squares = float(np.square(block - mean).sum())
            total = self._count + len(block)
            distance = mean - self._mean
            self._squares += squares + distance * distance * self._count * len(block) / total
            self._mean += distance * len(block) / total
        self._count, self._filled = total, 0


class Smallest:
    """The `SIZE` smallest of the keys that came, each once, with a value each.

    Keys are spread evenly over 64 bits, so the smallest are a random sample that does not depend on
    how the data were cut or ordered.
    """

    def __init__(self) -> None:
        self._keys: NDArray[np.uint64] = np.empty(0, dtype=np.uint64)
        self._values: NDArray[Any] = np.empty(0)
        self._limit = np.uint64(0xFFFFFFFFFFFFFFFF)

    def add(self, keys: NDArray[np.uint64], values: NDArray[Any]) -> None:
        """Take in keys with their values (rows,); the same key has the same value."""
        small = keys <= self._limit
        self._keys, first = np.unique(np.concatenate([self._keys, keys[small]]), return_index=True)
        self._values = np.concatenate([self._values, values[small]])[first]
        if len(self._keys) > SIZE:
            self._keys, self._values = self._keys[:SIZE], self._values[:SIZE]
            self._limit = self._keys[-1]

    @property
    def values(self) -> NDArray[Any]:
        """The values of the smallest keys."""
        return self._values

    def distinct(self) -> float:
        """Return the number of distinct keys: exact below `SIZE`, else an estimate.

        The estimate is (k - 1) / u, where u is the k-th smallest key as a share of all possible
        keys: unbiased, with a relative standard error of 1 / √(k - 2), here 0.39 % (Beyer et al.,
        SIGMOD 2007).
        """
        if len(self._keys) < SIZE:
            return float(len(self._keys))
        return (SIZE - 1) / ((float(self._keys[-1]) + 1) / KEYS)


class ColumnStatistics:
    """The statistics that one column's `expect` is about."""

    def __init__(self, spec: ExpectSpec) -> None:
        self._names = [name for name, _ in spec.statistics()]
        self._rows = self._present = 0
        self._moments = RunningMoments()
        self._sample, self._keys = Smallest(), Smallest()

    def add(self, values: pa.Array) -> None:
        """Take in a batch of the column, typed as the contract says."""
        present = values.drop_null() if values.null_count else values
        if {"mean", "deviation", "median"} & set(self._names):
            numbers = present.to_numpy().astype(np.float64, copy=False)
            if {"mean", "deviation"} & set(self._names):
                self._moments.add(numbers)
            if "median" in self._names:
                places = np.arange(self._present, self._present + len(present))
                self._sample.add(keys_of([pa.array(places)], exact=False), numbers)
        if "distinct" in self._names and len(present):
            keys = keys_of([present], exact=False)
            self._keys.add(keys, keys)
        self._rows += len(values)
        self._present += len(present)

    def value(self, name: str) -> float | None:
        """One of the statistics; None where there are too few values to have it."""
        functions: dict[str, Callable[[], float | None]] = {
            "missing_share": lambda: 1 - self._present / self._rows if self._rows else None,
            "distinct": self._keys.distinct,
            "mean": self._moments.mean,
            "deviation": self._moments.deviation,
            "median": self._median,
        }
        return functions[name]()

    def _median(self) -> float | None:
        """Return the median, that of a sample of 65,536 if there are more values.

        By the inequality of Dvoretzky, Kiefer and Wolfowitz (Massart, 1990) the share of values
        below it is then within 0.0075 of a half with a probability of
        1 - 2 exp(-2 · 65,536 · 0.0075²) = 0.9987.
        """
        return float(np.median(self._sample.values)) if self._present else None
