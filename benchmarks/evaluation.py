"""Our evaluation of 1,000,000 rows beside a NumPy twin with the same metrics and resamples.

The twin is what one writes who knows the trick: sort once, draw each resample as weights, and
measure every metric from the weights in plain NumPy. That the obvious loop, scikit-learn's metrics
on resampled rows, is far slower stands beside it, measured on a few resamples and told a resample.
"""

import statistics
import time
from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray
from sklearn import metrics as sk

from benchmarks.result import Result
from lifecycle.training.evaluation.evaluate import RESAMPLES_OF_LARGE, Measurement, evaluate

ROWS, SMALLER = 1_000_000, 200_000
BAR, SECONDS = 1.2, 0.6
LOOPED = 2
"""Resamples of the scikit-learn loop: it would take minutes for all."""

Floats = NDArray[np.float64]


def data(rows: int) -> tuple[Floats, Floats]:
    """Truth, and probabilities as a float32 model gives them."""
    rng = np.random.default_rng(7)
    truth = rng.integers(0, 2, rows).astype(np.float64)
    scores = np.clip(truth * 0.2 + rng.random(rows) * 0.8, 0.001, 0.999)
    return truth, scores.astype(np.float32).astype(np.float64)


def own_bootstrap(truth: Floats, scores: Floats) -> dict[str, tuple[float, float]]:
    """Metric → value and the lower end of its interval."""
    evaluation = evaluate(truth, scores, Measurement("binary", 1), "holdout", "candidate")
    return {name: (estimate.value, estimate.low) for name, estimate in evaluation.metrics.items()}


def twin(truth: Floats, scores: Floats) -> dict[str, tuple[float, float]]:
    """The same in NumPy."""
    rows = len(truth)
    order = np.argsort(-scores, kind="stable")
    y, p = truth[order], scores[order]
    ends = np.r_[np.flatnonzero(np.diff(p)), rows - 1]
    losses = {
        "log_loss": -(y * np.log(p) + (1 - y) * np.log(1 - p)),
        "brier": (y - p) ** 2,
        "accuracy": ((p >= 0.5) == y).astype(np.float64),
    }

    def measure(weights: Floats) -> dict[str, float]:
        positives = np.cumsum(weights * y)[ends]
        drawn = np.cumsum(weights)[ends]
        negatives = drawn - positives
        true_rate = np.r_[0, positives / positives[-1]]
        false_rate = np.r_[0, negatives / negatives[-1]]
        precision = positives / np.maximum(drawn, 1)
        return {
            "roc_auc": float(np.trapezoid(true_rate, false_rate)),
            "average_precision": float(np.sum(np.diff(true_rate) * precision)),
            **{name: float(np.average(loss, weights=weights)) for name, loss in losses.items()},
        }

    rng = np.random.default_rng(1)
    values = measure(np.ones(rows))
    resampled = []
    for _ in range(RESAMPLES_OF_LARGE):
        drawn = np.bincount(rng.integers(0, rows, rows), minlength=rows).astype(np.float64)
        resampled.append(measure(drawn))
    widths = {
        name: 1.96 * float(np.std([sample[name] for sample in resampled], ddof=1))
        for name in values
    }
    return {name: (value, value - widths[name]) for name, value in values.items()}


def loop(truth: Floats, scores: Floats) -> None:
    """Resampled rows and scikit-learn's metrics."""
    rng = np.random.default_rng(1)
    for _ in range(LOOPED):
        rows = rng.integers(0, len(truth), len(truth))
        y, p = truth[rows], scores[rows]
        sk.roc_auc_score(y, p)
        sk.average_precision_score(y, p)
        sk.log_loss(y, p)
        sk.brier_score_loss(y, p)
        sk.accuracy_score(y, p >= 0.5)


def measure(rounds: int) -> Iterator[Result]:
    """Interleaved rounds; medians, and the median of the rounds' ratios.

    Raises:
        ValueError: the two do not measure the same.
    """
    truth, scores = data(ROWS)
    few_truth, few_scores = data(SMALLER)
    own_result, twin_result = own_bootstrap(few_truth, few_scores), twin(few_truth, few_scores)
    if not all(np.allclose(own_result[name], twin_result[name], rtol=1e-5) for name in twin_result):
        raise ValueError(f"ours and the twin differ: {own_result} and {twin_result}")
    times: list[tuple[float, float, float]] = []
    for _ in range(rounds):
        times.append(
            (
                seconds(lambda: own_bootstrap(truth, scores)),
                seconds(lambda: twin(truth, scores)),
                seconds(lambda: own_bootstrap(few_truth, few_scores), time.process_time),
            )
        )
    looped = seconds(lambda: loop(truth, scores)) / LOOPED
    our, other, smaller = (statistics.median(column) for column in zip(*times, strict=True))
    ratio = statistics.median(a / b for a, b, _ in times)
    rows = f"{ROWS:,} rows, 5 metrics, {RESAMPLES_OF_LARGE} resamples"
    detail = f"{rows}: {our:.2f} s and {other:.2f} s, median of {rounds} interleaved rounds"
    yield _row("evaluation: ours / NumPy twin", ratio, "×", BAR, detail)
    detail = f"{SMALLER:,} rows, CPU seconds of one thread, median of {rounds} rounds"
    yield _row("evaluation: binary holdout", smaller, "s", SECONDS, detail)
    detail = f"{rows}; the loop {looped:.2f} s a resample, from {LOOPED} of them"
    share = our / RESAMPLES_OF_LARGE / looped
    yield _row("evaluation: ours / scikit-learn loop, a resample", share, "×", None, detail)


def seconds(work: Callable[[], object], clock: Callable[[], float] = time.perf_counter) -> float:
    started = clock()
    work()
    return clock() - started


def _row(name: str, value: float, unit: str, bar: float | None, detail: str) -> Result:
    return Result(
        name=name,
        value=round(value, 3),
        unit=unit,
        bar=bar,
        holds=None if bar is None else value <= bar,
        detail=detail,
    )
