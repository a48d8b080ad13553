"""Severities of checks: defaults with reasons, names in any spelling, and typos."""

from pathlib import Path

import pytest

from lifecycle.project import ChecksSpec
from lifecycle.project.checks import RULES


def test_each_check_has_a_default_and_a_reason() -> None:
    spec = ChecksSpec()
    assert spec.rule("Index Train-Test Leakage").severity == "block"
    assert spec.rule("Feature Drift").severity == "warn"
    assert spec.rule("Train Test Performance").severity == "ignore"
    assert all(rule.reason for rule in RULES.values())


def test_a_project_changes_it_in_any_spelling() -> None:
    spec = ChecksSpec.model_validate({"severity": {"label_drift": "block"}})
    assert spec.severity == {"Label Drift": "block"}
    assert spec.rule("Label Drift (holdout)").severity == "block"
    assert "checks.severity" in spec.rule("Label Drift").reason


@pytest.mark.parametrize("key", ["severity", "accept"])
def test_a_typo_is_answered_with_the_nearest_name(key: str) -> None:
    with pytest.raises(
        ValueError, match="'Lable Drift' is not a check; did you mean 'Label Drift'"
    ):
        ChecksSpec.model_validate({key: {"Lable Drift": "warn"}})
    with pytest.raises(ValueError, match="checks: Index Train-Test Leakage"):
        ChecksSpec.model_validate({key: {"xyz": "warn"}})


def test_the_documented_table_is_the_code() -> None:
    page = (Path(__file__).parents[3] / "docs" / "how-to" / "checks.md").read_text()
    rows = [
        line for line in page.splitlines() if line.startswith("| ") and "| default |" not in line
    ]
    assert rows == [f"| {name} | {rule.severity} | {rule.reason} |" for name, rule in RULES.items()]
