"""Files that are odd but sound are read; of others one message says what they are."""

import io
import itertools
import json
import shutil
import zipfile
from datetime import datetime, time, timedelta
from pathlib import Path
from typing import Any

import openpyxl
import pyarrow as pa
import pytest

from lifecycle.data.sources import jsonlines, open_source, read_source
from lifecycle.data.sources.excel import read_excel
from lifecycle.errors import SourceError
from lifecycle.project import Project, SourceSpec
from tests.support.makers import project_of

SPREADSHEETS = Path(__file__).parents[3] / "fixtures" / "spreadsheets"
COLUMNS = {"id": {"type": "integer"}, "member": {"type": "integer", "nullable": True}}


def project(folder: Path, path: str, columns: dict[str, Any] = COLUMNS, **spec: Any) -> Project:
    return project_of(folder, {"path": path, **spec}, columns=columns, key=[])


def rows(folder: Path, path: str, **spec: Any) -> list[tuple[Any, ...]]:
    frame = read_source(project(folder, path, **spec))
    return list(frame.astype(object).where(frame.notna(), None).itertuples(index=False, name=None))


@pytest.mark.parametrize(
    ("text", "spec"),
    [
        ("sep=;\r\nid;member\r\n1;0\r\n2;1\r\n", {"separator": ";"}),
        ('\ufeff"sep=;"\nid;member\n1;0\n2;1\n', {"separator": ";"}),
        ("Report of May\n\nid,member\n1,0\n2,1\n", {"skip": 2}),
        ("# made by x\n# on y\nid,member\n1,0\n2,1\n", {"skip": 2}),
        ("sep=|\nReport\nid|member\n1|0\n2|1\n", {"separator": "|", "skip": 1}),
        ("\n\nid,member\n1,0\n2,1\n", {}),
        ("id,member,\n1,0,\n2,1,\n", {}),
        ("id,member,,\n1,0,,\n2,1,,\n", {}),
        ("\ufeffid,member\n1,0\n2,1\n", {}),
    ],
)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
def test_what_stands_around_the_header(
    tmp_path: Path, text: str, spec: dict[str, Any], encoding: str
) -> None:
    (tmp_path / "in.csv").write_bytes(text.encode(encoding))
    assert rows(tmp_path, "in.csv", encoding=encoding, **spec) == [(1, 0), (2, 1)]


def test_a_name_with_a_line_break(tmp_path: Path) -> None:
    (tmp_path / "in.csv").write_text('"id\n(of ""us"")",member\n1,0\n')
    columns = {'id\n(of "us")': {"type": "integer"}, "member": {"type": "integer"}}
    frame = read_source(project(tmp_path, "in.csv", columns))
    assert frame.to_dict("list") == {'id\n(of "us")': [1], "member": [0]}


def test_columns_without_names_are_told_where_they_have_cells(tmp_path: Path) -> None:
    (tmp_path / "in.csv").write_text("Report,,\nid,member,x\n1,0,2\n")
    with pytest.raises(SourceError, match=r"2 columns have no name.*source.skip"):
        rows(tmp_path, "in.csv")
    late = "id,member,\n" + "1,0,\n" * 300_000 + "1,0,late\n"
    (tmp_path / "in.csv").write_text(late)
    long = project(tmp_path, "in.csv")
    with pytest.raises(SourceError, match="column 3 has no name"):
        list(open_source(long).batches(long.contract.columns))


def test_more_lines_to_skip_than_there_are(tmp_path: Path) -> None:
    (tmp_path / "in.csv").write_text("id,member\n1,0\n")
    with pytest.raises(SourceError, match=r"it has 2 lines, and source.skip is 9"):
        rows(tmp_path, "in.csv", skip=9)


def pack(file: Path, **members: str) -> None:
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, text in members.items():
            archive.writestr(name.replace("__", "/").replace("_", "."), text)


def test_a_zip_archive_of_one_file(tmp_path: Path) -> None:
    text = "id,member\n1,0\n2,1\n"
    pack(tmp_path / "in.csv.zip", in_csv=text)
    pack(tmp_path / "in.dat", in_csv=text)
    with zipfile.ZipFile(tmp_path / "mac.zip", "w") as archive:
        archive.writestr("deep/in.csv", text)
        archive.writestr("__MACOSX/deep/._in.csv", "x")
    for name, spec in (("in.csv.zip", {}), ("mac.zip", {}), ("in.dat", {"compression": "zip"})):
        assert rows(tmp_path, name, **spec) == [(1, 0), (2, 1)]
    pack(tmp_path / "in.jsonl.zip", in_jsonl='{"id": 1, "member": 0}\n')
    assert rows(tmp_path, "in.jsonl.zip", format="jsonl") == [(1, 0)]


def test_a_zip_archive_that_is_not_read_names_what_is_in_it(tmp_path: Path) -> None:
    pack(tmp_path / "two.zip", a_csv="id\n1\n", b_csv="id\n1\n")
    with pytest.raises(SourceError, match=r"holds 2 files.*a.csv, b.csv; unpack it"):
        rows(tmp_path, "two.zip")
    pack(tmp_path / "none.zip")
    with pytest.raises(SourceError, match=r"the zip archive holds no file"):
        rows(tmp_path, "none.zip")
    (tmp_path / "bad.csv.zip").write_bytes(b"PK\x03\x04" + b"x" * 100)
    with pytest.raises(SourceError, match=r"the zip archive is not sound"):
        rows(tmp_path, "bad.csv.zip")


@pytest.mark.parametrize(
    ("name", "raw", "message"),
    [
        (
            "in.xls",
            b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(600),
            "ends as excel does; set source.format to excel",
        ),
        (
            "in.csv",
            b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(600),
            "old form .* set source.format to excel",
        ),
        ("in.csv", b"PK\x03\x04" + bytes(50), "a zip archive, as an Excel workbook is"),
        ("in.csv", b"PAR1" + bytes(50), "a Parquet file, not text: set source.format to parquet"),
        ("in.csv", b"\x1f\x8b\x08" + bytes(50), "compressed by gzip"),
        ("in.txt", b"<!DOCTYPE html>\n<html>", "a web page or XML"),
        ("in.numbers", b"PK\x03\x04", "Numbers"),
        ("in.tar.gz", b"\x1f\x8b", "a tar archive, .*unpack it"),
        ("in.sav", b"$FL2", "an SPSS file"),
    ],
)
def test_files_of_other_formats(tmp_path: Path, name: str, raw: bytes, message: str) -> None:
    (tmp_path / name).write_bytes(raw)
    with pytest.raises(SourceError, match=message):
        rows(tmp_path, name)


def book(file: Path, **sheets: list[list[object]]) -> None:
    made = openpyxl.Workbook()
    made.remove(made.worksheets[0])
    for name, lines in sheets.items():
        sheet = made.create_sheet(name)
        for line in lines:
            sheet.append(line)
        for cell in itertools.chain(*sheet.iter_rows()):
            if isinstance(cell.value, str) and cell.value.startswith("#"):
                cell.data_type = "e"
    stream = io.BytesIO()
    made.save(stream)
    file.write_bytes(stream.getvalue())


def test_an_excel_sheet_with_blanks_and_a_title(tmp_path: Path) -> None:
    lines: list[list[object]] = [
        ["Report of May"],
        [],
        ["id", None, "member"],
        [1, None, 0],
        *[[None, " ", None]] * 5_000,
        [2, None, 1],
        *[[None]] * 50,
    ]
    book(tmp_path / "in.xlsx", Data=lines)
    assert rows(tmp_path, "in.xlsx", format="excel", skip=1) == [(1, 0), (2, 1)]
    lines[3][1] = "stray"
    book(tmp_path / "in.xlsx", Data=lines)
    with pytest.raises(SourceError, match=r"column 2 has no name"):
        rows(tmp_path, "in.xlsx", format="excel", skip=1)


@pytest.mark.parametrize("first", [[], [["Notes"]]])
def test_a_sheet_without_rows_names_the_others(tmp_path: Path, first: list[list[object]]) -> None:
    book(tmp_path / "in.xlsx", About=first, Data=[["id", "member"], [1, 0]])
    with pytest.raises(SourceError, match=r"other sheets: 'Data'. Name one: source.sheet"):
        rows(tmp_path, "in.xlsx", format="excel")
    assert rows(tmp_path, "in.xlsx", format="excel", sheet="Data") == [(1, 0)]


def test_a_file_that_is_called_xlsx_and_is_none(tmp_path: Path) -> None:
    (tmp_path / "in.xlsx").write_bytes(b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(600))
    with pytest.raises(SourceError, match=r"has a password, or is no sound .*without one"):
        rows(tmp_path, "in.xlsx", format="excel")
    (tmp_path / "in.xlsx").write_bytes(b"PK\x03\x04" + bytes(600))
    with pytest.raises(SourceError, match=r"no sound workbook"):
        rows(tmp_path, "in.xlsx", format="excel")
    (tmp_path / "in.xlsx").write_bytes(b"%PDF-1.7")
    with pytest.raises(SourceError, match=r"a PDF document"):
        rows(tmp_path, "in.xlsx", format="excel")
    (tmp_path / "in.xlsx").write_text("id,member\n1,0\n")
    with pytest.raises(SourceError, match=r"no sound workbook .*Cannot detect"):
        rows(tmp_path, "in.xlsx", format="excel")


CELLS = [
    {"id": 1, "member": "true", "day": datetime(2024, 5, 1), "note": "a"},
    {"id": 2, "member": "false", "day": datetime(2024, 5, 2), "note": "ä"},
    {"id": 3, "member": "#N/A", "day": None, "note": None},
]
"""Of the spreadsheets below, which have a blank row before the last."""


def cells(file: Path, **spec: Any) -> pa.RecordBatch:
    """The only batch of a spreadsheet, as it is before the contract."""
    source = SourceSpec(path=file.name, format="excel", **spec)
    (batch,) = read_excel(file, source, file.name)
    return batch


def ods(file: Path) -> None:
    def cell(kind: str, value: str, attribute: str = "value") -> str:
        return f'<table:table-cell office:value-type="{kind}" office:{attribute}="{value}"/>'

    def text(value: str) -> str:
        return (
            '<table:table-cell office:value-type="string">'
            f"<text:p>{value}</text:p></table:table-cell>"
        )

    lines = [
        "".join(map(text, ("id", "member", "day", "note"))),
        cell("float", "1")
        + cell("boolean", "true", "boolean-value")
        + cell("date", "2024-05-01", "date-value")
        + text("a"),
        cell("float", "2")
        + cell("boolean", "false", "boolean-value")
        + cell("date", "2024-05-02", "date-value")
        + text("ä"),
        "<table:table-cell/>",
        cell("float", "3") + text("#N/A"),
    ]
    names = {"office": "office", "table": "table", "text": "text"}
    spaces = " ".join(
        f'xmlns:{short}="urn:oasis:names:tc:opendocument:xmlns:{name}:1.0"'
        for short, name in names.items()
    )
    table = "".join(f"<table:table-row>{line}</table:table-row>" for line in lines)
    content = (
        f'<?xml version="1.0"?><office:document-content {spaces}><office:body><office:spreadsheet>'
        f'<table:table table:name="Orders">{table}</table:table>'
        "</office:spreadsheet></office:body></office:document-content>"
    )
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("mimetype", "application/vnd.oasis.opendocument.spreadsheet")
        archive.writestr("content.xml", content)
        archive.writestr("META-INF/manifest.xml", "<manifest/>")


@pytest.mark.parametrize("name", ["orders.xls", "orders.ods"])
def test_spreadsheets_of_other_forms(tmp_path: Path, name: str) -> None:
    if name.endswith("ods"):
        ods(tmp_path / name)
    else:
        shutil.copy(SPREADSHEETS / name, tmp_path)
    assert cells(tmp_path / name, sheet="Orders").to_pylist() == CELLS


def test_cells_of_a_sheet_keep_their_types(tmp_path: Path) -> None:
    """Columns of several types are text, in which a failed formula has Excel's word."""
    lines: list[list[object]] = [
        ["whole", "number", "truth", "moment", "clock", "length", "code", "mixed", "failed"],
        [
            7,
            1.5,
            True,
            datetime(2024, 5, 1, 8, 30),
            time(3, 4),
            timedelta(hours=30),
            "007",
            2.5,
            1.5,
        ],
        [8, 2, None, datetime(2024, 5, 2), time(0), None, "1e5", "n/a", "#DIV/0!"],
        [None, None, False, None, None, None, "x", True, "#N/A"],
    ]
    book(tmp_path / "in.xlsx", Data=lines)
    batch = cells(tmp_path / "in.xlsx")
    assert batch.to_pydict() == {
        "whole": [7, 8, None],
        "number": [1.5, 2.0, None],
        "truth": [True, None, False],
        "moment": [datetime(2024, 5, 1, 8, 30), datetime(2024, 5, 2), None],
        "clock": ["03:04:00.000000", "00:00:00.000000", None],
        "length": ["1 day, 6:00:00", None, None],
        "code": ["007", "1e5", "x"],
        "mixed": ["2.5", "n/a", "true"],
        "failed": ["1.5", "#DIV/0!", "#N/A"],
    }


def test_numbers_among_texts_have_the_decimal_separator_of_the_source(tmp_path: Path) -> None:
    """In a sheet with decimal commas the text 1.234 is no number of ours to change."""
    lines: list[list[object]] = [["id", "x"], [1, 2.5], [2, "1.234"], [3, "3,5"], [4, "#N/A"]]
    book(tmp_path / "in.xlsx", Data=lines)
    batch = cells(tmp_path / "in.xlsx", decimal=",")
    assert batch["x"].to_pylist() == ["2,5", "1.234", "3,5", "#N/A"]


def test_truth_among_numbers_is_text(tmp_path: Path) -> None:
    """fastexcel would make 1 of it."""
    book(tmp_path / "in.xlsx", Data=[["id", "x"], [1, True], [2, 2.5]])
    batch = cells(tmp_path / "in.xlsx")
    assert batch["x"].to_pylist() == ["true", "2.5"]


@pytest.mark.parametrize("blanks_first", [True, False])
def test_a_table_that_starts_below_and_to_the_right(tmp_path: Path, blanks_first: bool) -> None:
    lines: list[list[object]] = [[], [None, "id", "member", None, "x"], [None, 1, 0]]
    lines += [[], [None, 2, 1, 5]]
    if not blanks_first:
        lines[0] = ["Report"]
    book(tmp_path / "in.xlsx", Data=lines)
    with pytest.raises(SourceError, match=r"column 4 has no name"):
        rows(tmp_path, "in.xlsx", format="excel", skip=1)
    book(tmp_path / "in.xlsx", Data=[*lines[:4], [None, 2, 1, None, None, None, 7]])
    with pytest.raises(SourceError, match=r"row 5 has more cells than the header"):
        rows(tmp_path, "in.xlsx", format="excel", skip=1)
    book(tmp_path / "in.xlsx", Data=[*lines[:4], [None, 2, 1.5], [None, 3, "#N/A"]])
    batch = cells(tmp_path / "in.xlsx", skip=1, decimal=",")
    assert batch["id"].to_pylist() == [1, 2, 3]
    assert batch["member"].to_pylist() == ["0", "1,5", "#N/A"]


def test_a_damaged_sheet_is_told(tmp_path: Path) -> None:
    book(tmp_path / "in.xlsx", Data=[["id", "member"], [1, 0]])
    with zipfile.ZipFile(tmp_path / "in.xlsx") as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(tmp_path / "in.xlsx", "w") as archive:
        for name, content in members.items():
            half = len(content) // 2 if "sheet1" in name else len(content)
            archive.writestr(name, content[:half])
    with pytest.raises(SourceError, match=r"cannot read the sheet 'Data': .*syntax error"):
        rows(tmp_path, "in.xlsx", format="excel")


def test_a_chart_sheet_has_no_rows(tmp_path: Path) -> None:
    made = openpyxl.Workbook()
    made.worksheets[0].append(["id", "member"])
    made.worksheets[0].append([1, 0])
    made.create_chartsheet("Chart")
    made.save(tmp_path / "in.xlsx")
    assert rows(tmp_path, "in.xlsx", format="excel") == [(1, 0)]
    with pytest.raises(SourceError, match=r"'Chart' is empty|no sheet 'Chart'"):
        rows(tmp_path, "in.xlsx", format="excel", sheet="Chart")


def test_nan_in_json_lines_is_missing(tmp_path: Path) -> None:
    (tmp_path / "in.jsonl").write_text('{"id": 1, "member": NaN}\n{"id": 2, "member": 1}\n')
    assert rows(tmp_path, "in.jsonl", format="jsonl") == [(1, None), (2, 1)]
    (tmp_path / "in.jsonl").write_text('{"id": 1, "member": NaN\n')
    with pytest.raises(SourceError, match=r"line 1 is not JSON"):
        rows(tmp_path, "in.jsonl", format="jsonl")


def test_one_json_array_is_read_as_its_lines(tmp_path: Path) -> None:
    """Indented or not; NaN is missing, infinity is not."""
    data = [{"id": 1, "member": 1.0}, {"id": 2, "member": float("nan")}, {"id": 3}]
    for text in (json.dumps(data), "\ufeff\n " + json.dumps(data, indent=2)):
        (tmp_path / "in.json").write_text(text)
        assert rows(tmp_path, "in.json", format="jsonl") == [(1, 1), (2, None), (3, None)]
    numbers = {"id": {"type": "integer"}, "member": {"type": "number"}}
    (tmp_path / "in.json").write_text('[{"id": 1, "member": Infinity}]')
    endless = project(tmp_path, "in.json", numbers, format="jsonl")
    batch = next(iter(open_source(endless).batches(endless.contract.columns)))
    assert batch["member"].to_pylist() == [float("inf")]


def test_a_json_array_is_cut_into_batches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jsonlines, "ARRAY_ROWS", 2)
    monkeypatch.setattr(jsonlines, "LARGEST_ARRAY", 200)
    (tmp_path / "in.json").write_text(json.dumps([{"id": at, "member": 0} for at in range(5)]))
    only = project(tmp_path, "in.json", format="jsonl")
    assert [b.num_rows for b in open_source(only).batches(only.contract.columns)] == [2, 2, 1]
    (tmp_path / "in.json").write_text(json.dumps([{"id": at} for at in range(50)]))
    with pytest.raises(SourceError, match=r"one JSON array of more than .* MB"):
        read_source(only)
