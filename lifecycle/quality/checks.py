"""The one adapter around deepchecks: handed frames and predictions, never model objects.

deepchecks (AGPL-3.0) is imported inside `run_checks` only, with its telemetry, progress bars and
warnings off and everything it changes globally put back, so that it can move to an environment of
its own later.
"""

import logging
import os
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pandas as pd
from threadpoolctl import threadpool_limits

from lifecycle.quality.answered import Answered, as_given, draw
from lifecycle.quality.findings import collect, suites_left_out
from lifecycle.quality.parts import compare_parts
from lifecycle.records import CheckReport
from lifecycle.specs import ChecksSpec, Metric, Scalar, TaskKind

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
    classes: Sequence[Scalar] = (),
) -> CheckReport:
    """Run the suites that `spec.suites` names, on at most `spec.sample_rows` rows of either part.

    Where deepchecks compares performance it uses the deciding metric. A check that could not run,
    or found nothing to look at, is listed under `not_run` with the reason; so is a suite that is
    not named. Without any suite deepchecks is not imported.

    Args:
        categorical: features that are categories.
        importances: feature → importance ≥ 0 (a feature without an entry has none).
        classes: multiclass: the classes in the order of their codes.
        folder: where one self-contained HTML file a suite is written, atomically.

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
    folder.mkdir(parents=True, exist_ok=True)
    with quiet():
        # Here and not above: the import takes seconds and, unless told otherwise, phones home.
        from lifecycle.quality import checks_page
        from lifecycle.quality.suites import Parts, make_suites, notes_on, run_suite

        given = as_given(train, holdout, task, categorical, importances, classes)
        identifiers = {"(entity)": train.entity, "(time)": train.time}
        parts = Parts(
            sizes=sizes,
            rows=rows,
            identifiers=[name for name, values in identifiers.items() if values is not None],
            comparison=compare_parts(*whole, task, categorical, rows[1]),
        )
        results = []
        reports = []
        left_out = suites_left_out(spec)
        for key, (suite, skipped) in make_suites(task, metric, spec, parts).items():
            result = run_suite(suite, given)
            notes = notes_on(key, task, metric, spec, (rows, sizes), skipped)
            reports.append(checks_page.write(result, notes, spec, folder / f"{key}.html"))
            results += result.results
            left_out |= skipped
    found = collect(results, left_out, spec)
    return found.model_copy(update={"reports": tuple(reports), "sampled_rows": max(rows)})


def without_suites(spec: ChecksSpec) -> CheckReport:
    """What is reported where the project names no suite."""
    skipped = suites_left_out(spec)
    return CheckReport(passed=(), failed={}, not_run=skipped, reports=(), sampled_rows=0)


@contextmanager
def quiet() -> Iterator[None]:
    """Import and run deepchecks without network, noise or lasting changes to global state.

    Warnings filters, a pandas option, NumPy's global random state and the logger's level are put
    back. One thread: where the other cores are busy, OpenMP's waiting threads cost 20 s.
    """
    logger = logging.getLogger("deepchecks")
    level, random_state = logger.level, np.random.get_state()
    telemetry = os.environ.get("DISABLE_LATEST_VERSION_CHECK")
    os.environ["DISABLE_LATEST_VERSION_CHECK"] = "true"  # read once, at import
    try:
        with (
            warnings.catch_warnings(),
            pd.option_context("mode.chained_assignment", pd.get_option("mode.chained_assignment")),
        ):
            warnings.simplefilter("ignore")
            import deepchecks.tabular.suites  # noqa: F401 (its logger sets its level at import)

            logger.setLevel(logging.CRITICAL)  # from WARNING on there are no progress bars
            np.random.seed(42)
            with threadpool_limits(1):  # of the libraries loaded so far, so after the import
                yield
    finally:
        logger.setLevel(level)
        np.random.set_state(random_state)
        if telemetry is None:
            del os.environ["DISABLE_LATEST_VERSION_CHECK"]
        else:
            os.environ["DISABLE_LATEST_VERSION_CHECK"] = telemetry
