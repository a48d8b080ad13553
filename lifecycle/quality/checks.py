"""Runs the checks: ours on all rows, deepchecks' on a sample, in a program of its own.

deepchecks (AGPL-3.0) is nowhere in this process. What crosses are two tables, a request and a
report; no model and no code of the user's does.
"""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path

from lifecycle.project import ChecksSpec, Metric, Scalar, TaskKind
from lifecycle.quality import checks_page
from lifecycle.quality.answered import Answered, draw
from lifecycle.quality.exchange import write_request
from lifecycle.quality.findings import Result, collect, suites_left_out
from lifecycle.quality.notes import notes_on
from lifecycle.quality.own_checks import own_results, without_left_out
from lifecycle.quality.parts import compare_parts
from lifecycle.quality.program import ChecksProgram, ProgramError
from lifecycle.records import CheckReport

log = logging.getLogger(__name__)


def run_checks(
    train: Answered,
    holdout: Answered,
    *,
    task: TaskKind,
    metric: Metric,
    categorical: tuple[str, ...],
    importances: Mapping[str, float],
    spec: ChecksSpec,
    folder: Path,
    program: ChecksProgram,
    classes: Sequence[Scalar] = (),
) -> CheckReport:
    """Run the suites that `spec.suites` names; deepchecks sees at most `spec.sample_rows` rows of
    either part.

    Where deepchecks compares performance it uses the deciding metric. A check that could not run,
    or found nothing to look at, is listed under `not_run` with the reason; so is a suite that is
    not named, and every suite if the program gives no report. Without any suite it is not started.

    Args:
        categorical: features that are categories.
        importances: feature → importance ≥ 0 (a feature without an entry has none).
        classes: multiclass: the classes in the order of their codes.
        folder: where one self-contained HTML file a suite is written, atomically.
        program: asked once; whoever made it closes it.

    Raises:
        ValueError: a part has no row with a truth, or train and holdout differ in features.
    """
    if not spec.suites:
        return without_suites(spec)
    if list(train.features.columns) != list(holdout.features.columns):
        raise ValueError("train and holdout must have the same features in the same order")
    sizes = len(train.features), len(holdout.features)
    whole = draw(train), draw(holdout)
    train, holdout = draw(train, spec.sample_rows), draw(holdout, spec.sample_rows)
    rows = len(train.features), len(holdout.features)
    if not all(rows):
        raise ValueError("train and holdout must both have rows with a truth")
    program.start()
    comparison = compare_parts(*whole, task, categorical, rows[1])

    def write(place: Path) -> None:
        write_request(
            place,
            train,
            holdout,
            task=task,
            metric=metric,
            categorical=categorical,
            importances=importances,
            spec=spec,
            comparison=comparison,
            classes=classes,
        )

    try:
        answer = program.ask(spec.suites, write)
    except ProgramError as error:
        log.warning("The checks did not run: %s", error)
        return _not_run(spec, str(error))
    folder.mkdir(parents=True, exist_ok=True)
    own = own_results(comparison, sizes, task)
    results: list[Result] = []
    reports = []
    left_out = suites_left_out(spec)
    for suite in spec.suites:
        told = answer.suites[suite]
        ours, ignored = without_left_out(own.get(suite, []), spec)
        skipped = told.skipped | ignored
        found = [*told.results, *ours]
        notes = notes_on(suite, task, metric, spec, (rows, sizes), skipped)
        path = folder / f"{suite}.html"
        reports.append(checks_page.write(told.title, found, notes, spec, answer.plotly, path))
        results += found
        left_out |= skipped
    report = collect(results, left_out, spec)
    return report.model_copy(update={"reports": tuple(reports), "sampled_rows": max(rows)})


def without_suites(spec: ChecksSpec) -> CheckReport:
    """What is reported where the project names no suite."""
    skipped = suites_left_out(spec)
    return CheckReport(passed=(), failed={}, not_run=skipped, reports=(), sampled_rows=0)


def _not_run(spec: ChecksSpec, why: str) -> CheckReport:
    """No check at all: ours alone are not what the project asks for."""
    skipped = suites_left_out(spec) | {f"Suite {suite}": why for suite in spec.suites}
    return CheckReport(passed=(), failed={}, not_run=skipped, reports=(), sampled_rows=0)
