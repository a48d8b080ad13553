"""Runs the checks: ours on all rows, deepchecks' on a sample, in a program of its own.

deepchecks (AGPL-3.0) is nowhere in this process. What crosses are two tables, a request and a
report; no model and no code of the user's does.
"""

import html
import logging
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

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
from lifecycle.quality.findings import Result, check_name, collect, suites_left_out, verdict
from lifecycle.quality.own_checks import MAX_CONFLICTS, own_results, without_left_out
from lifecycle.quality.parts import PredictedPart, compare_parts, draw
from lifecycle.quality.program import (
    ChecksProgram,
    ChecksRequest,
    ProgramError,
    compared_by,
    write_request,
)
from lifecycle.records import CheckReport
from lifecycle.runtime.html import Cell, PageSection, Table, Tone, page, write_page

logger = logging.getLogger(__name__)

# Notes on how a suite was run, for its page.


def notes_on(
    key: Suite,
    task: TaskKind,
    metric: Metric,
    spec: ChecksSpec,
    rows: tuple[tuple[int, int], tuple[int, int]],
    skipped: Mapping[str, str],
) -> list[str]:
    """Return the notes of a suite's page on how the suite was run.

    Args:
        rows: rows that were checked of train part and holdout, and the rows they have.
        skipped: checks removed from the suite → the reason.
    """
    looked, total = rows
    notes = [
        f"The checks look at {looked[0]:,} of {total[0]:,} rows of the train part and "
        f"{looked[1]:,} of {total[1]:,} of the holdout: those with a target, of a part with more "
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
    return [*notes, *(f"Not run: {name}: {reason}." for name, reason in skipped.items())]


def run_checks(
    train: PredictedPart,
    holdout: PredictedPart,
    request: ChecksRequest,
    folder: Path,
    program: ChecksProgram,
) -> CheckReport:
    """Run the suites that `spec.suites` names; deepchecks sees at most `spec.sample_rows` rows of
    either part.

    Where deepchecks compares performance it uses the deciding metric. A check that could not run,
    or found nothing to look at, is listed under `not_run` with the reason; so is a suite that is
    not named, and every suite if the program gives no report. Without any suite it is not started.

    Args:
        folder: where one self-contained HTML file a suite is written, atomically.
        program: asked once; whoever made it closes it.

    Raises:
        ValueError: a part has no row with a truth, or train and holdout differ in features.
    """
    spec, task = request.spec, request.task
    if not spec.suites:
        return without_suites(spec)
    if list(train.features.columns) != list(holdout.features.columns):
        raise ValueError("train and holdout must have the same features in the same order")
    sizes = len(train.features), len(holdout.features)
    samples = draw(train), draw(holdout)
    train, holdout = draw(train, spec.sample_rows), draw(holdout, spec.sample_rows)
    rows = len(train.features), len(holdout.features)
    if not all(rows):
        raise ValueError("train and holdout must both have rows with a truth")
    program.start()
    comparison = compare_parts(*samples, task, request.categorical, rows[1])

    def write(place: Path) -> None:
        write_request(place, train, holdout, request, comparison)

    try:
        answer = program.ask(spec.suites, write)
    except ProgramError as error:
        logger.warning("The checks did not run: %s", error)
        return _not_run(spec, str(error))
    folder.mkdir(parents=True, exist_ok=True)
    own = own_results(comparison, sizes, task)
    results: list[Result] = []
    reports = []
    left_out = suites_left_out(spec)
    for suite in spec.suites:
        suite_report = answer.suites[suite]
        own_report, ignored = without_left_out(own.get(suite, []), spec)
        skipped = suite_report.skipped | ignored
        all_results = [*suite_report.results, *own_report]
        notes = notes_on(suite, task, request.metric, spec, (rows, sizes), skipped)
        path = folder / f"{suite}.html"
        reports.append(
            write_checks_page(suite_report.title, all_results, notes, spec, answer.plotly, path)
        )
        results += all_results
        left_out |= skipped
    report = collect(results, left_out, spec)
    return report.model_copy(update={"reports": tuple(reports), "sampled_rows": max(rows)})


def without_suites(spec: ChecksSpec) -> CheckReport:
    """Return the report of a project that names no suite."""
    skipped = suites_left_out(spec)
    return CheckReport(passed=(), failed={}, not_run=skipped, reports=(), sampled_rows=0)


def _not_run(spec: ChecksSpec, reason: str) -> CheckReport:
    """No check at all: ours alone are not what the project asks for."""
    skipped = suites_left_out(spec) | {f"Suite {suite}": reason for suite in spec.suites}
    return CheckReport(passed=(), failed={}, not_run=skipped, reports=(), sampled_rows=0)


# The page of a suite: one HTML file that opens without a network, with plotly.js in it once.

STATES: dict[str, Cell] = {
    "failed": Cell("failed", "bad"),
    "warned": Cell("warning", "warn"),
    "not_run": Cell("did not run", "warn"),
    "passed": Cell("passed", "good"),
}
RESIZE = """
document.addEventListener("toggle", (event) => {
  if (event.target.open) {
    event.target.querySelectorAll(".js-plotly-plot").forEach((plot) => Plotly.Plots.resize(plot));
  }
}, true);
"""  # a plot inside a closed <details> has no width until it is opened


def write_checks_page(
    title: str,
    results: Sequence[Result],
    notes: list[str],
    spec: ChecksSpec,
    plotly: str,
    path: Path,
) -> Path:
    """Write the page of a suite.

    Args:
        notes: how the suite was run, in words.
        spec: which checks block and which warn.
        plotly: the script of the plots.
    """
    ran = [result for result in results if result.error is None]
    judged = [
        (verdict(name, condition, spec)[0], name, condition.name, condition.details)
        for result in ran
        for name in [check_name(result.header)]
        for condition in result.conditions
    ]
    judged.sort(key=lambda row: list(STATES).index(row[0]))
    rows: list[tuple[str | Cell, ...]] = [(STATES[state], *row) for state, *row in judged]
    stopped = [
        (check_name(result.header), " ".join(re.sub(r"<[^>]+>", " ", result.error).split()))
        for result in results
        if result.error is not None
    ]
    sections = [
        PageSection(
            "Conditions", table=Table(("state", "check", "expected", "found"), tuple(rows))
        ),
        PageSection("What the checks show", html="".join(_text_of(r) for r in ran if r.html)),
        PageSection("Did not run", table=Table(("check", "why"), tuple(stopped))),
        PageSection("How it was run", points=tuple(notes)),
    ]
    failed = sum(state == "failed" for state, *_ in judged)
    tone: Tone = "bad" if failed else "good"
    text = page(
        title,
        [s for s in sections if s.table is None or s.table.rows],
        lead="deepchecks on the train part (train) and the holdout (test in its own words).",
        verdict=Cell(f"{failed} of {len(rows)} conditions block the gate", tone),
        scripts=[plotly, RESIZE],
    )
    return write_page(text, path)


def _text_of(result: Result) -> str:
    """One check: what it is about, and its tables and plots."""
    return (
        f"<h3>{html.escape(check_name(result.header))}</h3><p>{result.summary}</p>"
        f'<div class="wide">{result.html}</div>'
    )
