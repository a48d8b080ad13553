"""Findings of the checks in words: own results and those of deepchecks in one `CheckReport`."""

import re
from collections.abc import Iterable, Mapping
from typing import Literal, get_args

from lifecycle.project import ChecksSpec, Suite, TaskKind
from lifecycle.project.checks import RULES, canonical
from lifecycle.quality.checks_program import letters
from lifecycle.records import CheckReport
from lifecycle.records.base import Record

CLASSES_ONLY = (
    "ConflictingLabels",
    "NewLabelTrainTest",
    "RocReport",
    "ConfusionMatrixReport",
    "CalibrationScore",
)
"""Kinds of checks, as deepchecks' classes are named."""


class Condition(Record):
    """Condition of a check, and its result."""

    name: str
    category: Literal["PASS", "WARN", "FAIL", "ERROR"]
    details: str


class Result(Record):
    """One check that ran on one part or both, or why it did not."""

    header: str
    summary: str = ""
    """What it is about; HTML."""
    conditions: tuple[Condition, ...] = ()
    more: str = ""
    """A sentence for the report, after what its worst conditions say."""
    html: str = ""
    """Its tables and plots; empty without any."""
    error: str | None = None
    """Why it did not run."""


class SuiteResult(Record):
    """The results of one suite."""

    title: str
    results: tuple[Result, ...]
    skipped: dict[str, str]
    """Check that was taken out → why."""


def left_out_kinds(task: TaskKind) -> dict[str, str]:
    """Kinds of checks that say nothing of such a task → the reason."""
    if task in ("regression", "count"):
        return dict.fromkeys(CLASSES_ONLY, "for classification only")
    return {"RegressionErrorDistribution": "for regression only"}


def left_out_names(spec: ChecksSpec) -> dict[str, str]:
    """Checks that are not run, by the letters of their names → the reason."""
    rules = {letters(name): spec.rule(name) for name in RULES}
    return {name: rule.reason for name, rule in rules.items() if rule.severity == "ignore"}


def suites_left_out(spec: ChecksSpec) -> dict[str, str]:
    """Suites that the project file does not ask for → that reason."""
    missing = [suite for suite in get_args(Suite) if suite not in spec.suites]
    return {f"Suite {suite}": "checks.suites does not name it" for suite in missing}


def collect(results: Iterable[Result], skipped: Mapping[str, str], spec: ChecksSpec) -> CheckReport:
    """Every check with a condition, by its worst one; checks without are on the page only.

    Args:
        skipped: what was not even tried → why.
    """
    passed: list[str] = []
    findings: dict[str, dict[str, str]] = {"failed": {}, "warned": {}, "not_run": dict(skipped)}
    for result in results:
        name = check_name(result.header)
        if result.error is not None:
            findings["not_run"][name] = _sentence(result.error)
            continue
        verdicts = [verdict(name, condition, spec) for condition in result.conditions]
        worst = next((v for v in ("failed", "not_run", "warned") if v in dict(verdicts)), None)
        if worst:
            texts = [text for verdict, text in verdicts if verdict == worst]
            findings[worst][name] = " ".join([*texts, *([result.more] if result.more else [])])
        elif verdicts:
            passed.append(name)
    return CheckReport(passed=tuple(passed), **findings, reports=(), sampled_rows=0)


def verdict(name: str, condition: Condition, spec: ChecksSpec) -> tuple[str, str]:
    """One condition of a check as (part of the report it belongs to, sentence)."""
    if condition.category == "ERROR" or condition.details.startswith("No relevant columns"):
        return "not_run", _sentence(condition.details)
    blocks = spec.rule(name).severity == "block"
    words = {
        "PASS": "passed",
        "FAIL": "failed" if blocks else "warned",
        # some stock conditions only ever warn: a project that says `block` means these, too
        "WARN": "failed" if blocks and canonical(name) in spec.severity else "warned",
    }
    expected = condition.name.rstrip(".")
    if not expected[:2].isupper():  # no abbreviation
        expected = expected[:1].lower() + expected[1:]
    return words[condition.category], f"{_sentence(condition.details)} Expected: {expected}."


def without_part(name: str) -> str:
    """A check's name without `(train)` or `(holdout)`."""
    return re.sub(r" \((train|holdout)\)$", "", name)


def check_name(header: str) -> str:
    """deepchecks' header with our word for the part: `… - Test Dataset` → `… (holdout)`."""
    name = re.sub(r" - Train Dataset$", " (train)", header)
    return re.sub(r" - Test Dataset$", " (holdout)", name)


def one_line(text: str) -> str:
    """A text of the project file as one line with a full stop."""
    line = " ".join(text.split())
    return line if line.endswith((".", "!", "?")) else f"{line}."


def _sentence(text: str) -> str:
    """One line without markup, at most 300 characters, with a full stop."""
    line = " ".join(re.sub(r"<[^>]+>", " ", text).split()) or "No detail given."
    return one_line(line if len(line) <= 300 else line[:297] + "...")


def measure_words(measure: str, metric: str) -> str:
    """Beginning of the name of a gap that `gate.max_fairness_gap` limits by this measure."""
    return f"{metric} difference" if measure == "metric_difference" else measure.replace("_", " ")
