"""XGBoost: the default trainer, and a booster as a model."""

import json
import warnings
from collections.abc import Mapping

import numpy as np
import xgboost

from lifecycle.errors import TrainingError
from lifecycle.project import Project
from lifecycle.specs import Scalar
from lifecycle.training.matrix import Matrices, as_dmatrix
from lifecycle.training.own_metrics import own_metrics
from lifecycle.training.parameters import check_parameters, constrained, plain
from lifecycle.training.trainers.boosting import BoosterMetric, boost
from lifecycle.training.trainers.protocol import Fitted, Floats, Matrix, ModelKind, OnRound

SAMPLE_ROWS = 20_000
"""Rows of the train part that its learning curve is measured on, at most."""

UBJSON = b"{L"
"""How an object with a 64-bit key length begins; XGBoost writes no other."""


class XGBoostModel:
    """A booster, already cut to its best round; it predicts on the CPU wherever it was trained."""

    kind: ModelKind = "xgboost"

    def __init__(self, booster: xgboost.Booster) -> None:
        self._booster = booster
        self._threads = 0
        if "cuda" in _device(booster):
            booster.set_param({"device": "cpu"})

    @property
    def booster(self) -> xgboost.Booster:
        return self._booster

    @property
    def rounds(self) -> int:
        return int(self._booster.num_boosted_rounds())

    @property
    def features(self) -> int:
        """How many columns the matrix has."""
        return int(self._booster.num_features())

    def predict(self, matrix: Matrix, threads: int = 1) -> Floats:
        self._use(threads)
        predicted: Floats = self._booster.inplace_predict(matrix).astype(np.float64)
        return predicted

    def importances(self) -> Floats:
        """Gain as XGBoost defines it: the loss reduction of a feature's splits (Chen and Guestrin,
        2016). All zero for a model without a split.
        """
        names = self._booster.feature_names or [f"f{at}" for at in range(self.features)]
        gains = self._booster.get_score(importance_type="total_gain")
        shares = np.array([gains.get(name, 0.0) for name in names], dtype=np.float64)
        return shares / (shares.sum() or 1.0)

    def contributions(self, matrix: Matrix, threads: int = 1) -> Floats:
        self._use(threads)
        rows = xgboost.DMatrix(
            matrix,
            feature_names=self._booster.feature_names,
            feature_types=self._booster.feature_types,
            enable_categorical=True,
            nthread=threads,
        )
        shap: Floats = self._booster.predict(rows, pred_contribs=True).astype(np.float64)
        return shap

    def save(self) -> bytes:
        return bytes(self._booster.save_raw("ubj"))

    def _use(self, threads: int) -> None:
        if threads != self._threads:
            self._booster.set_param({"nthread": threads})
            self._threads = threads


def load_booster(content: bytes) -> XGBoostModel:
    """The model that gave these bytes.

    Raises:
        ValueError: they are not UBJSON that the installed XGBoost reads.
    """
    booster = xgboost.Booster()
    try:
        if not content.startswith(UBJSON):  # XGBoost ends the whole process on an empty buffer
            raise xgboost.core.XGBoostError("not UBJSON")
        booster.load_model(bytearray(content))
    except xgboost.core.XGBoostError:
        raise ValueError(f"XGBoost {xgboost.__version__} does not read it") from None
    return XGBoostModel(booster)


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
                parts_of(project, data, threads),
                given,
                threads,
                metric=booster_metric(project),
                on_round=on_round,
            )
        except xgboost.core.XGBoostError as error:
            raise TrainingError(f"XGBoost could not train: {plain(error)}") from None
        curve = {"train": boosted.curve["sample"], "validation": boosted.curve["validation"]}
        return Fitted(XGBoostModel(boosted.booster), curve, boosted.pruned)


def parts_of(project: Project, data: Matrices, threads: int) -> dict[str, xgboost.DMatrix]:
    """The parts as `boost` takes them, with a seeded sample of the train part to be measured on."""
    train = as_dmatrix(data.train, data.train_labels, data.schema, threads, data.train_weights)
    sample = train
    if len(data.train) > SAMPLE_ROWS:
        draw = np.random.default_rng(project.training.seed)
        rows = np.sort(draw.choice(len(data.train), SAMPLE_ROWS, replace=False))
        sample = as_dmatrix(data.train[rows], data.train_labels[rows], data.schema, threads)
    elif data.train_weights is not None:
        sample = as_dmatrix(data.train, data.train_labels, data.schema, threads)
    validation = as_dmatrix(data.validation, data.validation_labels, data.schema, threads)
    return {"train": train, "validation": validation, "sample": sample}


def booster_metric(project: Project) -> BoosterMetric | None:
    """The project's own metric as XGBoost calls it; None if a metric of XGBoost's own decides.

    Raises:
        FeatureError: the metric cannot be loaded.
    """
    if project.metric not in project.metrics:
        return None
    metric = own_metrics(project)[project.metric]

    def measure(predicted: Matrix, rows: xgboost.DMatrix) -> tuple[str, float]:
        truth = rows.get_label().astype(np.float64)
        return project.metric, metric(truth, predicted.astype(np.float64))

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
            found = _device(booster)
    except xgboost.core.XGBoostError as error:
        found = plain(error)
    if "cuda" not in found:
        raise TrainingError(
            f"training.device: {device!r}, and XGBoost finds no such GPU where training runs "
            f"(it would use {found}); use device cpu, or run on a machine with that GPU"
        )


def _device(booster: xgboost.Booster) -> str:
    return str(json.loads(booster.save_config())["learner"]["generic_param"]["device"])
