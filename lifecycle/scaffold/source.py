"""How a file, or many, are to be read: format, encoding, separator, sheet, header; each is said."""

import codecs
import glob
from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import islice
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

from pydantic import ValidationError

from lifecycle.data.sources.archives import Zipped
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
from lifecycle.project import SourceSpec
from lifecycle.project.data import EXTENSIONS, FILES, Format, compression_of, format_of, suffix_of
from lifecycle.records import counted

BLOCK = 1 << 20
"""Bytes read at a time."""
MOST_REMOTE = 4
"""Blocks that are fetched of a file on a server to tell its encoding."""
SPELLINGS = {"tab": "\t", r"\t": "\t", "comma": ",", "semicolon": ";", "pipe": "|", "space": " "}
SEPARATOR_NAMES = {"\t": "the tab", " ": "the space"}


class ReadingOptions(NamedTuple):
    """What the caller says of a file, where it is not to be detected."""

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
    """Whether a path means several files by wildcards; a file may be called so all the same."""
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
        why = first["msg"].removeprefix("Value error, ")
        raise ProjectError(f"--{key}: {why}") from None


def _format(path: str) -> tuple[Format, list[str]]:
    notes: list[str] = []
    remote = "://" in path
    if (what := foreign_ending(path)) is not None:
        raise SourceError(f"{path}: cannot read it: {what}")
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
        if (what := foreign_ending(member)) is not None:
            raise SourceError(f"{path}: cannot read {member} in it: {what}")
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
    why = "the file is not UTF-8"
    notes.append(f"encoding: {encoding}, because {why}; if words look wrong, give --encoding")
    return {"encoding": encoding}


def _layout(declared: dict[str, Any], options: ReadingOptions, notes: list[str]) -> dict[str, Any]:
    """Separator and header of a CSV file."""
    wanted = options.separator
    if wanted is not None:
        wanted = SPELLINGS.get(wanted.lower(), wanted)
        if len(wanted) != 1:
            raise ProjectError(f"--separator: {options.separator!r} is not one sign, nor tab")
    files = Files(_spec(declared), Path())
    start = files.start()
    if (what := foreign_text(start)) is not None:
        raise SourceError(f"{files.place}: cannot read it: {what}")
    text = start.decode(declared.get("encoding", "utf-8"), errors="replace").removeprefix("\ufeff")
    layout = detect_layout(text, wanted)
    fields: dict[str, Any] = {}
    if layout.separator != ",":
        fields["separator"] = layout.separator
        if wanted is None:
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
