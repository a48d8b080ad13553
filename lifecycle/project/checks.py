"""The section on the deepchecks suites: which run, and what a failure of each check means."""

import re
from difflib import get_close_matches
from typing import Literal, NamedTuple, TypeVar

from pydantic import Field, field_validator

from lifecycle.project.base import Section

Suite = Literal["data_integrity", "train_test_validation", "model_evaluation"]
Severity = Literal["block", "warn", "ignore"]
Value = TypeVar("Value")


class Rule(NamedTuple):
    """Default consequence of a failed check."""

    severity: Severity
    reason: str


_CHANGE = "a change between the parts that may be real; the gate measures what it costs"
_LOOK = "worth a look, seldom a fault"
_RULES: dict[str, Rule] = {
    "Index Train-Test Leakage": Rule("block", "an entity in both parts makes the holdout easy"),
    "Date Train-Test Leakage (duplicates)": Rule("block", "a time in both parts leaks the future"),
    "Date Train-Test Leakage (overlap)": Rule("block", "train rows later than holdout rows"),
    "Train Test Samples Mix": Rule("block", "holdout rows that were learned from prove nothing"),
    "Feature Label Correlation": Rule("block", "one feature alone gives the target away"),
    "New Label Train Test": Rule("block", "the model cannot answer with what it never saw"),
    "Special Characters": Rule("block", "cells of punctuation alone are broken data"),
    "Missing Values Train Test": Rule("block", "a feed that broke between the parts"),
    "Unit Train Test": Rule("block", "a column in another unit means something else"),
    "Regression Error Distribution": Rule(
        "block", "most of the error is one constant: the target has moved"
    ),
    "Single Value in Column": Rule("warn", "a column that says nothing costs little"),
    "Mixed Nulls": Rule("warn", "the contract says which words are missing values"),
    "Mixed Data Types": Rule("warn", "the contract holds each column to one type"),
    "String Mismatch": Rule("warn", _LOOK),
    "String Mismatch Comparison": Rule("warn", _LOOK),
    "String Length Out Of Bounds": Rule("warn", _LOOK),
    "Data Duplicates": Rule("warn", "rows of few coarse columns repeat by themselves"),
    "Conflicting Labels": Rule("warn", "equal features with another label are what chance does"),
    "Outlier Sample Detection": Rule("warn", _LOOK),
    "Feature-Feature Correlation": Rule("warn", "features that say the same cost trees nothing"),
    "Identifier Label Correlation": Rule("warn", "identifiers are no features here"),
    "Datasets Size Comparison": Rule("warn", "intervals and limits allow for the holdout's size"),
    "New Category Train Test": Rule("warn", "unknown categories are answered as missing"),
    "Feature Label Correlation Change": Rule("warn", _CHANGE),
    "Feature Drift": Rule("warn", _CHANGE),
    "Label Drift": Rule("warn", _CHANGE),
    "Prediction Drift": Rule("warn", _CHANGE),
    "Multivariate Drift": Rule("warn", _CHANGE),
    "ROC Report": Rule("warn", "how good is good enough is for gate.floor to say"),
    "Simple Model Comparison": Rule("warn", "gate.gain_over_baseline decides, with an interval"),
    "Unused Features": Rule("warn", "a feature without use costs little"),
    "Calibration Metric": Rule("warn", "shown on the page only"),
    "Confusion Matrix Report": Rule("warn", "shown on the page only"),
    "Train Test Performance": Rule(
        "ignore", "boosted trees know the rows they learned from better: no finding"
    ),
    "Weak Segments Performance": Rule(
        "ignore", "evaluation.slices and evaluation.segments measure segments on all rows"
    ),
    "Boosting Overfit": Rule("ignore", "needs the model object; the suites get predictions"),
    "Model Inference Time": Rule(
        "ignore", "needs the model object; the smoke test times the endpoint's answers"
    ),
}
RULES = dict(sorted(_RULES.items(), key=lambda rule: "block warn ignore".index(rule[1].severity)))
"""Check, as the pages name it without `(train)` or `(holdout)` → rule; what blocks first."""


def letters(name: str) -> str:
    """A check's name by its letters and digits, without the part: spellings differ."""
    return re.sub(r"[^a-z0-9]", "", re.sub(r" \((train|holdout)\)$", "", name).lower())


_CANONICAL = {letters(name): name for name in RULES}


def canonical(name: str) -> str | None:
    """The name of a check as `RULES` has it; None if it has none."""
    return _CANONICAL.get(letters(name))


class ChecksSpec(Section):
    """The deepchecks suites."""

    suites: tuple[Suite, ...] = ("data_integrity", "train_test_validation", "model_evaluation")
    """Which suites run; without any, `gate.require_checks` has to be false."""
    sample_rows: int = Field(default=10_000, ge=100)
    """Rows a suite looks at, at most; the report states the sampling."""
    severity: dict[str, Severity] = Field(default_factory=dict)
    """Check → what its failure means: `block` the gate, `warn` on pages, or `ignore` (not run).
    Leakage, new labels and broken data block by default, see docs/how-to/checks.md."""
    accept: dict[str, str] = Field(default_factory=dict)
    """Checks whose failure does not block, each with the reason why."""

    @field_validator("severity", "accept", mode="after")
    @classmethod
    def _checks_exist(cls, checks: dict[str, Value]) -> dict[str, Value]:
        for name in checks:
            if canonical(name) is None:
                near = get_close_matches(name, RULES, n=1, cutoff=0.5)
                hint = f"did you mean {near[0]!r}?" if near else f"checks: {', '.join(RULES)}"
                raise ValueError(f"{name!r} is not a check; {hint}")
        return {canonical(name) or name: value for name, value in checks.items()}

    def rule(self, check: str) -> Rule:
        """Return the consequence of a failed check in this project, and the reason."""
        name = canonical(check) or check
        default = RULES.get(name, Rule("warn", _LOOK))
        if name not in self.severity:
            return default
        return Rule(self.severity[name], f"checks.severity says {self.severity[name]}")
