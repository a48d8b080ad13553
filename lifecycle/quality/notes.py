"""How a suite was run, in words, for its page."""

from collections.abc import Mapping

from lifecycle.project import ChecksSpec, Metric, Suite, TaskKind
from lifecycle.quality.checks_program import (
    DOMINANT_PPS,
    GIVEAWAY_PPS,
    IDENTIFIER_PPS,
    LEAD,
    MOVED,
    SEGMENT_FEATURES,
    SLOW_ROWS,
    SYSTEMATIC_ERROR,
)
from lifecycle.quality.exchange import compared_by
from lifecycle.quality.own_checks import MAX_CONFLICTS


def notes_on(
    key: Suite,
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
            "Data Duplicates and Conflicting Labels are counted by us, on all rows.",
            f"Conflicting Labels may be up to {MAX_CONFLICTS:.0%} of rows (deepchecks: 0 %), an "
            f"identifier's predictive power up to {IDENTIFIER_PPS} (deepchecks: 0).",
            f"A feature gives the target away from a predictive power of {GIVEAWAY_PPS} on, or of "
            f"{DOMINANT_PPS} where the next best is {LEAD} lower (deepchecks: {DOMINANT_PPS}).",
        ]
    if key == "train_test_validation":
        notes.append(
            "Sizes, copies, missing values and units are compared by us, on all rows. Limits of "
            "drift, of new categories and of a feature's changed power allow for the size of the "
            "holdout."
        )
    if key == "model_evaluation":
        if spec.rule("Weak Segments Performance").severity != "ignore":
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
