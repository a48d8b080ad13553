"""The screen of a script: one line per result, a live line for what runs now, no other noise."""

import logging
import time
import warnings
from types import TracebackType
from typing import Self

from prefect.logging.handlers import PrefectConsoleHandler
from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn

from lifecycle.records import visible
from lifecycle.runtime.console import progress_line


class Screen(logging.Handler):
    """Shows the records of `tasks.progress`; a terminal also gets a live line with the time.

    Use as a context manager: the live line is gone when the block ends, whatever happens.

    Args:
        age: seconds that the script has run.
    """

    def __init__(self, console: Console, age: float = 0.0) -> None:
        super().__init__(level=logging.INFO)
        self.console = console
        self.started = time.monotonic() - age
        self.live: Progress | None = None
        self.task: TaskID | None = None
        if console.is_terminal:
            text = TextColumn("{task.description}", markup=False)
            columns = (SpinnerColumn(), text, TimeElapsedColumn())
            self.live = Progress(*columns, console=console, transient=True)

    def emit(self, record: logging.LogRecord) -> None:
        phase = getattr(record, "phase", "result" if record.levelno >= logging.WARNING else "")
        stage, text = getattr(record, "stage", "note"), record.getMessage()
        if not phase:
            return
        if phase == "end":
            self._still()
            return
        if phase == "result" or (self.live is None and phase != "detail"):
            seconds = time.monotonic() - self.started
            line = progress_line(seconds, stage, text, ended=phase == "result")
            self.console.print(line, soft_wrap=True)
        if self.live is None or phase == "result":
            return
        if phase == "begin" or self.task is None:
            self._still()
            self.task = self.live.add_task("", total=None)
        self.live.update(self.task, description=visible(f"{stage}: {text}"))

    def _still(self) -> None:
        """Remove the live line, because nothing runs now."""
        if self.live and self.task is not None:
            self.live.remove_task(self.task)
            self.task = None

    def __enter__(self) -> Self:
        quiet_third_parties()
        logging.getLogger("lifecycle").addHandler(self)
        logging.getLogger("lifecycle").setLevel(logging.INFO)
        if self.live:
            self.live.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        logging.getLogger("lifecycle").removeHandler(self)
        if self.live:
            self.live.stop()


def quiet_third_parties() -> None:
    """Keep other libraries off the screen; what they log still reaches the Prefect server."""
    warnings.simplefilter("ignore")
    # without any handler Python prints what others warn of
    logging.getLogger().addHandler(logging.NullHandler())
    loggers = [logging.getLogger(), *map(logging.getLogger, logging.root.manager.loggerDict)]
    for logger in loggers:
        for handler in list(logger.handlers):
            if isinstance(handler, PrefectConsoleHandler):
                logger.removeHandler(handler)
