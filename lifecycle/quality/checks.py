"""The one adapter around deepchecks: handed frames and predictions, never model objects.

deepchecks (AGPL-3.0) is imported inside `run_checks` only, with its telemetry, progress bars and
warnings off and everything it changes globally put back, so that it can move to an environment of
its own later.
"""

import logging
import os
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from lifecycle.quality.findings import collect
from lifecycle.records import CheckReport
from lifecycle.specs import ChecksSpec, Metric, TaskKind

log = logging.getLogger(__name__)


ROLES = {"(target)": "label", "(entity)": "index_name", "(time)": "datetime_name"}
"""Columns that are no features, by names no feature has → deepchecks' word for the role."""


@dataclass(frozen=True)
class Answered:
    """A part of the data, as the model sees it, with truth and the model's answers."""

    features: pd.DataFrame
    """(n, k): features after the hook; categories not encoded."""
    truth: NDArray[np.float64]
    """(n,): 0 or 1 for binary, the target's own unit for regression."""
    prediction: NDArray[np.float64]
    """(n,): probability of 1, or the value."""
    entity: NDArray[Any] | None = None
    """(n,): who or what each row is about."""
    time: NDArray[Any] | None = None
    """(n,): the time column."""


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
) -> CheckReport:
    """Run the suites data_integrity, train_test_validation and model_evaluation.

    Where deepchecks compares performance it uses the project's own deciding metric. A check that
    could not run, or found nothing to look at, is listed under `not_run` with the reason.

    Args:
        categorical: features that are categories.
        importances: feature → importance ≥ 0 (a feature without an entry has none).
        folder: where one self-contained HTML file a suite is written, atomically.

    Raises:
        ValueError: a part has no rows, or train and holdout differ in features.
    """
    if list(train.features.columns) != list(holdout.features.columns):
        raise ValueError("train and holdout must have the same features in the same order")
    if not len(train.features) or not len(holdout.features):
        raise ValueError("train and holdout must both have rows")
    folder.mkdir(parents=True, exist_ok=True)
    with quiet():
        # Here and not above: the import takes seconds and, unless told otherwise, phones home.
        from lifecycle.quality import checks_page
        from lifecycle.quality.suites import make_suites, notes_on, run_suite

        given = _given(train, holdout, task, categorical, importances)
        identifiers = {"(entity)": train.entity, "(time)": train.time}
        named = [name for name, values in identifiers.items() if values is not None]
        suites = make_suites(task, metric, spec, named)
        results = {}
        reports = []
        for key, suite in suites.items():
            results[key] = run_suite(suite, given)
            reports.append(
                checks_page.write(results[key], notes_on(key, task, spec), folder / f"{key}.html")
            )
    rows = min(spec.sample_rows, max(len(train.features), len(holdout.features)))
    return collect([r for result in results.values() for r in result.results], task).model_copy(
        update={"reports": tuple(reports), "sampled_rows": rows}
    )


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


def _given(
    train: Answered,
    holdout: Answered,
    task: TaskKind,
    categorical: tuple[str, ...],
    importances: Mapping[str, float],
) -> dict[str, Any]:
    """Arguments of `Suite.run`."""
    columns = list(train.features.columns)
    ranks = pd.Series({name: max(importances.get(name, 0.0), 0.0) for name in columns})
    given: dict[str, Any] = {
        "train_dataset": _dataset(train, 0, task, categorical),
        "test_dataset": _dataset(holdout, len(train.features), task, categorical),
        "feature_importance": ranks / ranks.sum() if ranks.sum() > 0 else None,
    }
    if task == "regression":
        return given | {"y_pred_train": train.prediction, "y_pred_test": holdout.prediction}
    return given | {
        "model_classes": [0, 1],
        "y_pred_train": (train.prediction >= 0.5).astype(int),
        "y_pred_test": (holdout.prediction >= 0.5).astype(int),
        "y_proba_train": np.column_stack([1 - train.prediction, train.prediction]),
        "y_proba_test": np.column_stack([1 - holdout.prediction, holdout.prediction]),
    }


def _dataset(part: Answered, first: int, task: TaskKind, categorical: tuple[str, ...]) -> Any:
    """A deepchecks Dataset; rows are numbered from `first`, or it would rename them all."""
    from deepchecks.tabular import Dataset

    frame = part.features.set_axis(pd.RangeIndex(first, first + len(part.features)), axis=0)
    for name in frame.columns:  # it knows neither nullable integers nor nullable booleans
        if isinstance(frame[name].dtype, pd.api.extensions.ExtensionDtype):
            frame = frame.assign(**{name: _plain(frame[name], name in categorical)})
    features = list(frame.columns)
    truth = part.truth.astype(int) if task == "binary" else part.truth
    columns = dict(zip(ROLES, (truth, part.entity, part.time), strict=True))
    given = {column: values for column, values in columns.items() if values is not None}
    return Dataset(
        frame.assign(**given),
        **{ROLES[column]: column for column in given},
        features=features,
        cat_features=[name for name in categorical if name in features],
        label_type=task,
        convert_datetime=False,
    )


def _plain(column: pd.Series, categorical: bool) -> pd.Series:
    """A nullable column as objects with None, or as floats with NaN."""
    if categorical:
        return column.astype(object).where(column.notna(), None)
    return column.astype("float64")
