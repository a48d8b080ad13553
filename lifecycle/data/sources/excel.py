"""Spreadsheets: one sheet of an .xlsx, .xls or .ods file; the first row with cells names columns.

fastexcel reads them in a 25th of openpyxl's time, and has a sheet as Arrow columns, not as rows.
"""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from lifecycle.data.sources.base import MEMBERS_SHOWN
from lifecycle.data.sources.columns import column_of, plain, sliced
from lifecycle.data.sources.content import OLD_WORKBOOK, XLSX, foreign_text, nameless
from lifecycle.errors import SourceError
from lifecycle.project import SourceSpec

if TYPE_CHECKING:
    from fastexcel import ExcelReader

Row = tuple[Any, ...]
ERRORS = {
    "Div0": "#DIV/0!",
    "GettingData": "#GETTING_DATA",
    "NA": "#N/A",
    "Name": "#NAME?",
    "Null": "#NULL!",
    "Num": "#NUM!",
    "Ref": "#REF!",
    "Value": "#VALUE!",
}
"""What Excel shows in the cell of a formula that failed, by fastexcel's word."""
ERROR = re.compile(r"'Error\((\w+)\)'$")
NUMBER = re.compile(r"'(?:Float|Int)\(")
COLUMN = re.compile(r"for column (\w+)")
NAME = "__UNNAMED__{}"
"""What fastexcel calls a column; a number would count from the sheet's first, with cells or not."""
DAY_ZERO = "1899-12-31"
"""Day of a cell that holds a time of day alone."""
LARGEST_EXACT = 2.0**53


class SheetText(NamedTuple):
    """Rows of a sheet as text, with the words of failed formulas; missing cells are null."""

    columns: list[pa.Array]
    positions: list[int]
    """Place of each column in the sheet, from 1."""
    has_cells: pa.Array
    """Whether a row has cells other than blank ones."""

    def row(self, number: int) -> Row:
        return tuple(column[number].as_py() for column in self.columns)


def read_excel(file: Path, spec: SourceSpec, place: str) -> Iterator[pa.RecordBatch]:
    """Batches of a sheet's rows; formulas are what Excel last computed. Blank rows are none.

    Raises:
        SourceError: there is no such sheet, it has no rows, or the file is of another format.
        ValueError: there is no header, a column with cells has no name, or a row is longer than
            the header.
    """
    book = _workbook(file, place)
    sheet = _sheet(book.sheet_names, spec, place)
    cells = _cells(book, sheet, place, spec.skip)
    first = pc.index(cells.has_cells, True).as_py()
    if first < 0:
        others = other_sheets(spec.sheet, book.sheet_names)
        raise SourceError(f"{place}: the sheet {sheet!r} is empty{others}")
    names: list[str | None] = list(cells.row(first))
    width = max(at for at, name in enumerate(names) if name is not None) + 1
    _check(cells, names[:width], first, spec)
    places = [at for at, name in enumerate(names[:width]) if name is not None]
    columns = dict(zip(places, _columns(book, sheet, cells, places, first + 1, spec), strict=True))
    table = pa.RecordBatch.from_arrays(
        [columns[at] for at in places], names=[str(names[at]) for at in places]
    ).filter(cells.has_cells.slice(first + 1))
    yield from sliced(table) if table.num_rows else [table]


def sheet_heads(file: Path, place: str, rows: int) -> dict[str, list[Row]]:
    """The first rows of each sheet, by its name, in the workbook's order; cells are text.

    Args:
        rows: how many.

    Raises:
        SourceError: the file is no workbook.
    """
    book = _workbook(file, place)
    heads: dict[str, list[Row]] = {name: [] for name in book.sheet_names}
    if rows:
        for name in heads:
            cells = _cells(book, name, place, rows=rows)
            heads[name] = [cells.row(at) for at in range(len(cells.has_cells))]
    return heads


def _workbook(file: Path, place: str) -> "ExcelReader":
    import fastexcel  # takes a while, and only for such files

    content = file.read_bytes()  # by its path, a file is what its name ends in
    try:
        return fastexcel.read_excel(content)
    except fastexcel.FastExcelError as error:
        reason = _reason(error)
        problem = f"it is no sound workbook ({reason})"
        if content.startswith(OLD_WORKBOOK):
            problem = (
                f"it has a password, or is no sound .xls workbook ({reason}): {XLSX}, without one"
            )
        elif not content.startswith(b"PK"):
            problem = foreign_text(content[:64]) or problem
        raise SourceError(f"{place}: cannot read it: {problem}") from None


def _reason(error: Exception) -> str:
    return " ".join(str(error).partition("Context:")[0].split())


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
    listing = ", ".join(others[:MEMBERS_SHOWN]) + (", …" if len(others) > MEMBERS_SHOWN else "")
    return f"; the workbook has other sheets: {listing}. Name one: source.sheet, or init --sheet"


def _sheet(names: list[str], spec: SourceSpec, place: str) -> str:
    if isinstance(spec.sheet, int) and -len(names) <= spec.sheet < len(names):
        return names[spec.sheet]
    if spec.sheet in names:
        return str(spec.sheet)
    raise SourceError(f"{place}: source.sheet: {_no_sheet(names, spec.sheet)}")


def _no_sheet(names: list[str], sheet: str | int) -> str:
    have = ", ".join(map(repr, names))
    if isinstance(sheet, str):
        return f"there is no sheet {sheet!r}; set it to one of these: {have}"
    if str(sheet) in names:
        return f"{sheet} is a place, counted from 0; put quotes around a name: '{sheet}'"
    return f"there is no sheet in place {sheet}, counted from 0; set it to one of these: {have}"


def _cells(
    book: "ExcelReader", sheet: str, place: str, skip: int = 0, rows: int | None = None
) -> SheetText:
    """The cells below the first rows of a sheet.

    Args:
        skip: rows at the top that are left out.
        rows: how many to read; all without it.

    Raises:
        SourceError: the sheet is damaged.
    """
    from fastexcel import FastExcelError, InvalidParametersError

    try:
        loaded = book.load_sheet(
            sheet, header_row=None, skip_rows=skip, n_rows=rows, dtypes="string"
        )
        batch, failed = loaded.to_arrow_with_errors()
    except InvalidParametersError:  # the sheet has fewer rows
        return SheetText([], [], pa.array([], pa.bool_()))
    except FastExcelError as error:
        raise SourceError(f"{place}: cannot read the sheet {sheet!r}: {_reason(error)}") from None
    columns = [_without_blanks(plain(column)) for column in batch.columns]
    for at, words in _failed(failed, skip).items():
        columns[at] = _with_words(columns[at], words)
    positions = [info.absolute_index + 1 for info in loaded.available_columns()]
    filled = pa.repeat(False, batch.num_rows)
    for column in columns:
        filled = pc.or_(filled, column.is_valid())
    return SheetText(columns, positions, filled)


def _without_blanks(column: pa.Array) -> pa.Array:
    blank = pc.equal(pc.utf8_trim_whitespace(column), "")
    return pc.if_else(blank, pa.scalar(None, pa.string()), column)


def _failed(errors: Any, skip: int) -> dict[int, dict[int, str]]:
    """Words of failed formulas by column and row, from the list that fastexcel makes."""
    failed: dict[int, dict[int, str]] = {}
    for error in errors.errors if errors else ():
        row, column = error.position
        if kind := ERROR.search(error.detail):
            failed.setdefault(column, {})[row - skip] = ERRORS.get(kind[1], f"#{kind[1]}")
    return failed


def _with_words(column: pa.Array, words: dict[int, str]) -> pa.Array:
    cells = column.to_pylist()
    for row, word in words.items():
        cells[row] = word
    return pa.array(cells, pa.string())


def _check(cells: SheetText, names: list[str | None], first: int, spec: SourceSpec) -> None:
    """See that there are no cells without a name.

    Args:
        first: row of the header.
    """
    for column in cells.columns[len(names) :]:
        row = pc.index(column.slice(first + 1).is_valid(), True).as_py()
        if row >= 0:
            raise ValueError(f"row {spec.skip + first + row + 2} has more cells than the header")
    unnamed = [
        cells.positions[at]
        for at, name in enumerate(names)
        if name is None and cells.columns[at].slice(first + 1).is_valid().true_count
    ]
    if unnamed:
        raise ValueError(nameless(unnamed))


def _columns(
    book: "ExcelReader",
    sheet: str,
    cells: SheetText,
    places: list[int],
    first: int,
    spec: SourceSpec,
) -> list[pa.Array]:
    """Columns with the types of their cells; as text where they have several.

    Args:
        places: places of the columns with a name.
        first: the first row below the header.
    """
    texts = [cells.columns[at].slice(first) for at in places]
    if not len(texts[0]):
        return texts
    empty: dict[str | int, Any] = {  # fastexcel would warn that it cannot tell their type
        NAME.format(at): "string"
        for at, column in enumerate(cells.columns)
        if column.slice(first).null_count == len(texts[0])
    }
    skip = spec.skip + first
    batch, errors = _typed(book, sheet, skip, dict(empty))
    mixed = {error.position[1] for error in errors.errors} if errors else set()
    as_text = {
        at: text
        for at, text in zip(places, texts, strict=True)
        if at in mixed
        or pa.types.is_string(batch.column(at).type)
        or _has_truth(batch.column(at), text)
    }
    if spec.decimal != ".":
        durations = {NAME.format(at): "duration" for at in as_text} | empty
        _, errors = _typed(book, sheet, skip, durations)
        as_text = _with_decimal(as_text, errors, skip, spec.decimal)
    return [_plain(as_text.get(at, batch.column(at))) for at in places]


def _has_truth(column: pa.Array, text: pa.Array) -> bool:
    """Whether fastexcel took truth values among numbers for 1 and 0."""
    words = pc.is_in(text, pa.array(["true", "false"]))
    return pa.types.is_floating(column.type) and bool(pc.any(words).as_py())


def _typed(book: "ExcelReader", sheet: str, skip: int, types: dict[str | int, Any]) -> Any:
    """The sheet in the types of its cells, and the cells that are of another type."""
    from fastexcel import UnsupportedColumnTypeCombinationError

    while True:
        try:
            loaded = book.load_sheet(
                sheet,
                header_row=None,
                skip_rows=skip,
                dtypes=dict(types),
                whitespace_as_null=True,
            )
            return loaded.to_arrow_with_errors()
        except UnsupportedColumnTypeCombinationError as error:
            column = COLUMN.search(str(error))
            if column is None:
                raise
            types[column[1]] = "string"


def _with_decimal(
    texts: dict[int, pa.Array], errors: Any, skip: int, decimal: str
) -> dict[int, pa.Array]:
    """Columns of several types as text, their numbers with the source's decimal separator.

    Args:
        texts: by place.
        errors: what fastexcel says when it is told that the columns are durations; nothing else
            says which of their cells are numbers.
    """
    cells = {at: text.to_pylist() for at, text in texts.items()}
    for error in errors.errors if errors else ():
        row, at = error.position
        if at in cells and NUMBER.search(error.detail):
            cells[at][row - skip] = str(cells[at][row - skip]).replace(".", decimal)
    return {at: pa.array(column, pa.string()) for at, column in cells.items()}


def _plain(column: pa.Array) -> pa.Array:
    """A column as other sources have it; a time of day and a length of time are text."""
    if pa.types.is_floating(column.type):
        integral = pc.and_(
            pc.equal(pc.floor(column), column), pc.less(pc.abs(column), LARGEST_EXACT)
        )
        return column.cast(pa.int64()) if pc.all(integral).as_py() else column
    if pa.types.is_duration(column.type):
        return column_of([None if value is None else str(value) for value in column.to_pylist()])
    if not pa.types.is_timestamp(column.type):
        return plain(column)
    days = pc.strftime(column, "%Y-%m-%d")
    if pc.all(pc.equal(days, DAY_ZERO)).as_py():
        return column.cast(pa.time64("us")).cast(pa.string())
    return plain(column)
