"""Subject of a request: every spelling of a person, in columns, in text and in bytes."""

import html
import json
import re
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from itertools import chain
from urllib.parse import quote, quote_plus

import markupsafe
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from lifecycle.data.privacy import check_key, pii_key, plain_text, pseudonym
from lifecycle.errors import ProjectError
from lifecycle.lake.column_types import coerce, is_text
from lifecycle.lake.prediction_log import INPUT
from lifecycle.project import Project
from lifecycle.settings import Settings

# Search for many texts in bytes at once, in time that grows with the bytes, not with the texts.
#
# A text counts where no ASCII letter or digit stands next to it. So each run of letters and digits
# in a text is a whole word of the bytes it stands in: the words of the bytes are looked up in a
# table of one such run per text, the one that the fewest texts share, and the text around it is
# looked up in the set of all. Texts without such a run are looked up by the first bytes of their
# longest run of other letters.

SIGN = r"[A-Za-z0-9]"
NEAR = 12
"""A short value counts where at most so many other signs lie between it and its column's name."""
FEW = 32
"""Up to so many texts are looked for one by one, which is faster for these."""
WORD = re.compile(rb"[A-Za-z0-9]+")
FOREIGN = re.compile(rb"[\x80-\xff]+")
KEY = 6
"""Bytes that stand for a run of letters outside ASCII: two or three letters."""
SHORT = 3
"""A run of so few letters is in too many texts to be looked up by."""

Span = tuple[int, int]
"""Where a text begins, and the byte after its last."""
Around = dict[bytes, set[tuple[int, int]]]
"""Run → where texts begin before it and how long they are, in bytes."""


class TextMatcher:
    """Texts that count wherever they stand alone."""

    def __init__(self, texts: Collection[str]) -> None:
        self._texts = frozenset(text.encode(errors="surrogateescape") for text in texts if text)
        self._single = self._texts if len(self._texts) <= FEW else frozenset[bytes]()
        self._words: Around = {}
        self._foreign: Around = {}
        if not self._single:
            self._index()

    def spans(self, data: bytes) -> Iterator[Span]:
        """Yield the spans of the texts, in no order; a span may lie within another."""
        for text in self._single:
            at = data.find(text)
            while at >= 0:
                if _is_isolated(data, at, at + len(text)):
                    yield at, at + len(text)
                at = data.find(text, at + 1)
        if self._words:
            for word in self._word.finditer(data):
                for offset, size in self._words.get(word[0], ()):
                    yield from self._match_at(data, word.start() - offset, size)
        if self._foreign:
            for run in FOREIGN.finditer(data):
                for at in range(run.start(), run.end() - KEY + 1):
                    for offset, size in self._foreign.get(data[at : at + KEY], ()):
                        yield from self._match_at(data, at - offset, size)

    def _match_at(self, data: bytes, start: int, size: int) -> Iterator[Span]:
        end = start + size
        if start >= 0 and data[start:end] in self._texts and _is_isolated(data, start, end):
            yield start, end

    def _index(self) -> None:
        runs = {text: set(WORD.findall(text)) for text in self._texts}
        shared = Counter(chain.from_iterable(runs.values()))
        single = set()
        for text, run in runs.items():
            best = min(run, key=lambda run: (shared[run], -len(run)), default=b"")
            foreign = b""
            if len(best) <= SHORT and not text.isascii():
                foreign = max(FOREIGN.findall(text), key=len)
            if len(foreign) >= KEY:
                place = (text.index(foreign), len(text))
                self._foreign.setdefault(foreign[:KEY], set()).add(place)
            elif best:
                start = next(run.start() for run in WORD.finditer(text) if run[0] == best)
                self._words.setdefault(best, set()).add((start, len(text)))
            else:  # nothing in it to be looked up by, such as signs alone
                single.add(text)
        self._single = frozenset(single)
        sizes = sorted(map(len, self._words)) or [1]
        bounds = rb"{%d,%d}" % (sizes[0], sizes[-1])
        sign = SIGN.encode()
        self._word = re.compile(rb"(?<!%s)%s%s(?!%s)" % (sign, sign, bounds, sign))


class NamedMatcher:
    """Short texts that count only where the name of their column stands before them."""

    def __init__(self, names: Collection[str], values: Collection[str]) -> None:
        self._values = frozenset(value.encode(errors="surrogateescape") for value in values)
        self._sizes = sorted({len(value) for value in self._values})
        self._inside = any(not value[:1].isalnum() for value in self._values)
        spelled = "|".join(re.escape(name) for name in sorted(names, key=len, reverse=True))
        self._name = re.compile(rf"(?<!{SIGN})(?:{spelled})([^A-Za-z0-9]{{1,{NEAR}}})".encode())

    def spans(self, data: bytes) -> Iterator[Span]:
        """Yield the spans of values that follow a name."""
        for match in self._name.finditer(data) if self._values else ():
            first, last = match.span(1)
            for start in range(first + 1, last + 1) if self._inside else (last,):
                for size in self._sizes:
                    end = start + size
                    if data[start:end] in self._values and not data[end : end + 1].isalnum():
                        yield start, end


def merged(spans: Iterator[Span]) -> list[Span]:
    """Spans in order, without those that another one covers or overlaps from before."""
    result: list[Span] = []
    for start, end in sorted(spans, key=lambda span: (span[0], -span[1])):
        if not result or start >= result[-1][1]:
            result.append((start, end))
    return result


def _is_isolated(data: bytes, start: int, end: int) -> bool:
    """Return whether a stretch of bytes has no letter or digit next to it."""
    before = data[start - 1 : start] if start else b""
    return not (before.isalnum() or data[end : end + 1].isalnum())


# Spellings of a text, and whether a text is long enough to identify a person.

PLAIN = re.compile(r"[A-Za-z0-9_.-]+")
"""Texts that every writer leaves as they are."""
LONG = 6
"""Characters from which a text with a letter in it is told apart wherever it stands."""
DIGITS = 9
"""Digits from which a number is."""


def distinctive(text: str) -> bool:
    """Return whether a text is so long that it identifies a person wherever it occurs."""
    if any(map(str.isalpha, text)):
        return len(text) >= LONG
    return len(text) >= DIGITS and sum(map(str.isdigit, text)) >= DIGITS


def spellings(text: str) -> set[str]:
    """A text as JSON (once or twice inside another), HTML and URLs write it."""
    if PLAIN.fullmatch(text):  # most are, and there may be many
        return {text}
    once = _as_json(text)
    variants = {text, *once, *(two for variant in once for two in _as_json(variant))}
    pages = {html.escape(text, quote=False)}
    for variant in (text, *once):
        pages |= {
            html.escape(variant),
            str(markupsafe.escape(variant)),
        }  # each has quotes of its own
    return variants | pages | {quote(text), quote(text, safe=""), quote_plus(text)}


def _as_json(text: str) -> set[str]:
    """All signs as they are, or only ASCII; some writers escape the slash as well."""
    variants = {json.dumps(text, ensure_ascii=only)[1:-1] for only in (True, False)}
    return variants | {variant.replace("/", "\\/") for variant in variants}


ERASED_MARK = "[erased]"


@dataclass(frozen=True)
class Subject:
    """The persons of one request.

    Args:
        columns: names under which an entity stands in tables and records.
        texts: their values as text, and the pseudonyms.
        prints: values of other columns that only their rows have, by column.
        examples: rows of theirs as JSON, as an example request shows them.
        values: what else is said to be theirs, such as an email address.
        predictions: ids of the predictions about them.
    """

    columns: frozenset[str]
    texts: frozenset[str]
    prints: Mapping[str, Collection[str]] = field(default_factory=dict)
    examples: Collection[str] = ()
    values: Collection[str] = ()
    predictions: Collection[str] = ()

    @cached_property
    def anywhere(self) -> tuple[str, ...]:
        """Texts that identify the persons anywhere, each as JSON, HTML and URLs spell it."""
        prints = [text for texts in self.prints.values() for text in texts]
        values = [*self.texts, *self.values, *self.examples, *prints]
        return tuple(sorted({s for text in values if distinctive(text) for s in spellings(text)}))

    @cached_property
    def identifiers(self) -> tuple[str, ...]:
        """Values that identify a person only after the name of their column."""
        return tuple(sorted(text for text in self.texts if not distinctive(text)))

    @cached_property
    def numbers(self) -> pa.Array:
        numbers = pd.to_numeric(pd.Series(sorted(self.texts), dtype=object), errors="coerce")
        return pa.array(numbers[np.isfinite(numbers)].astype(float).tolist(), pa.float64())

    @cached_property
    def _text_values(self) -> pa.Array:
        return pa.array(sorted(self.texts), pa.string())

    @cached_property
    def _prediction_ids(self) -> pa.Array:
        return pa.array(sorted(self.predictions), pa.string())

    @cached_property
    def _print_values(self) -> dict[str, pa.Array]:
        return {name: pa.array(sorted(texts)) for name, texts in self.prints.items() if texts}

    def rows(self, table: pa.Table | pa.RecordBatch) -> pa.Array:
        """Return a mask of the rows about the persons.

        A row is theirs by an entity column or a quarantined record; in a log, where a row names no
        entity, by a value that only they have; a label, by the prediction that it is about.

        Returns:
            Booleans of the table's length, none of them null.
        """
        mask = np.zeros(table.num_rows, dtype=bool)
        names = table.schema.names
        for name in names:
            column = table.column(name)
            if name in self.columns:
                mask |= _booleans(self.equal(column))
            elif name == "record" and is_text(column.type):
                mask |= self._records(column)
            elif name.startswith(INPUT) and (
                values := self._print_values.get(name.removeprefix(INPUT))
            ):
                matches = pc.is_in(_as_text(column), value_set=values)
                nobodys = table.column("entity").is_null() if "entity" in names else True
                mask |= _booleans(pc.and_(matches, nobodys))
            elif name == "id" and self.predictions and is_text(column.type):
                mask |= _booleans(pc.is_in(_as_text(column), value_set=self._prediction_ids))
        return pa.array(mask)

    def equal(self, column: pa.Array | pa.ChunkedArray) -> pa.Array | pa.ChunkedArray:
        """Return a mask of the values of an entity column that identify the persons."""
        if pa.types.is_integer(column.type) or pa.types.is_floating(column.type):
            return pc.is_in(column.cast(pa.float64(), safe=False), value_set=self.numbers)
        return pc.is_in(_as_text(column), value_set=self._text_values)

    def holds(self, data: bytes) -> bool:
        """Return whether bytes contain one of the persons."""
        return next(self._spans(data), None) is not None

    def cells(self, column: pa.Array | pa.ChunkedArray) -> pa.Array:
        """Return a mask of the texts in a column that contain one of the persons, without nulls."""
        texts = [(text or "").encode(errors="surrogateescape") for text in column.to_pylist()]
        if not self.holds(b"\n".join(texts)):
            return pa.array(np.zeros(len(texts), dtype=bool))
        return pa.array([self.holds(text) for text in texts], pa.bool_())

    def redact(self, text: str) -> str:
        """The text without them; JSON stays JSON."""
        data = text.encode("utf-8", errors="surrogateescape")
        spans = {span: True for span in self._named_matcher.spans(data)}
        spans |= {span: False for span in self._text_matcher.spans(data)}
        parts, at = [], 0
        for start, end in merged(iter(spans)):
            mark = ERASED_MARK.encode()
            if spans[start, end]:
                before, after = data[start - 1 : start], data[end : end + 1]
                if not (before in (b'"', b"'") and before == after):  # a number stands by itself
                    mark = b"null"
                    start -= before == b"-" and start - 1 > at
            parts += [data[at:start], mark]
            at = end
        return b"".join([*parts, data[at:]]).decode("utf-8", errors="surrogateescape")

    def _spans(self, data: bytes) -> Iterator[Span]:
        yield from self._text_matcher.spans(data)
        yield from self._named_matcher.spans(data)

    @cached_property
    def _text_matcher(self) -> TextMatcher:
        return TextMatcher(self.anywhere)

    @cached_property
    def _named_matcher(self) -> NamedMatcher:
        return NamedMatcher(self.columns, self.identifiers)

    def _records(self, column: pa.ChunkedArray) -> "np.ndarray[tuple[int], np.dtype[np.bool_]]":
        """Quarantined rows: JSON, whose entity may be anything that was in the source."""
        texts = column.to_pylist()
        return np.array([text is not None and self._record(text) for text in texts], dtype=bool)

    def _record(self, text: str) -> bool:
        try:
            record = json.loads(text)
        except ValueError:
            return self.holds(text.encode(errors="surrogateescape"))
        if not isinstance(record, dict):
            return self.holds(text.encode(errors="surrogateescape"))
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
            f"{project.file}: entity: name the column that identifies the entity of a row; "
            "without it no person can be searched"
        )
    check_key(project, settings)
    kind = project.contract.columns[project.entity].type
    ids = pd.Series([value.strip() for value in entities], dtype=object)
    if ids.empty or not ids.all():
        raise ProjectError("--entity: name at least one value, and no empty text")
    read = coerce(ids, kind).values
    if read.isna().any():
        raise ProjectError(
            f"--entity: {int(read.isna().sum())} of the values are no {kind}, which "
            f"contract.columns.{project.entity} says they are"
        )
    originals = tuple(values)
    if short := sum(not distinctive(text) for text in originals):
        raise ProjectError(
            f"--value: {short} of {len(originals)} cannot be told apart from other text; name "
            "values with a letter and {LONG} signs, or {DIGITS} digits"
        )
    texts = {text for text in map(plain_text, read) if text is not None} | set(ids)
    hashes = {value for value in pseudonym(sorted(texts), pii_key(settings)) if value}
    keys = {view.key for view in project.feature_views.values()}
    columns = {project.entity, "entity", *keys}
    columns |= {f"input_{name}" for name in columns} | {f"input_{name}__hash" for name in columns}
    return Subject(frozenset(columns), frozenset(texts | hashes), values=originals)


def fingerprints(table: pa.Table, columns: Collection[str]) -> dict[str, set[str]]:
    """Values of the columns that are told apart wherever they stand, by column."""
    values: dict[str, set[str]] = {}
    for field_ in table.schema:
        name = field_.name.removeprefix(INPUT)
        if name in columns and (is_text(field_.type) or pa.types.is_floating(field_.type)):
            texts = map(plain_text, pc.unique(table[field_.name]).to_pylist())
            distinct = {text for text in texts if text is not None and distinctive(text)}
            values.setdefault(name, set()).update(distinct)
    return values


def present(table: pa.Table, texts: Mapping[str, Collection[str]]) -> dict[str, set[str]]:
    """Return the texts that occur in the columns of their names."""
    values: dict[str, set[str]] = {}
    for name in table.schema.names:
        if candidates := texts.get(name.removeprefix(INPUT)):
            column = _as_text(table[name])
            matches = column.filter(pc.is_in(column, value_set=pa.array(sorted(candidates))))
            values.setdefault(name.removeprefix(INPUT), set()).update(
                pc.unique(matches).to_pylist()
            )
    return values


def _as_text(column: pa.Array | pa.ChunkedArray) -> pa.Array:
    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    if is_text(column.type):
        return column.cast(pa.string())
    return pa.array([plain_text(value) for value in column.to_pylist()], pa.string())


def _booleans(mask: pa.Array | pa.ChunkedArray) -> "np.ndarray[tuple[int], np.dtype[np.bool_]]":
    return np.asarray(mask.fill_null(False).to_numpy(zero_copy_only=False), dtype=bool)
