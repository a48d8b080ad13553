"""Columns of an unknown file: types and ranges, guessed.

A column is what nearly all of its cells are: one slip of the pen among thousands of numbers does
not make them text. The rows with such cells are told, and go to quarantine.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from lifecycle.lake.column_types import coerce
from lifecycle.project import ColumnType

FEW_CATEGORIES = 50
MANY_CATEGORIES = 1000
FEW_NUMBERS = 30
ENOUGH = 100
"""Cells from which on a few that do not fit say less than the others."""
MOST_MISFITS = 0.01
"""Share of the cells that may not be what a column is."""
LEAST_LOOK = 0.5
"""Share of the cells from which on a column looks like numbers or dates."""
SAMPLE = 1_000
SEED = 17
NEARLY_ALL = 0.98
"""Share of its values that differ, in what is a number of each row's own."""
LEAST_REPEATS, FEW_REPEATS = 20, 0.1
"""Of whole numbers that are measured: equal pairs to expect before few are a sign, and the share of
them that are few (of 20 expected, 2 or fewer by chance once in two million columns)."""
MOST_LOST = 0.05
"""Share of the rows that may have a misfit in any column."""
BLANK = r"[\s\v\x1c-\x1f\x{85}\pZ]"
"""What is blank to Python, in the words of RE2."""
ISO_DATE = rf"^{BLANK}*\p{{Nd}}{{4}}-\p{{Nd}}{{2}}-\p{{Nd}}{{2}}"
LEADING_ZERO = rf"^{BLANK}*[+-]?0\p{{Nd}}"
PLAIN_WHOLE = r"^[+-]?(0|[1-9][0-9]{0,14})$"
PLAIN_NUMBER = r"^[+-]?(0|[1-9][0-9]{0,14})(\.[0-9]+)?$"
LONG = rf"^{BLANK}*[+-]?\p{{Nd}}{{16,}}{BLANK}*$"
IDENTIFIER = re.compile(r"(^|[_\s-])(id|uuid|guid|key)$|[a-z](ID|Id)$", re.ASCII)
CELLS_AT_ONCE = 1 << 19
"""Cells of several columns that are looked at together, about."""
Rows = NDArray[np.int64]
"""Numbers of rows, from 0, ascending."""
Typed = tuple[ColumnType, "pd.Series[Any]"]
"""A column's type, and its values in it."""


def _no_rows() -> Rows:
    return np.empty(0, dtype=np.int64)


@dataclass(frozen=True)
class Column:
    """A guessed column: the values in their type, and what the contract should say."""

    values: "pd.Series[Any]"
    spec: dict[str, Any]
    distinct: int
    misfits: Rows = field(default_factory=_no_rows)
    """Rows whose cell is not of the type, though nearly all are; their value is missing."""

    @property
    def kind(self) -> ColumnType:
        kind: ColumnType = self.spec["type"]
        return kind

    @property
    def unique(self) -> bool:
        return self.distinct == len(self.values)

    @property
    def counts_rows(self) -> bool:
        """Tell whether it is one more in each row than in the one before."""
        if self.kind != "integer" or not self.unique or self.values.isna().any():
            return False
        return bool((np.diff(self.values.to_numpy(dtype=np.int64)) == 1).all())

    @property
    def numbers_rows(self) -> str:
        """Way in which it is a number of each row's own, with gaps or shuffled; empty if not.

        Values of a measure repeat: of n drawn from r whole numbers, n² / 2r pairs are equal (the
        birthday problem). Where far fewer are, they were given out, not measured.
        """
        rows = len(self.values)
        if self.kind != "integer" or rows < ENOUGH or self.distinct < NEARLY_ALL * rows:
            return ""
        if self.values.isna().any():
            return ""
        numbers = self.values.to_numpy(dtype=np.int64)
        steps = np.diff(numbers)
        if (steps > 0).all() or (steps < 0).all():
            return "numbers the rows, with gaps"
        low, high = int(numbers.min()), int(numbers.max())
        expected = rows**2 / (2 * (high - low + 1))
        equal = self.values.value_counts().to_numpy(dtype=np.int64)
        if expected >= LEAST_REPEATS and (equal * (equal - 1)).sum() <= 2 * FEW_REPEATS * expected:
            return f"numbers the rows, in another order: it hardly repeats from {low} to {high}"
        return ""


class Guessed(NamedTuple):
    """The columns of a file, as they are in the rows that the contract will accept."""

    columns: dict[str, Column]
    row_numbers: Rows
    """Those rows, by their number in the file."""
    rows: int
    """That were looked at."""
    step: int = 1
    """Rows of the file from one that was looked at to the next."""


def guess_columns(raw: Mapping[str, "pd.Series[str]"]) -> Guessed:
    """Columns guessed together: rows with a misfit count in none of them.

    Where too many rows would be lost, the columns with most misfits stay text.
    """
    plain = _plain_numbers(raw)
    columns = {
        name: guess_column(values, name, typed=plain.get(name) or _typed_otherwise(values))
        for name, values in raw.items()
    }
    rows = len(next(iter(raw.values()), ()))
    lost = np.zeros(rows, dtype=bool)
    misfits = {}
    for name in sorted(columns, key=lambda name: len(columns[name].misfits)):
        more = lost.copy()
        more[columns[name].misfits] = True
        if more.mean() <= MOST_LOST:
            lost, misfits[name] = more, columns[name].misfits
        else:
            columns[name] = guess_column(raw[name], name, all_fit=True)
    guessed = Guessed(columns, np.flatnonzero(~lost), rows)
    return _guessed_again(guessed, raw, misfits) if lost.any() else guessed


def without_rows(guessed: Guessed, raw: Mapping[str, "pd.Series[str]"], rows: Rows) -> Guessed:
    """The same columns, where the contract will not accept some more rows.

    Args:
        raw: what the columns were guessed from.
        rows: numbers of those rows in the file.
    """
    rows_left = np.setdiff1d(guessed.row_numbers, rows)
    misfits = {name: column.misfits for name, column in guessed.columns.items()}
    return _guessed_again(guessed._replace(row_numbers=rows_left), raw, misfits)


def _guessed_again(
    guessed: Guessed, raw: Mapping[str, "pd.Series[str]"], misfits: Mapping[str, Rows]
) -> Guessed:
    columns = {}
    accepted = {
        n: values.iloc[guessed.row_numbers].reset_index(drop=True) for n, values in raw.items()
    }
    plain = _plain_numbers(accepted)
    for name, values in accepted.items():
        typed = plain.get(name) or _typed_otherwise(values)
        column = guess_column(values, name, all_fit=True, typed=typed)
        columns[name] = replace(column, misfits=misfits.get(name, _no_rows()))
    return guessed._replace(columns=columns)


def guess_column(
    raw: "pd.Series[str]", name: str = "", *, all_fit: bool = False, typed: Typed | None = None
) -> Column:
    """The narrowest type that every cell of a text column fits, or nearly every.

    Args:
        raw: cells as text; only an empty cell is missing.
        name: an identifier is a name: where one is no number, none is.
        all_fit: whether a single misfit makes the column text.
        typed: what `_typed` would find, where that is known.
    """
    kind, values = typed or _typed(raw)
    odd = np.zeros(len(raw), dtype=bool)
    if kind in ("string", "category") and not all_fit and not IDENTIFIER.search(name):
        odd = _misfits(raw)
        if odd.any():
            kind, values = _typed(raw.mask(odd, None))
    distinct = int(values.nunique())
    spec: dict[str, Any] = {"type": kind}
    if (values.isna().to_numpy(dtype=bool) & ~odd).any():
        spec["nullable"] = True
    if kind in ("integer", "number") and distinct:
        low, high = values.min(), values.max()
        few = kind == "integer" and distinct <= FEW_NUMBERS
        if low >= 0 or few:
            spec["minimum"] = int(low) if few else 0
        if few:
            spec["maximum"] = int(high)
    if kind == "category" and distinct <= FEW_CATEGORIES:
        spec["categories"] = sorted(values.dropna().unique())
    return Column(values, spec, distinct, np.flatnonzero(odd))


def _misfits(raw: "pd.Series[str]") -> NDArray[np.bool_]:
    """Which cells of a column of text keep it from being numbers or times (rows,); none if they
    are many, or are not all that does."""
    if not _has_digits(raw):
        return np.zeros(len(raw), dtype=bool)
    few = raw.sample(min(len(raw), SAMPLE), random_state=SEED)
    for typed in (_numbers, _dates):
        if typed(few)[1].mean() > 10 * MOST_MISFITS:  # text, which takes a while to read whole
            continue
        values, failed = typed(raw)
        bad, fit = int(failed.sum()), int(values.notna().sum())
        if not bad or bad + fit < ENOUGH or bad > MOST_MISFITS * (bad + fit):
            continue
        if _typed(raw.mask(failed, None))[0] in ("integer", "number", "datetime"):
            return failed
    return np.zeros(len(raw), dtype=bool)


def _numbers(raw: "pd.Series[str]") -> tuple["pd.Series[Any]", NDArray[np.bool_]]:
    return coerce(raw, "number")


def _dates(raw: "pd.Series[str]") -> tuple["pd.Series[Any]", NDArray[np.bool_]]:
    """Times, and which cells are none; a number such as 2020 is none."""
    dated = _matches(raw, ISO_DATE)
    if not dated.any():  # parsing takes a while
        return pd.Series(pd.NaT, index=raw.index), raw.notna().to_numpy(dtype=bool)
    values, failed = coerce(raw, "datetime")
    failed = failed | (values.notna().to_numpy(dtype=bool) & ~dated)
    return values.mask(failed), failed


def _has_digits(raw: "pd.Series[str]") -> bool:
    """Whether any cell can be a number or a time."""
    return bool(_matches(raw, "[0-9]").any())


def _matches(raw: "pd.Series[str]", pattern: str) -> NDArray[np.bool_]:
    """Which cells have what a pattern of RE2 says (rows,); Python's take ten times as long."""
    matches = pc.match_substring_regex(pa.array(raw, pa.string()), pattern).fill_null(False)
    result: NDArray[np.bool_] = matches.to_numpy(zero_copy_only=False)
    return result


def _plain_numbers(columns: Mapping[str, "pd.Series[str]"]) -> dict[str, Typed]:
    """What `_typed` finds in the columns of nothing but plain numbers, as most are; the others are
    left out.

    Many columns are looked at in one call: a call takes as long as hundreds of cells.
    """
    numbers: dict[str, Typed] = {}
    names = list(columns)
    rows = len(next(iter(columns.values()), ()))
    step = max(1, CELLS_AT_ONCE // max(1, rows))
    for start in range(0, len(names) if rows else 0, step):
        chunk = names[start : start + step]
        texts = [_cells(columns[name]) for name in chunk]
        text = pa.concat_arrays(texts)
        valid = _matrix(text.is_valid(), rows).any(axis=1)
        integers = valid & _all_match(text, PLAIN_WHOLE, rows)
        number = valid & ~integers & _all_match(text, PLAIN_NUMBER, rows)
        kinds: list[tuple[ColumnType, NDArray[np.bool_]]] = [
            ("integer", integers),
            ("number", number),
        ]
        for kind, chosen in kinds:
            at = np.flatnonzero(chosen)
            cells = pa.concat_arrays([texts[i] for i in at]) if len(at) else texts[0][:0]
            for i, values in zip(at, _values(cells, kind, rows), strict=True):
                numbers[chunk[i]] = kind, pd.Series(values, index=columns[chunk[i]].index)
    return numbers


def _cells(raw: "pd.Series[str]") -> pa.StringArray:
    """A column's texts in one piece; pandas may keep them in several."""
    cells = pa.array(raw, type=pa.string())
    return cells.combine_chunks() if isinstance(cells, pa.ChunkedArray) else cells


def _values(cells: pa.StringArray, kind: str, rows: int) -> Iterator[Any]:
    """Plain numbers of several columns: what a series of each is made of."""
    if kind == "number":
        yield from _matrix(cells.cast(pa.float64()), rows)
        return
    integers = cells.cast(pa.int64())
    missing = _matrix(integers.is_null(), rows)
    for numbers, mask in zip(_matrix(integers.fill_null(0), rows), missing, strict=True):
        yield pd.arrays.IntegerArray(numbers.copy(), mask.copy())


def _all_match(text: pa.StringArray, pattern: str, rows: int) -> NDArray[np.bool_]:
    """Whether every cell of a column that is there matches: (columns,)."""
    matches = pc.match_substring_regex(text, pattern).fill_null(True)
    every: NDArray[np.bool_] = np.logical_and.reduce(_matrix(matches, rows), axis=1)
    return every


def _matrix(array: pa.Array, rows: int) -> NDArray[Any]:
    """Columns that follow each other: (columns, rows)."""
    cells: NDArray[Any] = array.to_numpy(zero_copy_only=False)
    return cells.reshape(-1, rows)


def _typed(raw: "pd.Series[str]") -> Typed:
    return _plain_numbers({"": raw}).get("") or _typed_otherwise(raw)


def _typed_otherwise(raw: "pd.Series[str]") -> Typed:
    """The type of a column that is not of plain numbers alone."""
    present = raw.dropna()
    if _matches(present, LEADING_ZERO).any():  # 007 is a name, not seven
        return text_kind(raw), raw
    words = set(present.str.strip().str.lower().unique()[:5])
    if words and words <= {"true", "false"}:
        return "boolean", coerce(raw, "boolean").values
    if not _has_digits(raw):
        return text_kind(raw), raw
    is_integer = not present.str.contains(".", regex=False).any()
    for kind in ("integer", "number") if is_integer else ("number",):
        values, failed = coerce(raw, kind)
        if not failed.any() and values.notna().any():
            return kind, values
        if _matches(present, LONG).any():  # as a float it would lose digits
            return text_kind(raw), raw
    values, failed = _dates(raw)
    if not failed.any() and values.notna().any():
        return "datetime", values
    return text_kind(raw), raw


def text_kind(raw: "pd.Series[str]") -> ColumnType:
    """Tell whether texts are categories: few, or each of them often."""
    distinct, rows = raw.nunique(), len(raw)
    if 0 < distinct <= min(FEW_CATEGORIES, max(2, rows // 4)):
        return "category"
    return "category" if 0 < distinct <= min(MANY_CATEGORIES, rows // 20) else "string"
