"""Quality before labels: coverage of the intervals, errors, and withdrawal of wrong estimates.

Each data set is divided anew several times into rows to train on, a reference, and a pool that
windows are drawn from. *Covariate shift*: rows of a window are drawn with a probability that grows
along a direction of its own in the features; the truth of each row stays. *Concept shift*: the
window's truth is changed for the same features. Estimates see no label of a window.

Beside them: the same without weights, the quality at release, and, if `LIFECYCLE_NANNYML_PYTHON`
names an interpreter that has it, NannyML's CBPE (for numbers its DLE), which knows no log loss.
"""

import os
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import xgboost as xgb
from numpy.typing import NDArray

from benchmarks import bare_estimates
from benchmarks.peers import VARIABLES, Peer
from benchmarks.result import Result, information, limit
from lifecycle.monitoring.estimate import Reference, estimate_quality
from lifecycle.monitoring.grades import grade
from lifecycle.records import Estimate
from lifecycle.training.evaluation.evaluate import metric_value

DATA = Path(__file__).parents[2] / "shared" / "data"
SPLITS, WINDOWS, REFERENCE = 24, 10, 2_000
STRENGTH = 1.5
"""How far a window's rows lie along its direction, in standard deviations, about."""
COVER = (0.93, 0.97)
CONCEPTS = 12

Floats = NDArray[np.float64]


class Case(NamedTuple):
    """A data set with the metric that is estimated."""

    name: str
    file: str
    target: str
    task: str
    metric: str
    rows: int
    """Of a window."""
    depth: int = 4
    trees: int = 80


CASES = (
    Case("telco churn, log loss", "telco_churn.csv", "Churn", "binary", "log_loss", 500),
    Case("telco churn, AUC", "telco_churn.csv", "Churn", "binary", "roc_auc", 500),
    Case(
        "dear houses, log loss",
        "california_housing.csv",
        "median_house_value",
        "binary",
        "log_loss",
        1_000,
    ),
    Case(
        "dear houses, 20 stumps, log loss",
        "california_housing.csv",
        "median_house_value",
        "binary",
        "log_loss",
        1_000,
        depth=1,
        trees=20,
    ),
    Case(
        "houses, RMSE", "california_housing.csv", "median_house_value", "regression", "rmse", 1_000
    ),
    Case("houses, MAE", "california_housing.csv", "median_house_value", "regression", "mae", 1_000),
    Case("bikes, RMSE", "bike_sharing_hour.csv", "cnt", "regression", "rmse", 1_000),
    Case("bikes, MAE", "bike_sharing_hour.csv", "cnt", "regression", "mae", 1_000),
    Case(
        "bikes, Poisson deviance",
        "bike_sharing_hour.csv",
        "cnt",
        "count",
        "poisson_deviance",
        1_000,
    ),
)
DEAR = 250_000
OBJECTIVES = {
    "binary": "binary:logistic",
    "regression": "reg:squarederror",
    "count": "count:poisson",
}


class Split(NamedTuple):
    """A model, its reference, and the pool that windows are drawn from."""

    features: Floats
    prediction: Floats
    truth: Floats
    holdout: NDArray[np.int64]
    pool: NDArray[np.int64]
    reference: Reference


def measure(_rounds: int) -> Iterator[Result]:
    """One round: what is measured is no time."""
    with ExitStack() as stack:
        python = os.environ.get(VARIABLES["nannyml"])
        script = bare_estimates.__file__
        peer = stack.enter_context(Peer("nannyml", python, script)) if python else None
        for case in CASES:
            yield from _covariate_shift(case, peer)
    for case in (CASES[0], CASES[5]):
        yield _concept_shift(case)
    for case in (CASES[2], CASES[4]):
        yield _seconds(case)


def _covariate_shift(case: Case, peer: Peer | None) -> Iterator[Result]:
    errors: dict[str, list[float]] = {"estimate": [], "unweighted": [], "release": []}
    if peer and case.metric in bare_estimates.METRICS:
        errors["NannyML"] = []
    covered = []
    for seed in range(SPLITS):
        rng = np.random.default_rng(seed)
        split = _split(case, rng)
        released = _measured(case, split, split.holdout)
        windows = [_window(split, case.rows, rng) for _ in range(WINDOWS)]
        truths = [_measured(case, split, window) for window in windows]
        if peer and "NannyML" in errors:
            estimates = _nannyml(peer, case, split, windows)
            errors["NannyML"] += [abs(a - b) for a, b in zip(estimates, truths, strict=True)]
        for window, truth in zip(windows, truths, strict=True):
            own, plain = (_estimate(case, split, window, weighted) for weighted in (True, False))
            covered.append(own.low <= truth <= own.high)
            errors["estimate"].append(abs(own.value - truth))
            errors["unweighted"].append(abs(plain.value - truth))
            errors["release"].append(abs(released - truth))
    mean = {name: float(np.mean(values)) for name, values in errors.items()}
    count = len(covered)
    share = float(np.mean(covered))
    detail = f"{count} windows of {case.rows:,} rows; 95 % interval, 93 to 97 % asked for"
    holds = COVER[0] <= share <= COVER[1]
    yield information(f"estimate: {case.name}: covered", [share], "share", detail) | {
        "holds": holds
    }
    detail = ", ".join(f"{name} {value:.4g}" for name, value in mean.items())
    detail = f"mean error of {count} windows under covariate shift: {detail}"
    plain_ratio = mean["estimate"] / mean["unweighted"]
    yield limit(f"estimate: {case.name}: error / unweighted", [plain_ratio], "×", 1.0, detail)
    ratio = mean["estimate"] / mean["release"]
    yield limit(f"estimate: {case.name}: error / same as at release", [ratio], "×", 0.7, detail)
    if peer and "NannyML" in mean:
        name = f"estimate: {case.name}: error / NannyML's"
        detail = f"NannyML {peer.version}, {detail}"
        yield limit(name, [mean["estimate"] / mean["NannyML"]], "×", 1.0, detail)


def _nannyml(peer: Peer, case: Case, split: Split, windows: list[NDArray[np.int64]]) -> list[float]:
    def columns(rows: NDArray[np.int64]) -> dict[str, Floats]:
        features = {f"c{at}": split.features[rows, at] for at in range(split.features.shape[1])}
        return features | {"prediction": split.prediction[rows], "truth": split.truth[rows]}

    sides = {"reference": columns(split.holdout), "current": columns(np.concatenate(windows))}
    values: list[float] = peer.ask(sides, rows=case.rows, metric=case.metric)
    return values


def _concept_shift(case: Case) -> Result:
    """Five labelled windows as at release, then the truth changes: when is the estimate withdrawn?

    The truth of a third of the rows is that of other rows.
    """
    delays, false_alarms = [], 0
    for seed in range(CONCEPTS):
        rng = np.random.default_rng(seed)
        split = _split(case, rng)
        pairs: list[tuple[Estimate, float]] = []
        delay = 0
        for number in range(10):
            window = _window(split, case.rows, rng, strength=0.5)
            truth = split.truth[window].copy()
            if number >= 5:
                changed = rng.permutation(len(window))[: len(window) // 3]
                truth[changed] = rng.permutation(truth[changed])
            measured = metric_value(case.metric, truth, split.prediction[window], case.task)  # type: ignore[arg-type]
            pairs.append((_estimate(case, split, window), measured))
            withdrawn = bool(grade(pairs).withdrawn)
            false_alarms += withdrawn and number < 5
            if withdrawn and number >= 5:
                delay = number - 4
                break
        delays.append(delay or 99)
    late = sum(delay > 2 for delay in delays)
    detail = (
        f"{CONCEPTS} models, a third of the labels exchanged from window 6 on; withdrawn after one "
        f"labelled window {delays.count(1)} times, after two {delays.count(2)} times; "
        f"withdrawn before in {false_alarms} of {5 * CONCEPTS} windows"
    )
    return limit(f"estimate: {case.name}: withdrawn later than 2", [late], "models", 0, detail)


def _seconds(case: Case) -> Result:
    rng = np.random.default_rng(0)
    split = _split(case, rng)
    window = rng.choice(split.pool, 10_000)
    started = time.perf_counter()
    _estimate(case, split, window)
    seconds = time.perf_counter() - started
    name = f"estimate: {case.name}: a window of 10,000 rows"
    return information(name, [seconds], "s", "the first one of a reference, on one thread")


def _split(case: Case, rng: np.random.Generator) -> Split:
    features, truth = _load(case)
    rows = rng.permutation(len(truth))
    learned = int(0.35 * len(rows))
    end = learned + min(REFERENCE, len(rows) // 4)
    objective = OBJECTIVES[case.task]
    parameters = {"objective": objective, "max_depth": case.depth, "eta": 0.1, "nthread": 2}
    matrix = xgb.QuantileDMatrix(features[rows[:learned]], label=truth[rows[:learned]])
    prediction = (
        xgb.train(parameters, matrix, case.trees).inplace_predict(features).astype(np.float64)
    )
    holdout = rows[learned:end]
    reference = Reference(features[holdout], prediction[holdout], truth[holdout])
    return Split(features, prediction, truth, holdout, rows[end:], reference)


def _load(case: Case) -> tuple[Floats, Floats]:
    frame = pd.read_csv(DATA / case.file)
    target = frame.pop(case.target)
    if "TotalCharges" in frame:
        frame["TotalCharges"] = pd.to_numeric(frame["TotalCharges"], errors="coerce")
        frame = frame.drop(columns="customerID")
    # of bikes: the two parts of the target, and the row's number
    frame = frame.drop(columns=["casual", "registered", "instant"], errors="ignore")
    numbers = [
        frame[name].to_numpy(dtype=np.float64)
        if pd.api.types.is_numeric_dtype(frame[name])
        else pd.factorize(frame[name])[0].astype(np.float64)
        for name in frame
    ]
    truth: pd.Series[Any] = target.eq("Yes") if case.target == "Churn" else target
    if case.task == "binary" and case.target != "Churn":
        truth = target > DEAR
    return np.column_stack(numbers), truth.to_numpy(dtype=np.float64)


def _window(
    split: Split, rows: int, rng: np.random.Generator, strength: float = STRENGTH
) -> NDArray[np.int64]:
    """Rows of the pool, drawn along a direction of the features."""
    pool = split.features[split.pool]
    scaled = (pool - np.nanmean(pool, axis=0)) / (np.nanstd(pool, axis=0) + 1e-9)
    scaled = np.nan_to_num(np.clip(scaled, -3, 3))
    direction = rng.standard_normal(scaled.shape[1]) * (rng.random(scaled.shape[1]) < 0.5)
    tilt = strength * scaled @ direction / (np.linalg.norm(direction) + 1e-9)
    chances = np.exp(tilt - tilt.max())
    return rng.choice(split.pool, rows, replace=False, p=chances / chances.sum())


def _measured(case: Case, split: Split, rows: NDArray[np.int64]) -> float:
    truth, prediction = split.truth[rows], split.prediction[rows]
    return metric_value(case.metric, truth, prediction, case.task)  # type: ignore[arg-type]


def _estimate(case: Case, split: Split, rows: NDArray[np.int64], weighted: bool = True) -> Estimate:
    return estimate_quality(
        split.reference,
        split.features[rows],
        split.prediction[rows],
        case.metric,
        case.task,
        weighted=weighted,
    )
