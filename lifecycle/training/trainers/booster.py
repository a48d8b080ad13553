"""An XGBoost booster as a model."""

import json

import numpy as np
import xgboost

from lifecycle.features.encode import Floats
from lifecycle.training.trainers.protocol import Matrix, ModelKind

UBJSON = b"{L"
"""How an object with a 64-bit key length begins; XGBoost writes no other."""


class XGBoostModel:
    """A booster, already cut to its best round; it predicts on the CPU wherever it was trained."""

    kind: ModelKind = "xgboost"

    def __init__(self, booster: xgboost.Booster) -> None:
        self._booster = booster
        self._threads = 0
        if "cuda" in device_of(booster):
            booster.set_param({"device": "cpu"})

    @property
    def booster(self) -> xgboost.Booster:
        return self._booster

    @property
    def rounds(self) -> int:
        return int(self._booster.num_boosted_rounds())

    @property
    def features(self) -> int:
        """Number of columns of the matrix."""
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


def device_of(booster: xgboost.Booster) -> str:
    """`cpu`, or `cuda:` and a number: what XGBoost really uses."""
    return str(json.loads(booster.save_config())["learner"]["generic_param"]["device"])
