"""What the search costs beside Optuna alone, and how well it fills the workers."""

import argparse
import gc
import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory

import optuna
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend

from benchmarks.cycle import Result
from lifecycle.cluster import connect_ray
from lifecycle.project import Project
from lifecycle.settings import Settings
from lifecycle.specs import Scalar
from lifecycle.training.pool import Objective
from lifecycle.training.search import search

TRIALS = 100
LONG_TRIALS = 16
LONG_SECONDS = 1.0
OnRound = Callable[[int, float], bool]


def trivial(parameters: Mapping[str, Scalar], on_round: OnRound) -> float:
    """Nothing to compute: what is left is the search."""
    x, y = float(parameters["eta"]), float(parameters["max_depth"])
    return (x - 0.1) ** 2 + (y - 5) ** 2


def one_second(parameters: Mapping[str, Scalar], on_round: OnRound) -> float:
    time.sleep(LONG_SECONDS)
    return trivial(parameters, on_round)


def project_of(trials: int, workers: int) -> Project:
    """A project with a search space of four parameters, and no data."""
    space = {
        "eta": {"type": "float", "low": 0.01, "high": 0.5, "log": True},
        "max_depth": {"type": "int", "low": 1, "high": 10},
        "subsample": {"type": "float", "low": 0.5, "high": 1.0},
        "grow_policy": {"type": "choice", "values": ["depthwise", "lossguide"]},
    }
    return Project.model_validate(
        {
            "name": "benchmark",
            "source": {"path": "none.csv"},
            "task": "regression",
            "target": "y",
            "contract": {"columns": {"x": {"type": "number"}, "y": {"type": "number"}}},
            "training": {"parameters": {"eta": 0.3, "max_depth": 6}},
            "tuning": {"trials": trials, "workers": workers, "pruner": "median", "space": space},
        }
    )


def ours(trials: int, workers: int, objective: Objective) -> tuple[float, float]:
    """Seconds of a whole search, and of it from the first trial told to the last."""
    told: list[float] = []
    with TemporaryDirectory() as folder:
        started = time.perf_counter()
        search(
            project_of(trials, workers),
            objective,
            Path(folder) / "study",
            lambda now: told.append(time.perf_counter()),
        )
        return time.perf_counter() - started, told[-1] - told[0]


def bare(trials: int) -> float:
    """Seconds of Optuna alone on its journal storage: same sampler, space and objective."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)

    def objective(trial: optuna.Trial) -> float:
        parameters: dict[str, Scalar] = {
            "eta": trial.suggest_float("eta", 0.01, 0.5, log=True),
            "max_depth": trial.suggest_int("max_depth", 1, 10),
            "subsample": trial.suggest_float("subsample", 0.5, 1.0),
            "grow_policy": trial.suggest_categorical("grow_policy", ["depthwise", "lossguide"]),
        }
        return trivial(parameters, lambda at, score: False)

    with TemporaryDirectory() as folder:
        started = time.perf_counter()
        storage = JournalStorage(JournalFileBackend(str(Path(folder) / "journal.log")))
        study = optuna.create_study(storage=storage, sampler=optuna.samplers.TPESampler(seed=17))
        study.optimize(objective, n_trials=trials)
        return time.perf_counter() - started


def measure(rounds: int) -> Iterator[Result]:
    """Interleaved rounds of the search and Optuna alone; medians of ratios within a round."""
    walls: list[tuple[float, float, float]] = []
    efficiencies: list[float] = []
    with connect_ray(Settings(ray_cpus=2)):
        ours(2, 2, trivial)  # Ray's worker processes have started once
        for _ in range(rounds):
            gc.collect()
            alone = bare(TRIALS)
            whole, running = ours(TRIALS, 2, trivial)
            walls.append((alone, whole, running))
        for _ in range(rounds):
            _, running = ours(LONG_TRIALS + 2, 2, one_second)
            # from the first trial told on, 17 more end, the first of them at the same time
            efficiencies.append(LONG_TRIALS * LONG_SECONDS / 2 / running)
    alone, whole, running = (statistics.median(column) for column in zip(*walls, strict=True))
    print(walls, efficiencies)
    yield from ()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    for row in measure(parser.parse_args().rounds):
        print(row)
