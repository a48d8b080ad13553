"""The train flow's work with pandas and XGBoost alone: read, divide, train, as a user writes it.

Run as `python -m benchmarks.bare_train SOURCE`; prints the seconds of the work as JSON.
"""

import json
import sys
import time

started = time.perf_counter()

import numpy as np  # noqa: E402 - what a process costs before its work is part of a cold start
import pandas as pd  # noqa: E402
import xgboost as xgb  # noqa: E402

from benchmarks.large import PARAMETERS, ROUNDS, SHARES, TARGET  # noqa: E402


def train(source: str) -> xgb.Booster:
    """100 rounds on as many rows as the flow trains with, watched on the validation part."""
    frame = pd.read_parquet(source)
    place = np.random.default_rng(17).random(len(frame))
    features = frame.drop(columns=TARGET)
    holdout, validation = SHARES
    learn = place >= holdout + validation
    watch = (place >= holdout) & ~learn
    data = xgb.DMatrix(features[learn], frame[TARGET][learn])
    valid = xgb.DMatrix(features[watch], frame[TARGET][watch])
    return xgb.train(PARAMETERS, data, ROUNDS, [(valid, "validation")], verbose_eval=False)


if __name__ == "__main__":
    ready = time.perf_counter()
    train(sys.argv[1])
    print(json.dumps({"imports": ready - started, "work": time.perf_counter() - ready}))
