"""The pages for contributors say what is so: the drawing, and each file and name they mention."""

import ast
import re
from pathlib import Path

import pytest

from tests.support.architecture import PAGE, page

ROOT = Path(__file__).parents[2]
CONTRIBUTING = ROOT / "CONTRIBUTING.md"
QUESTIONS = 18
"""That a newcomer asks first; each has a line in the table."""


def test_the_drawing_is_that_of_the_imports() -> None:
    assert PAGE.read_text() == page(), "python -m tests.support.architecture draws it anew"


@pytest.mark.parametrize("file", [PAGE, CONTRIBUTING], ids=lambda file: file.name)
def test_every_file_and_name_is_there(file: Path) -> None:
    mentioned = re.findall(r"`([\w./]+\.py)`(?:: ((?:`\w+`(?:, )?)+))?", file.read_text())
    assert len(mentioned) >= 15
    for path, names in mentioned:
        names_there = _names(ROOT / path)
        for name in re.findall(r"\w+", names):
            assert name in names_there, f"{path} has no {name}"


@pytest.mark.parametrize("file", [PAGE, CONTRIBUTING], ids=lambda file: file.name)
def test_every_folder_and_link_is_there(file: Path) -> None:
    text = file.read_text()
    folders = re.findall(r"`((?:lifecycle|tests|tasks|flows|docs|deployments)/[\w/.]*)`", text)
    links = [link for link in re.findall(r"\]\(([^)#]+)\)", text) if "://" not in link]
    missing = [place for place in folders if not (ROOT / place).exists()]
    missing += [link for link in links if not (file.parent / link).exists()]
    assert not missing


def test_the_table_answers_the_questions_of_a_newcomer() -> None:
    table = PAGE.read_text().split("## Where do I change X")[1]
    assert table.count("\n| ") - 1 >= QUESTIONS


def _names(file: Path) -> set[str]:
    nodes = ast.parse(file.read_text()).body
    names = {node.name for node in nodes if isinstance(node, ast.FunctionDef | ast.ClassDef)}
    for node in nodes:
        targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
        names |= {target.id for target in targets if isinstance(target, ast.Name)}
    return names
