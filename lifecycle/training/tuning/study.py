"""The study on disk: every finished trial, kept through a SIGKILL, readable by Optuna's own tools.

The search itself is replayed on resumption (see `search`); what is kept is what costs time, the
outcomes. One process writes at a time: it holds a lock that the kernel drops when it dies.
"""

import fcntl
import logging
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple, TypedDict

import numpy as np
import optuna
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock
from optuna.trial import TrialState

from lifecycle.project import Choice, IntRange, Project, Range, Scalar, greater_is_better
from lifecycle.records import Identity
from lifecycle.settings import Settings
from lifecycle.training.parameters import DEFAULTS, key_of
from lifecycle.training.tuning import TrialOutcome

logger = logging.getLogger(__name__)

# Suggests parameters with Optuna's TPE, which depends only on the reported trials.

Direction = Literal["minimize", "maximize"]


@dataclass(frozen=True)
class PendingTrial:
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

    def ask(self, number: int) -> PendingTrial:
        """Trial `number`, counted from 0."""
        if number == 0:
            return PendingTrial(number, self._own, self._place, None)
        state = np.random.SeedSequence([self._seed, number]).generate_state(1)
        self._study.sampler = optuna.samplers.TPESampler(seed=int(state[0]))
        trial = self._study.ask(self.space)
        suggested: dict[str, Scalar] = dict(trial.params)
        return PendingTrial(number, self._own | suggested, suggested, trial)

    def tell(self, trial: PendingTrial, outcome: TrialOutcome) -> None:
        """Let later suggestions know what came of a trial.

        TPE orders pruned trials by how far they came and the score they had there.
        """
        if trial.trial is None:
            if trial.suggested:
                self._study.add_trial(as_trial(trial.suggested, self.space, outcome))
        elif outcome.value is None:
            trial.trial.report(outcome.scores[-1], len(outcome.scores))
            self._study.tell(trial.trial, state=TrialState.PRUNED)
        else:
            self._study.tell(trial.trial, outcome.value)


def place_of(project: Project, parameters: Mapping[str, Scalar]) -> dict[str, Scalar]:
    """Parameters in the search space, XGBoost's defaults where they are silent.

    Empty if they have no place there: a range leaves them out, or the default is not known.
    """
    space = space_of(project)
    defaults = DEFAULTS if project.training.trainer == "xgboost" else {}
    try:
        place = {name: (defaults | dict(parameters))[name] for name in space}
        as_trial(place, space, TrialOutcome(0.0, (), {}, 0.0))
    except (KeyError, ValueError):
        return {}
    return place


def as_trial(
    suggested: Mapping[str, Scalar],
    space: Mapping[str, BaseDistribution],
    outcome: TrialOutcome,
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
    """Return the direction of the metric that ranks trials, in Optuna's words."""
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


NAME = "tuning"
JOURNAL = "journal.log"


class Notes(TypedDict):
    """Attributes of a trial in the journal, next to those of Optuna."""

    number: int
    parameters: dict[str, Scalar]
    seconds: float
    elapsed: float
    """Seconds of search until the trial was stored, including earlier processes."""


class Finished:
    """Outcomes of finished trials by their parameters, in memory and in Optuna's journal."""

    def __init__(self, study: optuna.Study, space: Mapping[str, BaseDistribution]) -> None:
        self._study, self._space = study, space
        self._outcomes: dict[str, TrialOutcome] = {}
        self.elapsed = 0.0
        """Seconds that earlier processes have searched."""
        for trial in study.get_trials(deepcopy=False):
            notes: Notes = trial.user_attrs  # type: ignore[assignment]  # ours, see `keep`
            self._outcomes[key_of(notes["parameters"])] = _outcome(trial, notes)
            self.elapsed = max(self.elapsed, notes["elapsed"])

    def __len__(self) -> int:
        return len(self._outcomes)

    def outcome(self, parameters: Mapping[str, Scalar]) -> TrialOutcome | None:
        """Return the result of the finished trial with exactly these parameters, if any."""
        return self._outcomes.get(key_of(parameters))

    def keep(self, trial: PendingTrial, outcome: TrialOutcome, elapsed: float) -> None:
        """Write a finished trial, in one append that is on the disk when this returns."""
        notes = Notes(
            number=trial.number,
            parameters=trial.parameters,
            seconds=outcome.seconds,
            elapsed=elapsed,
        )
        self._study.add_trial(as_trial(trial.suggested, self._space, outcome, notes))
        self._outcomes[key_of(trial.parameters)] = outcome


def study_folder(settings: Settings, project: Project, identity: Identity) -> Path:
    """Return the folder of an identity's study on this machine."""
    return settings.folder("tuning", project.name, identity.digest)


@contextmanager
def open_study(folder: Path, suggestions: Suggestions) -> Iterator[Finished]:
    """The study in `folder`, made if needed and ours alone for the block.

    If another process has it, wait for it: it makes the very trials we would make.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            logger.info("%s: another process is tuning the same model; waiting for it", folder)
            fcntl.flock(lock, fcntl.LOCK_EX)
        file = folder / JOURNAL
        _cut_half_line(file)
        storage = _storage(file)
        study = optuna.create_study(
            storage=storage,
            study_name=NAME,
            direction=suggestions.direction,
            load_if_exists=True,
        )
        yield Finished(study, suggestions.space)


class Course(NamedTuple):
    """Course of a finished trial."""

    scores: tuple[float, ...]
    """After each round."""
    ended: float
    """Unix seconds."""


def read_courses(folder: Path) -> dict[str, Course]:
    """Read the scores of the finished trials, by `key_of` their parameters.

    Empty if `folder` has no study, as on a machine other than the one that searched.
    """
    file = folder / JOURNAL
    if not file.exists():
        return {}
    study = optuna.load_study(study_name=NAME, storage=_storage(file))
    return {
        key_of(trial.user_attrs["parameters"]): Course(
            tuple(trial.intermediate_values.values()), _ended(trial)
        )
        for trial in study.get_trials(deepcopy=False)
    }


def _ended(trial: optuna.trial.FrozenTrial) -> float:
    """Return the POSIX time at which a trial ended; Optuna has local time without a zone."""
    return trial.datetime_complete.timestamp() if trial.datetime_complete else time.time()


def _storage(file: Path) -> JournalStorage:
    return JournalStorage(JournalFileBackend(str(file), lock_obj=_LockedJournal(str(file))))


def _outcome(trial: optuna.trial.FrozenTrial, notes: Notes) -> TrialOutcome:
    return TrialOutcome(
        value=None if trial.state == TrialState.PRUNED else trial.value,
        scores=tuple(trial.intermediate_values.values()),
        marks=dict(trial.system_attrs),
        seconds=notes["seconds"],
    )


class _LockedJournal(JournalFileOpenLock):
    """The folder is locked already; Optuna's own lock file would outlive a SIGKILL by 30 s."""

    def acquire(self) -> bool:
        return True

    def release(self) -> None:
        return None


def _cut_half_line(file: Path) -> None:
    """Drop a last line that was cut off, to which Optuna would append and then refuse the file."""
    if not file.exists():
        return
    with file.open("rb+") as journal:
        length = journal.read().rfind(b"\n") + 1
        journal.truncate(length)
