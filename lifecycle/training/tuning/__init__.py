"""The search for parameters: what a trial is, and the outcome of one."""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from lifecycle.project import Scalar

Objective = Callable[["Mapping[str, Scalar]", Callable[[int, float], bool]], float | None]
"""What a trial is: parameters and `OnRound` → the value; None once `OnRound` has stopped it."""


class TrialOutcome(NamedTuple):
    """Result of a trial."""

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


class ReportedTrial(NamedTuple):
    """Trial whose outcome was reported to the search."""

    number: int
    outcome: TrialOutcome


class Pruning(NamedTuple):
    """The pruner, as `tuning.pruner` names it, and its input."""

    pruner: str
    rounds: int
    """Rounds a trial has at most."""
    maximize: bool
