"""The sample, column by column, as what measures take: floats, or codes of levels."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray

from lifecycle.lake.column_types import is_number
from lifecycle.profiling.record import Kind
from lifecycle.profiling.schema import Known

Floats = NDArray[np.float64]
Codes = NDArray[np.int64]
FEW = 50
"""Up to so many different texts are always levels."""
REPEATED = 10
"""More texts are levels if each is there so many times on average."""


@dataclass(frozen=True)
class Levels:
    """A column of categories."""

    codes: Codes
    """(rows,): the level's place; -1 is missing."""
    names: tuple[str, ...]
    """The most frequent first."""

    @property
    def counts(self) -> Codes:
        """Rows of each level."""
        return np.bincount(self.codes[self.codes >= 0], minlength=len(self.names))


@dataclass
class Sampled:
    """The sampled rows."""

    rows: int
    kinds: dict[str, Kind]
    numbers: dict[str, Floats] = field(default_factory=dict)
    """Of numbers and times (in seconds since 1970); missing is NaN."""
    levels: dict[str, Levels] = field(default_factory=dict)
    """Of categories and text."""
    whole: set[str] = field(default_factory=set)
    """Columns of whole numbers."""


def sampled(table: pa.Table, known: Known) -> Sampled:
    """A sample, typed by the contract where there is one, else by what the values look like."""
    made = Sampled(table.num_rows, {})
    for name, column in zip(table.column_names, table.columns, strict=True):
        spec = known.specs.get(name)
        kind = column.type
        labelled = (spec is not None and spec.type == "category") or (
            name == known.target and known.task in ("binary", "multiclass")
        )
        if pa.types.is_timestamp(kind):
            made.kinds[name] = "time"
            seconds = column.cast(pa.int64()).cast(pa.float64(), safe=False)
            made.numbers[name] = _floats(seconds) / 1e6
        elif is_number(kind) and not labelled:
            made.kinds[name] = "number"
            made.numbers[name] = _floats(column.cast(pa.float64(), safe=False))
            if pa.types.is_integer(kind):
                made.whole.add(name)
        else:
            levels = _levels(column)
            repeated = len(levels.names) <= max(FEW, table.num_rows // REPEATED)
            short = table.num_rows > FEW and len(levels.names) > table.num_rows // 2
            label = labelled or pa.types.is_boolean(kind) or (repeated and not short)
            made.kinds[name] = "category" if label else "text"
            made.levels[name] = levels
    return made


def _floats(column: pa.ChunkedArray) -> Floats:
    values: Floats = column.to_numpy().astype(np.float64, copy=False)
    return values


def _levels(column: pa.ChunkedArray) -> Levels:
    values: pd.Series[Any] = column.to_pandas()
    codes, found = pd.factorize(values)
    counts = np.bincount(codes[codes >= 0], minlength=len(found))
    order = np.argsort(-counts, kind="stable")
    places = np.empty(len(found) + 1, np.int64)
    places[order], places[-1] = np.arange(len(found)), -1
    return Levels(places[codes], tuple(level_name(found[at]) for at in order))


def level_name(value: object) -> str:
    """A level as text; a whole number without its point, whatever its type."""
    if isinstance(value, bool | np.bool_):
        return "true" if value else "false"
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value)
