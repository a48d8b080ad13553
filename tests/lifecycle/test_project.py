"""Project files: what is refused, and that the message says where."""

import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from lifecycle.errors import ProjectError
from lifecycle.project import Project, load_project

TEXT = """\
name: small
source: {path: small.csv}
task: binary
target: bought
entity: customer
contract:
  columns:
    customer: {type: integer}
    age: {type: number, nullable: true}
    spent:
      type: number
    day: {type: datetime}
    bought: {type: integer}
"""


@pytest.fixture
def write(tmp_path: Path) -> Callable[[str], Path]:
    def write(text: str) -> Path:
        file = tmp_path / "project.yaml"
        file.write_text(text)
        return file

    return write


def problem(file: Path) -> str:
    with pytest.raises(ProjectError) as caught:
        load_project(file)
    return str(caught.value)


def test_a_sound_file_is_loaded(write: Callable[[str], Path]) -> None:
    project = load_project(write(TEXT))
    assert project.input_columns == ("age", "spent", "day")
    assert project.metric == "roc_auc"


@pytest.mark.parametrize(
    ("old", "new", "line", "says"),
    [
        (
            "task: binary",
            "task: binary\ntarged: x",
            4,
            "targed: unknown key; did you mean 'target'",
        ),
        (
            "      type: number",
            "      typ: number",
            11,
            "spent.typ: unknown key; did you mean 'typ",
        ),
        ("task: binary", "task: binary\ntask: regression", 4, "given twice, first in line 3"),
        (
            "task: binary",
            "task: ternary",
            3,
            "'binary', 'multiclass', 'regression' or 'count' (got 'ternary')",
        ),
        ("      type: number", "      type: float", 11, "contract.columns.spent.type"),
        ("target: bought\n", "", 1, "target: this key is missing"),
        ("target: bought", "target: sold", 4, "names 'sold', which contract.columns does not have"),
        ("entity: customer", "entity: age", 5, "'age' is nullable"),
        (
            "entity: customer",
            "leakage: [spent]\ninputs: [age, spent]",
            6,
            "'spent' is declared as leakage and cannot be a feature",
        ),
        ("entity: customer", "inputs: [bought]", 5, "'bought' is the target"),
        ("entity: customer", "time: {column: age}", 5, "'age' is nullable"),
        ("entity: customer", "time: {column: spent}", 5, "make it integer or datetime"),
        (
            "entity: customer",
            "time: {column: customer, period: month}",
            5,
            "needs a datetime column",
        ),
        (
            "entity: customer",
            "time: {column: customer, arrives_from: 2012-01-01}",
            5,
            "is no whole number",
        ),
        (
            "entity: customer",
            "split: {holdout: 0.7, validation: 0.4}",
            5,
            "leave nothing to train on",
        ),
        ("entity: customer", "split: {holdout: 2}", 5, "less than 1 (got 2)"),
        ("entity: customer", "split: {holdout_periods: 1}", 5, "needs `time`"),
        ("entity: customer", "gate: {metric: rmse}", 5, "not a metric of task 'binary'"),
        ("contract:", "contract:\n  freshness: {at_least: 3}", 7, "needs `time`"),
        ("contract:", "contract:\n  freshness: {}", 7, "give exactly one of"),
        (
            "spent:\n      type: number",
            "Age: {type: number}",
            6,
            "'age' and 'Age' differ only in case",
        ),
        ("customer: {type: integer}", "__row: {type: integer}", 6, "two leading underscores"),
        ("{type: datetime}", "{type: datetime, minimum: 3}", 12, "minimum and maximum are for num"),
        ("{type: datetime}", "{type: number, minimum: 3, maximum: 2}", 12, "minimum is above max"),
        ("{type: datetime}", "{type: category, categories: []}", 12, "categories is empty"),
        ("{type: datetime}", "{type: category, categories: [1, a]}", 12, "texts and numbers are"),
        ("entity: customer", "entity: [customer", 6, "not valid YAML"),
    ],
)
def test_a_mistake_names_file_line_and_key(
    write: Callable[[str], Path], old: str, new: str, line: int, says: str
) -> None:
    assert old in TEXT
    file = write(TEXT.replace(old, new, 1))
    message = problem(file)
    assert says in message
    assert f"{file}:{line}: " in message


def test_all_mistakes_are_told_at_once(write: Callable[[str], Path]) -> None:
    file = write(TEXT.replace("task: binary", "task: no\nserving: {replicas: 0, port: 1}"))
    assert len(problem(file).splitlines()) == 3


@pytest.mark.parametrize(
    ("text", "says"),
    [("", "a project file is a mapping"), ("- a\n", "a project file is a mapping")],
)
def test_no_mapping(write: Callable[[str], Path], text: str, says: str) -> None:
    assert says in problem(write(text))


def test_missing_and_binary_files(tmp_path: Path) -> None:
    assert "cannot read the project file" in problem(tmp_path / "none.yaml")
    (tmp_path / "binary.yaml").write_bytes(b"\xff\xfe\x00\x01")
    assert "not UTF-8" in problem(tmp_path / "binary.yaml")


def test_with_source(make_project: Callable[..., Project], tmp_path: Path) -> None:
    project = make_project()
    other = project.with_source("elsewhere.csv")
    assert other.source.path == str(Path.cwd() / "elsewhere.csv")
    assert other.folder == project.folder
    assert project.source.path == "small.csv"
    packaged = "package://statsmodels/datasets/randhie/src/randhie.csv"
    assert project.with_source(packaged).source.path == packaged


def test_the_folder_survives_the_way_to_another_process(
    make_project: Callable[..., Project],
) -> None:
    project = make_project()
    assert pickle.loads(pickle.dumps(project)).folder == project.folder  # noqa: S301 - our own


def test_dumped_and_read_again(health: Project) -> None:
    declared: dict[str, Any] = yaml.safe_load(yaml.safe_dump(health.model_dump(mode="json")))
    assert Project.model_validate(declared).model_dump() == health.model_dump()
