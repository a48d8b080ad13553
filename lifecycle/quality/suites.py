"""The stock deepchecks suites, made quick and fair, and run on predictions.

Imported inside `checks.quiet()` only: importing deepchecks reaches out and makes noise elsewhere.
"""

from collections.abc import Callable
from typing import Any

import pandas as pd
from deepchecks.core import SuiteResult
from deepchecks.tabular import Suite
from deepchecks.tabular.suites import data_integrity, model_evaluation, train_test_validation
from sklearn.metrics import mean_absolute_error, r2_score, root_mean_squared_error

from lifecycle.quality.findings import kind_of, left_out
from lifecycle.specs import METRICS, ChecksSpec, Metric, TaskKind

Scorer = str | Callable[[Any, pd.DataFrame, Any], float]
SLOW_ROWS = 2_000
"""Rows for the checks whose time grows with the square of the rows (see `_slim`)."""
CONFLICTS, IDENTIFIER_PPS, SYSTEMATIC_ERROR = 0.01, 0.5, 0.1
"""Limits of three checks; see `_loosen`."""
SEGMENT_FEATURES = 6
"""Weak segments are searched in pairs of this many of the most important features."""


def make_suites(
    task: TaskKind, metric: Metric, spec: ChecksSpec, identifiers: list[str]
) -> dict[str, Any]:
    """The three stock suites by name, without what cannot run, the slow checks slimmed.

    Args:
        identifiers: columns of the datasets that are neither features nor label.
    """
    suites: dict[str, Any] = {
        "data_integrity": data_integrity(n_samples=spec.sample_rows),
        "train_test_validation": train_test_validation(n_samples=spec.sample_rows),
        "model_evaluation": model_evaluation(
            n_samples=spec.sample_rows, scorers={metric: _scorer(metric)}
        ),
    }
    for suite in suites.values():
        for index, check in list(suite.checks.items()):
            if check.name() in left_out(task):
                suite.remove(index)
            else:
                _slim(check, metric, spec)
                _loosen(check, identifiers)
    return suites


def _scorer(metric: Metric) -> Scorer:
    """The project's metric as deepchecks takes it; greater is better.

    For regression it is a function: scikit-learn's own scorers, from 1.4 on, refuse the stand-in
    that deepchecks makes of predictions, as it is no regressor by type.
    """
    errors: dict[Metric, Callable[..., float]] = {
        "rmse": root_mean_squared_error,
        "mae": mean_absolute_error,
    }
    if metric in errors:
        return lambda model, features, truth: -errors[metric](truth, model.predict(features))
    if metric == "r2":
        return lambda model, features, truth: float(r2_score(truth, model.predict(features)))
    return {"log_loss": "neg_log_loss", "brier": "neg_brier_score"}.get(metric, metric)


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


def _slim(check: Any, metric: Metric, spec: ChecksSpec) -> None:
    """Bring down what dominates: 12,000 × 23 took 140 s, of it 118 s in these two checks.

    Both grow with the square of the rows: Gower distances of all pairs of rows, and decision trees
    with absolute error for all pairs of features.
    """
    if kind_of(check) in ("OutlierSampleDetection", "WeakSegmentsPerformance"):
        check.n_samples = min(SLOW_ROWS, spec.sample_rows)
    if kind_of(check) == "WeakSegmentsPerformance":
        check.n_top_features = SEGMENT_FEATURES
        if metric in METRICS["regression"]:  # stock scorers cannot run, see `_scorer`
            check.alternative_scorer = {metric: _scorer(metric)}


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


def notes_on(key: str, task: TaskKind, spec: ChecksSpec) -> list[str]:
    """What the page says about how its suite was run."""
    rows = f"{spec.sample_rows:,} rows of a part at most (checks.sample_rows)"
    notes = [f"Each check looks at {rows}."]
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
        if task == "regression":
            notes.append(
                f"The mean error may be up to {SYSTEMATIC_ERROR:.0%} of the RMSE (deepchecks: 1 %)."
            )
    return [*notes, *(f"Not run: {name}: {why}." for name, why in left_out(task).items())]
