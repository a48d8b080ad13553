"""Whom to look for: every spelling of a person, in columns, in text and in bytes."""

import json
import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from lifecycle.data.coerce import coerce
from lifecycle.data.keyed import check_key
from lifecycle.data.prediction_log import INPUT
from lifecycle.data.privacy import pii_key, plain_text, pseudonym
from lifecycle.errors import ProjectError
from lifecycle.governance.spelling import DIGITS, LONG, distinctive, spellings
from lifecycle.project import Project
from lifecycle.settings import Settings

NEAR = 12
"""A shorter value counts where at most so many other signs lie between it and its column's name."""
GONE = "[erased]"
SIGN = r"[A-Za-z0-9]"
TEXTUAL = (pa.types.is_string, pa.types.is_large_string)


@dataclass(frozen=True)
class Subject:
    """The persons of one request.

    Args:
        columns: names under which an entity stands in tables and records.
        texts: their values as text, and the pseudonyms.
        prints: values of other columns that only their rows have, by column.
        examples: rows of theirs as JSON, as an example request shows them.
        values: what else is said to be theirs, such as an email address.
    """

    columns: frozenset[str]
    texts: frozenset[str]
    prints: Mapping[str, Collection[str]] = field(default_factory=dict)
    examples: Collection[str] = ()
    values: Collection[str] = ()

    @cached_property
    def anywhere(self) -> tuple[str, ...]:
        """What is theirs wherever it stands, each in the spellings of JSON, HTML and URLs."""
        prints = [text for texts in self.prints.values() for text in texts]
        told = [*self.texts, *self.values, *self.examples, *prints]
        return tuple(sorted({s for text in told if distinctive(text) for s in spellings(text)}))

    @cached_property
    def named(self) -> tuple[str, ...]:
        """What is theirs only where the name of its column stands before it."""
        return tuple(sorted(text for text in self.texts if not distinctive(text)))

    @cached_property
    def numbers(self) -> tuple[float, ...]:
        found = pd.to_numeric(pd.Series(sorted(self.texts), dtype=object), errors="coerce")
        return tuple(found[np.isfinite(found)].tolist())

    def rows(self, table: pa.Table | pa.RecordBatch) -> pa.Array:
        """Which rows are about them: an entity column says so, or a quarantined record; in a log,
        where a row says of nobody, a value that only they have.

        Returns:
            Booleans of the table's length, none of them null.
        """
        found = np.zeros(table.num_rows, dtype=bool)
        names = table.schema.names
        for name in names:
            column = table.column(name)
            if name in self.columns:
                found |= _booleans(self.equal(column))
            elif name == "record" and _textual(column.type):
                found |= self._records(column)
            elif name.startswith(INPUT) and (known := self.prints.get(name.removeprefix(INPUT))):
                theirs = pc.is_in(_as_text(column), value_set=pa.array(sorted(known)))
                nobodys = table.column("entity").is_null() if "entity" in names else True
                found |= _booleans(pc.and_(theirs, nobodys))
        return pa.array(found)

    def equal(self, column: pa.Array | pa.ChunkedArray) -> pa.Array | pa.ChunkedArray:
        """Which values of an entity column are theirs."""
        if pa.types.is_integer(column.type) or pa.types.is_floating(column.type):
            numbers = pa.array(self.numbers, pa.float64())
            return pc.is_in(column.cast(pa.float64(), safe=False), value_set=numbers)
        return pc.is_in(_as_text(column), value_set=pa.array(sorted(self.texts), pa.string()))

    @cached_property
    def expression(self) -> str:
        """A regular expression for text, in what Python's `re` and RE2 have in common."""
        parts = [re.escape(text) for text in self.anywhere]
        if self.named:
            names = "|".join(map(re.escape, sorted(self.columns)))
            values = "|".join(re.escape(text) for text in self.named)
            parts.append(rf"(?:{names})[^A-Za-z0-9]{{1,{NEAR}}}(?:{values})")
        # no \b: a value may begin or end with a sign that is no letter
        return rf"(?:^|[^A-Za-z0-9])(?:{'|'.join(parts)})(?:[^A-Za-z0-9]|$)" if parts else r"\b\B"

    def holds(self, data: bytes) -> bool:
        """Whether bytes name one of them."""
        return any(_alone(data, text.encode()) for text in self.anywhere) or (
            self._named_bytes is not None and self._named_bytes.search(data) is not None
        )

    def redact(self, text: str) -> str:
        """The text without them; JSON stays JSON."""
        for known in self.anywhere:
            if known in text:
                text = re.sub(rf"(?<!{SIGN}){re.escape(known)}(?!{SIGN})", GONE, text)
        if self.named:
            names = "|".join(map(re.escape, sorted(self.columns)))
            values = "|".join(map(re.escape, self.named))
            gap = rf"((?<!{SIGN})(?:{names})[^A-Za-z0-9]{{1,{NEAR}}}?)"
            quoted = rf"{gap}([\"'])(?:{values})\2"
            text = re.sub(quoted, rf"\1\2{GONE}\2", text)
            text = re.sub(rf"{gap}-?(?:{values})(?!{SIGN})", r"\1null", text)
        return text

    @cached_property
    def _named_bytes(self) -> "re.Pattern[bytes] | None":
        if not self.named:
            return None
        names = "|".join(map(re.escape, sorted(self.columns)))
        values = "|".join(map(re.escape, self.named))
        found = rf"(?<!{SIGN})(?:{names})[^A-Za-z0-9]{{1,{NEAR}}}(?:{values})(?!{SIGN})"
        return re.compile(found.encode())

    def _records(self, column: pa.ChunkedArray) -> "np.ndarray[tuple[int], np.dtype[np.bool_]]":
        """Quarantined rows: JSON, whose entity may be anything that was in the source."""
        texts = column.to_pylist()
        return np.array([text is not None and self._record(text) for text in texts], dtype=bool)

    def _record(self, text: str) -> bool:
        try:
            record = json.loads(text)
        except ValueError:
            return re.search(self.expression, text) is not None
        if not isinstance(record, dict):
            return re.search(self.expression, text) is not None
        values = (plain_text(record.get(name)) for name in self.columns if name in record)
        return any(value is not None and value.strip() in self.texts for value in values)


def find_subject(
    project: Project, settings: Settings, entities: Iterable[str], values: Iterable[str] = ()
) -> Subject:
    """The persons with these values of the project's entity.

    Args:
        values: what else is theirs wherever it stands.

    Raises:
        ProjectError: the project has no entity, or a value is none of its column, or one of
            `values` is too short to be told apart.
        SettingsError: rows were hashed with another key, under which nobody would be found.
    """
    if project.entity is None:
        raise ProjectError(
            f"{project.file}: entity: name the column that says whom a row is about; without it "
            "nobody can be found"
        )
    check_key(project, settings)
    kind = project.contract.columns[project.entity].type
    given = pd.Series([value.strip() for value in entities], dtype=object)
    if given.empty or not given.all():
        raise ProjectError("--entity: name at least one, and no empty text")
    read = coerce(given, kind).values
    if read.isna().any():
        raise ProjectError(
            f"--entity: {int(read.isna().sum())} of the values are no {kind}, which "
            f"contract.columns.{project.entity} says they are"
        )
    known = tuple(values)
    if short := sum(not distinctive(text) for text in known):
        raise ProjectError(
            f"--value: {short} of {len(known)} cannot be told apart from other text; name such as "
            f"have a letter and {LONG} signs, or {DIGITS} digits"
        )
    texts = {text for text in map(plain_text, read) if text is not None} | set(given)
    hashes = {one for one in pseudonym(sorted(texts), pii_key(settings)) if one}
    keys = {view.key for view in project.feature_views.values()}
    columns = {project.entity, "entity", *keys}
    columns |= {f"input_{name}" for name in columns} | {f"input_{name}__hash" for name in columns}
    return Subject(frozenset(columns), frozenset(texts | hashes), values=known)


def fingerprints(table: pa.Table, columns: Collection[str]) -> dict[str, set[str]]:
    """Values of the columns that are told apart wherever they stand, by column."""
    found: dict[str, set[str]] = {}
    for field_ in table.schema:
        name = field_.name.removeprefix(INPUT)
        if name in columns and (_textual(field_.type) or pa.types.is_floating(field_.type)):
            texts = map(plain_text, pc.unique(table[field_.name]).to_pylist())
            told = {text for text in texts if text is not None and distinctive(text)}
            found.setdefault(name, set()).update(told)
    return found


def present(table: pa.Table, texts: Mapping[str, Collection[str]]) -> dict[str, set[str]]:
    """Which of the texts stand in the columns of their names."""
    found: dict[str, set[str]] = {}
    for name in table.schema.names:
        if wanted := texts.get(name.removeprefix(INPUT)):
            column = _as_text(table[name])
            there = column.filter(pc.is_in(column, value_set=pa.array(sorted(wanted))))
            found.setdefault(name.removeprefix(INPUT), set()).update(pc.unique(there).to_pylist())
    return found


def _alone(data: bytes, text: bytes) -> bool:
    """Whether a text stands in bytes with no letter or digit next to it."""
    at = data.find(text)
    while at >= 0:
        before, after = data[at - 1 : at] if at else b"", data[at + len(text) : at + len(text) + 1]
        if not (before.isalnum() or after.isalnum()):
            return True
        at = data.find(text, at + 1)
    return False


def _textual(kind: pa.DataType) -> bool:
    return any(is_kind(kind) for is_kind in TEXTUAL)


def _as_text(column: pa.Array | pa.ChunkedArray) -> pa.Array:
    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    if _textual(column.type):
        return column.cast(pa.string())
    return pa.array([plain_text(value) for value in column.to_pylist()], pa.string())


def _booleans(found: pa.Array | pa.ChunkedArray) -> "np.ndarray[tuple[int], np.dtype[np.bool_]]":
    return np.asarray(found.fill_null(False).to_numpy(zero_copy_only=False), dtype=bool)
