"""Names of the user's are printed as they are: no markup, no HTML, no escape sequences."""

import ast
import logging
import re
import sys
from collections.abc import Callable, Iterator
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from rich.table import Table

from flows.console import Screen
from lifecycle.cli.main import main
from lifecycle.data.ingest import ingest
from lifecycle.data.split import split_dataset
from lifecycle.profiling import profile
from lifecycle.profiling.page import page
from lifecycle.project.loader import load_project
from lifecycle.records import Window, one_line, visible
from lifecycle.runtime.console import open_console, styled
from lifecycle.runtime.html import PageSection
from lifecycle.runtime.html import page as report
from lifecycle.serving.records import curl_command
from lifecycle.settings import Settings
from lifecycle.training.evaluation.plots import blank, clipped

ROOT = Path(__file__).parents[3]
SCRIPT = "<script>alert(1)</script>"
NAMES = (
    "rate [/h]",
    "[red]speed",
    "back\\[slash",
    "two\nlines",
    SCRIPT,
    ":smile: $a$",
    "esc\x1b[31m",
)
ROWS = 300
Run = Callable[..., str]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """All that a command says on a wide screen."""

    def run(*arguments: str | Path) -> str:
        monkeypatch.setattr(sys, "argv", ["lifecycle", *map(str, arguments)])
        monkeypatch.setenv("COLUMNS", "400")
        with pytest.raises(SystemExit):
            main()
        said = capsys.readouterr()
        return said.out + said.err

    return run


@pytest.fixture
def csv(tmp_path: Path) -> Path:
    """A file, in a folder and with columns and classes of such names."""
    random = np.random.default_rng(2)
    table = pd.DataFrame({name: random.normal(size=ROWS).round(3) for name in NAMES})
    table["[bold]city"] = random.choice(["[/]Oslo", SCRIPT, ":smile:"], ROWS)
    table["[i]class"] = random.choice(["[/yes]", f"no{SCRIPT}"], ROWS)
    folder = tmp_path / "[red]data"
    folder.mkdir()
    table.to_csv(folder / "[b]in.csv", index=False)
    return folder / "[b]in.csv"


def test_commands_print_names_as_they_are(
    run: Run, csv: Path, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LIFECYCLE_HOME", str(settings.home))
    said = run("init", csv, "--target", "[i]class", "--name", "odd")
    file = csv.parent / "project.yaml"
    assert f"Guessed from {csv}" in said
    assert f"Wrote {file}." in said
    assert "[/yes]" in said
    project = load_project(file)
    assert set(NAMES) < set(project.contract.columns)
    outputs = {"validate": run("validate", file), "contract": run("contract", file)}
    made = ingest(project, settings, Window())
    split_dataset(project, settings, made)
    bad = pd.read_csv(csv)
    bad.loc[5, "[bold]city"] = "[u]Belfast"
    bad.to_csv(csv.parent / "[b]new.csv", index=False)
    outputs["trial"] = run("validate", file, "--source", csv.parent / "[b]new.csv")
    assert "row 6: [u]Belfast" in outputs["trial"]
    bad.to_csv(csv, index=False)
    ingest(load_project(file), settings, Window())
    for command in ("rejected", "versions", "audit", "profile"):
        outputs[command] = run(command, file)
    outputs["diff"] = run("diff", file, "0", "1")
    assert "[u]Belfast" in outputs["rejected"]
    for command, output in outputs.items():
        assert "Traceback" not in output, command
        assert "\x1b" not in output, command
    for command in ("contract", "profile", "diff"):
        for name in NAMES:
            lines = name.split("\n") if command != "profile" else [one_line(name)]
            assert all(visible(line) in outputs[command] for line in lines), (command, name)


def test_a_project_file_with_such_names_is_read_and_a_typo_is_told(run: Run, csv: Path) -> None:
    run("init", csv, "--target", "[i]class", "--name", "odd")
    file = csv.parent / "project.yaml"
    file.write_text(file.read_text().replace("ignore: []", 'ignore: ["rate [/hh]"]'))
    assert "did you mean 'rate [/h]'?" in run("validate", file)


def test_pages_escape_names(csv: Path, settings: Settings) -> None:
    found = page(profile(csv, target="[i]class", settings=settings).summary)
    texts, tags = _parsed(found)
    assert SCRIPT in texts
    assert "<script>alert" not in found
    assert tags.count("script") == found.count("<script")


def _parsed(html: str) -> tuple[str, list[str]]:
    texts: list[str] = []
    tags: list[str] = []

    class Reader(HTMLParser):
        def handle_data(self, data: str) -> None:
            texts.append(data)

        def handle_starttag(self, tag: str, attrs: object) -> None:
            tags.append(tag)

    Reader().feed(html)
    return "".join(texts), tags


def test_a_curl_command_is_printed_whole(capsys: pytest.CaptureFixture[str]) -> None:
    command = curl_command(
        "http://127.0.0.1:8000/odd", pd.DataFrame({name: [1.5] for name in NAMES})
    )
    open_console().print(command)
    assert capsys.readouterr().out == f"{command}\n"
    assert "rate [/h]" in command


def test_a_console_takes_text_as_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    console = open_console()
    table = Table("[b]head", title="[i]title")
    table.add_row("[red]cell[/] :smile:")
    table.add_row(styled(("[bold]x", "bold"), "[/]"))
    console.print("[/nothing] :smile: a\x1b[2Jb\x07", "[x]", sep="\n")
    console.print(table)
    said = capsys.readouterr().out
    for text in ("[/nothing] :smile: a\\x1b[2Jb\\x07\n[x]", "[b]head", "[i]title", "[bold]x[/]"):
        assert text in said
    assert "[red]cell[/] :smile:" in said


def test_a_screen_shows_such_text(capsys: pytest.CaptureFixture[str]) -> None:
    record = logging.makeLogRecord({"msg": f"[/h] \x1b[31m {SCRIPT}", "levelno": logging.INFO})
    record.stage, record.phase = "[b]train", "result"
    Screen(open_console()).emit(record)
    assert f"[b]train  [/h] \\x1b[31m {SCRIPT}" in capsys.readouterr().out


def test_figures_take_a_dollar_as_it_is() -> None:
    figure, axes = blank("title", "x", "y")
    axes.barh([clipped("$a$ ^_{"), clipped("two\nlines")], [1, 2])
    figure.canvas.draw()
    assert [label.get_text() for label in axes.get_yticklabels()] == [r"\$a\$ ^_{", r"two\nlines"]


def test_one_line_and_visible() -> None:
    assert one_line("a\nb\tc\x1b\x85\u202ed") == r"a\nb\tc\x1b\x85\u202ed"
    assert visible("a\nb\tc\x1b") == "a\nb\tc\\x1b"
    assert one_line("Zürich 東京 [x]") == "Zürich 東京 [x]"


def test_a_sections_text_is_escaped() -> None:
    assert "<script>alert" not in report(SCRIPT, [PageSection(SCRIPT, text=(SCRIPT,))])


def _imports(file: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.ImportFrom):
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)


def test_one_module_alone_makes_consoles() -> None:
    for folder in ("lifecycle", "tasks", "flows"):
        for file in sorted((ROOT / folder).rglob("*.py")):
            if file.name == "console.py" and folder == "lifecycle":
                continue
            taken = set(_imports(file))
            assert not taken & {"rich.markup.escape", "rich.print", "rich.markup"}, file
            assert not re.search(r"(?<![\w.])Console\(", file.read_text()), file
            assert "from_markup" not in file.read_text(), file
