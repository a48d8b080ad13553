"""Checks of ours: duplicates and conflicting labels on all rows, sizes; who may turn them off."""

import numpy as np
import pandas as pd

from lifecycle.project import ChecksSpec
from lifecycle.quality.findings import collect
from lifecycle.quality.own_checks import answered_kinds, own_results, without_left_out
from lifecycle.quality.parts import PredictedPart, compare_parts, conflicting, duplicated

FEATURES = pd.DataFrame({"a": [1.0, 1.0, 1.0, 2.0, np.nan], "b": ["x", "x", "x", "x", None]})
TRUTH = np.array([0.0, 0.0, 1.0, 1.0, 1.0])


def test_duplicates_are_equal_in_every_column_and_conflicts_in_the_features_alone() -> None:
    part = PredictedPart(FEATURES, TRUTH, TRUTH)
    assert duplicated(part) == 1 / 5
    assert conflicting(part) == 3 / 5
    named = PredictedPart(FEATURES, TRUTH, TRUTH, entity=np.arange(5))
    assert duplicated(named) == 0.0
    assert conflicting(named) == 3 / 5


def test_own_results_say_what_they_found_and_may_be_turned_off() -> None:
    part = PredictedPart(FEATURES, TRUTH, TRUTH)
    comparison = compare_parts(part, part, "binary", ("b",), 5)
    results = [one for suite in own_results(comparison, (5, 5), "binary").values() for one in suite]
    report = collect(results, {}, ChecksSpec())
    assert "Found 20.00% of the rows" in report.warned["Data Duplicates (train)"]
    assert "Found 60.00% of the rows" in report.warned["Conflicting Labels (holdout)"]
    assert "Datasets Size Comparison" in report.passed
    spec = ChecksSpec.model_validate({"severity": {"Data Duplicates": "ignore"}})
    kept, ignored = without_left_out(results, spec)
    assert not [result for result in kept if result.header.startswith("Data Duplicates")]
    assert ignored == {"Data Duplicates": "checks.severity says ignore"}


def test_numbers_have_no_conflicting_labels_and_targets_instead() -> None:
    part = PredictedPart(FEATURES, TRUTH, TRUTH)
    comparison = compare_parts(part, part, "regression", ("b",), 5)
    assert comparison.conflicts == {}
    results = own_results(comparison, (5, 5), "regression")
    assert "New Label Train Test" in [one.header for one in results["train_test_validation"]]
    assert "NewLabelTrainTest" in answered_kinds("regression")
    assert "ConflictingLabels" in answered_kinds("multiclass")


def test_a_holdout_of_hardly_any_rows_is_told() -> None:
    part = PredictedPart(FEATURES, TRUTH, TRUTH)
    comparison = compare_parts(part, part, "binary", ("b",), 5)
    results = own_results(comparison, (1000, 5), "binary")["train_test_validation"]
    report = collect(results, {}, ChecksSpec())
    assert "Test-Train size ratio is 0.005" in report.warned["Datasets Size Comparison"]
