"""Files: many with the same columns, text in another form, what changes while it is read."""

import hashlib
from pathlib import Path

import openpyxl
import pytest

from lifecycle.data.preview import rehearse
from lifecycle.data.sources import digesting, open_source, source_digest
from lifecycle.data.sources.base import BATCH
from lifecycle.data.sources.jsonlines import BLOCK
from lifecycle.errors import DataError, SourceError
from lifecycle.project import Project
from tests.support.makers import project_of
from tests.support.places import CONTRACT, Rows, encode, rows


def read(project: Project) -> Rows:
    batches = open_source(project).batches(project.contract.columns)
    return [row for batch in batches for row in batch.to_pylist()]


def test_files_with_other_columns_are_refused_with_the_difference(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.csv").write_text("id,code,note\n1,a,b\n")
    (tmp_path / "in" / "b.csv").write_text("note,id,code\nb,2,a\n")
    project = project_of(tmp_path, {"path": "in"})
    assert [list(row) for row in read(project)] == [["id", "code", "note"]] * 2
    (tmp_path / "in" / "c.csv").write_text("id,kode\n3,a\n")
    with pytest.raises(SourceError) as caught:
        read(project)
    assert str(caught.value).splitlines() == [
        f"{tmp_path}/in/c.csv: its columns differ from those of {tmp_path}/in/a.csv: "
        "it has no 'code', 'note' and it has 'kode' besides.",
        "  ~ code → kode, perhaps",
        "Make them alike, or take the files as sources of their own",
    ]


def test_a_row_where_a_later_file_should_have_its_header_is_not_told(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.csv").write_text("id,code\n1,a\n")
    (tmp_path / "in" / "b.csv").write_text("2,Ada Lovelace\n3,b\n")
    with pytest.raises(SourceError, match="see that its first line names the columns") as caught:
        read(project_of(tmp_path, {"path": "in"}))
    assert "Lovelace" not in str(caught.value)


@pytest.mark.parametrize("file", ["a.csv", "b.csv"])
def test_the_file_that_lacks_a_column_is_named(tmp_path: Path, file: str) -> None:
    (tmp_path / "in").mkdir()
    for name in ("a.csv", "b.csv"):
        code = "Code" if name == file else "code"
        (tmp_path / "in" / name).write_text(f"id,{code},member\n1,a,true\n")
    columns = {"id": CONTRACT["id"], "code": CONTRACT["code"], "member": CONTRACT["member"]}
    project = project_of(tmp_path, {"path": "in"}, columns=columns)
    with pytest.raises(DataError, match=rf"{file}.* has no (column )?'code'") as caught:
        rehearse(project)
    assert "\n  ~ code → Code, perhaps\n" in str(caught.value)


def test_a_row_is_told_by_its_file_and_its_number_there(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    for name, count in {"a": 3, "b": 0, "c": BATCH + 2, "d": 1}.items():
        lines = "".join(f"{name}{n}\n" for n in range(count))
        (tmp_path / "in" / f"{name}.csv").write_text(f"code\n{lines}")
    project = project_of(tmp_path, {"path": "in"})
    columns, source = project.contract.columns, open_source(project)
    told: list[str] = []
    for batch in source.batches(columns):
        told += [str(source.at(len(told) + n + 1)) for n in range(batch.num_rows)]
    last = BATCH + 2
    assert told[:4] == ["row 1 of a.csv", "row 2 of a.csv", "row 3 of a.csv", "row 1 of c.csv"]
    assert told[-2:] == [f"row {last} of c.csv", "row 1 of d.csv"]
    assert source.at(4).place == f"{tmp_path}/in/c.csv"
    list(source.batches(columns, only=["d.csv"]))
    assert str(source.at(1)) == "row 1 of d.csv"
    (one := open_source(project_of(tmp_path, {"path": "in/d.csv"}))).parts()
    assert str(one.at(1)) == "row 1"


def test_a_partition_that_the_file_has_too(tmp_path: Path) -> None:
    (tmp_path / "in" / "id=1").mkdir(parents=True)
    (tmp_path / "in" / "id=1" / "a.csv").write_text("id,code\n1,a\n")
    with pytest.raises(SourceError, match="'id' is a column of the file and of its folder's name"):
        read(project_of(tmp_path, {"path": "in", "partitions": True}))


@pytest.mark.parametrize("path", ["in", "in/*/*.csv"])
def test_a_column_that_only_the_folder_has(tmp_path: Path, path: str) -> None:
    (tmp_path / "in" / "code=a").mkdir(parents=True)
    (tmp_path / "in" / "code=a" / "a.csv").write_text("id,note\n1,b\n")
    with pytest.raises(SourceError, match=r"no column 'code', .* set source\.partitions to true"):
        read(project_of(tmp_path, {"path": path}))
    assert read(project_of(tmp_path, {"path": path, "partitions": True}))[0]["code"] == "a"


@pytest.mark.parametrize("kind", ["csv", "parquet", "jsonl"])
def test_a_file_that_changes_while_it_is_read(tmp_path: Path, kind: str) -> None:
    file = tmp_path / f"in.{kind}"
    file.write_bytes(encode(kind, rows()))
    project = project_of(tmp_path, {"path": file.name, "format": kind})
    batches = open_source(project).batches(project.contract.columns)
    next(batches)
    file.write_bytes(encode(kind, rows(41)))
    with pytest.raises(SourceError, match="it changed while it was read; run again"):
        list(batches)


def test_an_empty_folder_and_a_pattern_without_files(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "README.md").touch()
    with pytest.raises(SourceError, match=r"has no file of source\.format csv \(\.csv"):
        read(project_of(tmp_path, {"path": "in"}))
    with pytest.raises(SourceError, match=r"no file matches .*in/\*\.csv"):
        read(project_of(tmp_path, {"path": "in/*.csv"}))


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "latin-1"])
@pytest.mark.parametrize("kind", ["csv", "jsonl"])
def test_other_encodings(tmp_path: Path, kind: str, encoding: str) -> None:
    text = "id,code\n1,é\n" if kind == "csv" else '{"id": 1, "code": "é"}\n'
    (tmp_path / "in.x").write_bytes(text.encode(encoding))
    project = project_of(tmp_path, {"path": "in.x", "format": kind, "encoding": encoding})
    assert read(project) == [{"id": 1, "code": "é"}]


def test_a_ragged_row_far_below_is_named_without_its_cells(tmp_path: Path) -> None:
    lines = ["id,code", *(f"{n},{'x' * 40}" for n in range(200_000)), "7,secret,person"]
    (tmp_path / "in.csv").write_text("\n".join(lines))
    with pytest.raises(SourceError, match=r"got 3, within the megabyte after row 1\d\d,") as caught:
        read(project_of(tmp_path, {"path": "in.csv"}))
    assert "secret" not in str(caught.value)


def test_one_bad_cell_costs_one_batch_its_type(tmp_path: Path) -> None:
    lines = ["id,code", *(f"{n},{'x' * 40}" for n in range(300_000))]
    lines[150_000] = f"none,{'x' * 40}"
    (tmp_path / "in.csv").write_text("\n".join(lines))
    project = project_of(tmp_path, {"path": "in.csv"})
    batches = list(open_source(project).batches(project.contract.columns))
    kinds = [str(batch["id"].type) for batch in batches]
    assert kinds.count("string") == 1
    assert kinds.count("int64") == len(kinds) - 1
    assert sum(batch.num_rows for batch in batches) == 300_000


@pytest.mark.parametrize(
    ("declared", "cells", "expected"),
    [
        ("integer", ["7", " 8 ", "-9"], [7, 8, -9]),
        ("integer", ["7", "0x10", "9"], ["7", "0x10", "9"]),
        ("integer", ["7", "8.5", "9"], ["7", "8.5", "9"]),
        ("number", ["7", "1e3", "NA"], ["7", "1e3", "NA"]),
        ("number", ["7", "1e3", " 2.5"], [7.0, 1000.0, 2.5]),
        ("boolean", ["true", "0", "False"], [True, False, False]),
        ("boolean", ["yes", "no", "7"], ["yes", "no", "7"]),
        (
            "datetime",
            ["2024-01-02", "2024-01-02T03:04", "x"],
            ["2024-01-02", "2024-01-02T03:04", "x"],
        ),
        ("datetime", ["2024-01-02T01:00:00+02:00"] * 2, ["2024-01-01T23:00:00"] * 2),
        ("datetime", ["2024-01-02T01:00:00.123456789"] * 2, ["2024-01-02T01:00:00.123456"] * 2),
    ],
)
def test_cells_become_what_the_contract_says_or_stay_as_they_are(
    tmp_path: Path, declared: str, cells: list[str], expected: list[object]
) -> None:
    columns = {"a": {"type": declared}, "member": {"type": "integer"}}
    lines = ["a,member", *(f"{cell},1" for cell in cells)]
    (tmp_path / "in.csv").write_text("\n".join(lines))
    project = project_of(tmp_path, {"path": "in.csv"}, columns=columns, key=[])
    found = [row["a"] for row in read(project)]
    assert [f.isoformat() if hasattr(f, "isoformat") else f for f in found] == expected


def test_keys_of_json_lines_may_be_absent(tmp_path: Path) -> None:
    """A key that is never there is a missing column; one that comes up late is there from then."""
    row = '{"id": %d, "code": "a", "visits": 1, "nested": {"b": [1, "é"]}}\n'
    blocks = [row % n for n in range(2 * BLOCK // len(row) + 10)]
    late = '{"id": 1, "code": 7, "late": 1}\n'
    (tmp_path / "in.jsonl").write_text("".join([*blocks, late]))
    project = project_of(tmp_path, {"path": "in.jsonl", "format": "jsonl"})
    batches = list(open_source(project).batches(project.contract.columns))
    assert batches[0].schema.names == ["id", "code", "visits", "nested"]
    assert batches[-1].schema.names == ["id", "code", "visits", "nested", "late"]
    last = batches[-1].to_pylist()[-1]
    assert last == {"id": 1, "code": "7", "visits": None, "nested": None, "late": 1}
    assert batches[0].to_pylist()[0]["nested"] == '{"b": [1, "é"]}'


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('[{"id": 1}', "it is one JSON array, but not valid"),
        ('[{"id": 1}, 7]', "element 2 of its JSON array is not an object"),
        ('{\n"id": 1\n}', "line 1 is not JSON.*or the whole file one array of objects"),
        ('{"id": 1}\n{"id": \n', "line 2 is not JSON"),
        ('{"id": 1}\n7\n', "line 2 is not a JSON object"),
        ("", "it is empty"),
    ],
)
def test_unusable_json_lines(tmp_path: Path, text: str, says: str) -> None:
    (tmp_path / "in.jsonl").write_text(text)
    with pytest.raises(SourceError, match=says):
        read(project_of(tmp_path, {"path": "in.jsonl", "format": "jsonl"}))


def test_a_sheet_by_name_or_place(tmp_path: Path) -> None:
    (tmp_path / "in.xlsx").write_bytes(encode("excel", rows(3)))
    spec = {"path": "in.xlsx", "format": "excel"}
    assert read(project_of(tmp_path, {**spec, "sheet": "rows"})) == rows(3)
    for sheet, says in {"other": "no sheet 'other'; set it", 7: "no sheet in place 7, c"}.items():
        with pytest.raises(
            SourceError, match=rf"in\.xlsx: source\.sheet: there is {says}"
        ) as caught:
            read(project_of(tmp_path, {**spec, "sheet": sheet}))
        assert str(caught.value).endswith("to one of these: 'rows'")


def test_a_sheet_whose_name_is_a_number(tmp_path: Path) -> None:
    book = openpyxl.Workbook()
    book.active.title = "2024"
    book.save(tmp_path / "in.xlsx")
    spec = {"path": "in.xlsx", "format": "excel", "sheet": 2024}
    with pytest.raises(SourceError, match="put quotes around a name: '2024'"):
        read(project_of(tmp_path, spec))


def test_an_ending_that_says_another_format(tmp_path: Path) -> None:
    """Read as CSV, its first row would pass for column names, and be told in messages."""
    (tmp_path / "in.jsonl").write_bytes(encode("jsonl", rows()))
    source = open_source(project_of(tmp_path, {"path": "in.jsonl"}))
    with pytest.raises(SourceError, match=r"is csv, but .*in.jsonl ends as jsonl does; set"):
        source.parts()


def test_hashed_while_it_is_read(tmp_path: Path) -> None:
    file = tmp_path / "in.csv"
    file.write_bytes(encode("csv", rows()))
    project = project_of(tmp_path, {"path": "in.csv"})
    with digesting(open_source(project)) as digest:
        assert digest() == hashlib.sha256(file.read_bytes()).hexdigest() == source_digest(project)
    source = open_source(project)
    with digesting(source) as digest:
        digest()
        file.write_bytes(encode("csv", rows(5)))
        with pytest.raises(SourceError, match="changed"):
            list(source.batches({}))
    file.unlink()
    with digesting(open_source(project)) as digest, pytest.raises(SourceError, match="no file"):
        digest()
