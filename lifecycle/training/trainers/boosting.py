"""XGBoost's rounds: a loop that stops early, can be pruned, and goes on from a checkpoint.

`xgboost.train` counts the rounds of a continued training from 0 again and forgets how long the
metric has not improved; so the loop is written out, with the scores so far as its only state.
"""

from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np
import xgboost
from numpy.typing import NDArray

from lifecycle.project import Project, Scalar, greater_is_better
from lifecycle.training.parameters import stopping_metric, xgboost_parameters
from lifecycle.training.trainers.protocol import Curve, OnRound

BoosterMetric = Callable[[NDArray[np.float32], xgboost.DMatrix], tuple[str, float]]
"""The project's own metric as XGBoost calls it: predictions, rows → its name and the score."""


class Progress(NamedTuple):
    """Where training stands after some rounds: enough to go on from."""

    booster: xgboost.Booster
    """All rounds so far, those after the best one too."""
    curve: dict[str, list[float]]
    """Part → the stopping metric after each round."""


class Boosted(NamedTuple):
    """A booster cut to its best round."""

    booster: xgboost.Booster
    curve: Curve
    pruned: bool


def boost(
    project: Project,
    parts: Mapping[str, xgboost.DMatrix],
    parameters: Mapping[str, Scalar],
    threads: int,
    *,
    metric: BoosterMetric | None = None,
    on_round: OnRound | None = None,
    keep: Callable[[Progress], None] | None = None,
    keep_every: int = 1,
    start: Progress | None = None,
) -> Boosted:
    """Train round by round until the validation score has not improved for long enough.

    Args:
        parts: `train` is learned from and `validation` decides when to stop; others, such as a
            sample of the train part, are only measured.
        metric: the project's own metric as XGBoost calls it; takes the place of its built-in one.
        keep: is told where training stands after every `keep_every` rounds, for a checkpoint.
        start: such a checkpoint to go on from; the result is that of an uninterrupted training
            that kept its checkpoints at the same rounds.

    Raises:
        xgboost.core.XGBoostError: XGBoost cannot train with these parameters.
    """
    name, maximize = stopping_metric(project)
    same_direction = maximize == greater_is_better(project.training_metric)
    evals = [(data, part) for part, data in parts.items() if part != "train"]
    given = xgboost_parameters(project, parameters, threads)
    draws = any(_is_sampling(key, value) for key, value in parameters.items())
    booster = xgboost.Booster(
        given, list(parts.values()), model_file=start.booster if start else None
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
                kept = xgboost.Booster(model_file=booster.save_raw("ubj"))
                booster = xgboost.Booster(given, list(parts.values()), model_file=kept)
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
    """Whether a parameter makes XGBoost draw rows or columns at random."""
    return name.startswith(("subsample", "colsample")) and float(value) < 1


def _best(scores: list[float], maximize: bool) -> int:
    """The round with the best score, the first among equals."""
    return int(np.argmax(scores) if maximize else np.argmin(scores))


def _waited(scores: list[float], maximize: bool) -> int:
    """Rounds since the best score."""
    return len(scores) - 1 - _best(scores, maximize) if scores else 0


def _scores(said: str, name: str) -> list[tuple[str, float]]:
    """What `eval_set` said: `[3]\\tvalidation-auc:0.9\\tsample-auc:0.95`."""
    found = [entry.rsplit(":", 1) for entry in said.split("\t")[1:]]
    named = [(*key.partition("-"), value) for key, value in found]  # no part's name has a dash
    return [(part, float(value)) for part, _, metric, value in named if metric == name]
