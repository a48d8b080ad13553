"""What the columns of an unknown file are for: task, entity, time, guessed and said."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from lifecycle.data.guess import IDENTIFIER, Column
from lifecycle.errors import TargetError
from lifecycle.records import counted
from lifecycle.specs import TaskKind

MOST_CLASSES = 20
FEW_ENTITIES = 20
"""Fewer hardly divide the rows: another identifier does so better."""
NEARLY_UNIQUE = 0.98
"""An identifier with as many values among the rows numbers them, and some came twice."""
POSITIVE = ("1", "true", "yes", "y", "t", "positive")


@dataclass
class Roles:
    """Who is what, and why."""

    task: TaskKind
    positive: Any = None
    entity: str | None = None
    time: dict[str, Any] | None = None
    ignore: list[str] = field(default_factory=list)
    said: list[str] = field(default_factory=list)
    otherwise: str = ""
    """What the task may be instead, for the person who reads the file."""


def guess_roles(columns: dict[str, Column], target: str) -> Roles:
    """Task, positive value, entity, time and what to leave out; the time has no period yet.

    Raises:
        TargetError: the target is constant, missing everywhere, or has too many classes.
    """
    roles = _task(columns[target], target)
    others = {name: column for name, column in columns.items() if name != target}
    identifiers = [name for name, column in others.items() if _place(name, column, roles)]
    _place_entity({name: columns[name] for name in identifiers}, roles)
    return roles


def _task(column: Column, target: str) -> Roles:
    if column.distinct < 2:
        raise TargetError(
            f"--target: {target!r} has {'one value only' if column.distinct else 'no value'}: "
            "there is nothing to learn; name another column"
        )
    if column.distinct == 2:
        values = sorted(column.values.dropna().unique(), key=str)
        known = [value for value in values if str(value).strip().lower() in POSITIVE]
        rarer = column.values.value_counts().idxmin()
        positive = known[0] if len(known) == 1 else rarer
        native = positive.item() if isinstance(positive, np.generic) else positive
        share = (column.values == positive).mean()
        said = [f"task: binary, because {target} has two values ({values[0]}, {values[1]})"]
        said.append(f"positive: {native!r}, which {share:.1%} of the rows have")
        return Roles("binary", positive=native, said=said)
    if column.distinct <= MOST_CLASSES and column.kind in ("integer", "category", "string"):
        return _multiclass(column, target)
    if column.kind not in ("integer", "number"):
        raise TargetError(
            f"--target: {target!r} is {column.kind} with {column.distinct} values: only numbers "
            f"and up to {MOST_CLASSES} classes can be predicted; name another column, or derive one"
        )
    lowest = column.spec.pop("minimum", None)
    column.spec.pop("maximum", None)
    said = [f"task: regression, because {target} is a number with {column.distinct} values"]
    roles = Roles("regression", said=said)
    if column.kind == "integer" and lowest is not None and lowest >= 0:
        column.spec["minimum"] = 0
        roles.otherwise = (
            f"If {target} counts events, such as visits or sales in a time, write `task: count`: "
            "its predictions are never negative, and errors weigh by the size of the count."
        )
    return roles


def _multiclass(column: Column, target: str) -> Roles:
    """Few texts or whole numbers are classes; whether the numbers are amounts only people know."""
    counts = column.values.value_counts()
    classes = sorted(counts.index.tolist())
    whole = column.kind == "integer"
    missing = {"nullable": True} if column.values.isna().any() else {}
    column.spec.clear()
    column.spec.update({"type": "category", **missing, "categories": classes})
    kind = "whole numbers" if whole else "texts"
    said = [f"task: multiclass, because {target} has {len(classes)} different {kind}"]
    rarest, rows = counts.index[-1], int(counts.iloc[-1])
    said.append(f"classes: as seen; the rarest, {rarest!r}, has {rows:,} of {counts.sum():,} rows")
    roles = Roles("multiclass", said=said)
    if whole:
        other = "count` or `task: regression" if classes[0] >= 0 else "regression"
        roles.otherwise = (
            f"If {target} is an amount and not a name or a grade, write `task: {other}`, and make "
            "its contract `{type: integer}`."
        )
    return roles


def _place(name: str, column: Column, roles: Roles) -> bool:
    """Find out what a column is for; returns whether it identifies something."""
    reason = None
    if column.distinct == 0:
        reason = "is empty"
    elif column.distinct == 1 and not column.values.isna().any():
        reason = "is constant"
    elif column.kind == "datetime":
        if roles.time is None and not column.values.isna().any():
            roles.time = {"column": name}
            return False
        reason = "is another time"
    elif column.kind == "integer" and _counts_rows(column):
        _promise_unique(name, column, roles)
        reason = "counts the rows"
    elif _is_identifier(name, column):
        _promise_unique(name, column, roles)
        return True
    elif column.kind == "string":
        reason = f"is free text with {column.distinct:,} values"
    if reason:
        roles.ignore.append(name)
        roles.said.append(f"ignore: {name} {reason}")
    return False


def _place_entity(identifiers: dict[str, Column], roles: Roles) -> None:
    """Whom the rows are about: rather someone who comes again than a row's own number."""
    whole = {name: one for name, one in identifiers.items() if not one.values.isna().any()}
    worse = {name: (_numbers(one), one.distinct < FEW_ENTITIES) for name, one in whole.items()}
    roles.entity = min(worse, key=lambda name: worse[name], default=None)
    for name in identifiers:
        reason = "is another identifier"
        if name == roles.entity:
            if not (_numbers(whole[name]) and roles.time):
                said = f"entity: {name}, {whole[name].distinct:,} of them in the rows"
                roles.said.append(said)
                continue
            nearly = "" if whole[name].unique else "nearly "
            roles.entity = None
            reason = f"differs in {nearly}every row, and time divides the rows"
        roles.ignore.append(name)
        roles.said.append(f"ignore: {name} {reason}")


def _numbers(column: Column) -> bool:
    """Whether it is a number of each row's own, but for a few that came twice."""
    return column.distinct >= NEARLY_UNIQUE * len(column.values)


def _counts_rows(column: Column) -> bool:
    if not column.unique or column.values.isna().any():
        return False
    return bool((np.diff(column.values.to_numpy(dtype=np.int64)) == 1).all())


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
        roles.said.append(f"unique: {name} differs in every row; one that repeats is rejected")
    elif _numbers(column) and not column.values.isna().any():
        again = len(column.values) - column.distinct
        roles.said.append(
            f"repeated: {name} came before in {counted(again, 'row')}; if it "
            "must not, write unique: true there, and such rows are rejected"
        )
