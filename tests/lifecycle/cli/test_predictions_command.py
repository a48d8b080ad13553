"""`lifecycle predictions` shows what was scored, and writes it to a file."""

from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
from typer.testing import CliRunner

from lifecycle.cli.main import app
from lifecycle.errors import DataError
from lifecycle.lake.table import table_uri
from lifecycle.lake.write import write_version
from lifecycle.project import Project
from lifecycle.settings import Settings


@pytest.fixture
def show(
    make_project: Callable[..., Project], settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., str]:
    """The command's output in one line, without the table's frame."""
    monkeypatch.setenv("LIFECYCLE_HOME", str(settings.home))
    project = make_project()

    def show(*arguments: str) -> str:
        done = CliRunner().invoke(app, ["predictions", str(project.file), *arguments])
        if done.exception and not isinstance(done.exception, SystemExit):
            raise done.exception
        return " ".join(done.output.replace("│", " ").split())

    return show


def test_the_newest_are_shown_and_written(
    show: Callable[..., str], settings: Settings, tmp_path: Path
) -> None:
    for words in ((), ("--output", "answers.csv"), ("--version", "3")):
        with pytest.raises(DataError, match=r"small: no predictions in .*`lifecycle run score`"):
            show(*words)
    with pytest.raises(DataError, match=r"a\.xlsx: name a file that ends in \.csv or \.parquet"):
        show("--output", "a.xlsx")
    for model, rows in ((1, 3), (2, 12)):
        seen = pd.Series([pd.NaT, *[pd.Timestamp(2024, 5, 1)] * (rows - 1)])
        frame = pd.DataFrame({"seen": seen, "prediction": [model / 3] * rows})
        frame["customer"] = pd.array([None, *range(rows - 1)], dtype="Int64")
        note = {"model": f"models:/small/{model}", "table": f"arriving@{model}", "window": "all"}
        write_version(frame, table_uri(settings, "small", "predictions"), note=note)
    newest = show()
    assert "small predictions@1: 12 rows of arriving@2 (all) by v2, written" in newest
    assert "1 other version: `lifecycle versions` lists them" in newest
    assert "The first 10 of 12 rows" in newest
    assert newest.count("0.666667") == 10
    assert "nan" not in newest.lower()
    assert "NaT" not in newest
    assert "<NA>" not in newest
    former = show("--version", "0")
    assert "predictions@0: 3 rows of arriving@1 (all) by v1" in former
    assert former.count("0.333333") == 3
    file = tmp_path / "answers.csv"
    assert f"12 rows in {file}" in show("--output", str(file))
    assert pd.read_csv(file)["prediction"].tolist() == [2 / 3] * 12
    with pytest.raises(DataError, match=r"no version 7 in .*; it has 0, 1"):
        show("--version", "7")
