"""The pages of docs/reference that are made from the code are those of the code."""

import sys
from pathlib import Path

import pytest

from tests.support.reference import FOLDER, PAGES, pages


@pytest.fixture(scope="module")
def made() -> dict[Path, str]:
    return pages()


@pytest.mark.parametrize("name", PAGES)
def test_the_page_is_that_of_the_code(made: dict[Path, str], name: str) -> None:
    if name == "commands.md" and sys.version_info >= (3, 13):
        pytest.skip("argparse sets options with two names otherwise from Python 3.13 on")
    file = FOLDER / name
    assert file.read_text() == made[file], "python -m tests.support.reference writes it anew"


def test_every_flow_and_every_verb_below_a_verb_is_there(made: dict[Path, str]) -> None:
    text = made[FOLDER / "commands.md"]
    for name in ("lifecycle init", "lifecycle keys revoke", "lifecycle run end_to_end"):
        assert f"### {name}\n" in text
    assert "--target" in text
    assert "Aborted" not in text
    assert "Error" not in text


def test_a_section_is_reached_by_its_key(made: dict[Path, str]) -> None:
    text = made[FOLDER / "project.md"]
    assert "| `training` | [TrainingSpec](#trainingspec) | optional |" in text
    assert "## training {#trainingspec}" in text
