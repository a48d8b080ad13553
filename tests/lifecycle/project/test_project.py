"""Project files: what is refused, and that the message says where."""

import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from lifecycle.errors import ProjectError
from lifecycle.project import Project
from lifecycle.project.loader import load_project

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
    assert (project.metric, project.training_metric) == ("roc_auc", "log_loss")


@pytest.mark.parametrize(
    ("old", "new", "line", "says"),
    [
        (
            "task: binary",
            "task: binary\ntarged: x",
            4,
            "targed: unknown key; did you mean 'target'? Known here: name, description, source, "
            "task, target, positive, entity, time, inputs, leakage, protected, ignore, …",
        ),
        (
            "      type: number",
            "      typ: number",
            11,
            "spent.typ: unknown key; did you mean 'type'? Known here: type, nullable, unique, ",
        ),
        (
            "task: binary",
            "task: binary\nsplit: {parts: 3}",
            4,
            "split.parts: unknown key; known here: holdout, validation, holdout_periods, seed",
        ),
        (
            "contract:",
            "contract:\n  rules:\n  - {nam: a}",
            8,
            "rules.0.nam: unknown key; did you mean 'name'? Known here: name, expression, ",
        ),
        ("task: binary", "task: binary\ntask: regression", 4, "set twice, first in line 3"),
        (
            "task: binary",
            "task: ternary",
            3,
            "'binary', 'multiclass', 'regression' or 'count' (got 'ternary')",
        ),
        (
            "task: binary",
            "task: binary\ntuning: {space: {eta: {type: int, low: 9, high: 8}}}",
            4,
            "project.yaml:4: tuning.space.eta.low is above high: got low=9 high=8",
        ),
        ("      type: number", "      type: float", 11, "contract.columns.spent.type"),
        ("target: bought\n", "", 1, "target: this key is missing"),
        ("target: bought", "target: sold", 4, "names 'sold', which contract.columns does not have"),
        ("target: bought", "target: bougt", 4, "did you mean 'bought'? There are: customer, "),
        ("entity: customer", "ignore:\n- age\n- spend", 7, "ignore.1 names 'spend'"),
        ("entity: customer", "protected: [Age]", 5, "did you mean 'age'?"),
        (
            "entity: customer",
            "entity: customer\ntraining:\n  monotone:\n    age: 1\n    spend: 1",
            9,
            "training.monotone.spend: there is no such feature; did you mean 'spent'?",
        ),
        (
            "entity: customer",
            "entity: customer\ngate: {metric: roc_acu}",
            6,
            "did you mean 'roc_auc'?",
        ),
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
            "is not a whole number",
        ),
        (
            "entity: customer",
            "split: {holdout: 0.7, validation: 0.4}",
            5,
            "leave no rows to train on",
        ),
        ("entity: customer", "split: {holdout: 2}", 5, "less than 1 (got 2)"),
        ("entity: customer", "split: {holdout_periods: 1}", 5, "needs `time`"),
        ("entity: customer", "gate: {metric: rmse}", 5, "not a metric of task 'binary'"),
        ("entity: customer", "training: {metric: r2}", 5, "training.metric: 'r2' is not a metric"),
        ("contract:", "contract:\n  freshness: {at_least: 3}", 7, "needs `time`"),
        ("contract:", "contract:\n  freshness: {}", 7, "give exactly one of"),
        (
            "spent:\n      type: number",
            "Age: {type: number}",
            7,
            "'age' and 'Age' differ only in case",
        ),
        ("customer: {type: integer}", "__row: {type: integer}", 7, "two leading underscores"),
        ("{type: datetime}", "{type: datetime, minimum: 3}", 12, "minimum and maximum are for num"),
        ("{type: datetime}", "{type: number, minimum: 3, maximum: 2}", 12, "minimum is above max"),
        ("{type: datetime}", "{type: category, categories: []}", 12, "categories is empty"),
        ("{type: datetime}", "{type: category, categories: [1, a]}", 12, "texts and numbers are"),
        ("contract:", "contract:\n  key: [custommer]", 7, "contract.key: names 'custommer', which"),
        ("contract:", "contract:\n  key: [age]", 7, "contract.key: 'age' is nullable"),
        ("contract:", "contract:\n  key: [day, day]", 7, "contract.key: a column is named twice"),
        (
            "contract:",
            "contract:\n  unique_together:\n  - [day]\n  - [dey]",
            9,
            "contract.unique_together.1: names 'dey'",
        ),
        (
            "contract:",
            "contract:\n  rules:\n  - name: sane\n    expression: age <",
            9,
            "contract.rules.0.expression: 'age <' is not a condition: invalid syntax",
        ),
        (
            "contract:",
            "contract:\n  rules:\n  - {name: sane, expression: agee < spent}",
            8,
            "names 'agee', which the columns do not have",
        ),
        (
            "contract:",
            "contract:\n  rules:\n  - {name: sane, expression: spent > day}",
            8,
            "contract.rules.0.expression: 'spent > day' cannot be evaluated",
        ),
        (
            "contract:",
            "contract:\n  rules:\n  - {name: age, expression: age < spent}",
            8,
            "contract.rules.0.name: 'age' is taken",
        ),
        ("contract:", "contract:\n  rows: {minimum: 3, maximum: 2}", 7, "minimum is above maximum"),
        (
            "{type: datetime}",
            "{type: string, pattern: '[a'}",
            12,
            "pattern: '[a' is not a valid RE2 expression",
        ),
        ("{type: datetime}", "{type: string, categories: [1]}", 12, "values of text need quotes"),
        ("{type: datetime}", "{type: integer, categories: [a]}", 12, "texts for a column of anoth"),
        ("{type: datetime}", "{type: string, pii_class: direct}", 12, "set pii as well"),
        ("{type: datetime}", "{type: string, expect: {mean: [1, 2]}}", 12, "it is for numbers"),
        ("{type: datetime}", "{type: number, minimum: .nan}", 12, "finite number"),
        (
            "      type: number",
            "      type: number\n      expect:\n        mean: [3, 2]",
            13,
            "contract.columns.spent.expect.mean: the lower bound is above the upper one",
        ),
        (
            "      type: number",
            "      type: number\n      expect:\n        missing_share: [0, 2]",
            13,
            "a share is between 0 and 1",
        ),
        (
            "customer: {type: integer}",
            "customer:\n      type: integer\n      pii: drop",
            10,
            "contract.columns.customer.pii: the entity cannot be dropped",
        ),
        (
            "{path: small.csv}",
            "{path: small.csv, incremental: {by: watermark, column: dai}}",
            2,
            "source.incremental.column names 'dai'",
        ),
        (
            "{path: small.csv}",
            "{path: small.csv, incremental: {by: watermark, column: spent}}",
            2,
            "a watermark is integer or datetime",
        ),
        (
            "{path: small.csv}",
            "{path: small.csv, sheet: Visits}",
            2,
            "source.sheet: it has no meaning for format: csv, only for excel; remove it",
        ),
        (
            "{path: small.csv}",
            "{path: small.parquet, format: parquet, separator: ';'}",
            2,
            "source.separator: it has no meaning for format: parquet, only for csv",
        ),
        (
            "{path: small.csv}",
            "{path: small.csv, function: 'load:rows'}",
            2,
            "source.function: it has no meaning for format: csv, only for python",
        ),
        (
            "{path: small.csv}",
            "{path: small.csv, format: python, function: 'load:rows'}",
            2,
            "source.path: it has no meaning for format: python",
        ),
        ("{path: small.csv}", "{format: python}", 2, "function: format: python needs"),
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


@pytest.mark.parametrize(
    ("added", "says"),
    [
        ("decision: {}", "decision: give exactly one of threshold, costs and rate: got none"),
        (
            "decision: {threshold: 0.2, rate: 0.1}",
            "decision: give exactly one of threshold, costs and rate: got threshold and rate",
        ),
        ("decision: {rate: 1.5}", "decision.rate: "),
        ("decision: {costs: {false_positive: 1}}", "decision.costs.false_negative: "),
        (
            "gate: {max_fairness_gap: {age: {equalized_odds_difference: 0.1}}}",
            "gate.max_fairness_gap.age: name 'age' under `protected` to measure its gaps",
        ),
        (
            "protected: [age]\ngate: {max_fairness_gap: {age: {}}}",
            "gate.max_fairness_gap.age: name a measure and its limit, or omit it",
        ),
        ("protected: [age]\ngate: {max_fairness_gap: {age: {odds: 0.1}}}", "odds"),
        ("serving: {unknown_fields: drop}", "serving.unknown_fields: "),
    ],
)
def test_decision_and_fairness(write: Callable[[str], Path], added: str, says: str) -> None:
    assert says in problem(write(f"{TEXT}{added}\n"))


@pytest.mark.parametrize(
    ("added", "says"),
    [
        ("decision: {rate: 0.1}", "decision: only task binary has a threshold, not 'regression'"),
        (
            "protected: [age]\ngate: {max_fairness_gap: {age: {equalized_odds_difference: 0.1}}}",
            "gate.max_fairness_gap.age.equalized_odds_difference: only task binary has it",
        ),
    ],
)
def test_other_tasks_have_no_threshold(write: Callable[[str], Path], added: str, says: str) -> None:
    text = TEXT.replace("task: binary", "task: regression")
    assert says in problem(write(f"{text}{added}\n"))
