"""What the checks found, in words: deepchecks' results as one `CheckReport`."""

import re
from collections.abc import Mapping
from typing import Any, get_args

import numpy as np

from lifecycle.records import CheckReport
from lifecycle.specs import ChecksSpec, Suite, TaskKind
from lifecycle.specs.checks import canonical

CLASSES_ONLY = {
    "ConflictingLabels",
    "NewLabelTrainTest",
    "RocReport",
    "ConfusionMatrixReport",
    "CalibrationScore",
}


def left_out(check: Any, task: TaskKind, spec: ChecksSpec) -> str | None:
    """Why a check is not run at all; None if it is."""
    values = task in ("regression", "count")
    if values and kind_of(check) in CLASSES_ONLY:
        return "for classification only"
    if not values and kind_of(check) == "RegressionErrorDistribution":
        return "for regression only"
    rule = spec.rule(_NAMES.get(kind_of(check), check.name()))
    return rule.reason if rule.severity == "ignore" else None


_NAMES = {"IsSingleValue": "Single Value in Column", "CalibrationScore": "Calibration Metric"}
"""Checks whose results are headed otherwise than by the check's name."""


def suites_left_out(spec: ChecksSpec) -> dict[str, str]:
    """Suites that the project file does not ask for → that reason."""
    missing = [suite for suite in get_args(Suite) if suite not in spec.suites]
    return {f"Suite {suite}": "checks.suites does not name it" for suite in missing}


def kind_of(check: Any) -> str:
    """The class of a check; its name and its results' headers are spelt in several ways."""
    return type(check).__name__


def collect(results: list[Any], skipped: Mapping[str, str], spec: ChecksSpec) -> CheckReport:
    """Every check with a condition, by its worst one; checks without are on the page only.

    Args:
        results: deepchecks' `CheckResult`s and `CheckFailure`s.
        skipped: what was not even tried → why.
    """
    passed: list[str] = []
    found: dict[str, dict[str, str]] = {"failed": {}, "warned": {}, "not_run": dict(skipped)}
    for result in results:
        stopped = hasattr(result, "exception")
        name = check_name(result.header if stopped else result.get_header())
        if stopped:
            found["not_run"][name] = _sentence(str(result.exception))
            continue
        verdicts = [verdict(name, condition, spec) for condition in result.conditions_results]
        worst = next((v for v in ("failed", "not_run", "warned") if v in dict(verdicts)), None)
        if worst:
            texts = [text for verdict, text in verdicts if verdict == worst]
            found[worst][name] = " ".join([*texts, *_weakest(result)])
        elif verdicts:
            passed.append(name)
    return CheckReport(passed=tuple(passed), **found, reports=(), sampled_rows=0)


def verdict(name: str, condition: Any, spec: ChecksSpec) -> tuple[str, str]:
    """One condition of a check as (part of the report it belongs to, sentence)."""
    kind = condition.category.name
    if kind == "ERROR" or condition.details.startswith("No relevant columns"):
        return "not_run", _sentence(condition.details)
    blocks = spec.rule(name).severity == "block"
    words = {
        "PASS": "passed",
        "FAIL": "failed" if blocks else "warned",
        # some stock conditions only ever warn: a project that says `block` means these, too
        "WARN": "failed" if blocks and canonical(name) in spec.severity else "warned",
    }
    expected = condition.name[:1].lower() + condition.name[1:].rstrip(".")
    return words[kind], f"{_sentence(condition.details)} Expected: {expected}."


def _weakest(result: Any) -> list[str]:
    """Which segment is the weakest, in words; nothing for other checks."""
    if kind_of(result.check) != "WeakSegmentsPerformance":
        return []
    worst = result.value["weak_segments_list"].iloc[0]
    parts = [
        f"{worst[f'Feature{n}']} {_range(worst[f'Feature{n} Range'])}"
        for n in (1, 2)
        if worst[f"Feature{n}"]
    ]
    return [f"The segment: {' and '.join(parts)}, {worst['% of Data']:.3g} % of the rows."]


def _range(values: Any) -> str:
    if isinstance(values, list):  # categories
        return "in " + ", ".join(str(value) for value in values)
    low, high = values
    if np.isinf(low) or np.isinf(high):
        return f"up to {high:.4g}" if np.isinf(low) else f"above {low:.4g}"
    return f"from {low:.4g} to {high:.4g}"


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
