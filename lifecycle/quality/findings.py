"""What the checks found, in words: deepchecks' results as one `CheckReport`."""

import re
from collections.abc import Mapping
from typing import Any, get_args

import numpy as np

from lifecycle.records import CheckReport
from lifecycle.specs import ChecksSpec, Suite, TaskKind

ADVISORY = {"Feature-Feature Correlation"}
"""Failures that count as warnings: features that say the same cost a tree model nothing."""
LEFT_OUT = {
    "Boosting Overfit": "needs the model object; the suites are handed predictions",
    "Model Inference Time": "needs the model object; the endpoint's smoke test times the answers",
}
CLASSES_LEFT_OUT = {"Regression Error Distribution": "for regression only"}
VALUES_LEFT_OUT = dict.fromkeys(
    (
        "Conflicting Labels",
        "New Label Train Test",
        "Roc Report",
        "Confusion Matrix Report",
        "Calibration Score",
    ),
    "for classification only",
)


def left_out(task: TaskKind) -> dict[str, str]:
    """Checks that are not run at all → why."""
    return LEFT_OUT | (VALUES_LEFT_OUT if task in ("regression", "count") else CLASSES_LEFT_OUT)


def suites_left_out(spec: ChecksSpec) -> dict[str, str]:
    """Suites that the project file does not ask for → that reason."""
    missing = [suite for suite in get_args(Suite) if suite not in spec.suites]
    return {f"Suite {suite}": "checks.suites does not name it" for suite in missing}


def kind_of(check: Any) -> str:
    """The class of a check; its name and its results' headers are spelt in several ways."""
    return type(check).__name__


def collect(results: list[Any], skipped: Mapping[str, str]) -> CheckReport:
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
        verdicts = [verdict(name, condition) for condition in result.conditions_results]
        worst = next((v for v in ("failed", "not_run", "warned") if v in dict(verdicts)), None)
        if worst:
            texts = [text for verdict, text in verdicts if verdict == worst]
            found[worst][name] = " ".join([*texts, *_weakest(result)])
        elif verdicts:
            passed.append(name)
    return CheckReport(passed=tuple(passed), **found, reports=(), sampled_rows=0)


def verdict(name: str, condition: Any) -> tuple[str, str]:
    """One condition of a check as (part of the report it belongs to, sentence)."""
    kind = condition.category.name
    if kind == "ERROR" or condition.details.startswith("No relevant columns"):
        return "not_run", _sentence(condition.details)
    fail = "warned" if without_part(name) in ADVISORY else "failed"
    words = {"PASS": "passed", "FAIL": fail, "WARN": "warned"}
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


def same_check(name: str, key: str) -> bool:
    """Whether a key of `checks.accept` names this check.

    Letters and digits count, and the part may be left out: `feature_feature correlation` names
    both `Feature-Feature Correlation (train)` and `Feature-Feature Correlation (holdout)`.
    """
    return _letters(key) in (_letters(name), _letters(without_part(name)))


def without_part(name: str) -> str:
    """A check's name without `(train)` or `(holdout)`."""
    return re.sub(r" \((train|holdout)\)$", "", name)


def _letters(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower())


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
