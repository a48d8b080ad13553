"""Excel: one sheet of an .xlsx file, row by row; the first row names the columns."""

import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa

from lifecycle.data.sources.base import BATCH
from lifecycle.data.sources.columns import column_of
from lifecycle.errors import SourceError
from lifecycle.specs import SourceSpec

Row = tuple[Any, ...]


def read_excel(file: Path, spec: SourceSpec, place: str) -> Iterator[pa.RecordBatch]:
    """Batches of a sheet's rows; formulas are what Excel last computed.

    Raises:
        SourceError: there is no such sheet.
        ValueError: there is no header, or a row longer than it.
    """
    import openpyxl  # takes a while, and only for such files

    with file.open("rb") as raw, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about styles and print settings that nobody reads here
        book = openpyxl.load_workbook(raw, read_only=True, data_only=True)
        try:
            yield from _batches(_sheet(book, spec, place).iter_rows(values_only=True), spec)
        finally:
            book.close()


def _sheet(book: Any, spec: SourceSpec, place: str) -> Any:
    names = book.sheetnames
    if isinstance(spec.sheet, int) and -len(names) <= spec.sheet < len(names):
        return book[names[spec.sheet]]
    if spec.sheet in names:
        return book[spec.sheet]
    raise SourceError(f"{place}: source.sheet: {_no_sheet(names, spec.sheet)}")


def _no_sheet(names: list[str], sheet: str | int) -> str:
    have = ", ".join(map(repr, names))
    if isinstance(sheet, str):
        return f"there is no sheet {sheet!r}; set it to one of these: {have}"
    if str(sheet) in names:
        return f"{sheet} is a place, counted from 0; put quotes around a name: '{sheet}'"
    return f"there is no sheet in place {sheet}, counted from 0; set it to one of these: {have}"


def _batches(rows: Iterator[Row], spec: SourceSpec) -> Iterator[pa.RecordBatch]:
    names = _names(next(rows, ()))
    batch: list[Row] = []
    blank = 0
    for number, row in enumerate(rows, 2):
        if all(cell is None for cell in row):
            blank += 1  # rows below the last one with a cell are no rows
            continue
        if any(cell is not None for cell in row[len(names) :]):
            raise ValueError(f"row {number} has more cells than the header")
        empty: Row = (None,) * len(names)
        batch += [empty] * blank
        blank = 0
        batch.append((row + empty)[: len(names)])
        if len(batch) >= BATCH:
            yield _batch(batch, names, spec)
            batch = []
    yield _batch(batch, names, spec)


def _names(header: Row) -> list[str]:
    cells = list(header)
    while cells and cells[-1] is None:
        cells.pop()
    if not cells:
        raise ValueError("the sheet is empty; its first row should name the columns")
    if None in cells:
        raise ValueError(f"column {cells.index(None) + 1} of the sheet has no name")
    return [str(cell) for cell in cells]


def _batch(rows: list[Row], names: list[str], spec: SourceSpec) -> pa.RecordBatch:
    columns = [column_of(values, spec.decimal) for values in zip(*rows, strict=True)]
    columns = columns or [pa.nulls(0, pa.string()) for _ in names]
    return pa.RecordBatch.from_arrays(columns, names=names)
