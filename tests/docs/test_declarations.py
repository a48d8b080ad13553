"""What the pages declare: blocks of YAML are of a project file, variables are settings."""

import json
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
import yaml
from dotenv import dotenv_values

from lifecycle.environments import PREFIX
from lifecycle.project.loader import load_project
from lifecycle.settings import Settings
from tests.support.blocks import PAGES, Block, blocks

BLOCKS = [block for page in PAGES for block in blocks(page)]
NUMBERS = ("income", "age", "tenure", "weight", "latitude", "price")
CATEGORIES = ("channel", "country")
TIMES = ("since", "seen", "changed_at")
COLUMNS: dict[str, Any] = {
    "churn": {"type": "integer"},
    "person": {"type": "integer"},
    "visit": {"type": "integer"},
    "female": {"type": "boolean"},
    **{name: {"type": "number"} for name in NUMBERS},
    **{name: {"type": "category", "categories": ["a", "b"]} for name in CATEGORIES},
    **{name: {"type": "datetime"} for name in TIMES},
}
PROJECT: dict[str, Any] = {
    "name": "shop",
    "source": {"path": "shop.csv"},
    "task": "binary",
    "target": "churn",
    "entity": "person",
    "time": {"column": "since"},
    "contract": {"version": "1.0.0", "columns": COLUMNS},
}
"""A project with every column that a page's block refers to."""
YEARS = {"time": {"column": "year"}, "contract": {"columns": {"year": {"type": "integer"}}}}
OWN = {"feature-views.md": YEARS}
"""What the project of a page has besides."""


def of(language: str) -> pytest.MarkDecorator:
    """A test for each block of a language."""
    chosen = [block for block in BLOCKS if block.language == language]
    return pytest.mark.parametrize("block", chosen, ids=lambda block: block.place)


def laid_over(below: Any, above: Any) -> Any:
    """Two declarations as one: mappings are joined, anything else is the upper's."""
    if not (isinstance(below, dict) and isinstance(above, dict)):
        return above
    joined = {
        key: laid_over(below[key], above[key]) if key in below else above[key] for key in above
    }
    return below | joined


@of("yaml")
def test_a_project_can_declare_it(block: Block, tmp_path: Path) -> None:
    file = tmp_path / "project.yaml"
    project = laid_over(PROJECT, OWN.get(block.page.name, {}))
    file.write_text(yaml.safe_dump(laid_over(project, yaml.safe_load(block.text))))
    declared = load_project(file).model_fields_set
    assert yaml.safe_load(block.text).keys() <= declared


@of("ini")
def test_a_variable_is_a_setting(block: Block, monkeypatch: pytest.MonkeyPatch) -> None:
    variables = dotenv_values(stream=StringIO(block.text))
    ours = {name: value for name, value in variables.items() if name.startswith(PREFIX)}
    assert ours
    assert None not in ours.values()
    for name, value in ours.items():
        assert name.removeprefix(PREFIX).lower() in Settings.model_fields, name
        monkeypatch.setenv(name, value or "")
    Settings.load()


@of("json")
def test_a_document_is_json(block: Block) -> None:
    assert json.loads(block.text)
