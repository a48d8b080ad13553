"""Ray actors that run trials, whatever a trial is: parameters go out, outcomes come back.

This module is what an actor imports first, so it stays light: what a trial needs comes with the
objective, and Optuna's pruners are imported at the first round that asks one.
"""

import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

import ray
from ray.exceptions import RayError as AnyRayError
from ray.exceptions import RayTaskError

from lifecycle.errors import LifecycleError, RayError, TrainingError, reason

if TYPE_CHECKING:
    from lifecycle.specs import Scalar
    from lifecycle.training.tuning.prune import Judge

STARTUP_S = 120.0
"""Seconds the first actor may wait for a CPU and start."""

Objective = Callable[["Mapping[str, Scalar]", Callable[[int, float], bool]], float | None]
"""What a trial is: parameters and `OnRound` → the value; None once `OnRound` has stopped it."""


class Outcome(NamedTuple):
    """What came of a trial."""

    value: float | None
    """None if it was pruned."""
    scores: tuple[float, ...]
    """After each round, greater or less is better as it is for the value."""
    marks: dict[str, float]
    """What the pruner notes about a trial, such as its score at a rung."""
    seconds: float

    @property
    def steps(self) -> dict[int, float]:
        """The scores as Optuna has them: by the number of rounds done."""
        return dict(enumerate(self.scores, start=1))


class Told(NamedTuple):
    """A trial whose outcome the search has been told."""

    number: int
    outcome: Outcome


class Pruning(NamedTuple):
    """Which pruner, as `tuning.pruner` names it, and what it works on."""

    pruner: str
    rounds: int
    """Rounds a trial has at most."""
    maximize: bool


class _Queued(NamedTuple):
    number: int
    parameters: "Mapping[str, Scalar]"
    told: int
    """How many trials had been told when this one was asked."""


class Pool:
    """As many actors as there are workers, made when the first trial needs one.

    The objective is pickled into each, and called there for one trial after another. Each takes
    trials as soon as a CPU is free for it, however long other actors wait for theirs.
    """

    def __init__(self, objective: Objective, workers: int, pruning: Pruning | None) -> None:
        self._arguments = (objective, pruning)
        self._workers = workers
        self._pruning = pruning
        self._actors: list[Any] = []
        self._idle: list[int] = []
        self._starting: dict[Any, int] = {}
        self._running: dict[Any, tuple[int, int]] = {}  # → the trial's number and the actor
        self._queue: deque[_Queued] = deque()
        self._told: list[Told] = []
        self._sent: list[int] = []  # how many of them each actor knows
        self._deadline = float("inf")

    def start(self, number: int, parameters: "Mapping[str, Scalar]") -> None:
        """Run a trial. The pruner compares it with the trials told until now, and no others."""
        self._queue.append(_Queued(number, parameters, len(self._told)))
        if not self._actors:
            self._start_actors()
        self._hand_out()

    def tell(self, told: Told) -> None:
        """Let the pruner know an outcome from now on."""
        if self._pruning:
            self._told.append(told)

    def result(self) -> tuple[int, Outcome | LifecycleError]:
        """Wait for a trial to end; its number, and what came of it.

        Raises:
            RayError: no CPU became free for an actor.
            TrainingError: an actor could not start.
        """
        while True:
            self._hand_out()
            timeout = None if self._running else max(0.0, self._deadline - time.monotonic())
            waiting = [*self._running, *self._starting]
            done, _ = ray.wait(waiting, num_returns=1, timeout=timeout)
            if not done:
                raise RayError(
                    f"tuning: no CPU of Ray became free in {STARTUP_S:.0f} s; stop what holds "
                    "them, or give Ray more with LIFECYCLE_RAY_CPUS"
                )
            if done[0] in self._running:
                return self._ended(done[0])
            self._up(done[0])

    def stop(self) -> None:
        for actor in self._actors:
            ray.kill(actor)

    def _start_actors(self) -> None:
        """Without waiting for them, so that the next trials are suggested meanwhile."""
        remote = ray.remote(num_cpus=1)(_Worker)
        self._actors = [remote.remote(*self._arguments) for _ in range(self._workers)]
        self._sent = [0] * self._workers
        self._starting = {actor.started.remote(): at for at, actor in enumerate(self._actors)}
        self._deadline = time.monotonic() + STARTUP_S

    def _up(self, reference: Any) -> None:
        """An actor is up, or is not going to be."""
        try:
            ray.get(reference)
        except AnyRayError as error:
            raise TrainingError(f"tuning: a worker could not start ({reason(error)})") from None
        self._idle.append(self._starting.pop(reference))

    def _hand_out(self) -> None:
        """The oldest trials to the idle actors, each with what its actor does not know yet."""
        while self._queue and self._idle:
            trial, at = self._queue.popleft(), self._idle.pop()
            news = self._told[self._sent[at] : trial.told]
            self._sent[at] = trial.told
            reference = self._actors[at].run.remote(trial.number, trial.parameters, news)
            self._running[reference] = trial.number, at

    def _ended(self, reference: Any) -> tuple[int, Outcome | LifecycleError]:
        number, at = self._running.pop(reference)
        try:
            outcome: Outcome | LifecycleError = ray.get(reference)
        except RayTaskError:
            raise
        except AnyRayError as error:  # the actor is gone, and is given nothing more
            why = f"a worker died on trial {number} ({reason(error)})"
            return number, TrainingError(f"tuning: {why}; run again, finished trials are kept")
        self._idle.append(at)
        return number, outcome


@contextmanager
def worker_pool(objective: Objective, workers: int, pruning: Pruning | None) -> Iterator[Pool]:
    """A pool whose actors are gone after the block."""
    pool = Pool(objective, workers, pruning)
    try:
        yield pool
    finally:
        pool.stop()


class _Worker:
    """Runs in an actor of one CPU."""

    def __init__(self, objective: Objective, pruning: Pruning | None) -> None:
        self._objective = objective
        self._pruning = pruning
        self._judge: Judge | None = None
        self._news: list[Told] = []

    def started(self) -> bool:
        return True

    def run(
        self, number: int, parameters: "Mapping[str, Scalar]", news: list[Told]
    ) -> Outcome | LifecycleError:
        """What came of a trial, or why nothing did.

        Returned, not raised: Ray prints what is raised and not fetched, as when another trial
        failed first.
        """
        self._news += news
        watch = _Watch(self, number)
        began = time.perf_counter()
        try:
            value = self._objective(parameters, watch)
        except TrainingError as error:
            return TrainingError(
                f"tuning: trial {number} with {parameters}: {error}; narrow tuning.space"
            )
        except LifecycleError as error:
            return error
        if (value is None and not watch.pruned) or value != value:  # or NaN
            return TrainingError(
                f"tuning: trial {number} with {parameters} has no value (got {value}); "
                "narrow tuning.space, or look at the metric on the validation part"
            )
        seconds = time.perf_counter() - began
        return Outcome(value, tuple(watch.scores), watch.marks, seconds)

    def judge(self) -> "Judge | None":
        """The pruner, told all that was sent."""
        if self._pruning is None:
            return None
        if self._judge is None:
            from lifecycle.training.tuning.prune import Judge

            self._judge = Judge(*self._pruning)
        self._judge.learn(self._news)
        self._news = []
        return self._judge


class _Watch:
    """A trial's `OnRound`: keeps the scores and asks the pruner."""

    def __init__(self, worker: _Worker, number: int) -> None:
        self._worker, self._number = worker, number
        self.scores: list[float] = []
        self.marks: dict[str, float] = {}
        self.pruned = False

    def __call__(self, at: int, score: float) -> bool:
        judge = self._worker.judge()
        self.scores.append(score)
        if judge is None:
            return False
        hopeless = judge.hopeless(self._number, self.scores, self.marks)
        # trial 0 is the project's own parameters, which tuning must not end worse than
        self.pruned = hopeless and self._number > 0
        return self.pruned
