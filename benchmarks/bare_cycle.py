"""The demo's work with pandas, Optuna, XGBoost, scipy and deepchecks alone, without a framework.

Run as `python -m benchmarks.bare_cycle --trainings N`; prints seconds a stage as JSON. It reads the
same data, splits by the same rule, searches the same space with as many trials, and runs the same
deepchecks suites as they come, without pages (see bare_checks.py; ours leave out or slim the
slowest checks, see lifecycle/quality/checks_program.py).
It does without what the framework is for: no quarantine, versions, registry, endpoint, resume or
cache.
"""

import argparse
import contextlib
import json
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import optuna
import pandas as pd
import xgboost as xgb
from scipy.stats import ks_2samp
from sklearn.metrics import roc_auc_score

from benchmarks.bare_checks import seconds_of
from lifecycle.features.encode import load_hook
from lifecycle.project import Choice, FloatRange, Project
from lifecycle.project.loader import load_project
from lifecycle.runtime.plugins import load_plug
from lifecycle.settings import Settings

EXAMPLE = Path(__file__).parents[1] / "examples" / "health_visits" / "project.yaml"
YEAR = "calendar_year"
Floats = npt.NDArray[np.float64]


class Stopwatch:
    """Seconds a stage, added up."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextlib.contextmanager
    def __call__(self, stage: str) -> Any:
        started = time.perf_counter()
        yield
        elapsed = time.perf_counter() - started
        self.seconds[stage] = self.seconds.get(stage, 0.0) + elapsed


def read(project: Project) -> pd.DataFrame:
    """The source with the declared ranges and categories asserted, bad rows dropped."""
    function = project.source.function
    assert function is not None
    frame: pd.DataFrame = load_plug(project, function, "source.function")()
    keep = pd.Series(True, index=frame.index)
    for name, spec in project.contract.columns.items():
        column = frame[name]
        if not spec.nullable:
            keep &= column.notna()
        if spec.minimum is not None:
            keep &= ~(column < spec.minimum)
        if spec.maximum is not None:
            keep &= ~(column > spec.maximum)
        if spec.categories is not None:
            keep &= column.isin(list(spec.categories))
    return frame[keep & ~frame.duplicated(["zper", "year"])]


def split(frame: pd.DataFrame, project: Project) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    """Newest year of 30 % of the persons is the holdout; the others' earlier years are learned."""
    people = np.sort(frame["zper"].unique())
    draw = pd.Series(np.random.default_rng(project.split.seed).random(len(people)), index=people)
    share = frame["zper"].map(draw)
    newest = frame[YEAR] == frame[YEAR].max()
    holdout = project.split.holdout
    validating = share < holdout + project.split.validation
    return (
        frame[~newest & ~validating],
        frame[~newest & (share >= holdout) & validating],
        frame[newest & (share < holdout)],
    )


def matrix(frame: pd.DataFrame, project: Project) -> xgb.DMatrix:
    """Inputs through the hook, categories native."""
    hook = load_hook(project)
    inputs = frame[list(project.input_columns)]
    features = hook(inputs) if hook else inputs
    for name, spec in project.contract.columns.items():
        if name in features and spec.type == "category":
            levels = list(spec.categories or ())
            features[name] = pd.Categorical(features[name], categories=levels)
    return xgb.DMatrix(features, frame[project.target], enable_categorical=True)


def tune(train: xgb.DMatrix, valid: xgb.DMatrix, project: Project) -> dict[str, Any]:
    """The project's search space with Optuna alone."""
    fixed = {"objective": "binary:logistic", "eval_metric": "logloss", "nthread": 2, "seed": 17}

    def objective(trial: optuna.Trial) -> float:
        chosen: dict[str, Any] = {}
        for name, space in project.tuning.space.items():
            if isinstance(space, Choice):
                chosen[name] = trial.suggest_categorical(name, list(space.values))
            elif isinstance(space, FloatRange):
                chosen[name] = trial.suggest_float(name, space.low, space.high, log=space.log)
            else:
                chosen[name] = trial.suggest_int(name, space.low, space.high, log=space.log)
        return float(boost(fixed | chosen, train, valid, project).best_score)

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    study = optuna.create_study(
        direction="minimize", sampler=optuna.samplers.TPESampler(seed=project.training.seed)
    )
    study.optimize(objective, n_trials=project.tuning.trials)
    return fixed | study.best_params


def boost(
    parameters: dict[str, Any], train: xgb.DMatrix, valid: xgb.DMatrix, project: Project
) -> xgb.Booster:
    return xgb.train(
        parameters,
        train,
        project.training.rounds,
        [(valid, "valid")],
        early_stopping_rounds=project.training.early_stopping_rounds,
        verbose_eval=False,
    )


def check(
    train: pd.DataFrame, holdout: pd.DataFrame, project: Project, booster: xgb.Booster
) -> float:
    """Seconds of the three suites, run by the checks' interpreter."""
    inputs = list(project.input_columns)
    parts = {
        name: part[[*inputs, project.target]].assign(
            **{"(answer)": booster.predict(matrix(part, project))}
        )
        for name, part in (("train", train), ("holdout", holdout))
    }
    return seconds_of(
        parts,
        Settings().checks_interpreter,
        target=project.target,
        categorical=[n for n in inputs if project.contract.columns[n].type == "category"],
    )


def evaluate(booster: xgb.Booster, holdout: pd.DataFrame, project: Project) -> Floats:
    """ROC AUC with a bootstrap interval."""
    truth = holdout[project.target].to_numpy()
    answers = booster.predict(matrix(holdout, project))
    rng = np.random.default_rng(17)
    draws = (rng.integers(0, len(truth), len(truth)) for _ in range(200))
    scores = [roc_auc_score(truth[d], answers[d]) for d in draws]
    interval: Floats = np.quantile(scores, [0.025, 0.975])
    return interval


def cycle(trainings: int) -> dict[str, float]:
    """Train on what lies before the first year to arrive, then with each next year; score and
    compare every year that arrives."""
    watch, project = Stopwatch(), load_project(EXAMPLE)
    time = project.time
    assert time is not None
    first = int(str(time.arrives_from))
    with watch("prepare"):
        frame = read(project)
    booster = xgb.Booster()
    for year in range(first, first + trainings):
        with watch("prepare"):
            train, valid, holdout = split(frame[frame[YEAR] < year], project)
            data, validation = matrix(train, project), matrix(valid, project)
        with watch("tune"):
            parameters = tune(data, validation, project)
        with watch("fit"):
            stopped = boost(parameters, data, validation, project)
            pooled = matrix(pd.concat([train, valid]), project)
            booster = xgb.train(parameters, pooled, stopped.best_iteration + 1)
        with watch("evaluate"):
            evaluate(booster, holdout, project)
        watch.seconds["check"] = watch.seconds.get("check", 0.0) + check(
            train, holdout, project, booster
        )
    for year in range(first, int(frame[YEAR].max()) + 1):
        current = frame[frame[YEAR] == year]
        with watch("score"):
            answers = booster.predict(matrix(current, project))
        with watch("monitor"):
            for name in project.input_columns:
                ks_2samp(train[name], current[name])
            ks_2samp(booster.predict(matrix(holdout, project)), answers)
    return watch.seconds


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--trainings", type=int, required=True)
    warnings.simplefilter("ignore")
    print(json.dumps(cycle(parser.parse_args().trainings)))
