"""Runs trials, in this process or in an actor.

An actor imports this module first, so it stays light: what a trial needs comes with the objective,
and Optuna's pruners are imported at the first round that asks one.
"""

import time
from collections import deque
from collections.abc import Mapping
from typing import TYPE_CHECKING, NamedTuple

from lifecycle.errors import LifecycleError, TrainingError
from lifecycle.training.tuning import Objective, Pruning, ReportedTrial, TrialOutcome

if TYPE_CHECKING:
    from lifecycle.project import Project, Scalar
    from lifecycle.records import DatasetVersion
    from lifecycle.training.matrix import Matrices
    from lifecycle.training.trainers.protocol import OnRound
    from lifecycle.training.tuning.prune import Judge


class Queued(NamedTuple):
    number: int
    parameters: "Mapping[str, Scalar]"
    outcomes: int
    """How many trials had been told when this one was asked."""


class LocalPool:
    """Runs trials in this process, one after another, with the outcomes that `pool.Pool` has."""

    def __init__(self, objective: Objective, pruning: Pruning | None) -> None:
        self._worker = Worker(pruning)
        self._worker.open(objective)
        self._queue: deque[Queued] = deque()
        self._news: list[ReportedTrial] = []
        self._sent = 0

    def start(self, number: int, parameters: "Mapping[str, Scalar]") -> None:
        """Run a trial when it is waited for. The pruner knows the trials told until now."""
        self._queue.append(Queued(number, parameters, len(self._news)))

    def tell(self, news: ReportedTrial) -> None:
        """Let the pruner know an outcome from now on."""
        self._news.append(news)

    def result(self) -> tuple[int, TrialOutcome | LifecycleError]:
        """Run the oldest trial; its number and result."""
        trial = self._queue.popleft()
        news = self._news[self._sent : trial.outcomes]
        self._sent = trial.outcomes
        return trial.number, self._worker.run(trial.number, trial.parameters, news)


class Worker:
    """Runs trials one after another, in an actor of one CPU or in this process."""

    def __init__(self, pruning: Pruning | None) -> None:
        self._objective: Objective | None = None
        self._pruning = pruning
        self._judge: Judge | None = None
        self._news: list[ReportedTrial] = []

    def open(self, objective: Objective) -> None:
        """Take what a trial is; the first call."""
        self._objective = objective

    def run(
        self, number: int, parameters: "Mapping[str, Scalar]", news: list[ReportedTrial]
    ) -> TrialOutcome | LifecycleError:
        """Run a trial and return its result, or the error that ended it.

        The error is returned, not raised: Ray prints an error that is raised and never fetched, as
        when another trial failed first.
        """
        self._news += news
        watch = _Watch(self, number)
        assert self._objective is not None  # noqa: S101 - `open` came before
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
        return TrialOutcome(value, tuple(watch.scores), watch.marks, seconds)

    def run_traced(
        self,
        parent: Mapping[str, str],
        number: int,
        parameters: "Mapping[str, Scalar]",
        news: list[ReportedTrial],
    ) -> TrialOutcome | LifecycleError:
        """Run a trial as a span below the one with these headers."""
        from lifecycle.runtime.traces import worker_span

        with worker_span("trial", {"lifecycle.trial": number}, parent):
            return self.run(number, parameters, news)

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

    def __init__(self, worker: Worker, number: int) -> None:
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


# A trial of a project: fit on the train part, measure on the validation part.


class ValidationMetric:
    """`training_metric` on the validation part; the data are opened once, by the first trial or
    before it.
    """

    def __init__(
        self, project: "Project", train: "DatasetVersion", validation: "DatasetVersion"
    ) -> None:
        self._project, self._train, self._validation = project, train, validation
        self._data: Matrices | None = None

    def with_data(self) -> "ValidationMetric":
        """The same with the data, to be handed to several workers; this one keeps none.

        Raises:
            LifecycleError: the data cannot be opened.
        """
        from lifecycle.training.matrix import open_matrices

        other = ValidationMetric(self._project, self._train, self._validation)
        other._data = self._data or open_matrices(self._project, self._train, self._validation)
        return other

    def __call__(self, parameters: "Mapping[str, Scalar]", on_round: "OnRound") -> float | None:
        """The value of a trial; None if `on_round` stopped it.

        Raises:
            LifecycleError: the data cannot be opened, or nothing can be fitted or measured.
        """
        from lifecycle.training.evaluation.evaluate import metric_value
        from lifecycle.training.matrix import loss_weights
        from lifecycle.training.own_metrics import own_metrics
        from lifecycle.training.trainers.registry import open_trainer

        project = self._project
        if self._data is None:
            self._data = self.with_data()._data
        data = self._data
        assert data is not None  # noqa: S101 - `with_data` opens them
        fitted = open_trainer(project).fit(project, data, parameters, 1, on_round)
        if fitted.pruned:
            return None
        truth, predicted = data.validation_labels, fitted.model.predict(data.validation)
        return metric_value(
            project.training_metric,
            truth,
            predicted,
            project.task,
            own_metrics(project),
            loss_weights(project, data.validation_weights),
        )
