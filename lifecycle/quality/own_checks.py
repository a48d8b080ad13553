"""Checks that are answered exactly, on all rows, before deepchecks gets a sample of them."""

import html
from collections.abc import Sequence

from lifecycle.project import ChecksSpec, Suite, TaskKind
from lifecycle.quality.checks_program import letters
from lifecycle.quality.findings import Condition, Result, left_out_names, without_part
from lifecycle.quality.parts import ComparisonFinding, PartComparison

LEAST_SIZE = 0.01
"""Rows of the holdout over those of the train part."""
MAX_DUPLICATES, MAX_CONFLICTS = 0.05, 0.01
"""Shares of a part's rows: copies of another row, and equal features with another label.

0 % of conflicts, as deepchecks has it, leaves no room for chance.
"""


def answered_kinds(task: TaskKind) -> list[str]:
    """deepchecks' checks that these replace, as its classes are named."""
    numbers = task in ("regression", "count")
    always = ["DataDuplicates", "DatasetsSizeComparison", "TrainTestSamplesMix"]
    return [*always, "NewLabelTrainTest" if numbers else "ConflictingLabels"]


def own_results(
    comparison: PartComparison, sizes: tuple[int, int], task: TaskKind
) -> dict[Suite, list[Result]]:
    """Suite → its checks of ours.

    Args:
        sizes: rows of train part and holdout.
    """
    integrity = [
        _share(
            f"Data Duplicates ({part})",
            "Detect rows that equal another row of their part, in every column.",
            f"Duplicate rows at most {MAX_DUPLICATES:.0%}",
            share,
            MAX_DUPLICATES,
        )
        for part, share in comparison.duplicates.items()
    ]
    integrity += [
        _share(
            f"Conflicting Labels ({part})",
            "Detect rows with equal features and another label.",
            f"Rows with conflicting labels at most {MAX_CONFLICTS:.0%}",
            share,
            MAX_CONFLICTS,
        )
        for part, share in comparison.conflicts.items()
    ]
    ratio = sizes[1] / sizes[0] if sizes[0] else 0.0
    size = Condition(
        name=f"Test-Train size ratio is greater than {LEAST_SIZE}",
        category="PASS" if ratio > LEAST_SIZE else "FAIL",
        details=f"Test-Train size ratio is {ratio:.2g}",
    )
    validation = [
        Result(
            header="Datasets Size Comparison",
            summary="Compare the rows of holdout and train part.",
            conditions=(size,),
            html=_table([("train", f"{sizes[0]:,}"), ("holdout", f"{sizes[1]:,}")]),
        ),
        _result_of(
            "Train Test Samples Mix",
            "Detect holdout rows that equal a row of the train part, beyond what is natural.",
            "No more copies than coincidence makes",
            [comparison.copies],
        ),
        _result_of(
            "Missing Values Train Test",
            "Detect columns of which the holdout lacks many more cells than the train part.",
            "Cells are missing about as often in both parts",
            comparison.missing,
        ),
        _result_of(
            "Unit Train Test",
            "Detect columns whose values in the holdout are those of the train part in another "
            "unit.",
            "Columns have the same unit in both parts",
            comparison.units,
        ),
    ]
    if task in ("regression", "count"):
        validation.append(
            _result_of(
                "New Label Train Test",
                "Detect a numeric target out of the range or in another unit than in the train "
                "part.",
                "Targets are within what was learned from",
                comparison.targets,
            )
        )
    return {"data_integrity": integrity, "train_test_validation": validation}


def without_left_out(
    results: Sequence[Result], spec: ChecksSpec
) -> tuple[list[Result], dict[str, str]]:
    """The results but those of checks that are not run; and these → the reason."""
    names = left_out_names(spec)
    plain = [(result, without_part(result.header)) for result in results]
    remaining = [result for result, name in plain if letters(name) not in names]
    reasons = {name: names[letters(name)] for _, name in plain if letters(name) in names}
    return remaining, reasons


def _share(header: str, summary: str, expected: str, share: float, limit: float) -> Result:
    details = f"Found {share:.2%} of the rows"
    category = "FAIL" if share > limit else "PASS"
    condition = Condition(name=expected, category=category, details=details)
    return Result(header=header, summary=summary, conditions=(condition,))


def _result_of(
    header: str, summary: str, expected: str, findings: Sequence[ComparisonFinding]
) -> Result:
    failed = [finding.text for finding in findings if finding.failed]
    texts = "; ".join(failed or [finding.text for finding in findings])
    condition = Condition(
        name=expected,
        category="FAIL" if failed else "PASS",
        details=texts or "Nothing of the kind",
    )
    rows = [(finding.subject, finding.text) for finding in findings]
    table = _table(rows) if rows else ""
    return Result(header=header, summary=summary, conditions=(condition,), html=table)


def _table(rows: Sequence[tuple[str, str]]) -> str:
    cells = "".join(
        f"<tr><th>{html.escape(name)}</th><td>{html.escape(text)}</td></tr>" for name, text in rows
    )
    return f"<table>{cells}</table>"
