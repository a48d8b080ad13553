"""XGBoost: the default trainer."""

import warnings
from collections.abc import Mapping

import numpy as np
import xgboost
from numpy.typing import NDArray

from lifecycle.errors import TrainingError
from lifecycle.project import Project, Scalar
from lifecycle.training.evaluation.own_metrics import own_metrics
from lifecycle.training.matrix import Matrices, as_dmatrix
from lifecycle.training.parameters import check_parameters, constrained, plain, xgboost_parameters
from lifecycle.training.trainers.booster import XGBoostModel, device_of
from lifecycle.training.trainers.boosting import BoosterMetric, boost
from lifecycle.training.trainers.protocol import Fitted, Matrix, OnRound
from lifecycle.training.weights import loss_weights

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
        given = constrained(project, parameters, data.schema)
        try:
            boosted = boost(
                project,
                parts_of(project, data, threads, _bins(given)),
                given,
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
        """As many rounds as early stopping kept: more rows bear a few more, which gain nothing."""
        given = constrained(project, parameters, data.schema)
        rows = as_dmatrix(
            data.train, data.train_labels, data.schema, threads, data.train_weights, _bins(given)
        )
        try:
            booster = xgboost.train(xgboost_parameters(project, given, threads), rows, rounds)
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
            found = device_of(booster)
    except xgboost.core.XGBoostError as error:
        found = plain(error)
    if "cuda" not in found:
        raise TrainingError(
            f"training.device: {device!r}, and XGBoost finds no such GPU where training runs "
            f"(it would use {found}); use device cpu, or run on a machine with that GPU"
        )
