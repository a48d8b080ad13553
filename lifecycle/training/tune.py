"""The search: Optuna's TPE, its trials on Ray actors; the holdout is not even an argument.

Deterministic for a given number of workers, whatever the timing: trial n is asked when trial
n − workers has been told, results are told in the order they were asked, and each trial draws from
a generator of its own. So a search that was killed is resumed by replaying it, with the values of
the finished trials taken from the study on disk, and ends as if it had never stopped.
"""

from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray
import xgboost
from ray.exceptions import GetTimeoutError
from ray.exceptions import RayError as AnyRayError

from lifecycle.errors import LifecycleError, RayError, TrainingError
from lifecycle.project import Project
from lifecycle.records import DatasetVersion, Tuned
from lifecycle.specs import Scalar, greater_is_better
from lifecycle.training.evaluate import metric_value
from lifecycle.training.matrix import Matrices, as_dmatrix, open_matrices
from lifecycle.training.parameters import check_parameters, key_of, plain
from lifecycle.training.study import Finished, open_study
from lifecycle.training.suggest import Asked, Suggestions
from lifecycle.training.train import fit_booster

STARTUP_S = 120.0
"""Seconds the first worker may wait for a CPU and start."""

OnTrial = Callable[[int, int, float | None], None]
"""Trials told so far, trials in all, best value so far."""

Outcome = float | LifecycleError
"""A trial's value, or why it has none."""


@dataclass(frozen=True)
class Told:
    """A trial with its value."""

    parameters: dict[str, Scalar]
    value: float


def tune(
    project: Project,
    train: DatasetVersion,
    validation: DatasetVersion,
    study_dir: Path,
    on_trial: OnTrial,
) -> Tuned:
    """Search for the parameters that do best on the validation part; Ray is connected already.

    The first trial is `training.parameters` as they stand, so tuning never ends worse than them.

    Args:
        study_dir: folder of this identity's study; finished trials in it are not run again.

    Raises:
        ProjectError: XGBoost cannot use a parameter or an end of a range.
        TrainingError: a trial or a worker failed.
        RayError: no CPU became free for a worker.
    """
    check_parameters(project)
    if not project.tuning.space:
        return Tuned(parameters=dict(project.training.parameters), value=None, trials=0)
    suggestions = Suggestions(project)
    with (
        open_study(study_dir, suggestions.direction) as finished,
        _worker_pool(project, train, validation) as pool,
    ):
        told = _search(project, suggestions, finished, pool, on_trial)
    best = _best(project, told)
    return Tuned(parameters=best.parameters, value=best.value, trials=len(told))


def _search(
    project: Project,
    suggestions: Suggestions,
    finished: Finished,
    pool: "_Pool",
    on_trial: OnTrial,
) -> list[Told]:
    """Ask and tell in a sliding window as wide as there are workers."""
    waiting: deque[Asked] = deque()
    told: list[Told] = []
    failed: dict[int, LifecycleError] = {}

    def tell_oldest() -> None:
        asked = waiting.popleft()
        while (value := finished.value(asked.parameters)) is None:
            if asked.number in failed:  # only now, so that the same run fails with the same trial
                raise failed[asked.number]
            for done, outcome in pool.results():
                if isinstance(outcome, LifecycleError):
                    failed[done.number] = outcome
                else:
                    finished.keep(done, suggestions.space, outcome)
        suggestions.tell(asked, value)
        told.append(Told(asked.parameters, value))
        on_trial(len(told), project.tuning.trials, _best(project, told).value)

    for number in range(project.tuning.trials):
        if len(waiting) == project.tuning.workers:
            tell_oldest()
        asked = suggestions.ask(number)
        if finished.value(asked.parameters) is None:
            pool.start(asked)
        waiting.append(asked)
    while waiting:
        tell_oldest()
    return told


def _best(project: Project, told: list[Told]) -> Told:
    """The best trial, the earliest among equals."""
    sign = 1 if greater_is_better(project.metric) else -1
    return max(told, key=lambda trial: sign * trial.value)


class _Worker:
    """Runs in an actor of one CPU: opens the data once, then runs trial after trial."""

    def __init__(self, project: Project, train: DatasetVersion, validation: DatasetVersion) -> None:
        self._project, self._train, self._validation = project, train, validation
        self._data: Matrices | None = None

    def started(self) -> bool:
        return True

    def run(self, parameters: Mapping[str, Scalar]) -> Outcome:
        """The project's metric on the validation part, or why there is none.

        Returned, not raised: Ray prints what is raised and not fetched, as when another trial
        failed first.
        """
        try:
            return self._metric(parameters)
        except xgboost.core.XGBoostError as error:
            return TrainingError(
                f"tuning: XGBoost refuses {parameters} ({plain(error)}); narrow tuning.space"
            )
        except LifecycleError as error:
            return error

    def _metric(self, parameters: Mapping[str, Scalar]) -> float:
        if self._data is None:
            self._data = open_matrices(self._project, self._train, self._validation)
        data, project = self._data, self._project
        booster = fit_booster(project, data, {**parameters, "nthread": 1})
        rows = as_dmatrix(data.validation, data.validation_labels, data.schema, threads=1)
        predicted = booster.predict(rows)
        return metric_value(project.metric, data.validation_labels, predicted, project.task)


class _Pool:
    """Actors that run trials; none is started before the first trial needs one."""

    def __init__(self, project: Project, train: DatasetVersion, validation: DatasetVersion) -> None:
        self._arguments = (project, train, validation)
        self._workers = project.tuning.workers
        self._actors: list[Any] = []
        self._running: dict[Any, Asked] = {}

    def start(self, asked: Asked) -> None:
        """Run a trial, unless one with the same parameters is running."""
        if key_of(asked.parameters) in {
            key_of(other.parameters) for other in self._running.values()
        }:
            return
        actors = self._actors or self._start_actors()
        actor = actors[asked.number % len(actors)]
        self._running[actor.run.remote(asked.parameters)] = asked

    def results(self) -> Iterator[tuple[Asked, Outcome]]:
        """Wait for at least one trial; give every one that is done."""
        ray.wait(list(self._running), num_returns=1)
        done, _ = ray.wait(list(self._running), num_returns=len(self._running), timeout=0)
        for reference in done:
            asked = self._running.pop(reference)
            yield asked, self._outcome(asked, reference)

    def stop(self) -> None:
        for actor in self._actors:
            ray.kill(actor)

    def _start_actors(self) -> list[Any]:
        """As many as CPUs are free; the window stays as wide as declared, so results are too."""
        resources: dict[str, float] = ray.available_resources()  # type: ignore[no-untyped-call]  # Ray's
        free = int(resources.get("CPU", 0))
        remote = ray.remote(num_cpus=1)(_Worker)
        count = max(1, min(self._workers, free))
        self._actors = [remote.remote(*self._arguments) for _ in range(count)]
        try:
            ray.get(self._actors[0].started.remote(), timeout=STARTUP_S)
        except GetTimeoutError:
            raise RayError(
                f"tuning: no CPU of Ray became free in {STARTUP_S:.0f} s; stop what holds them, "
                "or give Ray more with LIFECYCLE_RAY_CPUS"
            ) from None
        return self._actors

    def _outcome(self, asked: Asked, reference: Any) -> Outcome:
        try:
            outcome: Outcome = ray.get(reference)
        except AnyRayError as error:
            return TrainingError(
                f"tuning: a worker died on {asked.parameters} ({str(error).splitlines()[0]}); "
                "run again, finished trials are kept"
            )
        return outcome


@contextmanager
def _worker_pool(
    project: Project, train: DatasetVersion, validation: DatasetVersion
) -> Iterator[_Pool]:
    pool = _Pool(project, train, validation)
    try:
        yield pool
    finally:
        pool.stop()
