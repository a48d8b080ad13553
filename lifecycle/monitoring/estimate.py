"""Quality of a window before its labels: an interval, from the model's own probabilities or errors.

Classification: the model's probabilities, calibrated on the reference, say how likely each label
is, and so what a metric would be (CBPE). Under covariate shift the reference is weighted by how
much likelier its rows are in the window, so that the calibration is that of the window (Białek,
Kuberski, Perrakis and Bifet, *Estimating Model Performance Under Covariate Shift Without Labels*,
2024: PAPE). The weights are the odds of a classifier that tells window from reference (Bickel,
Brückner and Scheffer, *Discriminative Learning Under Covariate Shift*, 2009).

Numbers: a second model learns the loss of a row from its features and prediction (direct loss
estimation, NannyML's DLE); losses of the reference, divided by what was expected, give the rest.
The same weights make these those of the window; without them intervals were too narrow.

Labels, or losses, are drawn, and the metric is measured on each draw. The estimate is the mean of
draws from what is likeliest; the interval is that of draws from all that a reference of its size
leaves possible, but for what the model of the losses has learned. What no estimate without labels
can see is that the truth itself has changed for the same rows (concept shift): so it is held
against the labels once they arrive, and withdrawn where it was wrong (`grades`).
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd
import scipy  # which loads `optimize` when it is used
import xgboost as xgb
from numpy.typing import NDArray

from lifecycle.monitoring.scored import OpenWindow
from lifecycle.monitoring.sketch import as_floats
from lifecycle.project import Metric
from lifecycle.records import Estimate
from lifecycle.training.calibration import log_odds, sigmoid
from lifecycle.training.evaluation.metrics import family_of, losses

Floats = NDArray[np.float64]
Draw = Callable[[bool], Floats]
"""Draws labels (n,): the likeliest, or some that are possible."""
Measure = Callable[[bool], float]
"""Measures the metric on a draw: of the likeliest, or of some that is possible."""

DRAWS = 200
MAX_ROWS = 10_000
"""Rows of the reference, and of the window, that an estimate looks at; the interval is theirs."""
FOLDS = 3
"""No row is weighted, nor its error expected, by a model that has learned from it."""
MAX_WEIGHT = 20.0
"""Beyond it, a few rows of the reference would stand for the whole window."""
TREES: dict[str, Any] = {
    "objective": "reg:squarederror",  # whose mean is right, which that of gamma was not
    "max_depth": 4,
    "eta": 0.1,
    "min_child_weight": 20,
    "nthread": 1,
    "seed": 17,
}
ROUNDS = 60
LEAST = 0.05
"""Of the mean loss: trees of squared errors may expect one below zero."""
RIDGE = 10.0
"""Of the classifier, in rows: its coefficients are of standard deviations."""
SHIFTED = 1.645
"""Standard errors by which the classifier must beat chance before its weights count: 1 in 20."""
Z = 1.96
"""Half the width of a 95 % interval, in standard deviations."""
NOISE = {1: 3.84, 2: 5.99}
"""What the weights alone move one number by, or two, in 1 of 20 windows (chi-squared)."""
PRIOR = 4.0
"""Rows that the belief in the model's own calibration weighs."""


@dataclass(frozen=True)
class Reference:
    """Ground of an estimate: labelled rows that the model did not learn from."""

    features: Floats
    """(n, k)."""
    prediction: Floats
    """(n,), multiclass (n, classes)."""
    truth: Floats
    """(n,)."""

    @cached_property
    def _loss_models(self) -> dict[Metric, "LossModel"]:
        return {}

    def loss_model(self, metric: Metric) -> "LossModel":
        """Regression and counts: what is learned of a metric's losses."""
        if metric not in self._loss_models:
            self._loss_models[metric] = LossModel(self, metric)
        return self._loss_models[metric]


class LossModel:
    """Expects the loss of a row from features and prediction (DLE: the loss is the target).

    Its mean over the reference is that of the losses.

    Attributes:
        expected: (n,), of the reference's rows by models that had not seen them.
        relative: (n,), losses of the reference, divided by what was expected of them. Their mean is
            1 where each counts as much as was expected of it (the mean of ratios is larger than the
            ratio of sums; Cochran, *Sampling Techniques*, 1977).
    """

    def __init__(self, reference: Reference, metric: Metric) -> None:
        measured = losses(metric, reference.truth, reference.prediction)
        mean = float(measured.mean()) or 1.0
        rows = np.column_stack([reference.features, reference.prediction])
        target, fold = measured / mean, np.arange(len(rows)) % FOLDS
        parts = [_fitted(rows[fold != at], target[fold != at]) for at in range(FOLDS)]
        self.expected = np.choose(fold, [_shares(part, rows) for part in parts]) * mean
        self.relative = measured / self.expected * (self.expected.sum() / (measured.sum() or 1.0))
        self._booster = _fitted(rows, target)
        self._scale = mean / float(_shares(self._booster, rows).mean())

    def losses(self, features: Floats, prediction: Floats) -> Floats:
        """Expected loss of each row (n,)."""
        return _shares(self._booster, np.column_stack([features, prediction])) * self._scale


def reference_of(window: OpenWindow, levels: "FeatureCodes") -> Reference:
    """The labelled rows of a window, at most `MAX_ROWS`."""
    labelled = np.flatnonzero(~np.isnan(window.truth))
    rows = labelled[_even(len(labelled))]
    return Reference(
        levels.matrix(window.features)[rows], window.prediction[rows], window.truth[rows]
    )


class FeatureCodes:
    """Turns features into numbers alike for reference and windows.

    Args:
        features: of the reference.
        categorical: features that are categories.
    """

    def __init__(self, features: pd.DataFrame, categorical: Sequence[str]) -> None:
        self._names = list(features.columns)
        self._levels = {
            name: {
                level: at for at, level in enumerate(_texts(features[name]).value_counts().index)
            }
            for name in categorical
        }

    def matrix(self, features: pd.DataFrame) -> Floats:
        """Features (n, k); a category is the rank of its level by frequency, a new one -1."""
        columns = [
            _texts(features[name]).map(self._levels[name]).fillna(-1).to_numpy(dtype=np.float64)
            if name in self._levels
            else as_floats(features[name])
            for name in self._names
        ]
        return np.column_stack(columns)


def estimate_quality(
    reference: Reference,
    features: Floats,
    prediction: Floats,
    metric: Metric,
    task: str,
    *,
    threshold: float | None = None,
    seed: int = 17,
    weighted: bool = True,
) -> Estimate:
    """Estimate a metric of a window's predictions from no label of theirs.

    Args:
        features: (n, k) of the window, from the reference's `FeatureCodes`.
        prediction: (n,), multiclass (n, classes).
        threshold: binary: the probability from which a row counts as positive.
        weighted: whether the reference is weighted for covariate shift; without, it is CBPE.

    Returns:
        The metric, and the 95 % interval of what the labels will say.
    """
    rows = _even(len(features))
    features, prediction = features[rows], prediction[rows]
    rng = np.random.default_rng(seed)
    weights = np.ones(len(reference.truth))
    if weighted:
        weights = density_ratio(reference.features, features)
    measure = (
        _numbers(reference, features, prediction, weights, metric, rng)
        if task in ("regression", "count")
        else _classes(reference, prediction, weights, metric, task, threshold, rng)
    )

    def measured(likeliest: bool) -> list[float]:
        values = (measure(likeliest) for _ in range(DRAWS))
        return [value for value in values if math.isfinite(value)]

    possible = measured(likeliest=False)
    middle, half = float(np.mean(possible)), Z * float(np.std(possible))
    # what is unsure would move a mean: most metrics bend in the calibration
    value = float(np.mean(measured(likeliest=True)))
    return Estimate(value=value, low=min(middle - half, value), high=max(middle + half, value))


def density_ratio(reference: Floats, window: Floats) -> Floats:
    """Weigh each row of the reference by how much likelier it is in the window (n,), with mean 1.

    The classifier is a logistic regression on the features, their squares and what is missing: its
    weights vary less than those of trees. Where it cannot tell the two apart better than by chance,
    every weight is 1.
    """
    terms = _terms(np.concatenate([reference, window]))
    inside = np.repeat([0.0, 1.0], [len(reference), len(window)])
    balance = np.where(inside > 0, len(reference) / len(window), 1.0)
    margin = np.empty(len(terms))
    for fold in range(FOLDS):  # no row is weighted by a classifier that has seen it
        unseen = np.arange(len(terms)) % FOLDS == fold
        learned = ~unseen
        at = _separation(terms[learned], inside[learned], balance[learned])
        margin[unseen] = terms[unseen] @ at
    before, after = margin[: len(reference)], margin[len(reference) :]
    area, error = _area(after, before)
    if area < 0.5 + SHIFTED * error:
        return np.ones(len(reference))
    weights = np.exp(np.clip(before, -8, math.log(MAX_WEIGHT)))
    ratios: Floats = weights / weights.mean()
    return ratios


def _terms(rows: Floats) -> Floats:
    """Features in standard deviations, their squares, and masks of what is missing; a constant."""
    missing = np.isnan(rows)
    middle = np.nanmean(np.where(missing.all(axis=0), 0.0, rows), axis=0)
    scaled = np.where(missing, 0.0, rows - middle)
    spread = scaled.std(axis=0)
    scaled = np.clip(scaled / np.where(spread > 0, spread, 1.0), -4, 4)
    gaps = missing[:, missing.any(axis=0)].astype(np.float64)
    return np.column_stack([scaled, scaled**2 - 1, gaps, np.ones(len(rows))])


def _separation(terms: Floats, inside: Floats, balance: Floats) -> Floats:
    """Coefficients of a logistic regression with a ridge.

    By L-BFGS: a step reads the terms twice, where Newton's method multiplies them with each other.
    """

    def loss(at: Floats) -> tuple[float, Floats]:
        margin = terms @ at
        value = balance @ (np.logaddexp(0, margin) - inside * margin) + RIDGE / 2 * at @ at
        residuals = balance * (sigmoid(np.clip(margin, -30, 30)) - inside)
        return float(value), terms.T @ residuals + RIDGE * at

    start = np.zeros(terms.shape[1])
    options = {"gtol": 1e-3, "ftol": 1e-12, "maxiter": 200}
    solution = scipy.optimize.minimize(loss, start, jac=True, method="L-BFGS-B", options=options)
    at: Floats = solution.x
    return at


def _classes(
    reference: Reference,
    prediction: Floats,
    weights: Floats,
    metric: Metric,
    task: str,
    threshold: float | None,
    rng: np.random.Generator,
) -> Measure:
    """Draws labels from calibrated probabilities, and measures them."""
    draw = (_binary if prediction.ndim == 1 else _several)(reference, prediction, weights, rng)
    family = family_of(metric, task, threshold)  # type: ignore[arg-type]
    place, ones = family.names.index(metric), np.ones(len(prediction), dtype=np.int64)
    return lambda likeliest: family.prepare(draw(likeliest), prediction)(ones)[place]


def _binary(
    reference: Reference, prediction: Floats, weights: Floats, rng: np.random.Generator
) -> Draw:
    centre, spread = _calibration(reference.prediction, reference.truth == 1, weights)
    margin = log_odds(prediction)

    def draw(likeliest: bool) -> Floats:
        slope, intercept = centre if likeliest else centre + spread @ rng.standard_normal(2)
        drawn = rng.random(len(margin)) < sigmoid(slope * margin + intercept)
        return drawn.astype(np.float64)

    return draw


def _several(
    reference: Reference, prediction: Floats, weights: Floats, rng: np.random.Generator
) -> Draw:
    classes = range(prediction.shape[1])
    fits = [
        _calibration(reference.prediction[:, at], reference.truth == at, weights) for at in classes
    ]
    margins = [log_odds(prediction[:, at]) for at in classes]

    def draw(likeliest: bool) -> Floats:
        shares, common = [], rng.standard_normal()  # a model is too sure of all classes, or of none
        for (centre, spread), margin in zip(fits, margins, strict=True):
            moved = spread @ np.array([common, rng.standard_normal()])
            slope, intercept = centre if likeliest else centre + moved
            shares.append(sigmoid(slope * margin + intercept))
        ends = np.cumsum(np.column_stack(shares), axis=1)
        below = rng.random(len(ends))[:, None] * ends[:, -1:] > ends
        drawn: Floats = below.sum(axis=1).astype(np.float64)
        return drawn

    return draw


def _calibration(
    probability: Floats, truth: NDArray[np.bool_], weights: Floats
) -> tuple[Floats, Floats]:
    """Slope and intercept on the log-odds (Platt 1999), and a root of their covariance (2, 2).

    What the weights make of the calibration is believed as far as it is more than noise (James and
    Stein 1961): few rows of the reference may stand for most of the window.
    """
    plain, own = _logistic(probability, truth, np.ones(len(truth)))
    if (weights == 1).all():
        return plain, np.linalg.cholesky(_spread(own)).astype(np.float64)
    centre, influence = _logistic(probability, truth, weights)
    moved = centre - plain
    # of the same rows, so that the move varies less than either
    evidence = float(moved @ np.linalg.solve(_spread(influence - own), moved))
    belief = _belief(evidence, freedom=2)
    doubt = (1 - belief) * moved  # what is left of the move may be true all the same
    spread = belief * _spread(influence) + (1 - belief) * _spread(own) + np.outer(doubt, doubt)
    root = np.linalg.cholesky(spread)
    return plain + belief * moved, root.astype(np.float64)


def _belief(evidence: float, freedom: int) -> float:
    """Share of what the weights moved that is more than noise, from 0 to 1."""
    return max(0.0, 1 - NOISE[freedom] / max(evidence, 1e-9))


def _logistic(
    probability: Floats, truth: NDArray[np.bool_], weights: Floats
) -> tuple[Floats, Floats]:
    """Slope and intercept, and how far each row moves them (n, 2): the sum of its squares is their
    robust covariance (Huber 1967), which holds for weighted rows too."""
    rows = np.column_stack([log_odds(probability), np.ones(len(probability))])
    belief, start = np.diag([PRIOR, PRIOR / 4]), np.array([1.0, 0.0])
    at = start
    for _ in range(30):
        share = sigmoid(rows @ at)
        gradient = rows.T @ (weights * (share - truth)) + belief @ (at - start)
        curvature = (rows * (weights * share * (1 - share))[:, None]).T @ rows + belief
        step = np.linalg.solve(curvature, gradient)
        at = at - np.clip(step, -1, 1)
        if np.abs(step).max() < 1e-8:
            break
    scores = rows * (weights * (sigmoid(rows @ at) - truth))[:, None]
    influence: Floats = scores @ np.linalg.inv(curvature)
    return at, influence


def _spread(influence: Floats) -> Floats:
    """Covariance of what rows move by `influence` (n, k)."""
    covariance: Floats = influence.T @ influence + 1e-12 * np.eye(influence.shape[1])
    return covariance


def _numbers(
    reference: Reference,
    features: Floats,
    prediction: Floats,
    weights: Floats,
    metric: Metric,
    rng: np.random.Generator,
) -> Measure:
    """Draws losses as large as are expected here, and measures them."""
    model = reference.loss_model(metric)
    expected, varies = model.losses(features, prediction), float(prediction.var())
    belief = _belief(_evidence(model.expected, model.relative, weights), freedom=1)

    def measure(likeliest: bool) -> float:
        if likeliest:
            chances = model.expected * (1 + belief * (weights - 1))
        else:  # what is left of the weights may be true all the same, or its contrary
            share = belief + (1 - belief) * rng.standard_normal()
            chances = model.expected * np.maximum(1 + share * (weights - 1), 0)
            chances *= rng.exponential(size=len(weights))  # Rubin 1981
        ends = np.cumsum(chances)
        at = np.searchsorted(ends, rng.random(len(expected)) * ends[-1])
        loss = float(np.mean(expected * model.relative[np.minimum(at, len(ends) - 1)]))
        if metric == "r2":  # of errors that have nothing to do with the prediction
            return 1 - loss / (varies + loss) if varies + loss else 1.0
        return math.sqrt(loss) if metric == "rmse" else loss

    return measure


def _evidence(counts: Floats, values: Floats, weights: Floats) -> float:
    """Square of how far weights move a mean, in standard errors of that move.

    Args:
        counts: how much each value (n,) counts without weights.
    """
    plain, own = counts / counts.sum(), counts * weights / (counts * weights).sum()
    influence = own * (values - own @ values) - plain * (values - plain @ values)
    moved = (own - plain) @ values
    return float(moved**2 / max(influence @ influence, 1e-30))


def _shares(booster: xgb.Booster, rows: Floats) -> Floats:
    """Expected losses (n,), in shares of their mean."""
    return np.maximum(booster.inplace_predict(rows).astype(np.float64), LEAST)


def _fitted(rows: Floats, target: Floats) -> xgb.Booster:
    matrix = xgb.QuantileDMatrix(rows, label=target, nthread=1)
    return xgb.train(TREES, matrix, ROUNDS)


def _area(high: Floats, low: Floats) -> tuple[float, float]:
    """Area under the curve, and its standard error without any difference (Hanley, McNeil 1982)."""
    ranks = pd.Series(np.concatenate([high, low])).rank().to_numpy()
    n, m = len(high), len(low)
    area = (ranks[:n].sum() - n * (n + 1) / 2) / (n * m)
    return float(area), math.sqrt((n + m + 1) / (12 * n * m))


def _even(rows: int) -> NDArray[np.int64]:
    """An even choice of at most `MAX_ROWS` rows: the same rows give the same choice."""
    return np.unique(np.linspace(0, rows - 1, min(rows, MAX_ROWS)).astype(np.int64))


def _texts(column: pd.Series) -> pd.Series:
    return column.astype(object).where(column.notna(), "(missing)").map(str)
