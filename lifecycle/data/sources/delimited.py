"""CSV: every cell as text, block by block; the contract's types come afterwards, column by column.

Reading with types at once would save a fifth of the time, but the first cell that does not fit
ends Arrow's reader, and the file would have to be read again from its start.
"""

import io
import re
from collections.abc import Iterator
from typing import Any

import pyarrow as pa
import pyarrow.csv

from lifecycle.data.sources.streams import text_stream
from lifecycle.specs import SourceSpec

BLOCK = 1 << 20
"""Bytes read at a time, of which Arrow holds some dozens; no row may be longer."""
START = 1 << 16
ROW_TEXT = re.compile(r"(Expected \d+ columns, got \d+): .*", re.DOTALL)
NO_TEXT = re.compile(r"CSV column #(\d+): .*invalid UTF8", re.DOTALL)


def read_csv(raw: pa.NativeFile, spec: SourceSpec, place: str) -> Iterator[pa.RecordBatch]:
    """Batches of text columns; only an empty cell is missing.

    Raises:
        ValueError: the file is empty, binary, ragged or not text in its encoding.
    """
    stream = text_stream(raw, spec, place)
    start = stream.read(START)
    names = _header(start, spec)
    if isinstance(stream, pa.OSFile):  # Arrow reads it without asking Python for each block
        stream.seek(0)
    else:
        stream = pa.PythonFile(_Again(start, stream), mode="r")
    rows = 0
    try:
        reader = pa.csv.open_csv(
            stream,
            pa.csv.ReadOptions(block_size=BLOCK),
            pa.csv.ParseOptions(delimiter=spec.separator, newlines_in_values=True),
            pa.csv.ConvertOptions(
                column_types=dict.fromkeys(names, pa.string()),
                null_values=[""],
                strings_can_be_null=True,
            ),
        )
        for batch in reader:
            yield batch
            rows += batch.num_rows
    except pa.ArrowInvalid as error:
        said = _said(str(error), names, spec)
        raise ValueError(f"{said}, in the megabyte after row {rows:,}") from None


def csv_header(raw: pa.NativeFile, spec: SourceSpec, place: str) -> list[str]:
    """Column names of a CSV file.

    Raises:
        ValueError: the file is empty or binary.
    """
    return _header(text_stream(raw, spec, place).read(START), spec)


def _header(start: bytes, spec: SourceSpec) -> list[str]:
    if not start.strip():
        raise ValueError("it is empty")
    if b"\0" in start:
        raise ValueError("it is binary, not text")
    parse = pa.csv.ParseOptions(delimiter=spec.separator)
    line = start.split(b"\n", 1)[0] + b"\n"
    return list(pa.csv.read_csv(pa.BufferReader(line), parse_options=parse).column_names)


def _said(message: str, names: list[str], spec: SourceSpec) -> str:
    """Arrow's words without the row's cells, which may be personal."""
    if found := NO_TEXT.search(message):
        return f"column {names[int(found[1])]!r} has bytes that are not {spec.encoding}"
    return ROW_TEXT.sub(r"\1", message)


class _Again(io.RawIOBase):
    """A stream whose start has been read already."""

    def __init__(self, start: bytes, rest: Any) -> None:
        self._start, self._rest = start, rest

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        if self._start:
            piece, self._start = self._start[:size], self._start[size:]
            return piece
        found: bytes = self._rest.read(size)
        return found
