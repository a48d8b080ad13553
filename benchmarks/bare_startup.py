"""A plain script of small work: `python -m benchmarks.bare_startup score|train SOURCE MODEL`.

`train` searches as many trials as the flow and writes the model; `score` loads it and writes its
answers. Both do without what the flows are for: no contract, versions, registry, report or gate.
"""

import sys
from pathlib import Path

import numpy as np
import pandas as pd
import xgboost as xgb

TARGET = "label"
ROUNDS, STOPPING, TRIALS = 50, 10, 5
HOLDOUT, VALIDATION = 0.2, 0.15
DEPTHS, ETAS = (3, 8), (0.05, 0.3)
"""What is searched."""


def score(source: Path, model: Path) -> None:
    booster = xgb.Booster(model_file=model)
    features = pd.read_parquet(source).drop(columns=TARGET)
    answers = booster.predict(xgb.DMatrix(features))
    pd.DataFrame({"prediction": answers}).to_parquet(source.with_suffix(".answers"))


def train(source: Path, model: Path) -> None:
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    frame = pd.read_parquet(source)
    place = np.random.default_rng(17).random(len(frame))
    features = frame.drop(columns=TARGET)
    learn = place >= HOLDOUT + VALIDATION
    watch = (place >= HOLDOUT) & ~learn
    data = xgb.DMatrix(features[learn], frame[TARGET][learn])
    valid = xgb.DMatrix(features[watch], frame[TARGET][watch])

    def fit(parameters: dict[str, float]) -> xgb.Booster:
        fixed = {"objective": "binary:logistic", "nthread": 1, **parameters}
        watched = [(valid, "validation")]
        return xgb.train(
            fixed,
            data,
            ROUNDS,
            evals=watched,
            early_stopping_rounds=STOPPING,
            verbose_eval=False,
        )

    def objective(trial: optuna.Trial) -> float:
        depth = trial.suggest_int("max_depth", *DEPTHS)
        eta = trial.suggest_float("eta", *ETAS, log=True)
        return float(fit({"max_depth": depth, "eta": eta}).best_score)

    study = optuna.create_study(sampler=optuna.samplers.TPESampler(seed=17))
    study.optimize(objective, n_trials=TRIALS)
    booster = fit(study.best_params)
    holdout = place < HOLDOUT
    booster.predict(xgb.DMatrix(features[holdout]))
    booster.save_model(model)


if __name__ == "__main__":
    {"score": score, "train": train}[sys.argv[1]](Path(sys.argv[2]), Path(sys.argv[3]))
