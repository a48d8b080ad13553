"""Cells as a source writes them, in the one notation that everything behind it reads.

`1.234,50 €` becomes `1234.50`, `31/12/2024` a time, a word for missing a missing cell. Numbers stay
text here: what parses them is the same for every source, so the same numbers in two notations are
the same to the last bit. A cell that is not in the declared notation never passes for one that is:
where it could be read otherwise (`394.59` under a decimal comma), its text says why it is refused.
"""

import re
from collections.abc import Sequence
from datetime import datetime
from functools import cached_property

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from lifecycle.project import ColumnSpec, SourceSpec
from lifecycle.project.data import DIRECTIVE, EPOCHS, SAMPLE, Negative

MICROSECONDS = pa.timestamp("us")
BLANKS = " \u00a0\u2009\u202f"
"""Plain, fixed, thin and narrow fixed: what stands between thousands, and before a unit."""
SPACES = f"[{BLANKS}]"
GROUPING = {"": "", ",": ",", ".": r"\.", " ": SPACES, "'": "['\u2019]"}
MINUS = "\u2212"
READABLE = r"^\s*[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?\s*$"
"""What reads as a number without any notation."""
PLAIN_COMMA = r"^[+-]?[0-9]+(,[0-9]+)?$"
ISO_DAY = r"^\s*[0-9]{4}-[0-9]{2}-[0-9]{2}"
YEAR_FIRST = r"^\s*[0-9]{4}"
INFINITE = re.compile(r"[+-]?inf(inity)?", re.IGNORECASE)
FIRST_TIME, LAST_TIME = -62_135_596_800_000_000, 253_402_300_800_000_000
"""Microseconds from 1970 to the years 1 and 10000, between which a time is."""
BEYOND = r"(^|[^0-9])(0\d{3}|1[0-5]\d{2}|16[0-7]\d|22[6-9]\d|2[3-9]\d{2}|[3-9]\d{3})"
MOST_SINGLE = 10_000
"""Different texts that are tried one by one, where pandas' range of years (1677 to 2262) ends."""


class Numbers:
    """Numbers in one notation: where decimals begin, how thousands, signs and the unit stand."""

    def __init__(
        self, decimal: str = ".", thousands: str = "", negative: Negative = "sign", unit: str = ""
    ) -> None:
        """Compile the pattern of a notation.

        Args:
            unit: text that may stand before or after a number, such as `€`, `%` or `kg`.
        """
        self.decimal, self.thousands, self.negative = decimal, thousands, negative
        self.unit = unit.strip()
        group = GROUPING[thousands]
        integer = "[0-9]+"
        if group:
            integer += rf"|[0-9]{{1,3}}(?:{group}[0-9]{{3}})+"
        if thousands == ",":  # 12,34,567 in India
            integer += r"|[0-9]{1,2}(?:,[0-9]{2})+,[0-9]{3}"
        mark = re.escape(decimal)
        self._pattern = (
            r"^(?P<sign>[-+]?)"
            rf"(?:(?P<whole>{integer})(?:{mark}(?P<part>[0-9]*))?|{mark}(?P<only>[0-9]+))"
            r"(?P<power>(?:[eE][+-]?[0-9]+)?)$"
        )

    @property
    def is_plain(self) -> bool:
        """Return whether the notation is the plain one, which every library reads."""
        return (self.decimal, self.thousands, self.negative, self.unit) == (".", "", "sign", "")

    @cached_property
    def _whole_cell(self) -> re.Pattern[str]:
        return re.compile(self._pattern.replace("^(?P<sign>[-+]?)", f"(?P<sign>[-+]?){SPACES}*", 1))

    def reads(self, cells: Sequence[str]) -> NDArray[np.bool_]:
        """Return a mask of the cells that are numbers in this notation (cells,).

        Cells must have no blanks around them. The result is that of `plain`, faster for few cells.
        """
        if self.unit or self.negative != "sign":
            plain = self.plain(pa.array(cells, pa.string()))
            valid: NDArray[np.bool_] = plain.is_valid().to_numpy(zero_copy_only=False)
            return valid
        fits = self._whole_cell.fullmatch
        return np.array([fits(cell.replace(MINUS, "-")) is not None for cell in cells], dtype=bool)

    def plain(self, text: pa.StringArray) -> pa.StringArray:
        """Cells as plain numbers; missing where a cell is none in this notation."""
        cells = pc.utf8_trim_whitespace(text)
        if self.decimal == "," and pc.all(pc.match_substring_regex(cells, PLAIN_COMMA)).as_py():
            return pc.replace_substring(cells, ",", ".")  # what follows, in a tenth of the time
        cells = pc.replace_substring(cells, MINUS, "-")
        if self.unit:
            cells = self._without_unit(cells)
        if self.negative == "parentheses":
            cells = pc.replace_substring_regex(cells, r"^\(\s*([^-+()]+?)\s*\)$", r"-\1")
        elif self.negative == "trailing":
            cells = pc.replace_substring_regex(cells, r"^([^-+]+?)\s*-$", r"-\1")
        cells = pc.replace_substring_regex(cells, rf"^([-+]){SPACES}+", r"\1")
        parts = pc.extract_regex(cells, self._pattern)
        sign, integer, part, only, power = (
            pc.struct_field(parts, name) for name in ("sign", "whole", "part", "only", "power")
        )
        if self.thousands:
            integer = pc.replace_substring_regex(integer, GROUPING[self.thousands], "")
        decimals = pc.binary_join_element_wise(part, only, "")
        pointed = pc.if_else(pc.equal(decimals, ""), "", ".")
        joined = pc.binary_join_element_wise(sign, integer, pointed, decimals, power, "")
        # RE2 gives empty groups where nothing matched at all
        return pc.if_else(
            pc.match_substring_regex(joined, "[0-9]"), joined, pa.scalar(None, pa.string())
        )

    def _without_unit(self, cells: pa.StringArray) -> pa.StringArray:
        unit = re.escape(self.unit)
        before = rf"^(\(?\s*[-+]?)\s*{unit}\s*"
        after = rf"{SPACES}*{unit}\s*([-)]?)$"
        without = pc.replace_substring_regex(cells, before, r"\1", max_replacements=1)
        return pc.replace_substring_regex(without, after, r"\1", max_replacements=1)

    def __str__(self) -> str:
        options = [f'decimal "{self.decimal}"']
        if self.thousands:
            options.append(f'thousands "{self.thousands}"')
        return ", ".join(options)


class Notation:
    """Notation of one source's cells.

    Args:
        spec: what the project file declares of the source.
    """

    def __init__(self, spec: SourceSpec) -> None:
        self._spec = spec

    @cached_property
    def _missing(self) -> pa.StringArray:
        return pa.array([word.strip() for word in self._spec.missing], pa.string())

    @cached_property
    def _missing_numbers(self) -> list[float]:
        """Words for missing that are numbers, infinite ones among them."""
        numbers = []
        for word in self._spec.missing:
            try:
                numbers.append(float(word))
            except ValueError:
                continue
        return [number for number in numbers if number == number]

    def read(self, array: pa.Array, name: str, spec: ColumnSpec) -> pa.Array:
        """A column in the notation that everything reads.

        Args:
            array: of one of the types that `columns.plain` gives.
            name: the column's.
            spec: the contract's.
        """
        kind = spec.value_type
        is_text = pa.types.is_string(array.type)
        if is_text and kind == "datetime" and name in self._spec.dates:
            encoded = array.dictionary_encode()
            if len(encoded.dictionary) < len(array) / 2:  # parsing takes a while
                return pc.take(self._read(encoded.dictionary, name, spec), encoded.indices)
        return self._read(array, name, spec)

    def _read(self, array: pa.Array, name: str, spec: ColumnSpec) -> pa.Array:
        kind = spec.value_type
        is_text = pa.types.is_string(array.type)
        if is_text and name in self._spec.spellings:
            array = self._respelled(array, name)
        if self._spec.missing:
            array = self._without_missing(array, spec)
        if kind == "datetime" and name in self._spec.dates:
            return Dates(self._spec.dates[name]).read(array)
        if is_text and kind in ("integer", "number"):
            return self._numbers(array, name, spec)
        return array

    def _respelled(self, array: pa.StringArray, name: str) -> pa.StringArray:
        spellings = self._spec.spellings[name]
        meant = {text: value for value, texts in spellings.items() for text in texts}
        places = pc.index_in(array, pa.array(list(meant), pa.string()))
        return pc.coalesce(pc.take(pa.array(list(meant.values()), pa.string()), places), array)

    def _without_missing(self, array: pa.Array, spec: ColumnSpec) -> pa.Array:
        kind = array.type
        if pa.types.is_string(kind):
            listed = set(map(str, spec.categories or ()))
            words = [word for word in self._missing.to_pylist() if word not in listed]
            missing = pc.is_in(pc.utf8_trim_whitespace(array), pa.array(words, pa.string()))
        elif pa.types.is_floating(kind):
            missing = pc.is_in(array, pa.array(self._missing_numbers, kind))
        elif pa.types.is_integer(kind):
            integers = [int(n) for n in self._missing_numbers if n.is_integer() and abs(n) < 2**53]
            if pa.types.is_unsigned_integer(kind):
                integers = [n for n in integers if n >= 0]
            missing = pc.is_in(array.cast(pa.int64(), safe=False), pa.array(integers, pa.int64()))
        else:
            return array
        return pc.if_else(missing, pa.scalar(None, kind), array)

    def _numbers(self, array: pa.StringArray, name: str, spec: ColumnSpec) -> pa.StringArray:
        own = self._spec
        numbers = Numbers(own.decimal, own.thousands, own.negative, spec.unit)
        if name in own.plain:
            numbers = Numbers(negative=own.negative, unit=spec.unit)
        if numbers.is_plain or (numbers.decimal == "." and _are_numbers(array)):
            return array
        plain = numbers.plain(array)
        if plain.null_count == array.null_count:
            return plain
        unlike = pc.and_(pc.is_null(plain), pc.match_substring_regex(array, READABLE))
        if numbers.decimal == "." and not numbers.thousands:
            unlike = pc.and_(unlike, False)
        refused = pc.binary_join_element_wise(array, f" (source: {numbers})", "")
        return pc.coalesce(plain, pc.if_else(unlike, refused, array))


class Dates:
    """Times in one format or a few."""

    def __init__(self, formats: Sequence[str]) -> None:
        self._formats = formats
        self._iso = not any("%Y-%d" in format for format in formats)

    def read(self, array: pa.Array) -> pa.Array:
        """A column as `timestamp[us]` where every cell is a time, else as text: what is a time as
        ISO 8601 has it, the others as they are.

        Args:
            array: text or numbers; times stay what they are.
        """
        if pa.types.is_timestamp(array.type) or pa.types.is_boolean(array.type):
            return array
        text = array if pa.types.is_string(array.type) else _digits(array)
        times = self.times(text)
        if times.null_count == text.null_count:
            return times
        texts = times.cast(pa.string())
        iso = pc.match_substring_regex(text, ISO_DAY)
        unlike = pc.match_substring_regex(text, YEAR_FIRST)
        if self._iso:
            unlike = pc.and_(unlike, pc.invert(iso))
        hint = f" (source.dates: {', '.join(self._formats)})"
        refused = pc.binary_join_element_wise(text, hint, "")
        return pc.coalesce(texts, pc.if_else(unlike, refused, text))

    def times(self, text: pa.StringArray) -> pa.TimestampArray:
        """Cells as times in UTC, without a zone; missing where a cell fits none of the formats."""
        cells = pc.utf8_trim_whitespace(text)
        times = pa.nulls(len(cells), MICROSECONDS)
        for format in self._formats:
            unparsed = pc.if_else(pc.is_null(times), cells, pa.scalar(None, pa.string()))
            if unparsed.null_count == len(unparsed):
                break
            more = (
                _counted(unparsed, EPOCHS[format])
                if format in EPOCHS
                else _parsed(unparsed, format)
            )
            times = pc.coalesce(times, more)
        return times


def _are_numbers(text: pa.StringArray) -> bool:
    """Return whether all cells are numbers in the plain notation."""
    try:
        text.cast(pa.float64())
    except pa.ArrowInvalid:
        return False
    return True


def _digits(array: pa.Array) -> pa.StringArray:
    """Numbers as the text that a file would have: whole ones without a point."""
    if pa.types.is_floating(array.type):
        texts = [None if v is None else f"{v:.9f}".rstrip("0") for v in array.to_pylist()]
        return pc.replace_substring_regex(pa.array(texts, pa.string()), r"\.$", "")
    return array.cast(pa.string())


def _counted(text: pa.StringArray, a_second: int) -> pa.TimestampArray:
    """Times that count from 1970; whole numbers exactly, others to the microsecond."""
    none = pa.scalar(None, pa.string())
    integers = pc.if_else(
        pc.match_substring_regex(text, r"^-?[0-9]{1,18}$|^1[0-9]{18}$"), text, none
    )
    parted = pc.if_else(pc.match_substring_regex(text, r"^-?[0-9]{1,18}\.[0-9]*$"), text, none)
    counts = integers.cast(pa.int64()).fill_null(0).to_numpy(zero_copy_only=False)
    valid = integers.is_valid().to_numpy(zero_copy_only=False)
    scale = 1_000_000 / a_second
    floats = parted.cast(pa.float64()).fill_null(0.0).to_numpy(zero_copy_only=False)
    numbers = np.round(floats * scale)
    valid &= (counts * scale >= FIRST_TIME) & (counts * scale < LAST_TIME)
    exact = (
        counts // (a_second // 1_000_000) if scale < 1 else np.where(valid, counts, 0) * int(scale)
    )
    inside = parted.is_valid().to_numpy(zero_copy_only=False)
    inside &= (numbers >= FIRST_TIME) & (numbers < LAST_TIME)
    stamps = np.where(valid, exact, np.where(inside, numbers, 0).astype(np.int64))
    return pa.array(stamps, pa.int64(), mask=~(valid | inside)).cast(MICROSECONDS)


def _parsed(text: pa.StringArray, date_format: str) -> pa.TimestampArray:
    if length := _length(date_format):  # strptime would read 2024123 as the 3rd of December
        text = pc.if_else(
            pc.equal(pc.utf8_length(text), length), text, pa.scalar(None, pa.string())
        )
    cells: pd.Series[str] = text.to_pandas()
    times = pd.to_datetime(cells, format=date_format, exact=True, errors="coerce", utc=True)
    moments = times.dt.tz_localize(None).to_numpy(dtype="datetime64[us]").copy()
    failed = np.isnat(moments) & cells.notna().to_numpy(dtype=bool)
    if failed.any():
        _one_by_one(cells, failed, moments, date_format)
    return pa.array(moments, MICROSECONDS)


def _one_by_one(
    cells: "pd.Series[str]",
    failed: NDArray[np.bool_],
    times: NDArray[np.datetime64],
    date_format: str,
) -> None:
    """Times beyond the years that pandas parses, such as 31/12/9999 for no end."""
    is_far = pc.match_substring_regex(pa.array(cells, pa.string()), BEYOND).fill_null(False)
    beyond = cells[failed & is_far.to_numpy(zero_copy_only=False)]
    texts = beyond.unique()[:MOST_SINGLE]
    parsed_cells = {}
    for cell in texts:
        try:
            time = datetime.strptime(cell, date_format)
        except ValueError:
            continue
        if time.tzinfo is None:
            parsed_cells[cell] = np.datetime64(time, "us")
    for place in beyond.index[beyond.isin(list(parsed_cells))]:
        times[place] = parsed_cells[cells[place]]


def _length(date_format: str) -> int | None:
    """Characters of every time in a format whose numbers touch; None of others."""
    if not re.search(r"%[YmdHMSy]%[YmdHMSy]", date_format) or set(
        DIRECTIVE.findall(date_format)
    ) & set("bBaAfpzZj"):
        return None
    return len(SAMPLE.strftime(date_format))
