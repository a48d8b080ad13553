"""Guesses of the roles of an unknown file's columns: task, entity, time."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from shlex import quote
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from lifecycle.errors import ProjectError, TargetError
from lifecycle.lake.column_types import EXACT
from lifecycle.project import TaskKind
from lifecycle.records import counted
from lifecycle.scaffold.columns import IDENTIFIER, LEAST_REPEATS, Column

MOST_CLASSES = 20
FEW_ENTITIES = 20
"""Fewer hardly divide the rows: another identifier does so better."""
NEARLY_UNIQUE = 0.98
"""An identifier with as many values among the rows numbers them, and some came twice."""
POSITIVE = ("1", "1.0", "true", "yes", "y", "t", "positive")
FEW_MISSING = 0.01
"""Share of the rows whose time may be missing: they are broken, and the column is a time."""
FEW_PER_CLASS = 10
"""Rows: a class of fewer is hardly in train, validation and holdout."""
LEAST_GRADES = 5
"""Different whole numbers from which on they may be counts or amounts rather than classes."""
RARE = 0.02
"""Share of the rows that the rarest of some counts has, at most."""
DENSE, LEAST_SKEW = 0.8, 0.5
"""Of counts: share of the numbers from 0 on that occur, up to the 95th percentile; and skewness,
which is 1 / √λ for Poisson's."""


class RoleOptions(NamedTuple):
    """Columns whose role the caller says, where it is not to be guessed."""

    time: str | None = None
    entity: str | None = None
    ids: tuple[str, ...] = ()
    """Columns that number or name the rows, and say nothing else."""


GUESSED = RoleOptions()


@dataclass
class Roles:
    """Roles of the columns, with the reason for each."""

    task: TaskKind
    positive: Any = None
    entity: str | None = None
    time: dict[str, Any] | None = None
    ignore: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    otherwise: str = ""
    """What the task may be instead, for the person who reads the file."""


def guess_roles(
    columns: dict[str, Column],
    target: str,
    options: RoleOptions = GUESSED,
    unread: Mapping[str, str] = MappingProxyType({}),
    hints: Mapping[str, str] = MappingProxyType({}),
) -> Roles:
    """Task, positive value, entity, time and what to leave out; the time has no period yet.

    Args:
        options: roles that are not guessed.
        unread: columns that are left out whatever they look like, and why.
        hints: what else is to say of columns that are left out because they are text.

    Raises:
        TargetError: the target is constant, missing everywhere, or has too many classes.
        ProjectError: the column that is wanted as the time is none.
    """
    roles = _task(columns[target], target)
    others = {name: column for name, column in columns.items() if name != target}
    readable = {name: column for name, column in others.items() if name not in unread}
    roles.time = _wanted_time(columns, options.time) if options.time else _time_of(readable)
    for name in options.ids:
        _promise_unique(name, columns[name], roles)
        roles.ignore.append(name)
        roles.notes.append(f"ignore: {name} identifies the row, as --id says")
    settled = {options.time, options.entity, *options.ids}
    identifiers = []
    for name, column in others.items():
        if name in settled:
            continue
        if name in unread:
            roles.ignore.append(name)
            roles.notes.append(f"ignore: {name} {unread[name]}")
        elif _place(name, column, roles, hints.get(name, "")):
            identifiers.append(name)
    if options.entity:
        roles.entity = options.entity
        roles.notes.append(
            f"entity: {options.entity}, {columns[options.entity].distinct:,} of them"
        )
        for name in identifiers:
            roles.ignore.append(name)
            roles.notes.append(f"ignore: {name} is another identifier")
    else:
        _place_entity({name: columns[name] for name in identifiers}, roles)
    return roles


def _wanted_time(columns: dict[str, Column], name: str) -> dict[str, Any]:
    if columns[name].kind not in ("integer", "datetime"):
        raise ProjectError(
            f"--time: {name!r} is {columns[name].kind}, neither dates as 2024-12-31 nor whole "
            "numbers such as years: rows cannot be ordered by it"
        )
    return {"column": name}


def _task(column: Column, target: str) -> Roles:
    if column.distinct < 2:
        raise TargetError(
            f"--target: {target!r} has {'one value only' if column.distinct else 'no value'}: "
            "there is nothing to learn; name another column"
        )
    if column.distinct == 2:
        column = _whole_labels(column)
        values = sorted(column.values.dropna().unique(), key=str)
        positives = [value for value in values if str(value).strip().lower() in POSITIVE]
        rarer = column.values.value_counts().idxmin()
        positive = positives[0] if len(positives) == 1 else rarer
        native = positive.item() if isinstance(positive, np.generic) else positive
        share = (column.values == positive).mean()
        notes = [f"task: binary, because {target} has two values ({values[0]}, {values[1]})"]
        notes.append(f"positive: {native!r}, which {share:.1%} of the rows have")
        return Roles("binary", positive=native, notes=notes)
    numbers = _whole_numbers(column)
    if (
        numbers is None
        and column.kind in ("category", "string")
        and column.distinct <= MOST_CLASSES
    ):
        return _multiclass(column, column.values, target)
    if numbers is not None and column.distinct <= MOST_CLASSES and not _are_amounts(numbers):
        return _multiclass(column, numbers, target)
    if column.kind not in ("integer", "number"):
        raise TargetError(
            f"--target: {target!r} is {column.kind} with {column.distinct} values: only numbers "
            f"and up to {MOST_CLASSES} classes can be predicted; name another column, or derive one"
        )
    return _amount(column, numbers, target)


def _whole_labels(column: Column) -> Column:
    """Two classes written as 0.0 and 1.0 are 0 and 1."""
    numbers = _whole_numbers(column)
    if column.kind != "number" or numbers is None:
        return column
    column.spec.update(type="integer", minimum=int(numbers.min()), maximum=int(numbers.max()))
    return replace(column, values=column.values.astype("Int64"))


def _amount(column: Column, numbers: "pd.Series[Any] | None", target: str) -> Roles:
    """
    Args:
        numbers: the values there are, if all are whole.
    """
    column.spec.pop("maximum", None)
    column.spec.pop("minimum", None)
    if numbers is None or numbers.min() < 0:
        reason = f"task: regression, because {target} is a number with {column.distinct} values"
        if column.distinct <= MOST_CLASSES and numbers is None:
            reason += "; if they are classes, write them as words, or as whole numbers from 0 on"
        return Roles("regression", notes=[reason])
    column.spec["minimum"] = 0
    if _are_counts(numbers):
        column.spec["type"] = "integer"
        small = (numbers <= 2).mean()
        notes = [
            f"task: count, because {target} has whole numbers from 0 to {numbers.max()}, "
            f"{small:.0%} of them 0, 1 or 2, and the larger the rarer"
        ]
        other = f"If {target} is no count of events, write `task: regression`."
        return Roles("count", notes=notes, otherwise=other)
    notes = [f"task: regression, because {target} is a number with {column.distinct} values"]
    if column.distinct <= MOST_CLASSES:
        rarest = int(numbers.value_counts().min())
        notes = [
            f"task: regression, because {target} has {column.distinct} whole numbers, one of them "
            f"in {counted(rarest, 'row')} only: too few for a class"
        ]
    other = (
        f"If {target} counts events, such as visits or sales in a time, write `task: count`: "
        "its predictions are never negative, and errors weigh by the size of the count."
    )
    return Roles("regression", notes=notes, otherwise=other if column.kind == "integer" else "")


def _whole_numbers(column: Column) -> "pd.Series[Any] | None":
    """The values there are, as whole numbers; None if they are none."""
    if column.kind not in ("integer", "number"):
        return None
    values = column.values.dropna()
    if (values % 1 != 0).any() or (values.abs() >= EXACT).any():
        return None
    return values.astype("int64")


def _are_counts(numbers: "pd.Series[Any]") -> bool:
    """Whether whole numbers look like counts of events: from 0 on without large gaps, most of them
    small, and the larger the rarer, as those of Poisson are."""
    sizes = numbers.value_counts()
    if len(sizes) < LEAST_GRADES or numbers.min() != 0 or sizes.index[0] > 2:
        return False
    usual = int(numbers.quantile(0.95)) + 1
    dense = (sizes.index < usual).sum() >= DENSE * usual
    skew = float(pd.Series(numbers, dtype=np.float64).skew())  # type: ignore[arg-type]
    return bool(dense and sizes.iloc[-1] < RARE * len(numbers) and skew > LEAST_SKEW)


def _are_amounts(numbers: "pd.Series[Any]") -> bool:
    """Whether few whole numbers are counts, or too many and too rare for classes."""
    sizes = numbers.value_counts()
    return _are_counts(numbers) or bool(
        len(sizes) >= LEAST_GRADES and sizes.iloc[-1] < FEW_PER_CLASS
    )


def _multiclass(column: Column, values: "pd.Series[Any]", target: str) -> Roles:
    """Few texts or whole numbers are classes; whether the numbers are amounts only people know.

    Args:
        values: those there are, as they are classes.
    """
    counts = values.value_counts()
    classes = sorted(counts.index.tolist())
    is_numeric = column.kind in ("integer", "number")
    missing = {"nullable": True} if column.values.isna().any() else {}
    column.spec.clear()
    column.spec.update({"type": "category", **missing, "categories": classes})
    kind = "whole numbers" if is_numeric else "texts"
    notes = [f"task: multiclass, because {target} has {len(classes)} different {kind}"]
    rarest, rows = counts.index[-1], int(counts.iloc[-1])
    notes.append(f"classes: as seen; the rarest, {rarest!r}, has {rows:,} of {counts.sum():,} rows")
    roles = Roles("multiclass", notes=notes)
    if is_numeric:
        other = "count` or `task: regression" if classes[0] >= 0 else "regression"
        roles.otherwise = (
            f"If {target} is an amount and not a name or a grade, write `task: {other}`, and make "
            "its contract `{type: integer}`."
        )
    return roles


def _place(name: str, column: Column, roles: Roles, hint: str) -> bool:
    """Find out what a column is for; returns whether it identifies something."""
    reason = None
    if column.distinct == 0:
        reason = "is empty"
    elif column.distinct == 1 and not column.values.isna().any():
        reason = "is constant"
    elif column.kind == "datetime":
        if roles.time and roles.time["column"] == name:
            return False
        reason, lost = "is another time", column.values.isna().mean()
        if lost and roles.time:
            reason += (
                f", missing in {lost:.1%} of the rows; if it is known only later, move it to "
                "leakage: rows that are scored need not have it then"
            )
        if not roles.time:
            reason = (
                f"is a time, but missing in {lost:.1%} of the rows; to divide by it all the same, "
                f"set time: {{column: {name}}}, not nullable, and max_rejected_share: "
                f"{(int(lost * 100) + 1) / 100:g}"
            )
    elif column.counts_rows:
        _promise_unique(name, column, roles)
        reason = "counts the rows"
    elif hint and column.kind == "string" and not IDENTIFIER.search(name):
        reason = f"is free text with {column.distinct:,} values; it {hint}"
    elif not _is_identifier(name, column) and column.numbers_rows:
        _promise_unique(name, column, roles)
        reason = column.numbers_rows
    elif _is_identifier(name, column):
        _promise_unique(name, column, roles)
        return True
    elif column.kind == "string":
        reason = f"is free text with {column.distinct:,} values" + (
            f"; {name} {hint}" if hint else ""
        )
    if reason:
        roles.ignore.append(name)
        roles.notes.append(f"ignore: {name} {reason}")
        if column.kind == "string" and PERSONAL.search(name) and column.distinct > 1:
            column.spec["pii"] = "drop"
            roles.notes.append(f"pii: drop, since {name} may be personal: it is not stored")
    return False


def _time_of(columns: dict[str, Column]) -> dict[str, Any] | None:
    """The first complete time, else the first one missing in hardly any row."""
    gaps = {
        name: int(column.values.isna().sum())
        for name, column in columns.items()
        if column.kind == "datetime" and column.distinct > 1
    }
    few = {
        name: missing
        for name, missing in gaps.items()
        if missing <= max(1, FEW_MISSING * len(columns[name].values))
    }
    best = min(few, key=lambda name: few[name] > 0, default=None)
    return {"column": best} if best else None


def _place_entity(identifiers: dict[str, Column], roles: Roles) -> None:
    """Whom the rows are about: rather someone who comes again than a row's own number."""
    complete = {
        name: column for name, column in identifiers.items() if not column.values.isna().any()
    }
    worse = {
        name: (_numbers(column), column.distinct < FEW_ENTITIES)
        for name, column in complete.items()
    }
    roles.entity = min(worse, key=lambda name: worse[name], default=None)
    for name in identifiers:
        reason = "is another identifier"
        if name == roles.entity:
            if not (_numbers(complete[name]) and roles.time):
                note = f"entity: {name}, {complete[name].distinct:,} of them in the rows"
                roles.notes.append(note)
                continue
            nearly = "" if complete[name].unique else "nearly "
            roles.entity = None
            reason = f"differs in {nearly}every row, and time divides the rows"
        roles.ignore.append(name)
        roles.notes.append(f"ignore: {name} {reason}")


def _numbers(column: Column) -> bool:
    """Whether it is a number of each row's own, but for a few that came twice."""
    return column.distinct >= NEARLY_UNIQUE * len(column.values)


def _is_identifier(name: str, column: Column) -> bool:
    if column.kind not in ("integer", "string", "category"):
        return False
    if IDENTIFIER.search(name):
        return True
    return column.kind == "string" and column.unique and not _has_words(column)


def _has_words(column: Column) -> bool:
    """Whether any cell is more than one word: names and sentences have spaces, identifiers not."""
    return bool(column.values.str.contains(r"\S\s+\S").any())


def _promise_unique(name: str, column: Column, roles: Roles) -> None:
    """Whatever is called an identifier, or looks like one, and differs in every row."""
    if column.unique and (column.kind == "string" or IDENTIFIER.search(name)):
        column.spec["unique"] = True
        roles.notes.append(f"unique: {name} differs in every row; one that repeats is rejected")
    elif _numbers(column) and not column.unique and not column.values.isna().any():
        repeats = len(column.values) - column.distinct
        roles.notes.append(
            f"repeated: {name} came before in {counted(repeats, 'row')}; if it "
            "must not, write unique: true there, and such rows are rejected"
        )


# Panels: the same people, firms or places, measured year after year. Proposed, never guessed: that
# each pair of a number and a year comes once may also have other reasons.

PERSONAL = re.compile(
    r"^((first|last|full|family|user|customer|person|patient|client)_?)?name$"
    r"|(^|_)(surname|e_?mail|phone|telephone|mobile|street|address|iban|ssn|passport)($|_)",
    re.IGNORECASE,
)
"""Names of columns with personal data that a model has no use for."""
YEAR = re.compile(r"(^|[^a-z])(year|yr|jahr|annee|année|ano|año|anno)([^a-z]|$)", re.IGNORECASE)
FIRST_YEAR, LAST_YEAR = 1800, 2100


class Panel(NamedTuple):
    """Two columns that together identify the rows."""

    entity: str
    year: str
    words: str


def find_panel(columns: Mapping[str, Column], inputs: Iterable[str], roles: Roles) -> Panel | None:
    """The first column, or the entity, whose values come at most once a year; None where time
    divides the rows already.

    Args:
        inputs: columns that can be features.
    """
    if roles.time:
        return None
    names = list(inputs)
    for year in filter(lambda name: _has_years(name, columns[name]), names):
        for name in [roles.entity] if roles.entity else names:
            if name != year and _comes_once(columns[name], columns[year]):
                rows = len(columns[name].values) / columns[name].distinct
                future = f"train has every {year} that the holdout has"
                words = (
                    f"{name} has {columns[name].distinct:,} values, {rows:.3g} rows each, at most "
                    f"one per {year}: an entity measured over time? As it is, "
                    f"{future if roles.entity else f'the same {name} is in train and holdout'}; "
                    f"write: lifecycle init … --entity {quote(name)} --time {quote(year)}"
                )
                return Panel(name, year, words)
    return None


def _has_years(name: str, column: Column) -> bool:
    if column.kind != "integer" or not YEAR.search(name) or column.values.isna().any():
        return False
    return bool(column.values.between(FIRST_YEAR, LAST_YEAR).all())


def _comes_once(column: Column, year: Column) -> bool:
    """Whether values are few, and hardly come twice in a year, which those of a measure would: of n
    rows over r pairs, n² / 2r pairs are equal."""
    rows, values = len(column.values), column.distinct
    if column.kind not in ("integer", "string", "category") or column.values.isna().any():
        return False
    expected = rows**2 / (2 * values * year.distinct)
    if not FEW_ENTITIES <= values <= rows / 2 or expected < LEAST_REPEATS:
        return False
    codes = column.values.astype("category").cat.codes.to_numpy(np.int64) * (LAST_YEAR + 1)
    pairs = codes + year.values.to_numpy(np.int64)
    return len(np.unique(pairs)) == rows
