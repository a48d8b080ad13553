"""The stock deepchecks suites, made quick and fair, and run on predictions.

Imported inside `checks.quiet()` only: importing deepchecks reaches out and makes noise elsewhere.
"""

from collections.abc import Mapping
from typing import Any

import pandas as pd
from deepchecks.core import CheckResult, SuiteResult
from deepchecks.tabular import Suite
from deepchecks.tabular.checks import DatasetsSizeComparison
from deepchecks.tabular.suites import data_integrity, model_evaluation, train_test_validation

from lifecycle.quality.findings import kind_of, left_out
from lifecycle.quality.scorers import compared_by, scorer
from lifecycle.specs import ChecksSpec, Metric, TaskKind

SLOW_ROWS = 2_000
"""Rows for the checks whose time grows with the square of the rows (see `_slim`)."""
CONFLICTS, IDENTIFIER_PPS, SYSTEMATIC_ERROR = 0.01, 0.5, 0.1
"""Limits of three checks; see `_loosen`."""
SEGMENT_FEATURES = 6
"""Weak segments are searched in pairs of this many of the most important features."""


class SizesBeforeSampling(DatasetsSizeComparison):  # type: ignore[misc]  # deepchecks has no types
    """Verify test dataset size comparing it to the train dataset size; of the whole parts."""

    def __init__(self, sizes: tuple[int, int], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.sizes = sizes

    @classmethod
    def name(cls) -> str:
        return str(DatasetsSizeComparison.name())

    def run_logic(self, context: Any) -> Any:
        # the context has the sample only
        sizes = dict(zip(("Train", "Test"), self.sizes, strict=True))
        return CheckResult(value=sizes, display=pd.DataFrame(sizes, index=["Size"]))


def make_suites(
    task: TaskKind,
    metric: Metric,
    spec: ChecksSpec,
    identifiers: list[str],
    sizes: tuple[int, int],
) -> dict[str, tuple[Any, dict[str, str]]]:
    """The stock suites that `spec` names, without what cannot run, the slow checks slimmed.

    Args:
        identifiers: columns of the datasets that are neither features nor label.
        sizes: rows of train part and holdout, of which deepchecks is given a sample.

    Returns:
        Name → suite, and the checks taken out of it with the reason.
    """
    by = compared_by(task, metric)
    stock: dict[str, Any] = {
        "data_integrity": data_integrity,
        "train_test_validation": train_test_validation,
        "model_evaluation": model_evaluation,
    }
    suites: dict[str, tuple[Any, dict[str, str]]] = {}
    for key in spec.suites:
        more = {"scorers": {by: scorer(task, by)}} if key == "model_evaluation" else {}
        suite = stock[key](n_samples=spec.sample_rows, **more)
        skipped = {}
        for index, check in list(suite.checks.items()):
            if check.name() in left_out(task):
                skipped[check.name()] = left_out(task)[check.name()]
                suite.remove(index)
            elif kind_of(check) == "DatasetsSizeComparison":
                sized = SizesBeforeSampling(sizes)
                suite.checks[index] = sized.add_condition_test_train_size_ratio_greater_than()
            else:
                _slim(check, task, by, spec)
                _loosen(check, identifiers)
        suites[key] = suite, skipped
    return suites


def run_suite(suite: Any, given: dict[str, Any]) -> Any:
    """Run a suite; weak segments are searched in the holdout only.

    What the train part says about them is how well it was learnt by heart.
    """

    single = [i for i, check in suite.checks.items() if kind_of(check) == "WeakSegmentsPerformance"]
    checks = [suite.checks[index] for index in single]
    for index in single:
        suite.remove(index)
    result = suite.run(**given)
    if not checks:
        return result
    more = Suite(suite.name, *checks).run(**given, run_single_dataset="Test")
    return SuiteResult(suite.name, result.results + more.results)


def _slim(check: Any, task: TaskKind, metric: Metric, spec: ChecksSpec) -> None:
    """Bring down what dominates: 12,000 × 23 took 140 s, of it 118 s in these two checks.

    Both grow with the square of the rows: Gower distances of all pairs of rows, and decision trees
    with absolute error for all pairs of features.
    """
    if kind_of(check) in ("OutlierSampleDetection", "WeakSegmentsPerformance"):
        check.n_samples = min(SLOW_ROWS, spec.sample_rows)
    if kind_of(check) == "WeakSegmentsPerformance":
        check.n_top_features = SEGMENT_FEATURES
        if task not in ("binary", "multiclass"):  # stock scorers cannot run, see `scorers`
            check.alternative_scorer = {metric: scorer(task, metric)}


def _loosen(check: Any, identifiers: list[str]) -> None:
    """Conditions that hardly any real data set keeps, as they come with deepchecks.

    0 % of rows with equal features and different labels leaves no room for chance; an identifier
    that says nothing at all of the label (PPS 0) cannot be where things have several rows or the
    label changes over time; a mean error below 1 % of the RMSE is less than 10,000 rows can show.
    One period in the holdout is how a split by time looks.
    """
    match kind_of(check):
        case "ConflictingLabels":
            check.clean_conditions()
            check.add_condition_ratio_of_conflicting_labels_less_or_equal(CONFLICTS)
        case "IdentifierLabelCorrelation":
            check.clean_conditions()
            check.add_condition_pps_less_or_equal(IDENTIFIER_PPS)
        case "RegressionErrorDistribution":
            check.clean_conditions()
            check.add_condition_kurtosis_greater_than()
            check.add_condition_systematic_error_ratio_to_rmse_less_than(SYSTEMATIC_ERROR)
        case "IsSingleValue":
            check.ignore_columns = identifiers or None


def notes_on(
    key: str,
    task: TaskKind,
    metric: Metric,
    spec: ChecksSpec,
    rows: tuple[tuple[int, int], tuple[int, int]],
    skipped: Mapping[str, str],
) -> list[str]:
    """What the page says about how its suite was run.

    Args:
        rows: rows looked at of train part and holdout, and rows they have.
        skipped: checks taken out of the suite → why.
    """
    looked, whole = rows
    notes = [
        f"The checks look at {looked[0]:,} of {whole[0]:,} rows of the train part and "
        f"{looked[1]:,} of {whole[1]:,} of the holdout: those with a target, of a part with more "
        f"than {spec.sample_rows:,} so many drawn at random (checks.sample_rows)."
    ]
    slow = min(SLOW_ROWS, spec.sample_rows)
    if key == "data_integrity":
        notes += [
            f"Outlier Sample Detection looks at {slow:,} rows.",
            f"Conflicting Labels may be up to {CONFLICTS:.0%} of rows (deepchecks: 0 %), and an "
            f"identifier's predictive power up to {IDENTIFIER_PPS} (deepchecks: 0).",
            "A failure of Feature-Feature Correlation counts as a warning in the gate: features "
            "that say the same cost a tree model nothing.",
        ]
    if key == "model_evaluation":
        notes.append(
            f"Weak Segments Performance looks at {slow:,} rows of the holdout and pairs of the "
            f"{SEGMENT_FEATURES} most important features."
        )
        if metric != (by := compared_by(task, metric)):
            notes.append(f"Compared by {by}, as {metric} is a metric of the project's own.")
        if task in ("regression", "count"):
            notes.append(
                f"The mean error may be up to {SYSTEMATIC_ERROR:.0%} of the RMSE (deepchecks: 1 %)."
            )
    return [*notes, *(f"Not run: {name}: {why}." for name, why in skipped.items())]
