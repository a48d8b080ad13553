"""What the columns of an unknown CSV file are: types, ranges and roles, guessed and said."""

import re
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from lifecycle.data.coerce import coerce
from lifecycle.errors import TargetError
from lifecycle.specs import ColumnType, TaskKind

FEW_CATEGORIES = 50
MANY_CATEGORIES = 1000
FEW_NUMBERS = 30
MOST_CLASSES = 20
ISO_DATE = r"\s*\d{4}-\d{2}-\d{2}"
LEADING_ZERO = r"\s*[+-]?0\d"
LONG = r"\s*[+-]?\d{16,}\s*"
IDENTIFIER = re.compile(r"(^|[_\s-])(id|uuid|guid|key)$|[a-z](ID|Id)$", re.ASCII)
POSITIVE = ("1", "true", "yes", "y", "t", "positive")


@dataclass(frozen=True)
class Column:
    """A guessed column: the values in their type, and what the contract should say."""

    values: "pd.Series[Any]"
    spec: dict[str, Any]
    distinct: int

    @property
    def kind(self) -> ColumnType:
        kind: ColumnType = self.spec["type"]
        return kind

    @property
    def unique(self) -> bool:
        return self.distinct == len(self.values)


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


def guess_column(raw: "pd.Series[str]") -> Column:
    """The narrowest type that every cell of a text column fits.

    Args:
        raw: cells as text; only an empty cell is missing.
    """
    kind, values = _typed(raw)
    distinct = int(values.nunique())
    spec: dict[str, Any] = {"type": kind}
    if values.isna().any():
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
    return Column(values, spec, distinct)


def guess_roles(columns: dict[str, Column], target: str) -> Roles:
    """Task, positive value, entity, time and what to leave out.

    Raises:
        TargetError: the target is constant, missing everywhere, or has too many classes.
    """
    roles = _task(columns[target], target)
    others = {name: column for name, column in columns.items() if name != target}
    for name, column in others.items():
        _place(name, column, roles)
    if roles.time and roles.entity and columns[roles.entity].unique:
        roles.said.append(f"ignore: {roles.entity} differs in every row, and time divides the rows")
        roles.ignore.append(roles.entity)
        roles.entity = None
    if roles.time and roles.entity:
        roles.time["period"] = _coarsest(columns[roles.time["column"]].values)
    return roles


def _typed(raw: "pd.Series[str]") -> tuple[ColumnType, "pd.Series[Any]"]:
    known = raw.dropna()
    if known.str.match(LEADING_ZERO).any():  # 007 is a name, not seven
        return _text_kind(raw), raw
    words = set(known.str.strip().str.lower().unique()[:5])
    if words and words <= {"true", "false"}:
        return "boolean", coerce(raw, "boolean").values
    whole = not known.str.contains(".", regex=False).any()
    for kind in ("integer", "number") if whole else ("number",):
        values, failed = coerce(raw, kind)
        if not failed.any() and values.notna().any():
            return kind, values
        if known.str.fullmatch(LONG).any():  # as a float it would lose digits
            return _text_kind(raw), raw
    if len(known) and known.str.match(ISO_DATE).all():
        values, failed = coerce(raw, "datetime")
        if not failed.any():
            return "datetime", values
    return _text_kind(raw), raw


def _text_kind(raw: "pd.Series[str]") -> ColumnType:
    distinct, rows = raw.nunique(), len(raw)
    if 0 < distinct <= min(FEW_CATEGORIES, max(2, rows // 4)):
        return "category"
    return "category" if 0 < distinct <= min(MANY_CATEGORIES, rows // 20) else "string"


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


def _place(name: str, column: Column, roles: Roles) -> None:
    reason = None
    if column.distinct == 0:
        reason = "is empty"
    elif column.distinct == 1 and not column.values.isna().any():
        reason = "is constant"
    elif column.kind == "datetime":
        if roles.time is None and not column.values.isna().any():
            days = column.values.dt.normalize().nunique()
            roles.time = {"column": name, "period": "day" if days > 1 else "value"}
            roles.said.append(
                f"time: {name}, from {column.values.min():%Y-%m-%d} to "
                f"{column.values.max():%Y-%m-%d}; set time.arrives_from to let the newest arrive "
                "later"
            )
            return
        reason = "is another time"
    elif column.kind == "integer" and _counts_rows(column):
        reason = "counts the rows"
    elif _is_identifier(name, column):
        if roles.entity is None and not column.values.isna().any():
            roles.entity = name
            if column.unique:
                column.spec["unique"] = True
            roles.said.append(f"entity: {name}, {column.distinct:,} of them in the rows")
            return
        reason = "is another identifier"
    elif column.kind == "string":
        reason = f"is free text with {column.distinct:,} values"
    if reason:
        roles.ignore.append(name)
        roles.said.append(f"ignore: {name} {reason}")


def _counts_rows(column: Column) -> bool:
    if not column.unique or column.values.isna().any():
        return False
    return bool((np.diff(column.values.to_numpy(dtype=np.int64)) == 1).all())


def _is_identifier(name: str, column: Column) -> bool:
    if column.kind not in ("integer", "string", "category"):
        return False
    return bool(IDENTIFIER.search(name)) or (column.kind == "string" and column.unique)


def _coarsest(times: "pd.Series[Any]") -> str:
    for period, code in (("month", "M"), ("week", "W")):
        if times.dt.to_period(code).nunique() >= 4:
            return period
    return "day"
