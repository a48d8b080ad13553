"""Evaluation of a bundle on a part of the split: predictions and their metrics."""

import math
import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from lifecycle.features.encode import Floats, build_features, labels, load_hook
from lifecycle.lake.read import read_version
from lifecycle.project import CostsSpec, Project
from lifecycle.records import Bundle, DatasetVersion, Estimate, Evaluation, Gain, Gap, Split
from lifecycle.training.bundle import LoadedBundle, load_bundle
from lifecycle.training.evaluation.evaluate import (
    Measurement,
    baseline,
    compare,
    evaluate,
    interval,
    metric_value,
    resamples,
    trivial_answers,
)
from lifecycle.training.evaluation.fairness import fairness_gaps
from lifecycle.training.evaluation.metrics import Integers, miscalibration, reliability
from lifecycle.training.evaluation.slices import RowGroup, measure_slices, parts_of
from lifecycle.training.own_metrics import own_metrics
from lifecycle.training.parameters import stopping_metric
from lifecycle.training.predictor import open_predictor

if TYPE_CHECKING:
    from matplotlib.figure import Figure


# Metrics of a binary model at its threshold, with intervals.

COST = "cost per row"
NAMES = (
    "share of positives",
    "share predicted positive",
    "precision",
    "recall",
    "false positive rate",
    "f1",
    COST,
)


def at_threshold(
    truth: Floats,
    prediction: Floats,
    threshold: float,
    seed: int,
    groups: ArrayLike | None = None,
    costs: CostsSpec | None = None,
) -> dict[str, Estimate]:
    """Measure each of `NAMES` with its 95 % interval; the cost only if `costs` are declared.

    A metric that has no value, such as the precision of a model that calls no row positive, is
    left out.

    Args:
        truth: (n,), 0 or 1.
        prediction: (n,), the probability of 1.
        groups: (n,), the entity of each row; None treats rows as independent.
    """
    cells = (2 * truth + (prediction >= threshold)).astype(np.intp)

    def measure(weights: Integers) -> list[float]:
        return _values(np.bincount(cells, weights, 4).astype(np.float64), costs)

    values = measure(np.ones(len(truth), dtype=np.int64))
    drawn = np.array([measure(weights) for weights in resamples(len(truth), seed, groups)])
    return {
        name: interval(value, drawn[:, at], len(truth))
        for at, (name, value) in enumerate(zip(NAMES, values, strict=True))
        if math.isfinite(value)
    }


def _values(counts: NDArray[np.float64], costs: CostsSpec | None) -> list[float]:
    """The metrics in the order of `NAMES`.

    Args:
        counts: (4,): true negatives, false positives, false negatives, true positives.
    """
    negative, alarms, missed, hits = counts.tolist()
    rows = negative + alarms + missed + hits
    cost = math.nan
    if costs is not None:
        cost = (costs.false_positive * alarms + costs.false_negative * missed) / rows
    return [
        (missed + hits) / rows,
        (alarms + hits) / rows,
        _share(hits, hits + alarms),
        _share(hits, hits + missed),
        _share(alarms, alarms + negative),
        _share(2 * hits, 2 * hits + alarms + missed),
        cost,
    ]


def _share(part: float, total: float) -> float:
    return part / total if total else math.nan


BASELINE_CONFIDENCE = 0.975
"""Surer than a promotion: a model that cannot be told from a trivial one is of no use."""


class Answers(NamedTuple):
    """A part of the data with a model's answers, row by row."""

    frame: pd.DataFrame
    """(n, columns): as the table holds it."""
    features: pd.DataFrame
    """(n, k): what the features hook made of the inputs."""
    truth: Floats
    """(n,): 0 or 1, the class's code, or the target's own unit."""
    prediction: Floats
    """(n,): probability of the positive class, or the value; multiclass (n, k)."""
    entity: npt.NDArray[Any] | None
    """(n,): who or what each row is about, if the project says so."""
    time: npt.NDArray[Any] | None
    """(n,): the time column, if the project has one."""
    categorical: tuple[str, ...]
    """Features that are categories."""
    importances: dict[str, float]
    """Feature → share of the total gain, largest first."""
    loaded: LoadedBundle
    """The model itself."""

    @property
    def threshold(self) -> float | None:
        """Binary: the probability from which a row counts as positive."""
        return self.loaded.schema.threshold


class Predicted(NamedTuple):
    """True values and predictions of a part, from which a model is measured."""

    truth: Floats
    prediction: Floats
    entity: npt.NDArray[Any] | None
    threshold: float | None = None
    """Binary: the probability from which a row counts as positive."""


Predict = Callable[[pd.DataFrame], Floats]


def answer_by(
    project: Project, answers: Answers, predict: Predict, threshold: float | None = None
) -> Predicted:
    """Predict the rows that another model has answered with a model that is given as a function.

    Args:
        threshold: binary: the probability from which a row counts as positive.
    """
    return Predicted(answers.truth, predict(answers.frame), answers.entity, threshold)


def answer(project: Project, part: DatasetVersion, bundle: Path, digest: str) -> Answers:
    """Predict every row of a part with a verified bundle.

    Raises:
        BundleError: the bundle is not the one with this digest, or was trained with another hook.
        FeatureError: the features hook fails.
    """
    frame = read_version(part)
    loaded = load_bundle(bundle, digest)
    predictor = open_predictor(loaded, project, threads=os.cpu_count() or 1)
    features = build_features(frame, project, load_hook(project))
    return Answers(
        frame=frame,
        features=features,
        truth=labels(frame, project),
        prediction=predictor.predict_features(features),
        entity=frame[project.entity].to_numpy() if project.entity else None,
        time=frame[project.time.column].to_numpy() if project.time else None,
        categorical=loaded.schema.features.categorical,
        importances=loaded.importances(),
        loaded=loaded,
    )


def _measurement(project: Project, answers: Answers | Predicted) -> Measurement:
    return Measurement(
        project.task,
        project.split.seed,
        groups=answers.entity,
        own=own_metrics(project),
        threshold=answers.threshold,
    )


def assess(
    project: Project, answers: Answers | Predicted, part: DatasetVersion, subject: str
) -> Evaluation:
    """Measure every metric of the project with its interval. Whole entities are resampled.

    Raises:
        FeatureError: a metric of the project's own fails.
        TargetError: the part cannot be measured.
    """
    return evaluate(
        answers.truth,
        answers.prediction,
        _measurement(project, answers),
        part.digest,
        subject,
    )


def assess_closely(project: Project, answers: Answers, evaluation: Evaluation) -> Evaluation:
    """Evaluate answers with slices, gaps, calibration error and warnings.

    For binary, the metrics at the threshold are added.

    Raises:
        ProjectError: the condition of a segment cannot be evaluated.
        FeatureError: a metric of the project's own cannot be loaded.
    """
    truth, prediction, task = answers.truth, answers.prediction, project.task
    parts = parts_of(answers.frame, project)
    slices = measure_slices(parts, truth, prediction, answers.entity, project, own_metrics(project))
    probable = task in ("binary", "multiclass")
    return evaluation.model_copy(
        update={
            "slices": slices,
            "gaps": _gaps(project, answers, parts),
            "at_threshold": _at_threshold(project, answers),
            "calibration_error": reliability(truth, prediction, task).error if probable else None,
            "warnings": miscalibration(project, truth, prediction, answers.entity),
        }
    )


def assess_fairness(project: Project, answers: Answers) -> tuple[Gap, ...]:
    """Measure the gaps between the groups of each protected attribute.

    Raises:
        FeatureError: a metric of the project's own cannot be loaded.
    """
    return _gaps(project, answers, parts_of(answers.frame, project))


def _gaps(project: Project, answers: Answers, parts: list[RowGroup]) -> tuple[Gap, ...]:
    return fairness_gaps(
        parts,
        answers.truth,
        answers.prediction,
        answers.entity,
        project,
        own_metrics(project),
        answers.threshold,
    )


def _at_threshold(project: Project, answers: Answers) -> dict[str, Estimate]:
    if answers.threshold is None:
        return {}
    return at_threshold(
        answers.truth,
        answers.prediction,
        answers.threshold,
        project.split.seed,
        answers.entity,
        project.decision.costs if project.decision else None,
    )


def assess_baseline(project: Project, split: Split, answers: Answers) -> tuple[Evaluation, Gain]:
    """Evaluate the trivial model on the holdout of `answers`, and their gain over it."""
    train = labels(read_version(split.train, columns=[project.target]), project)
    train = train[np.isfinite(train)]
    evaluation = baseline(
        train,
        answers.truth,
        _measurement(project, answers),
        split.holdout.digest,
    )
    always = trivial_answers(train, answers.truth, project.task)
    trivial = Predicted(answers.truth, always, answers.entity, answers.threshold)
    return evaluation, gain(project, answers, trivial, BASELINE_CONFIDENCE)


def gain(project: Project, answers: Answers, other: Answers | Predicted, confidence: float) -> Gain:
    """Measure the gain in the deciding metric over another model on the same rows."""
    return compare(
        answers.truth,
        answers.prediction,
        other.prediction,
        project.metric,
        _measurement(project, answers),
        confidence,
        thresholds=(answers.threshold, other.threshold),
    )


def score(project: Project, answers: Answers | Predicted) -> float:
    """Measure the deciding metric alone.

    Raises:
        FeatureError, TargetError: as `assess`.
    """
    truth, prediction, own = answers.truth, answers.prediction, own_metrics(project)
    return metric_value(
        project.metric, truth, prediction, project.task, own, threshold=answers.threshold
    )


def draw(
    project: Project, answers: Answers, evaluation: Evaluation, bundle: Bundle
) -> dict[str, "Figure"]:
    """Draw the figures of an evaluation, by name.

    They are those of `evaluation_plots`, and `slices`, `learning_curve` and `shap` if there are
    slices, rounds, and SHAP values of the model.

    Args:
        evaluation: what `assess_closely` made of the answers.
    """
    # matplotlib and scikit-learn take seconds, and only training draws
    from lifecycle.training.evaluation.explain import explain, summary_plot
    from lifecycle.training.evaluation.plots import evaluation_plots, learning_curve, slices_plot

    schema = answers.loaded.schema
    labels_of = project.classes or schema.labels or (f"not {schema.positive}", schema.positive)
    plots = evaluation_plots(
        answers.truth,
        answers.prediction,
        project.task,
        answers.importances,
        tuple(str(label) for label in labels_of),
        answers.threshold,
    )
    overall = evaluation.metrics[project.metric]
    if slices := slices_plot(evaluation.slices, overall, project.metric):
        plots["slices"] = slices
    if bundle.curve:
        plots["learning_curve"] = learning_curve(bundle.curve, bundle.rounds, _stopped_by(project))
    rows, threads = project.evaluation.explain_rows, os.cpu_count() or 1
    explained = explain(answers.loaded, answers.features, rows, project.split.seed, threads)
    if explained:
        plots["shap"] = summary_plot(explained, project.classes)
    return plots


def _stopped_by(project: Project) -> str:
    """Return the name of the metric in a learning curve; XGBoost's names are its own."""
    name = project.training_metric
    own = name in project.metrics or project.training.trainer != "xgboost"
    return name if own else stopping_metric(project)[0]
