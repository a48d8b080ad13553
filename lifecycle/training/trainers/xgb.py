"""XGBoost: the default trainer."""

import warnings
from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np
import xgboost
from numpy.typing import NDArray

from lifecycle.errors import TrainingError
from lifecycle.project import Project, Scalar, greater_is_better
from lifecycle.training.matrix import Matrices, as_dmatrix, loss_weights
from lifecycle.training.own_metrics import own_metrics
from lifecycle.training.parameters import (
    check_parameters,
    constrained,
    plain,
    stopping_metric,
    xgboost_parameters,
)
from lifecycle.training.trainers.booster import XGBoostModel, device_of
from lifecycle.training.trainers.protocol import Curve, Fitted, Matrix, OnRound

# XGBoost's rounds: a loop that stops early, can be pruned, and resumes from a checkpoint.
#
# `xgboost.train` counts the rounds of a continued training from 0 again and forgets how long the
# metric has not improved; so the loop is written out, with the scores so far as its only state.

BoosterMetric = Callable[[NDArray[np.float32], xgboost.DMatrix], tuple[str, float]]
"""The project's own metric as XGBoost calls it: predictions, rows → its name and the score."""


class Progress(NamedTuple):
    """State of a training after some rounds, from which it can be resumed."""

    booster: xgboost.Booster
    """All rounds so far, those after the best one too."""
    curve: dict[str, list[float]]
    """Part → the stopping metric after each round."""


class Boosted(NamedTuple):
    """A booster cut to its best round."""

    booster: xgboost.Booster
    curve: Curve
    pruned: bool


class Checkpoints(NamedTuple):
    """Where training goes on from, and who keeps where it stands."""

    keep: Callable[[Progress], None] | None = None
    every: int = 1
    """Rounds between two calls of `keep`."""
    start: Progress | None = None
    """A checkpoint to go on from; the result is that of an uninterrupted training that kept its
    checkpoints at the same rounds."""


NO_CHECKPOINTS = Checkpoints()


def boost(
    project: Project,
    parts: Mapping[str, xgboost.DMatrix],
    parameters: Mapping[str, Scalar],
    threads: int,
    *,
    metric: BoosterMetric | None = None,
    on_round: OnRound | None = None,
    checkpoints: Checkpoints = NO_CHECKPOINTS,
) -> Boosted:
    """Train round by round until the validation score has not improved for long enough.

    Args:
        parts: `train` is learned from and `validation` decides when to stop; others, such as a
            sample of the train part, are only measured.
        metric: the project's own metric as XGBoost calls it; takes the place of its built-in one.

    Raises:
        xgboost.core.XGBoostError: XGBoost cannot train with these parameters.
    """
    keep, keep_every, start = checkpoints
    name, maximize = stopping_metric(project)
    same_direction = maximize == greater_is_better(project.training_metric)
    evals = [(data, part) for part, data in parts.items() if part != "train"]
    settings = xgboost_parameters(project, parameters, threads)
    draws = any(_is_sampling(key, value) for key, value in parameters.items())
    booster = xgboost.Booster(
        settings, list(parts.values()), model_file=start.booster if start else None
    )
    curve = {part: list((start.curve if start else {}).get(part, ())) for _, part in evals}
    pruned = False
    for at in range(len(curve["validation"]), project.training.rounds):
        if _waited(curve["validation"], maximize) >= project.training.early_stopping_rounds:
            break
        booster.update(parts["train"], iteration=at)
        measured = booster.eval_set(evals, at, metric, output_margin=False)
        for part, value in _scores(measured, name if metric is None else project.training_metric):
            curve[part].append(value)
        if keep and (at + 1) % keep_every == 0:
            keep(Progress(booster, curve))
            if draws:  # its random state is not in a checkpoint: from here both start with none
                copy = xgboost.Booster(model_file=booster.save_raw("ubj"))
                booster = xgboost.Booster(settings, list(parts.values()), model_file=copy)
        score = curve["validation"][-1]
        if on_round and on_round(at, score if same_direction else -score):
            pruned = True
            break
    best = _best(curve["validation"], maximize)
    return Boosted(
        booster[: best + 1],
        {part: tuple(values) for part, values in curve.items()},
        pruned,
    )


def _is_sampling(name: str, value: Scalar) -> bool:
    """Return whether a parameter makes XGBoost draw rows or columns at random."""
    return name.startswith(("subsample", "colsample")) and float(value) < 1


def _best(scores: list[float], maximize: bool) -> int:
    """The round with the best score, the first among equals."""
    return int(np.argmax(scores) if maximize else np.argmin(scores))


def _waited(scores: list[float], maximize: bool) -> int:
    """Rounds since the best score."""
    return len(scores) - 1 - _best(scores, maximize) if scores else 0


def _scores(line: str, name: str) -> list[tuple[str, float]]:
    """Parse a line of `eval_set`, such as `[3]\\tvalidation-auc:0.9\\tsample-auc:0.95`."""
    entries = [entry.rsplit(":", 1) for entry in line.split("\t")[1:]]
    scores = [(*key.partition("-"), value) for key, value in entries]  # no part's name has a dash
    return [(part, float(value)) for part, _, metric, value in scores if metric == name]


SAMPLE_ROWS = 20_000
"""Rows of the train part that its learning curve is measured on, at most."""


class XGBoostTrainer:
    """Boosted trees in this process, stopped early by the validation part."""

    def check(self, project: Project) -> None:
        check_parameters(project)

    def fit(
        self,
        project: Project,
        data: Matrices,
        parameters: Mapping[str, Scalar],
        threads: int,
        on_round: OnRound | None = None,
    ) -> Fitted:
        check_device(project)
        settings = constrained(project, parameters, data.schema)
        try:
            boosted = boost(
                project,
                parts_of(project, data, threads, _bins(settings)),
                settings,
                threads,
                metric=booster_metric(project),
                on_round=on_round,
            )
        except xgboost.core.XGBoostError as error:
            raise TrainingError(f"XGBoost could not train: {plain(error)}") from None
        curve = {"train": boosted.curve["sample"], "validation": boosted.curve["validation"]}
        return Fitted(XGBoostModel(boosted.booster), curve, boosted.pruned)

    def refit(
        self,
        project: Project,
        data: Matrices,
        parameters: Mapping[str, Scalar],
        threads: int,
        rounds: int,
    ) -> XGBoostModel:
        """Train on all rows for as many rounds as early stopping chose.

        More rows would allow a few more rounds, which gain nothing.
        """
        settings = constrained(project, parameters, data.schema)
        rows = as_dmatrix(
            data.train, data.train_labels, data.schema, threads, data.train_weights, _bins(settings)
        )
        try:
            booster = xgboost.train(xgboost_parameters(project, settings, threads), rows, rounds)
        except xgboost.core.XGBoostError as error:
            raise TrainingError(f"XGBoost could not train: {plain(error)}") from None
        return XGBoostModel(booster)


def parts_of(
    project: Project, data: Matrices, threads: int, bins: int | None = None
) -> dict[str, xgboost.DMatrix]:
    """The parts as `boost` takes them, with a seeded sample of the train part to be measured on.

    Args:
        bins: hold only this many bins a feature of the train part, as histograms need: the same
            booster, in less memory.
    """
    train = as_dmatrix(
        data.train, data.train_labels, data.schema, threads, data.train_weights, bins
    )
    rows: slice | NDArray[np.int64] = slice(None)
    if len(data.train) > SAMPLE_ROWS:
        draw = np.random.default_rng(project.training.seed)
        rows = np.sort(draw.choice(len(data.train), SAMPLE_ROWS, replace=False))
    weights = loss_weights(project, data.train_weights)
    sample = as_dmatrix(
        data.train[rows],
        data.train_labels[rows],
        data.schema,
        threads,
        None if weights is None else weights[rows],
    )
    validation = as_dmatrix(
        data.validation,
        data.validation_labels,
        data.schema,
        threads,
        loss_weights(project, data.validation_weights),
    )
    return {"train": train, "validation": validation, "sample": sample}


def _bins(parameters: Mapping[str, Scalar]) -> int | None:
    """Bins a feature that training looks at; None if it looks at the values themselves."""
    if parameters.get("tree_method", "hist") not in ("hist", "auto"):
        return None
    return int(parameters.get("max_bin", 256))


def booster_metric(project: Project) -> BoosterMetric | None:
    """The project's own metric as XGBoost calls it; None if a metric of XGBoost's own decides.

    Raises:
        FeatureError: the metric cannot be loaded.
    """
    name = project.training_metric
    if name not in project.metrics:
        return None
    metric = own_metrics(project)[name]

    def measure(predicted: Matrix, rows: xgboost.DMatrix) -> tuple[str, float]:
        truth = rows.get_label().astype(np.float64)
        return name, metric(truth, predicted.astype(np.float64))

    return measure


def check_device(project: Project) -> None:
    """See that `training.device` is there: XGBoost would go on silently without it.

    Raises:
        TrainingError: there is no such device.
    """
    device = project.training.device
    if device == "cpu":
        return
    rows = xgboost.DMatrix(np.zeros((2, 1)), label=[0, 1], nthread=1)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            booster = xgboost.Booster({"device": device, "verbosity": 0}, [rows])
            booster.update(rows, 0)
            actual = device_of(booster)
    except xgboost.core.XGBoostError as error:
        actual = plain(error)
    if "cuda" not in actual:
        raise TrainingError(
            f"training.device: {device!r}, and XGBoost finds no such GPU where training runs "
            f"(it would use {actual}); use device cpu, or run on a machine with that GPU"
        )
