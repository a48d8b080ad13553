"""Writing a bundle and predicting through it, beside the bare library at the same work.

The model is trained on 1,000,000 rows × 28 features. The twin of writing saves the model and a JSON
file, hashes both, and syncs them to disk; the twin of predicting builds the matrix and calls the
booster.
"""

import hashlib
import json
import os
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pandas as pd
import xgboost
from numpy.typing import NDArray

from benchmarks import large
from benchmarks.result import Result, limit, ratio
from lifecycle.features.encode import FeatureSchema, encode
from lifecycle.project import ColumnSpec
from lifecycle.training.bundle import BundleSchema, load_bundle, write_bundle
from lifecycle.training.predictor import Predictor
from lifecycle.training.trainers.booster import XGBoostModel

ROUNDS = large.ROUNDS
THREADS = os.cpu_count() or 1
ENCODED_ROWS = 700_000
"""What the train part of the train benchmark has."""


def measure(rounds: int) -> Iterator[Result]:
    """Interleaved rounds of ours and the twin."""
    data = large.frame()
    inputs, truth = data.drop(columns=large.TARGET), data[large.TARGET]
    names = tuple(inputs.columns)
    rows = xgboost.QuantileDMatrix(inputs, label=truth, nthread=THREADS)
    parameters = {**large.PARAMETERS, "nthread": THREADS}
    trained = xgboost.train(parameters, rows, ROUNDS)
    booster = xgboost.Booster(parameters)
    booster.load_model(bytearray(trained.save_raw("ubj")))
    del rows, trained, data
    schema = _schema(names)
    with TemporaryDirectory() as folder:
        yield _written(XGBoostModel(booster), schema, Path(folder), rounds)
        bundle = write_bundle(XGBoostModel(booster), schema, "identity", Path(folder))
        predictor = Predictor(load_bundle(bundle.path, bundle.digest), None, THREADS)
    yield _predicted(predictor, booster, inputs, rounds)
    yield _encoded(inputs.head(ENCODED_ROWS), schema.features, rounds)


def _written(model: XGBoostModel, schema: BundleSchema, folder: Path, rounds: int) -> Result:
    times, bare = [], []
    size = len(model.save()) / 1e6
    for number in range(-1, rounds):
        name = str(number)
        duration = _seconds(partial(write_bundle, model, schema, name, folder / "ours"))
        bare_seconds = _seconds(partial(bare_write, model.booster, schema, folder / f"bare{name}"))
        if number >= 0:  # the first round warms both up
            times.append(duration)
            bare.append(bare_seconds)
    detail = f"s; {ROUNDS} rounds, {size:.1f} MB, synced to disk"
    return ratio("bundle: write", times, bare, 1.2, detail)


def bare_write(booster: xgboost.Booster, schema: BundleSchema, folder: Path) -> None:
    """Model, schema and the digests of both, synced to disk."""
    folder.mkdir()
    booster.save_model(folder / "model.ubj")
    (folder / "schema.json").write_text(json.dumps(schema.model_dump(mode="json")))
    files = [folder / "model.ubj", folder / "schema.json"]
    digests = {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in files}
    (folder / "manifest.json").write_text(json.dumps(digests))
    for path in (*folder.iterdir(), folder.parent):
        descriptor = os.open(path, os.O_RDONLY)
        os.fsync(descriptor)
        os.close(descriptor)


def _predicted(
    predictor: Predictor, booster: xgboost.Booster, inputs: pd.DataFrame, rounds: int
) -> Result:
    def bare() -> NDArray[np.float32]:
        answers: NDArray[np.float32] = booster.inplace_predict(inputs.to_numpy(dtype=np.float32))
        return answers

    np.testing.assert_array_equal(predictor.predict(inputs), bare())  # and both are warm
    pairs = [(_seconds(lambda: predictor.predict(inputs)), _seconds(bare)) for _ in range(rounds)]
    full, bare_seconds = zip(*pairs, strict=True)
    detail = f"s; {len(inputs):,} rows from a frame, {THREADS} threads"
    return ratio("bundle: predict", full, bare_seconds, 1.2, detail)


def _encoded(inputs: pd.DataFrame, schema: FeatureSchema, rounds: int) -> Result:
    encode(inputs, schema)
    seconds = [_seconds(lambda: encode(inputs, schema)) for _ in range(rounds)]
    rows, columns = inputs.shape
    return limit("encode", seconds, "s", 0.3, f"{rows:,} rows × {columns} into a matrix")


def _seconds(act: Callable[[], object]) -> float:
    started = time.perf_counter()
    act()
    return time.perf_counter() - started


def _schema(names: tuple[str, ...]) -> BundleSchema:
    return BundleSchema(
        project="large",
        task="binary",
        target=large.TARGET,
        positive=1,
        threshold=0.5,
        inputs={name: ColumnSpec(type="number") for name in names},
        features=FeatureSchema(names=names, kinds=("q",) * len(names), levels={}),
        hook=None,
        hook_digest="",
    )
