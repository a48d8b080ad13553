"""Guesses about columns: kinds, misfits, categories, and the formats of files."""

from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from lifecycle.data.ingest import ingest
from lifecycle.data.sources import read_source
from lifecycle.data.split import split_dataset
from lifecycle.data.windows import first_window
from lifecycle.errors import SourceError
from lifecycle.scaffold.columns import guess_column, guess_columns
from lifecycle.scaffold.generate import infer_project
from lifecycle.settings import Settings
from tests.support.inference import DAYS, infer, write
from tests.support.small import small_frame


@pytest.mark.parametrize(
    ("cells", "spec"),
    [
        (["1", "2", None] * 20, {"type": "integer", "nullable": True, "minimum": 1, "maximum": 2}),
        (["1.0", "2.5", " "] * 20, {"type": "number", "nullable": True, "minimum": 0}),
        (["-1.5", "2", "NA"] * 20, {"type": "number", "nullable": True}),
        (["true", "False"] * 20, {"type": "boolean"}),
        (["2020-01-01", "2020-01-02T10:00"] * 20, {"type": "datetime"}),
        (["01/02/2020"] * 40, {"type": "category", "categories": ["01/02/2020"]}),
        (["007", "12"] * 20, {"type": "category", "categories": ["007", "12"]}),
        (["a", "b"] * 20, {"type": "category", "categories": ["a", "b"]}),
        ([f"word {i}" for i in range(40)], {"type": "string"}),
        ([None] * 40, {"type": "string", "nullable": True}),
        ([str(i) for i in range(40)], {"type": "integer", "minimum": 0}),
        ([str(2**62 + i) for i in range(40)], {"type": "string"}),
    ],
)
def test_columns(cells: list[str | None], spec: dict[str, Any]) -> None:
    guessed = guess_column(pd.Series(cells, dtype=object))
    assert guessed.spec == spec


NUMBERS = [f"{n}.5" for n in range(1_999)]


WHOLE = [str(n % 70) for n in range(1_999)]


@pytest.mark.parametrize(
    ("cells", "kind", "misfits"),
    [
        ([*NUMBERS, "1O2"], "number", [1_999]),
        (["n/a", *WHOLE, "n.a."], "integer", [0, 2_000]),
        (["1,5", *WHOLE, "1.5"], "number", [0]),
        (["12", *WHOLE, "1e3"], "number", []),
        ([*DAYS, "unknown", None], "datetime", [1_999]),
        (["0000-00-00", *DAYS], "datetime", [0]),
        (["2024", *DAYS, "2023-02-30"], "datetime", [0, 2_000]),
        ([*WHOLE, *["?"] * 20], "integer", list(range(1_999, 2_019))),
        ([*WHOLE, *["?"] * 21], "category", []),
        ([*WHOLE[:98], "?"], "string", []),
        ([*WHOLE[:99], "?"], "integer", [99]),
        ([*NUMBERS, "007", "?"], "string", []),
        ([*[str(10**19 + n) for n in range(1_999)], "?"], "string", []),
        ([*["true"] * 1_999, "?"], "category", []),
    ],
)
def test_nearly_all_cells_decide(cells: list[str | None], kind: str, misfits: list[int]) -> None:
    guessed = guess_column(pd.Series(cells, dtype=object))
    assert (guessed.kind, guessed.misfits.tolist()) == (kind, misfits)
    assert guessed.values[misfits].isna().all()
    assert guessed.spec.get("nullable", False) is (None in cells)


def test_an_identifier_is_a_name_where_one_is_no_number() -> None:
    column = guess_column(pd.Series([*WHOLE, "C12"], dtype=object), "invoice_id")
    assert column.kind == "category"


def test_columns_with_too_many_misfits_together_stay_text() -> None:
    raw = {}
    for number in range(8):  # 10 rows each, none of them twice: more than the 50 of all
        cells = [str(n) for n in range(1_000)]
        cells[number * 10 : number * 10 + 10] = ["?"] * 10
        raw[f"c{number}"] = pd.Series(cells, dtype=object)
    guessed = guess_columns(raw)
    assert [column.kind for column in guessed.columns.values()] == ["integer"] * 5 + ["string"] * 3
    assert (guessed.rows, len(guessed.row_numbers)) == (1_000, 950)


def test_rows_with_misfits_go_to_quarantine_and_are_told_by_number(
    settings: Settings, tmp_path: Path
) -> None:
    frame = small_frame(2_000).astype({"age": str, "visits": str})
    frame.loc[16, "age"] = "Mr Secret"
    frame.loc[[3, 16, *range(100, 118)], "visits"] = "see file"
    project, guesses = infer(write(tmp_path, frame), "bought")
    assert project.contract.columns["age"].type == "number"
    assert project.contract.columns["visits"].type == "integer"
    assert "type: age: number, but 1 of 2,000 cells is not: row 17" in guesses
    said = "type: visits: integer, but 20 of 2,000 cells are not: rows 4, 17, 101 and 17 more"
    assert said in guesses
    assert not any("Secret" in guess for guess in guesses)
    assert project.contract.max_rejected_share == 0.02
    ingested = ingest(project, settings, first_window(project))
    assert (ingested.rows_in, ingested.rows_rejected) == (2_000, 20)
    assert split_dataset(project, settings, ingested).holdout.rows > 300


@pytest.mark.parametrize(("rows", "told"), [(400, True), (90, False)])
def test_categories_seen_once_are_told(tmp_path: Path, rows: int, told: bool) -> None:
    frame = small_frame(rows)
    frame.loc[[5, 77], "city"] = ["Rmoe", "Olso"]
    project, guesses = infer(write(tmp_path, frame), "bought")
    categories = project.contract.columns["city"].categories
    assert categories == ("Lima", "Olso", "Oslo", "Rmoe", "Rome")
    said = [guess for guess in guesses if "seen once" in guess]
    expected = (
        "categories: city has 5, 2 of them seen once (rows 6, 78); take out what is a typo, and "
        "such rows are rejected"
    )
    assert said == ([expected] if told else [])


def test_another_separator_and_a_name_that_is_no_name(tmp_path: Path) -> None:
    file = tmp_path / "2024 Käufer-Daten.csv"
    small_frame().to_csv(file, index=False, sep=";")
    project, _ = infer(file, "bought")
    assert project.source.separator == ";"
    assert project.name == "project_2024_k_ufer_daten_bought"
    assert project.source.path == file.name


def test_column_names_that_yaml_would_misread(tmp_path: Path) -> None:
    frame = small_frame().rename(columns={"age": "no", "visits": "a: b", "city": "#3"})
    project, _ = infer(write(tmp_path, frame), "bought")
    assert set(project.contract.columns) == {"customer", "no", "a: b", "#3", "bought"}


def test_unusable_files(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="No such file"):
        infer_project(tmp_path / "none.csv", "x")
    (tmp_path / "junk.csv").write_bytes(bytes(range(256)) * 10)
    with pytest.raises(SourceError, match="binary"):
        infer_project(tmp_path / "junk.csv", "x")


@pytest.mark.parametrize("end", ["csv.gz", "parquet", "jsonl", "xlsx", "json.bz2"])
def test_other_formats_are_inferred_and_read_alike(tmp_path: Path, end: str) -> None:
    """The same columns as from the CSV file, but for what only the format says."""
    frame = small_frame().assign(code=[f"{n % 90:03d}" for n in range(400)])
    frame["day"] = pd.Timestamp("2024-01-01") + pd.to_timedelta(frame.index // 8, unit="D")
    frame.loc[3, "visits"] = None
    frame["visits"] = frame["visits"].astype("Int64")
    if end == "xlsx":  # which writes 18.0 as 18
        frame.loc[0, "age"] = 18.5
    frame.to_csv(tmp_path / "a.csv", index=False)
    file = tmp_path / f"b.{end}"
    if end == "csv.gz":
        frame.to_csv(file, index=False)
    elif end == "parquet":
        frame.to_parquet(file)
    elif end == "xlsx":
        frame.to_excel(file, index=False)
    else:
        frame.to_json(file, orient="records", lines=True, date_format="iso")
    expected, project = infer(tmp_path / "a.csv", "bought")[0], infer(file, "bought")[0]
    assert project.name == "b_bought"
    assert project.source.path == file.name
    assert project.source.format == {"csv.gz": "csv", "xlsx": "excel", "json.bz2": "jsonl"}.get(
        end, end
    )
    assert project.contract == expected.contract
    assert (project.entity, project.time) == (expected.entity, expected.time)
    assert project.contract.columns["code"].type in ("category", "string")
    pd.testing.assert_frame_equal(read_source(project), read_source(expected), check_dtype=False)


def test_only_files_are_inferred(tmp_path: Path) -> None:
    (tmp_path / "t" / "_delta_log").mkdir(parents=True)
    with pytest.raises(SourceError, match="`lifecycle init` reads files"):
        infer_project(tmp_path / "t", "y")
