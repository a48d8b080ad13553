"""Open a part of the split, let a bundle answer for it, and measure the answers."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd

from lifecycle.data.features import build_features, labels, load_hook
from lifecycle.data.lake import read_version
from lifecycle.project import Project
from lifecycle.records import DatasetVersion, Estimate, Evaluation, Split
from lifecycle.training.bundle import load_bundle
from lifecycle.training.evaluate import baseline, compare, evaluate
from lifecycle.training.predictor import open_predictor

Floats = npt.NDArray[np.float64]


class Answers(NamedTuple):
    """A part of the data with a model's answers, row by row."""

    frame: pd.DataFrame
    """(n, columns): as the table holds it."""
    features: pd.DataFrame
    """(n, k): what the features hook made of the inputs."""
    truth: Floats
    """(n,): 0 or 1, or the target's own unit."""
    prediction: Floats
    """(n,): probability of the positive class, or the value."""
    entity: npt.NDArray[Any] | None
    """(n,): who or what each row is about, if the project says so."""
    time: npt.NDArray[Any] | None
    """(n,): the time column, if the project has one."""
    categorical: tuple[str, ...]
    """Features that are categories."""
    importances: dict[str, float]
    """Feature → share of the total gain, largest first."""


class Predicted(NamedTuple):
    """What is needed to measure a model on a part."""

    truth: Floats
    prediction: Floats
    entity: npt.NDArray[Any] | None


Predict = Callable[[pd.DataFrame], Floats]


def answer_by(project: Project, part: DatasetVersion, predict: Predict) -> Predicted:
    """Let a model that is only known as a function predict every row of a part."""
    frame = read_version(part)
    entity = frame[project.entity].to_numpy() if project.entity else None
    return Predicted(labels(frame, project), predict(frame), entity)


def answer(project: Project, part: DatasetVersion, bundle: Path, digest: str) -> Answers:
    """Let a verified bundle predict every row of a part.

    Raises:
        BundleError: the bundle is not the one with this digest, or was trained with another hook.
        FeatureError: the features hook fails.
    """
    frame = read_version(part)
    loaded = load_bundle(bundle, digest)
    predictor = open_predictor(loaded, project, threads=os.cpu_count() or 1)
    schema = loaded.schema.features
    return Answers(
        frame=frame,
        features=build_features(frame, project, load_hook(project)),
        truth=labels(frame, project),
        prediction=predictor.predict(frame),
        entity=frame[project.entity].to_numpy() if project.entity else None,
        time=frame[project.time.column].to_numpy() if project.time else None,
        categorical=tuple(n for n, k in zip(schema.names, schema.kinds, strict=True) if k == "c"),
        importances=loaded.importances(),
    )


def assess(
    project: Project, answers: Answers | Predicted, part: DatasetVersion, subject: str
) -> Evaluation:
    """Every metric of the project's task with its interval; whole entities are resampled."""
    return evaluate(
        answers.truth,
        answers.prediction,
        project.task,
        part.digest,
        subject,
        project.split.seed,
        answers.entity,
    )


def assess_baseline(project: Project, split: Split, answers: Answers) -> Evaluation:
    """The trivial model of the train part on the holdout that `answers` are for."""
    train = read_version(split.train, columns=[project.target])
    return baseline(
        labels(train, project),
        answers.truth,
        project.task,
        split.holdout.digest,
        project.split.seed,
        answers.entity,
    )


def gain(project: Project, challenger: Answers, champion: Predicted) -> Estimate:
    """By how much the challenger's deciding metric is better, paired on the same rows."""
    return compare(
        challenger.truth,
        challenger.prediction,
        champion.prediction,
        project.task,
        project.metric,
        project.split.seed,
        challenger.entity,
    )
