"""Which parameters to try next: Optuna's TPE, made to depend on nothing but what it was told."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
import optuna
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.trial import TrialState

from lifecycle.project import Choice, IntRange, Project, Range, Scalar, greater_is_better
from lifecycle.training.parameters import DEFAULTS
from lifecycle.training.tuning.trials import Outcome

Direction = Literal["minimize", "maximize"]


@dataclass(frozen=True)
class Asked:
    """A trial that waits for its value."""

    number: int
    parameters: dict[str, Scalar]
    """The trainer's: those of the project, and the suggested ones."""
    suggested: dict[str, Scalar]
    """Place in the search space; empty if it has none there."""
    trial: optuna.Trial | None
    """None for the project's own parameters, which Optuna did not suggest."""


class Suggestions:
    """A search in memory: the first trial is the project's own parameters, TPE makes the others.

    Each trial has a generator of its own, seeded by the project's seed and the trial's number, so
    a suggestion depends only on the trials asked and told before it.
    """

    def __init__(self, project: Project) -> None:
        optuna.logging.set_verbosity(optuna.logging.WARNING)  # it tells of each trial by default
        self._own = dict(project.training.parameters)
        self._seed = project.training.seed
        self.direction = direction_of(project)
        self.space = space_of(project)
        self._place = place_of(project, self._own)
        self._study = optuna.create_study(direction=self.direction)

    def ask(self, number: int) -> Asked:
        """Trial `number`, counted from 0."""
        if number == 0:
            return Asked(number, self._own, self._place, None)
        state = np.random.SeedSequence([self._seed, number]).generate_state(1)
        self._study.sampler = optuna.samplers.TPESampler(seed=int(state[0]))
        trial = self._study.ask(self.space)
        suggested: dict[str, Scalar] = dict(trial.params)
        return Asked(number, self._own | suggested, suggested, trial)

    def tell(self, asked: Asked, outcome: Outcome) -> None:
        """Let later suggestions know what came of a trial.

        TPE orders pruned trials by how far they came and the score they had there.
        """
        if asked.trial is None:
            if asked.suggested:
                self._study.add_trial(as_trial(asked.suggested, self.space, outcome))
        elif outcome.value is None:
            asked.trial.report(outcome.scores[-1], len(outcome.scores))
            self._study.tell(asked.trial, state=TrialState.PRUNED)
        else:
            self._study.tell(asked.trial, outcome.value)


def place_of(project: Project, parameters: Mapping[str, Scalar]) -> dict[str, Scalar]:
    """Parameters in the search space, XGBoost's defaults where they are silent.

    Empty if they have no place there: a range leaves them out, or the default is not known.
    """
    space = space_of(project)
    defaults = DEFAULTS if project.training.trainer == "xgboost" else {}
    try:
        place = {name: (defaults | dict(parameters))[name] for name in space}
        as_trial(place, space, Outcome(0.0, (), {}, 0.0))
    except (KeyError, ValueError):
        return {}
    return place


def as_trial(
    suggested: Mapping[str, Scalar],
    space: Mapping[str, BaseDistribution],
    outcome: Outcome,
    notes: Mapping[str, object] | None = None,
) -> optuna.trial.FrozenTrial:
    """A trial that has ended, with the score after each round.

    Raises:
        ValueError: it lies outside the space.
    """
    return optuna.trial.create_trial(
        state=TrialState.PRUNED if outcome.value is None else TrialState.COMPLETE,
        value=outcome.value,
        params=dict(suggested),
        distributions={name: space[name] for name in suggested},
        intermediate_values=outcome.steps,
        system_attrs=dict(outcome.marks),
        user_attrs=dict(notes or {}),
    )


def direction_of(project: Project) -> Direction:
    """Of the metric that ranks trials, as Optuna has it."""
    return "maximize" if greater_is_better(project.training_metric) else "minimize"


def space_of(project: Project) -> dict[str, BaseDistribution]:
    """The search space as Optuna has it."""
    return {name: _distribution(values) for name, values in project.tuning.space.items()}


def _distribution(values: Range) -> BaseDistribution:
    if isinstance(values, Choice):
        return CategoricalDistribution(values.values)
    if isinstance(values, IntRange):
        return IntDistribution(values.low, values.high, log=values.log)
    return FloatDistribution(values.low, values.high, log=values.log)
