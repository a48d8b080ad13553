"""Progress reports: one log record per step, shown by the console or by Prefect."""

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Literal

log = logging.getLogger("lifecycle.progress")


def say(stage: str, text: str) -> None:
    """Tell a result that stays on the screen."""
    _tell("result", stage, text)


def update(stage: str, text: str, notable: bool = True) -> None:
    """Tell how far a long step is; without a live line only what is notable is shown."""
    _tell("update" if notable else "detail", stage, text)


@contextmanager
def step(stage: str, doing: str) -> Iterator[Callable[[str], None]]:
    """Show that `doing` runs; the yielded function tells its result."""
    _tell("begin", stage, doing)
    try:
        yield lambda text: say(stage, text)
    finally:
        _tell("end", stage, doing)


def _tell(
    phase: Literal["begin", "update", "detail", "result", "end"], stage: str, text: str
) -> None:
    log.setLevel(logging.INFO)  # the root of a worker's process lets only warnings through
    log.info(text, extra={"stage": stage, "phase": phase})
