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

from lifecycle.project import Project
from lifecycle.specs import Choice, IntRange, Range, Scalar, greater_is_better
from lifecycle.training.parameters import DEFAULTS

Direction = Literal["minimize", "maximize"]


@dataclass(frozen=True)
class Asked:
    """A trial that waits for its value."""

    number: int
    parameters: dict[str, Scalar]
    """XGBoost's parameters: those of the project, and the suggested ones."""
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
        self.direction: Direction = "maximize" if greater_is_better(project.metric) else "minimize"
        self.space = {name: _distribution(r) for name, r in project.tuning.space.items()}
        self._study = optuna.create_study(direction=self.direction)

    def ask(self, number: int) -> Asked:
        """Trial `number`, counted from 0."""
        if number == 0:
            return Asked(number, self._own, self._place(), None)
        state = np.random.SeedSequence([self._seed, number]).generate_state(1)
        self._study.sampler = optuna.samplers.TPESampler(seed=int(state[0]))
        trial = self._study.ask(self.space)
        suggested: dict[str, Scalar] = dict(trial.params)
        return Asked(number, self._own | suggested, suggested, trial)

    def tell(self, asked: Asked, value: float) -> None:
        """Let later suggestions know a trial's value."""
        if asked.trial is not None:
            self._study.tell(asked.trial, value)
        elif asked.suggested:
            self._study.add_trial(as_trial(asked.suggested, self.space, value))

    def _place(self) -> dict[str, Scalar]:
        """The project's own parameters in the search space, XGBoost's defaults where it is silent.

        Empty if they have no place there: a range leaves them out, or the default is not known.
        """
        try:
            place = {name: (DEFAULTS | self._own)[name] for name in self.space}
            as_trial(place, self.space, 0.0)
        except (KeyError, ValueError):
            return {}
        return place


def as_trial(
    suggested: Mapping[str, Scalar],
    space: Mapping[str, BaseDistribution],
    value: float,
    notes: Mapping[str, object] | None = None,
) -> optuna.trial.FrozenTrial:
    """A finished trial.

    Raises:
        ValueError: it lies outside the space.
    """
    return optuna.trial.create_trial(
        params=dict(suggested),
        distributions={name: space[name] for name in suggested},
        value=value,
        user_attrs=dict(notes or {}),
    )


def _distribution(values: Range) -> BaseDistribution:
    if isinstance(values, Choice):
        return CategoricalDistribution(values.values)
    if isinstance(values, IntRange):
        return IntDistribution(values.low, values.high, log=values.log)
    return FloatDistribution(values.low, values.high, log=values.log)
