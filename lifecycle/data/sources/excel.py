"""Excel: one sheet of an .xlsx file, row by row; the first row with cells names the columns."""

import warnings
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa

from lifecycle.data.sources.base import BATCH, MEMBERS_SHOWN
from lifecycle.data.sources.columns import column_of
from lifecycle.data.sources.content import foreign_text, nameless
from lifecycle.errors import SourceError
from lifecycle.project import SourceSpec

Row = tuple[Any, ...]


class Header(NamedTuple):
    """Column names of a sheet; None for a column without a name."""

    names: list[str | None]

    @property
    def named(self) -> list[int]:
        """Places of the columns with a name."""
        return [at for at, name in enumerate(self.names) if name is not None]


def read_excel(file: Path, spec: SourceSpec, place: str) -> Iterator[pa.RecordBatch]:
    """Batches of a sheet's rows; formulas are what Excel last computed. Blank rows are none.

    Raises:
        SourceError: there is no such sheet, it has no rows, or the file is of another format.
        ValueError: there is no header, a column with cells has no name, or a row is longer than
            the header.
    """
    with _workbook(file, place) as book:
        sheet = _sheet(book, spec, place)
        rows = enumerate(sheet.iter_rows(values_only=True), 1)
        next(islice(rows, spec.skip, spec.skip), None)
        header = _header(rows)
        if header is None:
            others = other_sheets(spec.sheet, book.sheetnames)
            raise SourceError(f"{place}: the sheet {sheet.title!r} is empty{others}")
        yield from _batches(rows, header, spec)


def sheet_heads(file: Path, place: str, rows: int) -> dict[str, list[Row]]:
    """The first rows of each sheet, by its name, in the workbook's order.

    Args:
        rows: how many.

    Raises:
        SourceError: the file is no workbook.
    """
    heads = {}
    with _workbook(file, place) as book:
        for name in book.sheetnames:
            sheet = book[name]
            cells = sheet.iter_rows(values_only=True) if hasattr(sheet, "iter_rows") else ()
            heads[name] = list(islice(cells, rows))
    return heads


@contextmanager
def _workbook(file: Path, place: str) -> Iterator[Any]:
    import openpyxl  # takes a while, and only for such files

    with file.open("rb") as raw, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about styles and print settings that nobody reads here
        try:
            book = openpyxl.load_workbook(raw, read_only=True, data_only=True)
        except (zipfile.BadZipFile, KeyError, ValueError) as error:
            raw.seek(0)
            what = foreign_text(raw.read(64)) or f"it is no sound .xlsx workbook ({error})"
            raise SourceError(f"{place}: cannot read it: {what}") from None
        try:
            yield book
        finally:
            book.close()


def other_sheets(chosen: str | int, names: list[str]) -> str:
    """The end of a message on a sheet without rows: which sheets there are besides.

    Args:
        chosen: the sheet, by name or place.
        names: of all sheets.
    """
    name = names[chosen] if isinstance(chosen, int) else chosen
    others = [repr(other) for other in names if other != name]
    if not others:
        return ""
    shown = ", ".join(others[:MEMBERS_SHOWN]) + (", …" if len(others) > MEMBERS_SHOWN else "")
    return f"; the workbook has other sheets: {shown}. Name one: source.sheet, or init --sheet"


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


def _batches(
    rows: Iterator[tuple[int, Row]], header: Header, spec: SourceSpec
) -> Iterator[pa.RecordBatch]:
    """Batches of the rows below the header; a column with neither name nor cells is left out."""
    width, named = len(header.names), header.named
    names = [str(header.names[at]) for at in named]
    unnamed = [at for at in range(width) if header.names[at] is None]
    batch: list[Row] = []
    for number, row in rows:
        if _blank(row):
            continue
        if not _blank(row[width:]):
            raise ValueError(f"row {number} has more cells than the header")
        full = (row + (None,) * width)[:width]
        if cells := [at + 1 for at in unnamed if full[at] is not None]:
            raise ValueError(nameless(cells))
        batch.append(tuple(full[at] for at in named))
        if len(batch) >= BATCH:
            yield _batch(batch, names, spec)
            batch = []
    yield _batch(batch, names, spec)


def _blank(row: Row) -> bool:
    """Whether no cell of a row says anything."""
    return not any(cell is not None and str(cell).strip() for cell in row)


def _header(rows: Iterator[tuple[int, Row]]) -> Header | None:
    """The first row with cells; None where no row has any."""
    cells = list(next((row for _, row in rows if not _blank(row)), ()))
    while cells and (cells[-1] is None or not str(cells[-1]).strip()):
        cells.pop()
    if not cells:
        return None
    return Header([None if cell is None else str(cell) for cell in cells])


def _batch(rows: list[Row], names: list[str], spec: SourceSpec) -> pa.RecordBatch:
    columns = [column_of(values, spec.decimal) for values in zip(*rows, strict=True)]
    columns = columns or [pa.nulls(0, pa.string()) for _ in names]
    return pa.RecordBatch.from_arrays(columns, names=names)
