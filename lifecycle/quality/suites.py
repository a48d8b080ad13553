"""The stock deepchecks suites, made quick and fair, and run on predictions.

Imported inside `checks.quiet()` only: importing deepchecks reaches out and makes noise elsewhere.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import pandas as pd
from deepchecks.core import CheckResult, ConditionCategory, ConditionResult, SuiteResult
from deepchecks.tabular import Suite, TrainTestCheck
from deepchecks.tabular.checks import DatasetsSizeComparison
from deepchecks.tabular.suites import data_integrity, model_evaluation, train_test_validation

from lifecycle.data.distance import cramers_v_by_chance, kolmogorov_smirnov_by_chance
from lifecycle.quality.findings import kind_of, left_out
from lifecycle.quality.parts import ALPHA, Comparison, Finding
from lifecycle.quality.scorers import compared_by, scorer
from lifecycle.specs import ChecksSpec, Metric, TaskKind

SLOW_ROWS = 2_000
"""Rows for the checks whose time grows with the square of the rows (see `_slim`)."""
CONFLICTS, IDENTIFIER_PPS, SYSTEMATIC_ERROR = 0.01, 0.5, 0.1
"""Limits of three checks; see `_fit_conditions`."""
MOVED = 0.7
"""Mean error over RMSE above which half of the squared error is one constant."""
GIVEAWAY_PPS, DOMINANT_PPS, LEAD = 0.97, 0.8, 0.3
"""One feature gives the target away: nearly exactly, or well and far better than the next best."""
SPECIAL_SHARE = 0.1
"""Share of a column's cells that may be punctuation alone."""
PPS_CHANGE, DRIFT, TARGET_DRIFT = 0.2, 0.2, 0.15
"""deepchecks' own limits, which hold where the holdout is large."""
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


class _PartsCheck(TrainTestCheck):  # type: ignore[misc]  # deepchecks has no types
    """A comparison of the whole parts, made before deepchecks gets its sample of them."""

    header = expected = ""

    def __init__(self, findings: Sequence[Finding], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.findings = findings
        self.add_condition(self.expected, self._judged)

    @classmethod
    def name(cls) -> str:
        return cls.header

    def run_logic(self, context: Any) -> Any:
        rows = [(finding.subject, finding.text) for finding in self.findings]
        display = pd.DataFrame(rows, columns=["what", "found"]).set_index("what") if rows else None
        return CheckResult(value=self.findings, header=self.header, display=display)

    @staticmethod
    def _judged(findings: Sequence[Finding]) -> Any:
        failed = [finding.text for finding in findings if finding.failed]
        if failed:
            return ConditionResult(ConditionCategory.FAIL, "; ".join(failed))
        texts = "; ".join(finding.text for finding in findings)
        return ConditionResult(ConditionCategory.PASS, texts or "Nothing of the kind")


class SamplesMix(_PartsCheck):
    """Detect holdout rows that equal a row of the train part, beyond what is natural."""

    header, expected = "Train Test Samples Mix", "No more copies than coincidence makes"


class MissingValues(_PartsCheck):
    """Detect columns of which the holdout lacks many more cells than the train part."""

    header, expected = "Missing Values Train Test", "Cells are missing about as often in both parts"


class Units(_PartsCheck):
    """Detect columns whose values in the holdout are those of the train part in another unit."""

    header, expected = "Unit Train Test", "Columns have the same unit in both parts"


class NewTargets(_PartsCheck):
    """Detect a numeric target out of the range or in another unit than in the train part."""

    header, expected = "New Label Train Test", "Targets are within what was learned from"


class Parts(NamedTuple):
    """What the conditions know of the parts that deepchecks is not told."""

    sizes: tuple[int, int]
    """Rows of train part and holdout, of which deepchecks is given a sample."""
    rows: tuple[int, int]
    """Rows of the samples."""
    identifiers: list[str]
    """Columns of the datasets that are neither features nor label."""
    comparison: Comparison


def make_suites(
    task: TaskKind, metric: Metric, spec: ChecksSpec, parts: Parts
) -> dict[str, tuple[Any, dict[str, str]]]:
    """The stock suites that `spec` names, without what cannot run or is ignored.

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
        if key == "train_test_validation":
            suite = _with_comparison(suite, task, parts.comparison)
        skipped = {}
        for index, check in list(suite.checks.items()):
            if why := left_out(check, task, spec):
                skipped[check.name()] = why
                suite.remove(index)
            elif kind_of(check) == "DatasetsSizeComparison":
                sized = SizesBeforeSampling(parts.sizes)
                suite.checks[index] = sized.add_condition_test_train_size_ratio_greater_than()
            else:
                _slim(check, task, by, spec)
                _fit_conditions(check, parts)
        suites[key] = suite, skipped
    return suites


def _with_comparison(suite: Any, task: TaskKind, comparison: Comparison) -> Any:
    """The suite with our comparisons of the whole parts, in place of deepchecks' of samples."""
    values = task in ("regression", "count")
    for index, check in list(suite.checks.items()):
        mixed = kind_of(check) == "TrainTestSamplesMix"
        if mixed or (values and kind_of(check) == "NewLabelTrainTest"):
            suite.remove(index)
    checks = [
        SamplesMix([comparison.copies]),
        MissingValues(comparison.missing),
        Units(comparison.units),
        *([NewTargets(comparison.targets)] if values else []),
    ]
    return Suite(suite.name, *suite.checks.values(), *checks)


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


def _fit_conditions(check: Any, parts: Parts) -> None:
    """Conditions that a sound data set keeps, whatever the size of its holdout.

    0 % of rows with equal features and different labels leaves no room for chance; an identifier
    that says nothing at all of the label (PPS 0) cannot be where things have several rows or the
    label changes over time; a mean error below 1 % of the RMSE is less than 10,000 rows can show.
    Drift counts beyond what two samples of one distribution show, new categories beyond what the
    number of those seen once foretells.
    """
    comparison, (train, holdout) = parts.comparison, parts.rows
    alpha = ALPHA / max(len(comparison.new_categories), 1)
    numeric = kolmogorov_smirnov_by_chance(train, holdout, alpha)
    categorical = cramers_v_by_chance(train, holdout, comparison.levels, alpha)
    match kind_of(check):
        case "FeatureLabelCorrelation":
            _only(check, f"No feature alone gives the target away (PPS {GIVEAWAY_PPS})", _giveaway)
        case "SpecialCharacters":
            _only(check, f"Cells of punctuation alone at most {SPECIAL_SHARE:.0%}", _punctuation)
        case "ConflictingLabels":
            check.clean_conditions()
            check.add_condition_ratio_of_conflicting_labels_less_or_equal(CONFLICTS)
        case "IdentifierLabelCorrelation":
            check.clean_conditions()
            check.add_condition_pps_less_or_equal(IDENTIFIER_PPS)
        case "RegressionErrorDistribution":
            expected = f"Mean error within {MOVED} of the RMSE, {SYSTEMATIC_ERROR} at best"
            _only(check, expected, _systematic_error)
        case "IsSingleValue":
            check.ignore_columns = [*parts.identifiers, *comparison.nearly_constant] or None
        case "NewCategoryTrainTest":
            limits = comparison.new_categories
            _only(
                check,
                "No more new categories than those seen once foretell",
                lambda result: _new_categories(result, limits),
            )
        case "FeatureLabelCorrelationChange":
            check.clean_conditions()
            limit = PPS_CHANGE + 2 / holdout**0.5
            check.add_condition_feature_pps_difference_less_than(round(limit, 2))
        case "FeatureDrift":
            check.clean_conditions()
            check.add_condition_drift_score_less_than(
                max_allowed_categorical_score=round(max(DRIFT, categorical), 3),
                max_allowed_numeric_score=round(max(DRIFT, numeric), 3),
            )
        case "LabelDrift" | "PredictionDrift":
            check.clean_conditions()
            limit = max(TARGET_DRIFT, numeric, categorical if comparison.levels else 0.0)
            check.add_condition_drift_score_less_than(max_allowed_drift_score=round(limit, 3))


def _only(check: Any, expected: str, condition: Callable[[Any], Any]) -> None:
    check.clean_conditions()
    check.add_condition(expected, condition)


def _giveaway(scores: Mapping[str, float]) -> Any:
    """Predictive power scores: nearly 1, or high and far above the next best feature's."""
    ranks = sorted(scores.items(), key=lambda item: -item[1])
    best, power = ranks[0]
    second = ranks[1][1] if len(ranks) > 1 else 0.0
    found = [name for name, value in ranks if value >= GIVEAWAY_PPS]
    text = f"{best} has a predictive power of {power:.2f}, the next best {second:.2f}"
    if found or (power >= DOMINANT_PPS and power - second >= LEAD):
        names = ", ".join(found or [best])
        way = f"declare it as leakage: [{names}] if it is known only after the target"
        return ConditionResult(ConditionCategory.FAIL, f"{text}; {way}")
    return ConditionResult(
        ConditionCategory.WARN if power >= DOMINANT_PPS else ConditionCategory.PASS, text
    )


def _punctuation(shares: Mapping[str, float]) -> Any:
    found = {name: f"{share:.1%}" for name, share in shares.items() if share > 0}
    if not found:
        return ConditionResult(ConditionCategory.PASS, f"{len(shares)} columns have none")
    worst = max(shares.values()) > SPECIAL_SHARE
    kind = ConditionCategory.FAIL if worst else ConditionCategory.WARN
    return ConditionResult(kind, f"Cells of punctuation alone: {found}")


def _systematic_error(value: Mapping[str, float]) -> Any:
    error = abs(value["Mean Prediction Error"])
    ratio = error / value["RMSE"] if value["RMSE"] else 0.0
    text = f"The mean error is {ratio:.2f} of the RMSE"
    if ratio >= MOVED:
        return ConditionResult(
            ConditionCategory.FAIL,
            f"{text}: more than half of the squared error is one constant, so the target moved",
        )
    kind = ConditionCategory.WARN if ratio >= SYSTEMATIC_ERROR else ConditionCategory.PASS
    return ConditionResult(kind, text)


def _new_categories(result: pd.DataFrame, limits: Mapping[str, float]) -> Any:
    shares = result["Ratio of New Categories"].to_dict()
    found = {
        name: f"{share:.2%}, limit {limits.get(str(name), 0.0):.2%}"
        for name, share in shares.items()
        if share > limits.get(str(name), 0.0)
    }
    if not found:
        return ConditionResult(ConditionCategory.PASS, f"{len(shares)} columns keep their limit")
    words = "; ".join(f"{name}: {text}" for name, text in found.items())
    return ConditionResult(ConditionCategory.FAIL, f"Rows with a new category: {words}")


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
            f"A feature gives the target away from a predictive power of {GIVEAWAY_PPS} on, or of "
            f"{DOMINANT_PPS} where the next best is {LEAD} lower (deepchecks: {DOMINANT_PPS}).",
        ]
    if key == "train_test_validation":
        notes.append(
            "Copies, missing values and units are compared on all rows. Limits of drift, of new "
            "categories and of a feature's changed power allow for the size of the holdout."
        )
    if key == "model_evaluation":
        notes.append(
            f"Weak Segments Performance looks at {slow:,} rows of the holdout and pairs of the "
            f"{SEGMENT_FEATURES} most important features."
        )
        if metric != (by := compared_by(task, metric)):
            notes.append(f"Compared by {by}, as {metric} is a metric of the project's own.")
        if task in ("regression", "count"):
            notes.append(
                f"A mean error of {SYSTEMATIC_ERROR:.0%} of the RMSE warns (deepchecks: 1 %), of "
                f"{MOVED:.0%} it blocks."
            )
    return [*notes, *(f"Not run: {name}: {why}." for name, why in skipped.items())]
