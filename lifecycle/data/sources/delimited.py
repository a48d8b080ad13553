"""CSV: every cell as text, block by block; the contract's types come afterwards, column by column.

Reading with types at once would save a fifth of the time, but the first cell that does not fit
ends Arrow's reader, and the file would have to be read again from its start.
"""

import csv
import io
import re
from collections.abc import Iterator
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.csv

from lifecycle.data.sources.content import Unnamed, foreign_text, text_stream
from lifecycle.errors import SourceError
from lifecycle.project import SourceSpec

BLOCK = 1 << 20
"""Bytes read at a time, of which Arrow holds some dozens; no row may be longer."""
START = 1 << 20
"""Bytes that the header is looked for in."""
MARK = b"\xef\xbb\xbf"
ROW_TEXT = re.compile(r"(Expected \d+ columns, got \d+): .*", re.DOTALL)
NO_TEXT = re.compile(r"CSV column #(\d+): .*invalid UTF8", re.DOTALL)
SEPARATOR_LINE = re.compile(rb"(?:\xef\xbb\xbf)?\"?sep=(.)\"?[ \t]*\r?\n", re.IGNORECASE)
"""What Excel writes above the header, and skips when it reads: `sep=;`."""


class Head(NamedTuple):
    """The beginning of a CSV file."""

    names: list[str]
    """Of the columns."""
    above: int
    """Lines above the header."""


def read_csv(raw: pa.NativeFile, spec: SourceSpec, place: str) -> Iterator[pa.RecordBatch]:
    """Batches of text columns; only an empty cell is missing.

    Columns that neither the header nor any cell says anything of, such as that behind a separator
    at the end of each line, are left out.

    Raises:
        SourceError: the file is of another format.
        ValueError: the file is empty, binary, ragged or not text in its encoding.
    """
    stream = text_stream(raw, spec, place)
    start = stream.read(START)
    head = _head(start, spec, place)
    names, unnamed = head.names, Unnamed()
    if isinstance(stream, pa.OSFile):  # Arrow reads it without asking Python for each block
        stream.seek(0)
    else:
        stream = pa.PythonFile(_Replay(start, stream), mode="r")
    rows = 0
    try:
        reader = pa.csv.open_csv(
            stream,
            pa.csv.ReadOptions(block_size=BLOCK, skip_rows=head.above),
            pa.csv.ParseOptions(delimiter=spec.separator, newlines_in_values=True),
            pa.csv.ConvertOptions(
                column_types=dict.fromkeys(names, pa.string()),
                null_values=[""],
                strings_can_be_null=True,
            ),
        )
        for batch in reader:
            yield unnamed.left_out(batch)
            rows += batch.num_rows
    except pa.ArrowInvalid as error:
        message = _message_of(str(error), names, spec)
        raise ValueError(f"{message}, within the megabyte after row {rows:,}") from None


def separator_line(start: bytes) -> str | None:
    """The separator that a line `sep=;` at the very start of a file names, if there is one.

    Args:
        start: the beginning of the file, in UTF-8.
    """
    match = SEPARATOR_LINE.match(start)
    return match[1].decode("latin-1") if match else None


def _head(start: bytes, spec: SourceSpec, place: str) -> Head:
    """Names of the columns, and where their line is; a quoted name may have line breaks.

    Args:
        start: the beginning of the file, in UTF-8.
    """
    if not start.removeprefix(MARK).strip():
        raise ValueError("it is empty")
    if (problem := foreign_text(start)) is not None:
        raise SourceError(f"{place}: cannot read it: {problem}")
    if b"\0" in start:
        raise ValueError("it is binary, not text")
    text = start.removeprefix(MARK).decode("utf-8", errors="replace")
    lines = io.StringIO(text, newline="").readlines()
    above = spec.skip + (separator_line(start) is not None)
    while above < len(lines) and not lines[above].strip("\r\n"):
        above += 1
    if above >= len(lines):
        raise ValueError(
            f"it has {len(lines)} lines, and source.skip is {spec.skip}: no line names the columns"
        )
    records = csv.reader(iter(lines[above:]), delimiter=spec.separator)
    try:
        next(records)
    except csv.Error as error:
        raise ValueError(f"its header cannot be read: {error}") from None
    block = "".join(lines[above : above + records.line_num]).rstrip("\r\n") + "\n"
    parse = pa.csv.ParseOptions(delimiter=spec.separator, newlines_in_values=True)
    options = pa.csv.ReadOptions(block_size=BLOCK)
    header = pa.csv.read_csv(pa.BufferReader(block.encode()), options, parse)
    return Head(list(header.column_names), above)


def _message_of(message: str, names: list[str], spec: SourceSpec) -> str:
    """Arrow's words without the row's cells, which may be personal."""
    if match := NO_TEXT.search(message):
        return f"column {names[int(match[1])]!r} has bytes that are not {spec.encoding}"
    return ROW_TEXT.sub(r"\1", message)


class _Replay(io.RawIOBase):
    """A stream whose start has been read already."""

    def __init__(self, start: bytes, stream: Any) -> None:
        self._start, self._stream = start, stream

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        if self._start:
            piece, self._start = self._start[:size], self._start[size:]
            return piece
        data: bytes = self._stream.read(size)
        return data
