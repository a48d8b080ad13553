"""The study on disk: every finished trial, kept through a SIGKILL, readable by Optuna's own tools.

The search itself is replayed on resumption (see `tune`); what is kept is what costs time, the
values. One process writes at a time: it holds a lock that the kernel drops when it dies.
"""

import fcntl
import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import optuna
from optuna.distributions import BaseDistribution
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock

from lifecycle.specs import Scalar
from lifecycle.training.parameters import key_of
from lifecycle.training.suggest import Asked, Direction, as_trial

logger = logging.getLogger(__name__)

NAME = "tuning"
PARAMETERS = "parameters"


class Finished:
    """Values of finished trials by their XGBoost parameters, in memory and in Optuna's journal."""

    def __init__(self, study: optuna.Study) -> None:
        self._study = study
        self._values = {
            key_of(trial.user_attrs[PARAMETERS]): trial.value
            for trial in study.get_trials(deepcopy=False)
        }

    def __len__(self) -> int:
        return len(self._values)

    def value(self, parameters: Mapping[str, Scalar]) -> float | None:
        """The value of a finished trial with exactly these parameters."""
        return self._values.get(key_of(parameters))

    def keep(self, asked: Asked, space: Mapping[str, BaseDistribution], value: float) -> None:
        """Write a finished trial, in one append that is on the disk when this returns."""
        notes = {PARAMETERS: asked.parameters}
        self._study.add_trial(as_trial(asked.suggested, space, value, notes))
        self._values[key_of(asked.parameters)] = value


@contextmanager
def open_study(folder: Path, direction: Direction) -> Iterator[Finished]:
    """The study in `folder`, made if needed and ours alone for the block.

    If another process has it, wait for it: it makes the very trials we would make.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            logger.info("%s: another process tunes the same; waiting for it", folder)
            fcntl.flock(lock, fcntl.LOCK_EX)
        file = folder / "journal.log"
        _cut_half_line(file)
        storage = JournalStorage(JournalFileBackend(str(file), lock_obj=_Held(str(file))))
        yield Finished(
            optuna.create_study(
                storage=storage, study_name=NAME, direction=direction, load_if_exists=True
            )
        )


class _Held(JournalFileOpenLock):
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
        whole = journal.read().rfind(b"\n") + 1
        journal.truncate(whole)
