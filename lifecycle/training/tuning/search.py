"""The search: Optuna's TPE and pruners, its trials on Ray actors or here, for any objective.

Deterministic for a given number of workers, whatever the timing: trial n is asked when trial
n − workers has been told, results are told in the order they were asked, a pruner compares a trial
with those told before it was asked, and each trial draws from a generator of its own. So a search
that was killed is resumed by replaying it, with the outcomes of the finished trials taken from the
study on disk, and ends as if it had never stopped. A time budget alone depends on the clock: it
decides how many trials there are, not what they are.
"""

import time
from collections import deque
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from lifecycle.errors import LifecycleError
from lifecycle.project import Project, greater_is_better
from lifecycle.records import DatasetVersion, Trial, Tuned
from lifecycle.runtime.cluster import is_connected
from lifecycle.training.parameters import key_of
from lifecycle.training.trainers.registry import open_trainer
from lifecycle.training.tuning import Objective, Pruning, ReportedTrial, TrialOutcome
from lifecycle.training.tuning.study import Finished, PendingTrial, Suggestions, open_study
from lifecycle.training.tuning.trials import LocalPool, ValidationMetric

if TYPE_CHECKING:
    from lifecycle.training.tuning.pool import Pool


class Now(NamedTuple):
    """State of a search after a trial was reported."""

    trial: Trial
    number: int
    total: int
    """Trials if time allows."""
    best: float
    resumed: int
    """Trials that an earlier process had finished."""


OnTrial = Callable[[Now], None]


def search(project: Project, objective: Objective, folder: Path, on_trial: OnTrial) -> Tuned:
    """Search `tuning.space` for the best value of the objective.

    Trials run on Ray where it is connected, and in this process where it is not: with the same
    outcomes, as either way a trial has one thread.

    Args:
        folder: of the study; finished trials in it are not run again.

    Raises:
        LifecycleError: a trial failed; finished ones are kept.
        RayError: no CPU became free for a worker.
    """
    spec = project.tuning
    maximize = greater_is_better(project.training_metric)
    pruning = (
        None if spec.pruner == "none" else Pruning(spec.pruner, project.training.rounds, maximize)
    )
    suggestions = Suggestions(project)
    with (
        open_study(folder, suggestions) as finished,
        _pool(objective, spec.workers, pruning) as pool,
    ):
        history = _Search(project, suggestions, finished, pool, on_trial).run()
    value, best = best_of(history, maximize)
    return Tuned(
        parameters=best.parameters,
        value=value,
        trials=len(history),
        pruned=sum(trial.state == "pruned" for trial in history),
        history=tuple(history),
    )


def _pool(
    objective: Objective, workers: int, pruning: Pruning | None
) -> "AbstractContextManager[Pool | LocalPool]":
    if not is_connected():
        return nullcontext(LocalPool(objective, pruning))
    from lifecycle.training.tuning.pool import worker_pool  # Ray takes seconds to import

    return worker_pool(objective, workers, pruning)


def best_of(trials: list[Trial], maximize: bool) -> tuple[float, Trial]:
    """The best trial that was not pruned, the earliest among equals, and its value."""
    complete = [(trial.value, trial) for trial in trials if trial.value is not None]
    return max(complete, key=lambda pair: pair[0] if maximize else -pair[0])


class _Search:
    """Ask and tell in a sliding window as wide as there are workers."""

    def __init__(
        self,
        project: Project,
        suggestions: Suggestions,
        finished: Finished,
        pool: "Pool | LocalPool",
        on_trial: OnTrial,
    ) -> None:
        self._spec = project.tuning
        self._maximize = greater_is_better(project.training_metric)
        self._suggestions, self._finished, self._pool = suggestions, finished, pool
        self._on_trial = on_trial
        self._earlier_trials = len(finished)
        self._since = time.monotonic() - finished.elapsed
        self._waiting: deque[PendingTrial] = deque()
        self._running: dict[int, PendingTrial] = {}
        self._failed: dict[int, LifecycleError] = {}
        self._late: set[int] = set()
        self._history: list[Trial] = []

    def run(self) -> list[Trial]:
        for number in range(self._spec.trials):
            if len(self._waiting) == self._spec.workers:
                self._tell_oldest()
            trial = self._suggestions.ask(number)
            self._waiting.append(trial)
            if self._is_repeat(trial):
                continue
            if number and self._elapsed() > (self._spec.max_seconds or float("inf")):
                self._late.add(number)
                if {waiting.number for waiting in self._waiting} <= self._late:
                    break  # no trial on disk can follow: it would have been asked after these
                continue
            self._running[number] = trial
            self._pool.start(number, trial.parameters)
        while self._waiting:
            self._tell_oldest()
        return self._history

    def _is_repeat(self, trial: PendingTrial) -> bool:
        """Return whether a trial with exactly these parameters has ended or is running."""
        running = (key_of(other.parameters) for other in self._running.values())
        return bool(self._finished.outcome(trial.parameters)) or key_of(trial.parameters) in running

    def _elapsed(self) -> float:
        """Seconds of search, of earlier processes too."""
        return time.monotonic() - self._since

    def _tell_oldest(self) -> None:
        trial = self._waiting.popleft()
        if trial.number in self._late:
            return
        while (outcome := self._finished.outcome(trial.parameters)) is None:
            if trial.number in self._failed:  # only now: the same run fails with the same trial
                raise self._failed[trial.number]
            self._collect()
        self._suggestions.tell(trial, outcome)
        self._pool.tell(ReportedTrial(trial.number, outcome))
        self._history.append(_record(trial, outcome))
        best, _ = best_of(self._history, self._maximize)
        count, total = len(self._history), self._spec.trials
        self._on_trial(Now(self._history[-1], count, total, best, self._earlier_trials))

    def _collect(self) -> None:
        """Wait for a trial to end, and keep it."""
        number, outcome = self._pool.result()
        trial = self._running.pop(number)
        if isinstance(outcome, LifecycleError):
            self._failed[number] = outcome
        else:
            self._finished.keep(trial, outcome, self._elapsed())


def _record(trial: PendingTrial, outcome: TrialOutcome) -> Trial:
    return Trial(
        number=trial.number,
        state="pruned" if outcome.value is None else "complete",
        value=outcome.value,
        parameters=trial.parameters,
        seconds=round(outcome.seconds, 3),
        rounds=len(outcome.scores),
    )


# Tuning of a project. The holdout is not even an argument.


def tune(
    project: Project,
    train: DatasetVersion,
    validation: DatasetVersion,
    study_dir: Path,
    on_trial: OnTrial,
) -> Tuned:
    """Search for the parameters that do best on the validation part, on Ray where it is connected.

    The first trial is `training.parameters` as they stand, and is never pruned, so tuning never
    ends worse than them. The validation part respects time and entities because the split does.

    Args:
        study_dir: folder of this identity's study; finished trials in it are not run again.

    Raises:
        ProjectError: the trainer cannot use a parameter or an end of a range.
        TrainingError: a trial or a worker failed.
        RayError: no CPU became free for a worker.
    """
    open_trainer(project).check(project)
    if not project.tuning.space:
        return Tuned(parameters=dict(project.training.parameters), value=None, trials=0)
    return search(project, ValidationMetric(project, train, validation), study_dir, on_trial)
