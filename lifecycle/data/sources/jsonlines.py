"""JSON lines: one object a line, block by block; or one array of objects, at once."""

import json
import re
from collections.abc import Collection, Iterator
from typing import Any

import orjson
import pyarrow as pa
import pyarrow.json

from lifecycle.data.sources.columns import column_of
from lifecycle.data.sources.content import text_stream
from lifecycle.project import SourceSpec

BLOCK = 4 << 20
"""Bytes read at a time."""
LONGEST = 64 << 20
"""Bytes of a line: above it, the file is hardly one of lines."""
LARGEST_ARRAY = 256 << 20
"""Bytes of a JSON array, which is in memory as a whole, as objects some ten times as large."""
ARRAY_ROWS = 10_000
"""Rows of an array in a block."""
NOT_FINITE = re.compile(rb"\b(NaN|Infinity)\b")
MARK = b"\xef\xbb\xbf"


def read_jsonl(
    raw: pa.NativeFile, spec: SourceSpec, place: str, text: Collection[str]
) -> Iterator[pa.RecordBatch]:
    """Batches of the keys seen so far, in the order they came up; an absent key is missing.

    Args:
        text: keys whose values are text. Where one of them has another type in the file, or a key
            has several, the block is read line by line, which takes some ten times as long.

    Raises:
        ValueError: a line, or an element of the array, is not a JSON object.
    """
    names: list[str] = []
    line = 1
    for block in _blocks(text_stream(raw, spec, place)):
        batch = _fast(block, text)
        if batch is None:
            batch = _line_by_line(block, line, spec.decimal)
        names += [name for name in batch.schema.names if name not in names]
        line += block.count(b"\n")
        yield pa.RecordBatch.from_arrays(
            [_column(batch, name) for name in names],
            names=names,
        )


def _blocks(stream: pa.NativeFile) -> Iterator[bytes]:
    """The bytes, cut after a line each."""
    incomplete = stream.read(BLOCK).removeprefix(MARK)
    if not incomplete.strip():
        raise ValueError("it is empty")
    if incomplete.lstrip()[:1] == b"[":
        yield from _array_blocks(incomplete, stream)
        return
    while more := stream.read(BLOCK):
        end = more.rfind(b"\n") + 1
        if end:
            yield incomplete + more[:end]
            incomplete = more[end:]
        else:
            incomplete += more
            if len(incomplete) > LONGEST:
                raise ValueError(f"it has a line of more than {LONGEST >> 20} MB")
    if incomplete.strip():
        yield incomplete


def _array_blocks(start: bytes, stream: pa.NativeFile) -> Iterator[bytes]:
    """The elements of one JSON array as lines."""
    content = start + stream.read(LARGEST_ARRAY)
    if len(content) > LARGEST_ARRAY:
        raise ValueError(
            f"it is one JSON array of more than {LARGEST_ARRAY >> 20} MB, which must be read at "
            "once; write one object per line instead"
        )
    try:
        rows = _parsed(content)
    except ValueError as error:
        raise ValueError(f"it is one JSON array, but not valid: {error}") from None
    if not rows:
        raise ValueError("it is empty")
    for at, row in enumerate(rows, start=1):
        if not isinstance(row, dict):
            raise ValueError(f"element {at} of its JSON array is not an object")
    for first in range(0, len(rows), ARRAY_ROWS):
        # json's writer, as orjson's makes null of infinity
        yield "\n".join(map(json.dumps, rows[first : first + ARRAY_ROWS])).encode()


def _fast(block: bytes, text: Collection[str]) -> pa.RecordBatch | None:
    """A block by Arrow's reader; None where that cannot, or finds cells of several types."""
    schema = pa.schema([(name, pa.string()) for name in text])
    try:
        table = pa.json.read_json(
            pa.BufferReader(block), parse_options=pa.json.ParseOptions(explicit_schema=schema)
        )
    except pa.ArrowInvalid:
        return None
    # a key that was asked for is there even where no line has it
    absent = [
        name for name in text if table[name].null_count == len(table) and not _has(block, name)
    ]
    table = table.drop_columns(absent).combine_chunks()
    if any(pa.types.is_timestamp(field.type) for field in table.schema):
        # text that Arrow took for times, the zone lost: only the contract says what it is
        times = [f.name for f in table.schema if pa.types.is_timestamp(f.type)]
        return _fast(block, {*text, *times})
    if not table.num_rows:
        return None
    # those that were asked for come first in Arrow's table
    try:
        first = list(_parsed(block.lstrip().split(b"\n", 1)[0]))
    except ValueError:  # an object over several lines, which Arrow reads
        return None
    names = [name for name in first if name in table.column_names]
    names += [name for name in table.column_names if name not in first]
    return table.select(names).to_batches()[0]


def _has(block: bytes, name: str) -> bool:
    plain, escaped = json.dumps(name, ensure_ascii=False), json.dumps(name)
    return plain.encode() in block or escaped.encode() in block


def _line_by_line(block: bytes, first: int, decimal: str) -> pa.RecordBatch:
    rows: list[dict[str, Any]] = []
    for number, line in enumerate(block.split(b"\n"), first):
        if not line.strip():
            continue
        try:
            row = _parsed(line)
        except ValueError as error:
            reason = str(error).partition(":")[0]
            raise ValueError(
                f"line {number} is not JSON: {reason}; each line must be an object, or the "
                "whole file one array of objects"
            ) from None
        if not isinstance(row, dict):
            raise ValueError(f"line {number} is not a JSON object")
        rows.append(row)
    names = list(dict.fromkeys(name for row in rows for name in row))
    columns = [column_of([row.get(name) for row in rows], decimal) for name in names]
    return pa.RecordBatch.from_arrays(columns, names=names)


def _parsed(line: bytes) -> Any:
    """A line of JSON; NaN, which Python's and JavaScript's writers let through, is missing."""
    try:
        return orjson.loads(line)
    except ValueError:
        if not NOT_FINITE.search(line):
            raise
        return json.loads(line, parse_constant=_constant)


def _constant(name: str) -> float | None:
    return None if name == "NaN" else float(name)


def _column(batch: pa.RecordBatch, name: str) -> pa.Array:
    if name in batch.schema.names:
        return batch[name]
    return pa.nulls(batch.num_rows, pa.string())
