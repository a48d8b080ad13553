"""Ray actors that run trials, whatever a trial is: parameters go out, outcomes come back."""

import time
from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import ray
from ray.exceptions import RayError as AnyRayError
from ray.exceptions import RayTaskError

from lifecycle.errors import LifecycleError, RayError, TrainingError, ray_reason
from lifecycle.training.tuning import Objective, Pruning, ReportedTrial, TrialOutcome
from lifecycle.training.tuning.trials import Queued, ValidationMetric, Worker

if TYPE_CHECKING:
    from lifecycle.project import Scalar

STARTUP_S = 120.0
"""Seconds the first actor may wait for a CPU and start."""


class Pool:
    """A pool of one actor per worker, started when the first trial needs one.

    The objective is called there for one trial after another. Its data are opened once, here, and
    lie in Ray's object store, from which all actors of a machine read them without a copy. Each
    takes trials as soon as a CPU is free for it, however long other actors wait for theirs.
    """

    def __init__(self, objective: Objective, workers: int, pruning: Pruning | None) -> None:
        self._objective = objective
        self._shared: Any = None
        """The objective in the object store, for as long as there are actors."""
        self._workers = workers
        self._pruning = pruning
        self._actors: list[Any] = []
        self._idle: list[int] = []
        self._starting: dict[Any, int] = {}
        self._running: dict[Any, tuple[int, int]] = {}  # → the trial's number and the actor
        self._queue: deque[Queued] = deque()
        self._news: list[ReportedTrial] = []
        self._sent: list[int] = []  # how many of them each actor knows
        self._deadline = float("inf")

    def start(self, number: int, parameters: "Mapping[str, Scalar]") -> None:
        """Run a trial. The pruner compares it with the trials told until now, and no others."""
        self._queue.append(Queued(number, parameters, len(self._news)))
        if not self._actors:
            self._start_actors()
        self._hand_out()

    def tell(self, news: ReportedTrial) -> None:
        """Let the pruner know an outcome from now on."""
        if self._pruning:
            self._news.append(news)

    def result(self) -> tuple[int, TrialOutcome | LifecycleError]:
        """Wait for a trial to end; its number, and what came of it.

        Raises:
            RayError: no CPU became free for an actor.
            TrainingError: an actor could not start.
        """
        while True:
            self._hand_out()
            timeout = None if self._running else max(0.0, self._deadline - time.monotonic())
            waiting = [*self._running, *self._starting]
            finished, _ = ray.wait(waiting, num_returns=1, timeout=timeout)
            if not finished:
                raise RayError(
                    f"tuning: no CPU of Ray became free in {STARTUP_S:.0f} s; stop what holds "
                    "them, or give Ray more with LIFECYCLE_RAY_CPUS"
                )
            if finished[0] in self._running:
                return self._ended(finished[0])
            self._up(finished[0])

    def stop(self) -> None:
        for actor in self._actors:
            ray.kill(actor)

    def _start_actors(self) -> None:
        """Start the actors without waiting, so that the data are opened and the next trials
        suggested meanwhile.
        """
        remote = ray.remote(num_cpus=1)(Worker)
        self._actors = [remote.remote(self._pruning) for _ in range(self._workers)]
        self._sent = [0] * self._workers
        objective = self._objective
        self._shared = ray.put(
            objective.with_data() if isinstance(objective, ValidationMetric) else objective
        )
        self._starting = {
            actor.open.remote(self._shared): at for at, actor in enumerate(self._actors)
        }
        self._deadline = time.monotonic() + STARTUP_S

    def _up(self, reference: Any) -> None:
        """An actor is up, or is not going to be."""
        try:
            ray.get(reference)
        except AnyRayError as error:
            raise TrainingError(f"tuning: a worker could not start ({ray_reason(error)})") from None
        self._idle.append(self._starting.pop(reference))

    def _hand_out(self) -> None:
        """The oldest trials to the idle actors, each with what its actor does not know yet."""
        from lifecycle.runtime.traces import outgoing  # an actor imports this module, and not that

        while self._queue and self._idle:
            trial, at = self._queue.popleft(), self._idle.pop()
            news = self._news[self._sent[at] : trial.outcomes]
            self._sent[at] = trial.outcomes
            actor, arguments = self._actors[at], (trial.number, trial.parameters, news)
            parent = outgoing()
            reference = (
                actor.run_traced.remote(parent, *arguments)
                if parent
                else actor.run.remote(*arguments)
            )
            self._running[reference] = trial.number, at

    def _ended(self, reference: Any) -> tuple[int, TrialOutcome | LifecycleError]:
        number, at = self._running.pop(reference)
        try:
            outcome: TrialOutcome | LifecycleError = ray.get(reference)
        except RayTaskError:
            raise
        except AnyRayError as error:  # the actor is gone, and is given nothing more
            reason = f"a worker died on trial {number} ({ray_reason(error)})"
            return number, TrainingError(f"tuning: {reason}; run again, finished trials are kept")
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
