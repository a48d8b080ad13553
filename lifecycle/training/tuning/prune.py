"""Early end of trials: Optuna's pruners, asked in the process where the trial runs.

A pruner sees the trials that had been reported when its own trial was suggested, whatever has
ended since. So the same search prunes the same trials, with any timing and any number of actors.
"""

from collections.abc import Container, Iterable, Sequence
from math import ceil

import optuna
from optuna.pruners import BasePruner, HyperbandPruner, MedianPruner, SuccessiveHalvingPruner
from optuna.storages import InMemoryStorage
from optuna.trial import FrozenTrial, TrialState, create_trial

from lifecycle.training.tuning import ReportedTrial, TrialOutcome

NAME = "tuning"
"""Of the study: Hyperband draws a trial's bracket from it and the trial's number."""


class Judge:
    """A pruner and what it has been told.

    Args:
        pruner: as `tuning.pruner` has it.
        rounds: rounds a trial has at most; a pruner's resource.
    """

    def __init__(self, pruner: str, rounds: int, maximize: bool) -> None:
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self._pruner = pruner_of(pruner, rounds)
        self._trials = _Trials()
        self._study = optuna.create_study(
            storage=self._trials,
            study_name=NAME,
            direction="maximize" if maximize else "minimize",
            pruner=self._pruner,
        )

    def learn(self, news: Iterable[ReportedTrial]) -> None:
        """Know these trials from now on."""
        self._trials.finished += [_frozen(number, outcome) for number, outcome in news]

    def hopeless(self, number: int, scores: Sequence[float], marks: dict[str, float]) -> bool:
        """Return whether a trial with these scores so far should end.

        Args:
            marks: the pruner's notes on the trial from earlier rounds, to which it adds.
        """
        running = self._trials.running
        if running is None or running.number != number:
            running = create_trial(state=TrialState.RUNNING)
            running.number = number
            self._trials.running = running
        running.intermediate_values[len(scores)] = scores[-1]
        answer = self._pruner.prune(self._study, running)
        marks.update(running.system_attrs)
        return answer


def pruner_of(pruner: str, rounds: int) -> BasePruner:
    """Optuna's pruner for trials of at most `rounds` rounds.

    `median` looks from a fifth of the rounds on: a small learning rate needs time to show.
    `halving` keeps the better quarter at a 16th and at a quarter of the rounds (asynchronous
    successive halving, Li et al., 2020); `hyperband` the better third, in brackets that begin to
    look at a 27th, a ninth and a third of them (Li et al., 2018).
    """
    if pruner == "median":
        every = max(1, rounds // 50)  # a look costs 0.1 ms, as much as a round on little data
        return MedianPruner(n_warmup_steps=rounds // 5, interval_steps=every)
    if pruner == "halving":
        return SuccessiveHalvingPruner(min_resource=ceil(rounds / 16), reduction_factor=4)
    return HyperbandPruner(min_resource=ceil(rounds / 27), max_resource=rounds, reduction_factor=3)


class _Trials(InMemoryStorage):
    """The trials told so far, each under its number in the whole search, and what is being judged.

    The latter is no rival of itself: pruners add its score to those of the others.
    """

    def __init__(self) -> None:
        super().__init__()
        self.finished: list[FrozenTrial] = []
        self.running: FrozenTrial | None = None

    def get_all_trials(
        self,
        study_id: int,
        deepcopy: bool = True,
        states: Container[TrialState] | None = None,
    ) -> list[FrozenTrial]:
        return [trial for trial in self.finished if states is None or trial.state in states]

    def set_trial_system_attr(self, trial_id: int, key: str, value: object) -> None:
        assert self.running is not None  # noqa: S101 - only the running trial is ever judged
        self.running.system_attrs[key] = value


def _frozen(number: int, outcome: TrialOutcome) -> FrozenTrial:
    trial = create_trial(
        state=TrialState.PRUNED if outcome.value is None else TrialState.COMPLETE,
        value=outcome.value,
        intermediate_values=outcome.steps,
        system_attrs=dict(outcome.marks),
    )
    trial.number = number
    return trial
