"""Cost of the search next to Optuna alone, and its use of the workers."""

import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import optuna
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend

from benchmarks.result import Result, at_least, information, limit, ratio
from lifecycle.project import Project, Scalar
from lifecycle.runtime.cluster import connect_ray
from lifecycle.settings import Settings
from lifecycle.training.tuning import Objective
from lifecycle.training.tuning.search import search

TRIALS = 100
WORKERS = 2
LONG_TRIALS = 20
LONG_SECONDS = 1.0
OnRound = Callable[[int, float], bool]


def trivial(parameters: Mapping[str, Scalar], on_round: OnRound) -> float:
    """Return a value without training anything, so that only the search is measured."""
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


class Search(NamedTuple):
    """One search, in seconds."""

    total: float
    """With starting and stopping the actors."""
    running: float
    """From the first trial told to the last one."""
    work: float
    """What the trials told after the first one took, added up."""


def own_search(trials: int, workers: int, objective: Objective) -> Search:
    """A search with the machinery of `lifecycle.training.tuning.search`, and this objective."""
    times: list[float] = []
    with TemporaryDirectory() as folder:
        started = time.perf_counter()
        tuned = search(
            project_of(trials, workers),
            objective,
            Path(folder) / "study",
            lambda now: times.append(time.perf_counter()),
        )
        total = time.perf_counter() - started
    # the trials that ran beside the first one had ended when it was told
    work = sum(trial.seconds for trial in tuned.history[workers:])
    return Search(total, times[-1] - times[0], work)


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
    optuna_times: list[float] = []
    short: list[Search] = []
    long: list[Search] = []
    with connect_ray(Settings(ray_cpus=WORKERS)):
        first = own_search(TRIALS, WORKERS, trivial)  # on a Ray that has just started
        for _ in range(rounds):
            optuna_times.append(bare(TRIALS))
            short.append(own_search(TRIALS, WORKERS, trivial))
            long.append(own_search(LONG_TRIALS, WORKERS, one_second))
    detail = f"{TRIALS} trivial trials, {WORKERS} workers"
    totals, ran = [search.total for search in short], [search.running for search in short]
    started = "tuning: trivial trials, with starting and stopping the actors"
    yield ratio(started, totals, optuna_times, 7, f"s of Optuna on its journal; {detail}")
    yield ratio("tuning: trivial trials, actors already up", ran, optuna_times, 7, f"s; {detail}")
    cold = [first.total / statistics.median(optuna_times)]
    yield limit(
        "tuning: trivial trials, Ray just started", cold, "×", 7, f"{detail}; ours / Optuna"
    )
    filled = [search.work / WORKERS / search.running for search in long]
    detail = f"{LONG_TRIALS} trials of 1 s: work / workers / wall time"
    yield at_least("tuning: parallel efficiency, actors already up", filled, "", 0.9, detail)
    total = [LONG_TRIALS * LONG_SECONDS / WORKERS / search.total for search in long]
    yield information("tuning: parallel efficiency, with starting the actors", total, "", detail)
