"""`lifecycle init` says how it reads a file, writes it down, and takes what messages advise."""

import io
import time
import zipfile
from pathlib import Path

import numpy as np
import openpyxl
import pandas as pd
import pytest

from lifecycle.data.preview import rehearse
from lifecycle.errors import ProjectError, SourceError, TargetError
from lifecycle.project import Project
from lifecycle.project.loader import load_project
from lifecycle.scaffold.generate import infer_project, project_name
from lifecycle.scaffold.roles import RoleOptions
from lifecycle.scaffold.source import ReadingOptions, folder_of

ROWS = 200


def frame() -> pd.DataFrame:
    random = np.random.default_rng(3)
    age = random.integers(18, 80, ROWS)
    return pd.DataFrame(
        {
            "kunde": 7_000 + random.permutation(ROWS),
            "größe": random.normal(170, 9, ROWS).round(1),
            "alter": age,
            "stadt": random.choice(["Köln", "Malmö", "Zürich"], ROWS),
            "jahr": 2000 + np.arange(ROWS) % 20,
            "geht": (age + random.normal(0, 9, ROWS) > 50).astype(int),
        }
    )


def infer(
    path: str | Path,
    reading: ReadingOptions = ReadingOptions(),  # noqa: B008 - a frozen tuple
    options: RoleOptions = RoleOptions(),  # noqa: B008
) -> tuple[Project, list[str]]:
    folder = folder_of(str(path))
    text, guesses = infer_project(path, "geht", reading=reading, options=options)
    (folder / "project.yaml").write_text(text)
    project = load_project(folder / "project.yaml")
    assert rehearse(project).rows == ROWS
    return project, guesses


@pytest.mark.parametrize("encoding", ["cp1252", "utf-16", "utf-8-sig", "utf-8"])
@pytest.mark.parametrize("separator", [";", "\t"])
def test_what_is_detected_is_said_and_written(
    tmp_path: Path, encoding: str, separator: str
) -> None:
    text = "Bericht\n" + frame().to_csv(index=False, sep=separator)
    (tmp_path / "kunden.csv").write_bytes(text.encode(encoding))
    project, guesses = infer(tmp_path / "kunden.csv")
    assert project.source.separator == separator
    assert project.source.skip == 1
    said = {guess.partition(":")[0] for guess in guesses}
    assert {"separator", "skip"} <= said
    assert ("encoding" in said) == (encoding in ("cp1252", "utf-16"))
    assert "größe" in project.contract.columns
    assert project.contract.columns["stadt"].categories == ("Köln", "Malmö", "Zürich")


def test_options_of_reading(tmp_path: Path) -> None:
    file = tmp_path / "kunden.csv"
    file.write_bytes(frame().to_csv(index=False, sep=":").encode("cp1250"))
    project, guesses = infer(file, ReadingOptions(separator=":", encoding="cp1250"))
    assert (project.source.separator, project.source.encoding) == (":", "cp1250")
    assert not [guess for guess in guesses if guess.startswith(("separator", "encoding"))]
    for options, message in (
        (ReadingOptions(separator="::"), "--separator: '::' is not one sign"),
        (ReadingOptions(encoding="utf-9"), "--encoding: 'utf-9' is none that Python knows"),
        (ReadingOptions(sheet="a"), "--sheet: .* is csv, which has none"),
    ):
        with pytest.raises(ProjectError, match=message):
            infer_project(file, "geht", reading=options)


def test_a_tab_may_be_spelt(tmp_path: Path) -> None:
    frame().to_csv(tmp_path / "kunden.csv", index=False, sep="\t")
    for spelling in ("tab", r"\t", "\t"):
        project, _ = infer(tmp_path / "kunden.csv", ReadingOptions(separator=spelling))
        assert project.source.separator == "\t"


def test_the_sheet_with_the_target_is_read_and_the_others_are_named(tmp_path: Path) -> None:
    book = openpyxl.Workbook()
    book.worksheets[0].title = "Info"
    book.worksheets[0].append(["made by", "x"])
    data = book.create_sheet("Daten")
    data.append(["Bericht"])
    data.append(list(frame().columns))
    for row in frame().itertuples(index=False):
        data.append([getattr(cell, "item", lambda cell=cell: cell)() for cell in row])
    stream = io.BytesIO()
    book.save(stream)
    file = tmp_path / "kunden.xlsx"
    file.write_bytes(stream.getvalue())
    project, guesses = infer(file)
    assert (project.source.sheet, project.source.skip) == ("Daten", 1)
    assert "sheet: 'Daten', the first of 2 with a column 'geht'" in guesses
    for sheet in ("Daten", "1"):
        project, _ = infer(file, ReadingOptions(sheet=sheet))
        assert project.source.skip == 1
    with pytest.raises(ProjectError, match=r"has no sheet 'Data': 'Info', 'Daten'"):
        infer_project(file, "geht", reading=ReadingOptions(sheet="Data"))
    with pytest.raises(SourceError, match=r"a header but no rows; .* other sheets: 'Daten'"):
        infer_project(file, "geht", reading=ReadingOptions(sheet="Info"))


def test_an_archive_says_what_is_in_it(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "export.zip", "w") as archive:
        archive.writestr("kunden.csv", frame().to_csv(index=False, sep=";"))
    project, guesses = infer(tmp_path / "export.zip")
    assert project.source.separator == ";"
    assert "format: csv, as kunden.csv is, the file in the archive" in guesses
    with zipfile.ZipFile(tmp_path / "other.zip", "w") as archive:
        archive.writestr("kunden.xlsb", b"")
    with pytest.raises(SourceError, match=r"cannot read kunden.xlsb in it.*save it as .xlsx"):
        infer_project(tmp_path / "other.zip", "geht")


def test_globs_and_folders(tmp_path: Path) -> None:
    for at in range(2):
        half = frame().iloc[at * 100 : at * 100 + 100]
        (tmp_path / "besuche").mkdir(exist_ok=True)
        half.to_csv(tmp_path / "besuche" / f"2024-0{at}.csv", index=False)
    for path, name in (("besuche/2024-*.csv", "2024"), ("besuche", "besuche")):
        project, guesses = infer(tmp_path / path)
        assert guesses[0] == "source: 2 files of format csv, read one after the other"
        assert project.name == project_name(path, "geht")
        assert name in project.name
    assert project_name("besuche/*.csv", "geht") == "besuche_geht"
    frame().to_parquet(tmp_path / "besuche" / "all.parquet")
    with pytest.raises(SourceError, match=r"2 files of csv, 1 file of parquet, .*one format"):
        infer_project(tmp_path / "besuche", "geht")
    (tmp_path / "leer").mkdir()
    (tmp_path / "leer" / "x.xlsb").touch()
    with pytest.raises(SourceError, match=r"no file to read .*a binary Excel workbook"):
        infer_project(tmp_path / "leer", "geht")
    with pytest.raises(SourceError, match=r"no file to read"):
        infer_project(tmp_path / "besuche" / "*.xyz", "geht")


def test_roles_that_are_asked_for(tmp_path: Path) -> None:
    frame().to_csv(tmp_path / "kunden.csv", index=False)
    file = tmp_path / "kunden.csv"
    project, guesses = infer(file, options=RoleOptions("jahr", "alter", ("kunde",)))
    assert project.time is not None
    assert (project.time.column, project.time.period) == ("jahr", "value")
    assert (project.entity, project.ignore) == ("alter", ("kunde",))
    assert "ignore: kunde identifies the row, as --id says" in guesses
    assert any(guess.startswith("time: jahr, from 2000 to 2019") for guess in guesses)
    for options, message in (
        (RoleOptions(time="jar"), "--time: .* has no column 'jar'; did you mean 'jahr'"),
        (RoleOptions(time="stadt"), "--time: 'stadt' is category, neither dates"),
        (RoleOptions(entity="geht"), "--entity: 'geht' is named by --target already"),
        (RoleOptions(time="jahr", ids=("jahr",)), "--id: 'jahr' is named by --time already"),
    ):
        with pytest.raises(ProjectError, match=message):
            infer_project(file, "geht", options=options)


def test_an_entity_that_is_missing_in_some_rows_is_still_asked_for(tmp_path: Path) -> None:
    table = frame().astype({"kunde": "Int64"})
    table.loc[[3, 4], "kunde"] = pd.NA
    table.to_csv(tmp_path / "kunden.csv", index=False)
    project, _ = infer(tmp_path / "kunden.csv", options=RoleOptions(entity="kunde"))
    assert project.entity == "kunde"
    assert rehearse(project).accepted == ROWS - 2


def test_a_file_without_names_is_told(tmp_path: Path) -> None:
    frame().select_dtypes("number").to_csv(tmp_path / "kunden.csv", index=False, header=False)
    with pytest.raises(TargetError, match=r"has no column 'geht'. Its first line has numbers only"):
        infer_project(tmp_path / "kunden.csv", "geht")


@pytest.mark.parametrize("kept", [[], ["jahr"], ["eins"], ["text"], ["leer"], ["kunde"]])
def test_no_column_is_left_to_learn_from(tmp_path: Path, kept: list[str]) -> None:
    table = frame().assign(eins=1, leer=None, text=[f"say {n} words" for n in range(ROWS)])
    table["jahr"] = pd.date_range("2024-01-01", periods=ROWS).astype(str)
    table["kunde"] = range(ROWS)
    table[[*kept, "geht"]].to_csv(tmp_path / "kunden.csv", index=False)
    with pytest.raises(TargetError, match=r"has no column to learn 'geht' from"):
        infer_project(tmp_path / "kunden.csv", "geht")


def test_thousands_of_columns_take_seconds(tmp_path: Path) -> None:
    """10 s of a processor for what takes 3 to 5 when nothing else runs."""
    random = np.random.default_rng(1)
    numbers = random.normal(size=(300, 2_500)).round(4)
    table = pd.DataFrame(numbers, columns=[f"c{at}" for at in range(2_500)])
    table["geht"] = table["c7"] - table["c9"]
    table.to_csv(tmp_path / "wide.csv", index=False)
    start = time.process_time()
    _, guesses = infer_project(tmp_path / "wide.csv", "geht")
    assert time.process_time() - start < 10
    assert "leakage c7: c7 − c9 is the target; no feature" in guesses
