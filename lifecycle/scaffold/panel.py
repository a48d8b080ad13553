"""Panels: the same people, firms or places, measured year after year. Proposed, never guessed: that
each pair of a number and a year comes once may also have other reasons."""

import re
from collections.abc import Iterable, Mapping
from shlex import quote
from typing import NamedTuple

import numpy as np

from lifecycle.scaffold.columns import LEAST_REPEATS, Column
from lifecycle.scaffold.roles import FEW_ENTITIES, Roles

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
