"""`lifecycle profile` prints and writes."""

from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner

from lifecycle.cli.main import app
from lifecycle.profiling.record import Bar
from lifecycle.profiling.terminal import spark
from lifecycle.project import Project
from tests.support.small import small_frame


def test_profile_of_a_project(
    make_project: Callable[..., Project], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LIFECYCLE_HOME", str(tmp_path / "home"))
    result = CliRunner().invoke(app, ["profile", str(make_project().file)])
    assert result.exit_code == 0, result.output
    assert "400 rows, 5 columns" in result.output
    assert "customer entity" in result.output
    assert (tmp_path / "home" / "reports" / "small" / "profile.html").is_file()


def test_profile_of_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LIFECYCLE_HOME", str(tmp_path / "home"))
    now, then, html = tmp_path / "now.csv", tmp_path / "then.csv", tmp_path / "deep" / "page.html"
    small_frame().rename(columns={"visits": "[red]"}).to_csv(now, index=False)
    small_frame().assign(age=5.5).to_csv(then, index=False)
    made = ["profile", str(now), "--target", "bought", "--against", str(then), "--output"]
    result = CliRunner().invoke(app, [*made, str(html)])
    assert result.exit_code == 0, result.output
    assert "[red]" in result.output
    assert "Drifted against" in result.output
    assert html.read_text().startswith("<!DOCTYPE html>")


def test_cells_that_are_not_of_their_column_s_type(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Told, not shown; the others are numbers all the same."""
    monkeypatch.setenv("LIFECYCLE_HOME", str(tmp_path / "home"))
    frame = small_frame().astype({"age": str, "visits": str})
    frame.loc[7, "age"] = "secret"
    frame.loc[[3, 9], "visits"] = ["secret", "hidden"]
    frame.to_csv(tmp_path / "now.csv", index=False)
    result = CliRunner().invoke(app, ["profile", str(tmp_path / "now.csv")])
    assert "age: numbers, but 1 of 400 cells is not, and counts as missing." in result.output
    assert "visits: numbers, but 2 of 400 cells are not, and count as missing." in result.output
    assert "secret" not in result.output


def test_spark_adds_up_what_does_not_fit() -> None:
    assert spark([Bar(label="", rows=rows) for rows in (0, 1, 4, 8)]) == " ▂▅█"
    assert len(spark([Bar(label="", rows=1)] * 20)) == 10
