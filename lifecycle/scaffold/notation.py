"""Guesses of the notation of a data file's cells, for all columns together.

Columns of one file share a notation: if one column does not show whether its comma is a decimal
mark, another does. If the file cannot tell, such as the order of day and month when no day is above
12, the user is asked, and the column is ignored until there is an answer.
"""

import re
from collections import Counter, defaultdict
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from lifecycle.data.sources.notation import Notation
from lifecycle.project import ColumnSpec, SourceSpec
from lifecycle.project.data import Decimal, Negative, Thousands
from lifecycle.scaffold.columns import (
    FEW_CATEGORIES,
    IDENTIFIER,
    LEAST_LOOK,
    MOST_MISFITS,
    text_kind,
)
from lifecycle.scaffold.dates import ABOUT_TIME, DateGuess, guess_counted, guess_formats
from lifecycle.scaffold.missing_words import (
    INFINITE,
    as_numbers,
    cell_counts,
    declarable,
    is_certain,
    is_missing,
    listed,
    missing_labels,
    spellings_of,
    which_missing,
)
from lifecycle.scaffold.numbers import (
    PLAIN,
    NumberGuess,
    Pair,
    comma_means,
    guess_numbers,
    plain_commas,
)

MOST_LABELS = 200
"""Different texts of a target that are looked at for spellings of one class."""
NAMES_SHOWN = 5
"""Columns named in one line, at most."""
HEAD = 2_000
"""Cells of a column of plain numbers that are looked at for the form of their decimals."""
ISO_LIKE = r"^[0-9]{4}-[0-9]{2}-[0-9]{2}([T ][0-9:.,+Z -]*)?$"
GROUPED = r"^[-+]?[0-9]{1,3}(\.[0-9]{3})+$"
YES_NO = {"true", "false"}


@dataclass
class Recognised:
    """A file's columns in the notation that everything reads, and what was guessed of it."""

    source: SourceSpec
    """With the keys that read them."""
    cells: dict[str, "pd.Series[str]"]
    units: dict[str, str] = field(default_factory=dict)
    """Columns whose numbers have a unit, for the contract."""
    unread: dict[str, str] = field(default_factory=dict)
    """Columns that nothing can read before someone answers: the question, and what to write."""
    hints: dict[str, str] = field(default_factory=dict)
    """Columns that look like numbers or dates and are none: why, and what to write."""
    notes: list[str] = field(default_factory=list)


@dataclass
class _Columns:
    """What is known of each column before they agree."""

    numbers: dict[str, NumberGuess] = field(default_factory=dict)
    plain: list[str] = field(default_factory=list)
    dates: dict[str, tuple[str, ...]] = field(default_factory=dict)
    iso: list[str] = field(default_factory=list)
    """Times as ISO 8601 has them, with words for missing among them."""
    counts: dict[str, "pd.Series[int]"] = field(default_factory=dict)
    """Of columns of text: the cells without blanks around them, the most frequent first."""
    words: dict[str, list[str]] = field(default_factory=dict)
    """Words for missing, by column."""
    unread: dict[str, str] = field(default_factory=dict)
    hints: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


class _Points(NamedTuple):
    """The points in a column of plain numbers."""

    any: bool
    decimal: bool
    """Whether one of them cannot stand between thousands."""


def recognise(
    raw: Mapping[str, "pd.Series[str]"],
    source: SourceSpec,
    *,
    target: str | None = None,
    typed: Collection[str] = (),
) -> Recognised:
    """Recognise the notation of a file's cells.

    Args:
        raw: columns as text; only an empty cell is missing.
        source: the source of the file, whose declarations are kept.
        typed: columns that are not text in the file itself (Parquet, Excel, JSON).
    """
    columns = _Columns()
    for name, values in raw.items():
        _look(name, values, columns, source, target, name in typed)
    decimal, thousands = _agreed(raw, columns, source)
    negatives = Counter(
        number.negative for number in columns.numbers.values() if number.negative != "sign"
    )
    negative: Negative = negatives.most_common(1)[0][0] if negatives else source.negative
    points = {}
    if decimal == ",":
        points = {name: _points(raw[name]) for name in columns.plain if name not in typed}
    exceptions = _exceptions(columns, source, (decimal, thousands), points)
    notes = _notes_on_numbers(columns, (decimal, thousands), negative, points)
    if exceptions:
        notes.append(f"plain: {_list(exceptions)}, with a decimal point and no thousands")
    notes += columns.notes
    words = [word for name in columns.words for word in columns.words[name]]
    notes += _notes_on_words(columns)
    spellings = dict(source.spellings)
    numeric = (*columns.numbers, *columns.plain)
    if target is not None and target in raw and target not in numeric:
        labels = _labels(raw[target], target)
        words += labels.missing
        notes += labels.notes
        spellings |= {target: labels.spellings} if labels.spellings else {}
        columns.words[target] = labels.missing
    certain, more = _look_at_texts(raw, columns, target)
    words += certain
    keys: dict[str, Any] = {
        "decimal": decimal,
        "thousands": thousands,
        "negative": negative,
        "plain": exceptions,
        "missing": list(dict.fromkeys([*source.missing, *words])),
        "dates": dict(source.dates) | columns.dates,
        "spellings": spellings,
    }
    declared = source.model_dump(exclude_unset=True)
    fresh = {key: value for key, value in keys.items() if value or key in declared}
    recognised = Recognised(SourceSpec.model_validate(declared | fresh), dict(raw))
    recognised.units = {
        name: number.unit for name, number in columns.numbers.items() if number.unit
    }
    recognised.unread, recognised.hints, recognised.notes = (
        columns.unread,
        columns.hints,
        [*notes, *more],
    )
    _rewrite(recognised, columns, target)
    return recognised


def _look(
    name: str,
    values: "pd.Series[str]",
    columns: _Columns,
    source: SourceSpec,
    target: str | None,
    typed: bool,
) -> None:
    """Find out what one column's cells are."""
    text = pa.array(values, pa.string(), from_pandas=True)
    numbers = None if name in source.dates else as_numbers(text)
    if numbers is not None:
        columns.plain.append(name)
        if not np.isfinite(numbers).all():
            cells = text.filter(pc.match_substring_regex(text, "(?i)inf|nan")).unique()
            columns.words[name] = declarable(pc.utf8_trim_whitespace(cells).to_pylist())
        if name != target:
            _counted(name, numbers, columns)
        return
    if typed:
        return
    text = pc.utf8_trim_whitespace(text)
    numbered = bool(IDENTIFIER.search(name)) and name != target
    if not numbered and name not in source.dates and (commas := plain_commas(text)) is not None:
        columns.numbers[name], columns.words[name] = commas, []
        return
    counts = cell_counts(text)
    cells = pa.array(counts.index, pa.string())
    columns.counts[name] = counts
    missing = which_missing(cells)
    missing_texts, present_counts = counts.index[missing].tolist(), counts[~missing]
    cells = cells.filter(pa.array(~missing))
    if name in source.dates:
        columns.words[name] = declarable(missing_texts)
        return
    digits = pc.match_substring_regex(cells, "[0-9]").to_numpy(zero_copy_only=False)
    if present_counts.empty or present_counts[digits].sum() < LEAST_LOOK * present_counts.sum():
        return
    if numbered and not ABOUT_TIME.search(name):
        return
    if (numbers := as_numbers(cells)) is not None:
        columns.plain.append(name)
        columns.words[name] = declarable(missing_texts)
        if name != target:
            _counted(name, numbers, columns)
        return
    if name != target and _dates(name, present_counts, missing_texts, columns):
        return
    if numbered:
        return
    guess = guess_numbers(present_counts)
    if guess is not None and guess.reason:
        columns.hints[name] = guess.reason
    elif guess is not None:
        columns.numbers[name] = guess
        columns.words[name] = declarable(missing_texts)


def _dates(name: str, counts: "pd.Series[int]", missing: list[str], columns: _Columns) -> bool:
    """Whether a column holds dates, or may hold them."""
    iso = counts.index.str.match(ISO_LIKE)
    if counts[iso].sum() >= (1 - MOST_MISFITS) * counts.sum():
        columns.iso.append(name)
        columns.words[name] = declarable(missing)
        return True
    guess = guess_formats(counts, name)
    if guess is None:
        return False
    _date(name, guess, columns)
    if guess.formats:
        columns.words[name] = declarable(missing)
    return True


def _counted(name: str, numbers: NDArray[np.float64], columns: _Columns) -> None:
    if IDENTIFIER.search(name) and not ABOUT_TIME.search(name):
        return
    guess = guess_counted(numbers[np.isfinite(numbers)], name)
    if guess is not None:
        _date(name, guess, columns)
        if guess.formats:
            columns.plain.remove(name)


def _date(name: str, guess: DateGuess, columns: _Columns) -> None:
    if guess.formats:
        columns.dates[name] = guess.formats
        iso = f", and {guess.iso:.0%} of its cells as ISO 8601 has it" if guess.iso else ""
        columns.notes.append(f"dates: {name} is read as {_formats(guess.formats)}{iso}")
    elif name in columns.plain:
        columns.notes.append(f"dates: {name} {guess.reason}")
    elif guess.is_question:
        columns.unread[name] = guess.reason
    else:
        columns.hints[name] = guess.reason


def _points(values: "pd.Series[str]") -> _Points:
    head = pc.utf8_trim_whitespace(pa.array(values.iloc[:HEAD].dropna(), pa.string()))
    points = head.filter(pc.match_substring(head, "."))
    decimal = pc.all(pc.match_substring_regex(points, GROUPED), min_count=0).as_py() is False
    return _Points(len(points) > 0, decimal)


def _agreed(raw: Mapping[str, "pd.Series[str]"], columns: _Columns, source: SourceSpec) -> Pair:
    """Decimal and thousands of the file; columns that have others are named under `hints`."""
    decimal = _decimal(raw, columns, source)
    needs: Counter[Thousands] = Counter()
    for number in columns.numbers.values():
        marks = [thousands for mark, thousands in number.pairs if mark == decimal]
        if marks and "" not in marks:
            needs.update(marks)
    thousands = needs.most_common(1)[0][0] if needs else source.thousands
    if "thousands" in source.model_fields_set or thousands == decimal:
        thousands = source.thousands
    for name, number in list(columns.numbers.items()):
        if {(decimal, thousands), (decimal, ""), PLAIN}.isdisjoint(number.pairs):
            other, group = number.pairs[0]
            columns.hints[name] = (
                f"looks like numbers with decimal '{other}' and thousands '{group}', while other "
                f"columns have '{decimal}' and '{thousands}': make them one in the file"
            )
            del columns.numbers[name], columns.words[name]
    return decimal, thousands


def _decimal(raw: Mapping[str, "pd.Series[str]"], columns: _Columns, source: SourceSpec) -> Decimal:
    if "decimal" in source.model_fields_set:
        return source.decimal
    certain = Counter(
        decimal
        for number in columns.numbers.values()
        for decimal in number.decimals
        if number.is_certain
    )
    if certain[","] and certain[","] >= certain["."]:
        return ","
    open_ = [name for name, number in columns.numbers.items() if number.comma_is_open]
    if not open_ or certain["."] or any(_points(raw[name]).decimal for name in columns.plain):
        return "."
    votes = {comma_means(columns.counts[name].drop(columns.words[name])) for name in open_}
    if len(votes - {None}) == 1:
        return next(vote for vote in votes if vote)
    for name in open_:
        columns.unread[name] = (
            "has numbers such as 1,234, whose comma may stand before decimals or between "
            "thousands. Write source.decimal: ',' or source.thousands: ',' and type: number (or "
            "run init again with --decimal ',' or --decimal .)"
        )
        del columns.numbers[name], columns.words[name]
    return "."


def _exceptions(
    columns: _Columns, source: SourceSpec, pair: Pair, points: Mapping[str, _Points]
) -> list[str]:
    """Columns of plain numbers in a file of others."""
    decimal, thousands = pair
    if decimal == ".":
        return list(source.plain)
    fits = {pair, (decimal, "")}
    names = [name for name, number in columns.numbers.items() if fits.isdisjoint(number.pairs)]
    for name, point in points.items():
        if point.decimal or (point.any and thousands != "."):
            names.append(name)
    return list(dict.fromkeys([*source.plain, *names]))


class _Labels(NamedTuple):
    spellings: dict[str, tuple[str, ...]]
    missing: list[str]
    notes: list[str]


def _labels(values: "pd.Series[str]", target: str) -> _Labels:
    """Classes that differ in case and blanks only, and words that are none."""
    counts = values.dropna().value_counts()
    counts = counts[counts.index.str.strip() != ""]
    if len(counts) > MOST_LABELS or set(counts.index.str.strip().str.lower()) <= YES_NO:
        return _Labels({}, [], [])
    notes = []
    missing, possible = missing_labels(counts)
    by_word = counts.groupby(counts.index.str.strip()).sum()
    for word in missing:
        notes.append(
            f"missing: {target} is {word!r} in {by_word[word]:,} rows, which is no class: they "
            "have no label; if it is one, take it out of source.missing and add it to categories"
        )
    for word in possible:
        notes.append(
            f"classes: {target} is {word!r} in {by_word[word]:,} rows; if that means missing, "
            f"write source.missing: ['{word}'], and take it out of categories"
        )
    counts_left = counts[~counts.index.str.strip().isin(missing)]
    spellings = spellings_of(counts_left)
    for value, texts in spellings.values.items():
        mean = "means" if len(texts) == 1 else "mean"
        notes.append(
            f"spellings: {target}: {listed(texts)} {mean} {value!r}, since they differ in case or "
            "blanks only; if not, take them out of source.spellings"
        )
    for value, texts in spellings.doubtful.items():
        notes.append(
            f"spellings: {target} has {value!r} and {listed(texts)}, which differ in case only; if "
            f"they are one class, write {_spelled(target, value, texts)}"
        )
    return _Labels(spellings.values, missing, notes)


def _look_at_texts(
    raw: Mapping[str, "pd.Series[str]"], columns: _Columns, target: str | None
) -> tuple[list[str], list[str]]:
    """Words for missing that no text has as a value, and what may be meant otherwise."""
    certain: list[str] = []
    possible: defaultdict[str, list[str]] = defaultdict(list)
    missing: defaultdict[str, list[str]] = defaultdict(list)
    notes = []
    for name, counts in columns.counts.items():
        others = (columns.numbers, columns.plain, columns.dates, columns.iso, columns.unread)
        if name == target or any(name in kinds for kinds in others):
            continue
        for word in counts.index[[is_certain(word) for word in counts.index]]:
            missing[word].append(name)
        certain += [word for word in missing if name in missing[word]]
        if text_kind(raw[name]) != "category":
            continue
        for word in counts.index:
            if is_missing(word) and not is_certain(word):
                possible[word].append(name)
        spellings = spellings_of(raw[name].dropna().value_counts())
        for value, texts in spellings.values.items():
            notes.append(
                f"spellings: {name}: {listed(texts)} and {value!r} differ in case or blanks only; "
                f"to read them as one, write {_spelled(name, value, texts)}, and list that "
                "category once"
            )
    for word, names in missing.items():
        notes.append(f"missing: {word!r} means missing in {_list(names)}, as source.missing says")
    for word, names in possible.items():
        notes.append(
            f"categories: {word!r} is one of {_list(names)}; if it means missing, write it under "
            "source.missing, and take it out of categories"
        )
    return list(dict.fromkeys(certain)), notes


def _rewrite(recognised: Recognised, columns: _Columns, target: str | None) -> None:
    """Cells as the source will give them."""
    spec = recognised.source
    bare = (spec.decimal, spec.thousands, spec.negative) == (".", "", "sign")
    if bare and not (spec.missing or spec.dates or spec.spellings or recognised.units):
        return
    notation = Notation(spec)
    for name, values in recognised.cells.items():
        if name in spec.dates or name in columns.iso:
            kind = ColumnSpec(type="datetime")
        elif name in columns.numbers or name in columns.plain:
            kind = ColumnSpec(type="number", unit=recognised.units.get(name, ""))
        else:
            kind = _text_spec(values, columns.words.get(name, ()))
        read = notation.read(pa.array(values, pa.string()), name, kind)
        recognised.cells[name] = read.cast(pa.string()).to_pandas()


def _text_spec(values: "pd.Series[str]", words: Collection[str]) -> ColumnSpec:
    """A column of text: what the contract lists as its categories is never missing."""
    if text_kind(values) != "category" or values.nunique() > FEW_CATEGORIES:
        return ColumnSpec(type="string")
    texts = (str(text) for text in values.dropna().unique())
    texts_left = tuple(t for t in texts if not is_certain(t.strip()) and t.strip() not in words)
    return ColumnSpec(type="category", categories=texts_left or None)


def _notes_on_numbers(
    columns: _Columns, pair: Pair, negative: Negative, points: Mapping[str, _Points]
) -> list[str]:
    notes = []
    decimal, thousands = pair
    names = [
        name for name, number in columns.numbers.items() if PLAIN not in number.pairs or number.unit
    ]
    if pair != PLAIN:
        names = [name for name in names if PLAIN not in columns.numbers[name].pairs]
        if thousands == ".":
            names += [name for name, point in points.items() if point.any and not point.decimal]
        between = f" and {thousands!r} between thousands" if thousands else ""
        notes.append(f"decimal: {decimal!r} before decimals{between}, in {_list(names)}")
    if negative != "sign":
        form = "(5)" if negative == "parentheses" else "5-"
        names = [name for name, number in columns.numbers.items() if number.negative == negative]
        notes.append(f"negative: {form} is -5, in {_list(names)}")
    for name, number in columns.numbers.items():
        if number.unit:
            percent = "; 12 % is 12, not 0.12" if number.unit == "%" else ""
            notes.append(f"unit: {name} is numbers in {number.unit}{percent}")
    return notes


def _notes_on_words(columns: _Columns) -> list[str]:
    by_word: defaultdict[str, list[str]] = defaultdict(list)
    for name, words in columns.words.items():
        for word in words:
            by_word[word].append(name)
    notes = []
    for word, names in by_word.items():
        infinite = "; a model takes no infinite number" if INFINITE.fullmatch(word) else ""
        notes.append(
            f"missing: {word!r} means missing in {_list(names)}{infinite}; without it under "
            "source.missing, such rows are rejected"
        )
    return notes


def _spelled(name: str, value: str, texts: Collection[str]) -> str:
    return f"source.spellings: {{{name}: {{{value}: {list(texts)}}}}}"


def _formats(formats: Collection[str]) -> str:
    return " or ".join(
        f"{format} since 1970" if re.fullmatch("[a-z]+", format) else repr(format)
        for format in formats
    )


def _list(names: list[str]) -> str:
    more = f" and {len(names) - NAMES_SHOWN} more columns" if len(names) > NAMES_SHOWN else ""
    return ", ".join(names[:NAMES_SHOWN]) + more
