"""How pages mark their blocks, and what counts as shown: held on texts of the test's own."""

import re
from pathlib import Path

import pytest

from tests.support.blocks import (
    COMMANDS,
    LANGUAGES,
    OUTPUT,
    PAGES,
    PYTHON,
    ROOT,
    Block,
    blocks,
    missing_lines,
)
from tests.support.shell import CommandFailed, Shell

ALL = [block for page in PAGES for block in blocks(page)]

SCREEN = """\
    1.3 s  prefect   starting …
│ task   │ binary │
small v1 is champion, digest 05252f1b0736
944 rows in, 2026-03-02 08:14 UTC
"""


@pytest.mark.parametrize(
    "shown",
    [
        SCREEN,
        "12.0 s prefect starting …",
        "…\nsmall v1 is champion, digest abc1234",
        "task binary\n944 rows in, 2020-01-01 00:00 UTC",
        "small v1 …",
    ],
)
def test_what_the_screen_has_is_shown(shown: str) -> None:
    assert missing_lines(shown, SCREEN) == []


@pytest.mark.parametrize(
    "shown",
    [
        "943 rows in, 2026-03-02 08:14 UTC",
        "small v2 is champion, digest 05252f1b0736",
        "small v1",
        "944 rows in, 2026-03-02 08:14 UTC\ntask binary",  # in another order
        "1.3 s ray starting …",
    ],
)
def test_what_it_has_not_is_missing(shown: str) -> None:
    assert missing_lines(shown, SCREEN) == [shown.splitlines()[-1]]


def test_blocks_have_their_notes_and_lines(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("<!-- not run: why -->\n```bash\na\n```\n1. one\n   ```text\n   b\n   ```\n")
    assert list(blocks(page)) == [
        Block(page, 3, "bash", "a\n", "not run: why"),
        Block(page, 7, "text", "b\n", ""),
    ]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_fence_of_a_page_is_read(page: Path) -> None:
    fences = [line for line in page.read_text().splitlines() if line.strip().startswith("```")]
    assert len(fences) == 2 * len(list(blocks(page)))


@pytest.mark.parametrize("block", ALL, ids=lambda block: block.place)
def test_a_block_says_what_it_is(block: Block) -> None:
    """Without it a command would be taken for something else and never run."""
    assert block.language in LANGUAGES, f"{block.place}: ```{block.language}"
    kinds = {COMMANDS: "not run: ", PYTHON: "not run: ", OUTPUT: "not held: "}
    if block.note:
        kind = kinds.get(block.language, "nothing")
        assert block.note.startswith(kind), f"{block.place}: <!-- {block.note} -->"
        assert len(block.note.removeprefix(kind).split()) > 2, f"{block.place}: give the reason"
        tests = re.findall(r"tests/[\w/]+\.py", block.note)
        assert all((ROOT / test).is_file() for test in tests), f"{block.place}: {tests}"
        assert tests or block.language != PYTHON, f"{block.place}: name the test that runs it"


def test_a_shell_keeps_what_a_page_sets_and_ends_what_it_started(tmp_path: Path) -> None:
    with Shell(tmp_path, tmp_path / "log") as shell:
        assert shell.run("cd /\nNAME='two words'\nsleep 300 &") == ""
        assert shell.run('echo "$NAME in $PWD at :8000"') == "two words in / at :8000\n"
        started = shell._started()
        assert "sleep" in [process.name() for process in started]
    assert shell._started() == []


def test_a_command_that_fails_is_told_with_what_it_printed(tmp_path: Path) -> None:
    with (
        Shell(tmp_path, tmp_path / "log") as shell,
        pytest.raises(CommandFailed, match=r"one\n(?!two)"),
    ):
        shell.run("echo one\nfalse\necho two")
