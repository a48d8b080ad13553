"""deepchecks on 1,000,000 × 20: our adapter beside the bare suites on equal data and answers.

Both look at as many rows (`n_samples`), in the two checks whose time grows with the square of the
rows too, which ours slims (lifecycle/quality/suites.py). Ours writes its pages, bare writes none.
"""

import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pandas as pd

from benchmarks.large import TARGET, frame
from benchmarks.result import Result, ratio, shown
from lifecycle.quality.answered import Answered, as_given, draw
from lifecycle.quality.checks import run_checks
from lifecycle.specs import ChecksSpec

TRAIN, FEATURES = 700_000, 20
"""Of 1,000,000 rows the first are the train part, the others the holdout."""
BAR = 2.0
SPEC = ChecksSpec()
METRIC = "roc_auc"


def parts() -> tuple[pd.DataFrame, Answered, Answered]:
    """The data, and its two parts with the answers of a model that knows four features."""
    data = frame(features=FEATURES)
    features = data.drop(columns=TARGET)
    score = features.to_numpy()[:, :4] @ [1.0, -0.8, 0.6, 0.4]
    truth, prediction = data[TARGET].to_numpy(float), 1 / (1 + np.exp(-score))

    def part(rows: slice) -> Answered:
        return Answered(features[rows], truth[rows], prediction[rows])

    return data, part(slice(0, TRAIN)), part(slice(TRAIN, None))


def importances(features: pd.DataFrame) -> dict[str, float]:
    return {name: float(len(features.columns) - at) for at, name in enumerate(features.columns)}


def bare(data: pd.DataFrame, train: Answered, holdout: Answered) -> None:
    """The three suites as their documentation runs them."""
    from deepchecks.tabular import Dataset
    from deepchecks.tabular.suites import data_integrity, model_evaluation, train_test_validation

    from lifecycle.quality.suites import SEGMENT_FEATURES, SLOW_ROWS

    rows = (slice(0, TRAIN), slice(TRAIN, None))
    datasets = [
        Dataset(data[part], label=TARGET, cat_features=[], label_type="binary") for part in rows
    ]
    answers = {
        "y_pred_train": (train.prediction >= 0.5).astype(int),
        "y_pred_test": (holdout.prediction >= 0.5).astype(int),
        "y_proba_train": np.c_[1 - train.prediction, train.prediction],
        "y_proba_test": np.c_[1 - holdout.prediction, holdout.prediction],
    }
    given = pd.Series(importances(train.features))
    answers["feature_importance"] = given / given.sum()
    suites = [
        make(n_samples=SPEC.sample_rows)
        for make in (data_integrity, train_test_validation, model_evaluation)
    ]
    for suite in suites:
        for check in suite.checks.values():
            if type(check).__name__ in ("OutlierSampleDetection", "WeakSegmentsPerformance"):
                check.n_samples = SLOW_ROWS
            if type(check).__name__ == "WeakSegmentsPerformance":
                check.n_top_features = SEGMENT_FEATURES
    suites[0].run(datasets[0], datasets[1])
    suites[1].run(*datasets)
    suites[2].run(*datasets, **answers)


def ours(train: Answered, holdout: Answered, folder: Path) -> None:
    """The adapter, with its pages."""
    report = run_checks(
        train,
        holdout,
        task="binary",
        metric=METRIC,
        categorical=(),
        importances=importances(train.features),
        spec=SPEC,
        folder=folder,
    )
    stated = f"{SPEC.sample_rows:,} of {TRAIN:,} rows of the train part"
    for page in report.reports:
        if stated not in page.read_text():
            raise RuntimeError(f"{page.name} does not state its sampling: {stated}")


def own_part(train: Answered, holdout: Answered) -> None:
    """What our adapter does before deepchecks gets the data: draw and build its datasets."""
    drawn = [draw(part, SPEC.sample_rows) for part in (train, holdout)]
    as_given(drawn[0], drawn[1], "binary", (), importances(train.features))


def measure(rounds: int) -> Iterator[Result]:
    """Interleaved rounds in one process, deepchecks imported before."""
    data, train, holdout = parts()
    seconds: dict[str, list[float]] = {"ours": [], "bare": [], "own": []}

    @contextmanager
    def timed(name: str) -> Iterator[None]:
        started = time.perf_counter()
        yield
        seconds[name].append(time.perf_counter() - started)

    with TemporaryDirectory() as folder:
        warm(train, holdout, Path(folder))
        for _ in range(rounds):
            with timed("ours"):
                ours(train, holdout, Path(folder))
            with timed("own"):
                own_part(train, holdout)
            with silent(), timed("bare"):
                bare(data, train, holdout)
    rows = f"{len(data):,} × {FEATURES}, {SPEC.sample_rows:,} rows a check"
    yield ratio(
        "checks: deepchecks on 1M rows, ours / bare suites",
        seconds["ours"],
        seconds["bare"],
        BAR,
        f"s of wall time; {rows}; ours writes three pages, bare none",
    )
    own = "drawing the sample and building the datasets; the rest is deepchecks and the pages"
    yield shown("checks: our own part on 1M rows", seconds["own"], "s", own)


def warm(train: Answered, holdout: Answered, folder: Path) -> None:
    """Everything imported and compiled once, on few rows."""
    few = [draw(part, 1_000) for part in (train, holdout)]
    run_checks(
        *few,
        task="binary",
        metric=METRIC,
        categorical=(),
        importances={},
        spec=SPEC,
        folder=folder,
    )


@contextmanager
def silent() -> Iterator[None]:
    """No progress bars and no warnings from the bare suites; their threads are their own."""
    import logging

    logger: Any = logging.getLogger("deepchecks")
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
