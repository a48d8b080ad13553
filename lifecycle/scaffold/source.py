"""Reading of a file, or of many: format, encoding, separator, sheet, header; each is said."""

import codecs
import glob
import math
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import ValidationError

from lifecycle.data.sources.archives import Zipped
from lifecycle.data.sources.columns import TEXT_TYPES, as_declared
from lifecycle.data.sources.content import foreign_ending, foreign_text
from lifecycle.data.sources.dialect import (
    RECORDS,
    detect_encoding,
    detect_layout,
    header_place,
    usual_width,
)
from lifecycle.data.sources.excel import sheet_heads
from lifecycle.data.sources.files import Files
from lifecycle.data.sources.local import LocalFile, fixed_folder
from lifecycle.errors import ProjectError, SourceError
from lifecycle.lake.column_types import coerce, is_number, is_text
from lifecycle.lake.row_hash import Hashes, value_hashes
from lifecycle.project import ColumnSpec, SourceSpec
from lifecycle.project.data import EXTENSIONS, FILES, Format, compression_of, format_of, suffix_of
from lifecycle.records import counted
from lifecycle.scaffold.columns import FEW_CATEGORIES, FEW_NUMBERS, Column, Guessed

BLOCK = 1 << 20
"""Bytes read at a time."""
MOST_REMOTE = 4
"""Blocks that are fetched of a file on a server to tell its encoding."""
SPELLINGS = {"tab": "\t", r"\t": "\t", "comma": ",", "semicolon": ";", "pipe": "|", "space": " "}
SEPARATOR_NAMES = {"\t": "the tab", " ": "the space"}


class ReadingOptions(NamedTuple):
    """Options that the caller says of a file, where it is not to be detected."""

    separator: str | None = None
    encoding: str | None = None
    sheet: str | None = None
    """By name, or by place from 0."""
    decimal: str | None = None
    """What stands before the decimals of a number."""
    dates: Mapping[str, str] = MappingProxyType({})
    """Columns of times → their format, as `source.dates` has it."""


DETECTED = ReadingOptions()


def guess_source(
    path: str, options: ReadingOptions = DETECTED, target: str | None = None
) -> tuple[SourceSpec, list[str]]:
    """The source section for a file, folder, glob or URL, and what was detected, in words.

    Args:
        target: a column that the right sheet of a workbook has.

    Raises:
        SourceError: there is nothing, it cannot be read, or it is of a format that is not read.
        ProjectError: an option has no meaning for the format, or none at all.
        BackendError: the file's server does not answer.
    """
    kind, notes = _format(path)
    declared: dict[str, Any] = {"path": path, "format": kind}
    if options.decimal is not None:
        declared["decimal"] = options.decimal
    if kind in ("csv", "jsonl"):
        declared |= _text(declared, options, notes)
    if kind == "csv":
        declared |= _layout(declared, options, notes)
    elif options.separator is not None:
        raise ProjectError(f"--separator: {path} is {kind}, which has none: leave it out")
    if kind == "excel":
        declared |= _sheet(declared, options, target, notes)
    elif options.sheet is not None:
        raise ProjectError(f"--sheet: {path} is {kind}, which has none: leave it out")
    if kind not in ("csv", "jsonl") and options.encoding is not None:
        raise ProjectError(f"--encoding: {path} is {kind}, which has its own: leave it out")
    return _spec(declared), notes


def is_pattern(path: str) -> bool:
    """Tell whether a path means several files by wildcards, and is no file itself."""
    return "://" not in path and glob.has_magic(path) and not Path(path).exists()


def folder_of(path: str) -> Path:
    """The folder that a project file for the data belongs in: beside a file or a folder of them."""
    if "://" in path:
        return Path()
    return fixed_folder(Path(path)) if is_pattern(path) else Path(path).parent


def _spec(declared: dict[str, Any]) -> SourceSpec:
    try:
        return SourceSpec.model_validate(declared)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(map(str, first["loc"])) or "source"
        reason = first["msg"].removeprefix("Value error, ")
        raise ProjectError(f"--{key}: {reason}") from None


def _format(path: str) -> tuple[Format, list[str]]:
    notes: list[str] = []
    remote = "://" in path
    if (problem := foreign_ending(path)) is not None:
        raise SourceError(f"{path}: cannot read it: {problem}")
    if not remote and not Path(path).exists() and not is_pattern(path):
        raise SourceError(f"{path}: cannot read it: No such file or directory")
    if is_pattern(path):
        matches = [match for match in glob.glob(path, recursive=True) if Path(match).is_file()]
        return _common_format(path, sorted(matches), notes), notes
    kind = format_of(path)
    if not remote and kind != "delta" and Path(path).is_dir():
        names = sorted(f.relative_to(path).as_posix() for f in Path(path).rglob("*") if f.is_file())
        return _common_format(path, names, notes), notes
    if kind is None and not remote and compression_of(path) == "zip":
        member = Zipped(LocalFile(Path(path), Path(path).name)).member()
        if (problem := foreign_ending(member)) is not None:
            raise SourceError(f"{path}: cannot read {member} in it: {problem}")
        kind = format_of(member)
        notes.append(f"format: {kind or 'csv'}, as {member} is, the file in the archive")
    kind = kind or "csv"
    if kind not in EXTENSIONS:
        raise SourceError(f"{path}: `lifecycle init` reads files; write `source` for it by hand")
    return kind, notes


def _common_format(path: str, names: Sequence[str], notes: list[str]) -> Format:
    """The format that the files have, by their names' endings."""
    file_names = [
        name for name in names if not any(p.startswith((".", "_")) for p in name.split("/"))
    ]
    kinds = Counter(
        kind for name in file_names for kind in FILES if suffix_of(name) in EXTENSIONS[kind]
    )
    if not kinds:
        foreign = next(filter(None, map(foreign_ending, file_names)), None)
        ends = ", ".join(ends[0] for ends in EXTENSIONS.values())
        raise SourceError(
            f"{path}: there is no file to read ({ends}, perhaps compressed) among "
            f"{counted(len(file_names), 'file')}" + (f"; {foreign}" if foreign else "")
        )
    if len(kinds) > 1:
        have = ", ".join(f"{counted(count, 'file')} of {kind}" for kind, count in kinds.items())
        raise SourceError(
            f"{path}: it has {have}, and a source is of one format; name those of one, such as "
            f"'{Path(path) if Path(path).is_dir() else fixed_folder(Path(path))}/*"
            f"{EXTENSIONS[next(iter(kinds))][0]}'"
        )
    kind, count = next(iter(kinds.items()))
    notes.append(f"source: {counted(count, 'file')} of format {kind}, read one after the other")
    return kind


def _text(declared: dict[str, Any], options: ReadingOptions, notes: list[str]) -> dict[str, Any]:
    """Encoding of a CSV or JSON lines file."""
    if options.encoding is not None:
        try:
            codecs.lookup(options.encoding)
        except LookupError:
            raise ProjectError(
                f"--encoding: {options.encoding!r} is none that Python knows; such are utf-8, "
                "cp1252, utf-16, shift_jis"
            ) from None
        return {"encoding": options.encoding}
    files = Files(_spec(declared), Path())
    blocks = files.blocks(BLOCK)
    encoding = detect_encoding(islice(blocks, MOST_REMOTE) if files.remote else blocks, files.place)
    if encoding == "utf-8":
        return {}
    reason = "the file is not UTF-8"
    notes.append(f"encoding: {encoding}, because {reason}; if words look wrong, give --encoding")
    return {"encoding": encoding}


def _layout(declared: dict[str, Any], options: ReadingOptions, notes: list[str]) -> dict[str, Any]:
    """Separator and header of a CSV file."""
    separator = options.separator
    if separator is not None:
        separator = SPELLINGS.get(separator.lower(), separator)
        if len(separator) != 1:
            raise ProjectError(f"--separator: {options.separator!r} is not one sign, nor tab")
    files = Files(_spec(declared), Path())
    start = files.start()
    if (problem := foreign_text(start)) is not None:
        raise SourceError(f"{files.place}: cannot read it: {problem}")
    text = start.decode(declared.get("encoding", "utf-8"), errors="replace").removeprefix("\ufeff")
    layout = detect_layout(text, separator)
    fields: dict[str, Any] = {}
    if layout.separator != ",":
        fields["separator"] = layout.separator
        if separator is None:
            name = SEPARATOR_NAMES.get(layout.separator, repr(layout.separator))
            notes.append(f"separator: {name}, by which the lines have equally many cells")
    if layout.above:
        fields["skip"] = layout.above
        notes.append(
            f"skip: {counted(layout.above, 'line')} above the one that names the columns; set "
            "skip: 0 if that is wrong"
        )
    return fields


def _sheet(
    declared: dict[str, Any], options: ReadingOptions, target: str | None, notes: list[str]
) -> dict[str, Any]:
    """Sheet and header of a workbook."""
    files = Files(_spec(declared), Path())
    with files.on_disk() as path:
        heads = sheet_heads(path, files.place, RECORDS)
    names = list(heads)
    chosen: str | int = 0
    if options.sheet is not None:
        digits = options.sheet.isdigit() and options.sheet not in names
        chosen = int(options.sheet) if digits else options.sheet
        if chosen not in names and not (digits and int(chosen) < len(names)):
            have = ", ".join(map(repr, names))
            raise ProjectError(f"--sheet: {files.place} has no sheet {options.sheet!r}: {have}")
    elif target is not None and len(names) > 1:
        having = [name for name in names if target in _header(heads[name])]
        if having and having[0] != names[0]:
            chosen = having[0]
            notes.append(f"sheet: {chosen!r}, the first of {len(names)} with a column {target!r}")
        else:
            others = ", ".join(map(repr, names[1:]))
            notes.append(f"sheet: {names[0]!r}, the first; there are others: {others}")
    rows = heads[names[chosen] if isinstance(chosen, int) else chosen]
    above = header_place(rows, usual_width(rows))
    blank = next((at for at, row in enumerate(rows) if any(cell is not None for cell in row)), 0)
    fields: dict[str, Any] = {"sheet": chosen} if chosen else {}
    if above > blank:
        fields["skip"] = above
        notes.append(
            f"skip: {counted(above, 'row')} above the one that names the columns; set skip: 0 if "
            "that is wrong"
        )
    return fields


def _header(rows: Sequence[Sequence[Any]]) -> list[str]:
    row = rows[header_place(rows, usual_width(rows))] if rows else ()
    return [str(cell) for cell in row if cell is not None]


# The rows that are looked at: of a large file evenly spaced ones, and a second pass for what only
# all rows tell.

MOST_ROWS = 200_000
"""Rows of a file from twice of which on not all are looked at."""


class SampledFile(NamedTuple):
    """Columns of a file as text, as if it were CSV."""

    cells: dict[str, "pd.Series[str]"]
    typed: Collection[str]
    """Columns that the file says are no text."""
    step: int
    """Rows from one that is here to the next; 1 if all are."""
    rows: int
    """In the file."""


def read_sample(source: SourceSpec) -> SampledFile:
    """The rows of a file; of one with more than twice `MOST_ROWS` at least so many, evenly spaced.

    Raises:
        SourceError: it is missing, unreadable or empty.
        BackendError: its server does not answer.
    """
    pieces: dict[str, list[pa.Array]] = {}
    texts: set[str] = set()
    rows, count, step = 0, 0, 1
    for batch in Files(source, Path()).batches({}):
        texts.update(field.name for field in batch.schema if is_text(field.type))
        selection = (
            batch if step == 1 else batch.take(np.arange(-rows % step, batch.num_rows, step))
        )
        for name, array in zip(selection.schema.names, selection.columns, strict=True):
            # a key that JSON lines had not before was missing so far
            before = pieces.setdefault(name, [pa.nulls(count, pa.string())] if count else [])
            before.append(_as_in_csv(array))
        rows, count = rows + batch.num_rows, count + selection.num_rows
        while count > 2 * MOST_ROWS:
            for name, arrays in pieces.items():
                every_second = pa.chunked_array(arrays).take(np.arange(0, count, 2))
                pieces[name] = [every_second.combine_chunks()]
            count, step = (count + 1) // 2, 2 * step
    columns = {name: pa.chunked_array(arrays).to_pandas() for name, arrays in pieces.items()}
    return SampledFile(columns, pieces.keys() - texts, step, rows)


def _as_in_csv(array: pa.Array) -> pa.StringArray:
    """Cells as text; a float keeps its point, since the file says it is no whole number."""
    text = as_declared(array, "string")
    if not pa.types.is_floating(array.type):
        return text
    pointed = pc.match_substring_regex(text, "[^0-9-]")
    return pc.if_else(pointed, text, pc.binary_join_element_wise(text, "0", "."))


class ColumnFacts:
    """Facts that all rows of a column have, in the type that a sample of them was guessed to be."""

    def __init__(self, column: Column) -> None:
        spec = column.spec
        self.rows = self.missing = 0
        self.low, self.high = math.inf, -math.inf
        self.values: set[Any] = set()
        """Of a column with few: as many as there are, or one more than may be listed."""
        repeats = column.distinct <= len(column.values) / 2
        self._hashes: list[Hashes] | None = None
        if column.kind in ("integer", "string") and not repeats:
            self._hashes = []
        self._kind, self._most = column.kind, 0
        if "categories" in spec or "maximum" in spec:
            self._most = FEW_CATEGORIES if "categories" in spec else FEW_NUMBERS

    def add(self, values: pa.Array) -> None:
        """The next rows."""
        self.rows += len(values)
        self.missing += values.null_count
        values = values.drop_null()
        if is_number(values.type) and len(values):
            least_and_greatest = pc.min_max(values)
            self.low = min(self.low, least_and_greatest["min"].as_py())
            self.high = max(self.high, least_and_greatest["max"].as_py())
        if self._most and len(self.values) <= self._most:
            self.values.update(pc.unique(values).to_pylist())
        if self._hashes is not None:
            self._hashes.append(value_hashes(values, self._kind == "integer", distinct=True))

    @property
    def distinct(self) -> int | None:
        """Different values; None if that was not to be counted."""
        if self._hashes is None:
            return None
        return len(np.unique(np.concatenate(self._hashes))) if self._hashes else 0


def look_through(source: SourceSpec, columns: Mapping[str, Column]) -> dict[str, ColumnFacts]:
    """Facts that all rows of a file have that a sample of them cannot tell.

    A cell that is not of the column's type counts for nothing: the contract will refuse it, as the
    sample's.

    Args:
        columns: as guessed from the sample.
    """
    specs = {
        name: ColumnSpec(type=column.kind, unit=column.spec.get("unit", ""))
        for name, column in columns.items()
    }
    facts = {name: ColumnFacts(column) for name, column in columns.items()}
    for batch in Files(source, Path()).batches(specs):
        for name, values in zip(batch.schema.names, batch.columns, strict=True):
            kind = specs[name].type
            if is_text(values.type) and kind not in TEXT_TYPES:
                fitting = coerce(values.to_pandas(), kind)
                values = pa.array(fitting.values[~fitting.failed])
            facts[name].add(values)
    return facts


def with_distinct(guessed: Guessed, facts: Mapping[str, ColumnFacts]) -> Guessed:
    """The same, where in a column that repeats as many values differ, a row, as in the whole file.

    A sample has most values once, however often the file has them.
    """
    columns = dict(guessed.columns)
    for name, fact in facts.items():
        count, values = fact.distinct, columns[name].values
        if count is not None and count < fact.rows - fact.missing:
            share = round(count / fact.rows * len(values))
            distinct = min(columns[name].distinct, share, len(values) - 1)
            columns[name] = replace(columns[name], distinct=distinct)
    return guessed._replace(columns=columns)


def correct_specs(columns: Mapping[str, Column], facts: Mapping[str, ColumnFacts]) -> None:
    """Have the contract say what holds for all rows, not for those of a sample alone."""
    for name, column in columns.items():
        fact, spec = facts[name], column.spec
        if fact.missing and "nullable" not in spec:
            others = dict(spec)
            spec.clear()
            spec.update({"type": others.pop("type"), "nullable": True} | others)
        if "maximum" in spec and len(fact.values) <= FEW_NUMBERS:
            spec |= {"minimum": int(fact.low), "maximum": int(fact.high)}
        elif "maximum" in spec or fact.low < spec.get("minimum", -math.inf):
            spec.pop("maximum", None)
            spec["minimum"] = 0
            if fact.low < 0:
                del spec["minimum"]
        if "categories" in spec:
            spec["categories"] = sorted(fact.values | set(spec["categories"]))
            if len(spec["categories"]) > FEW_CATEGORIES:
                del spec["categories"]
