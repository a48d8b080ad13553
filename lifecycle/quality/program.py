"""Starts `checks_program` with the interpreter of the checks, asks it, and ends it.

Whatever goes wrong, there is a reason in words and no report: nothing that did not run may pass.
"""

import os
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Literal, NamedTuple, Self

from pydantic import ValidationError

from lifecycle.project import Suite
from lifecycle.quality import checks_program
from lifecycle.quality.findings import SuiteResult
from lifecycle.records.base import Record
from lifecycle.redaction import redact
from lifecycle.runtime.leftovers import temporary_prefix
from lifecycle.settings import Settings

PASSED_ON = ("HOME", "LANG", "LC_ALL", "PATH", "TMPDIR", "TZ", "XDG_CACHE_HOME")
"""Variables the program gets: no secret is among them."""
LOG = "log.txt"
INSTALL = (
    "`make -B install` makes it where it finds Python 3.11 or 3.12, LIFECYCLE_CHECKS_PYTHON names "
    "another"
)


class ProgramError(Exception):
    """The program gave no report; the message says why, and what to do."""


class Report(Record):
    """What `report.json` holds."""

    version: Literal[1]
    suites: dict[Suite, SuiteResult]


class Answer(NamedTuple):
    """A report with the script its plots need."""

    suites: dict[Suite, SuiteResult]
    plotly: str


class ChecksProgram:
    """The checks' program, started before it is needed, as its imports take seconds.

    A context manager: the process ends with the block, and by itself when this process is gone.
    """

    def __init__(self, settings: Settings) -> None:
        self.python = settings.checks_interpreter
        self.timeout_s = settings.checks_timeout_s
        self.asked = False
        """Whether it was asked in this run."""
        self._process: subprocess.Popen[bytes] | None = None
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        self._failure = ""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def start(self) -> None:
        """Start importing; what goes wrong is told by `ask`."""
        if self._process or self._failure:
            return
        self._folder = tempfile.TemporaryDirectory(prefix=temporary_prefix())
        folder = Path(self._folder.name)
        script = checks_program.__file__
        command = [str(self.python), "-I", script, str(folder), str(os.getpid())]
        threads = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
        variables = {name: os.environ[name] for name in PASSED_ON if name in os.environ}
        try:
            with (folder / LOG).open("wb") as log:
                self._process = subprocess.Popen(  # noqa: S603 - our own program
                    command,
                    cwd=folder,
                    env=variables | threads | {"MPLBACKEND": "Agg"},
                    bufsize=0,  # or closing would try again to send what found no reader
                    stdin=subprocess.PIPE,
                    stdout=log,
                    stderr=log,
                    start_new_session=True,  # Ctrl-C is for us, who end it then
                )
        except OSError as error:
            self._failure = f"no interpreter for the checks at {self.python}: {error.strerror}"

    def ask(self, suites: tuple[Suite, ...], write: Callable[[Path], None]) -> Answer:
        """The program's answer to the request that `write` puts into a folder.

        Raises:
            ProgramError: there is none.
        """
        if self.asked:
            self.close()  # a process answers once
        self.start()
        self.asked = True
        if self._process is None or self._folder is None or self._process.stdin is None:
            raise ProgramError(f"{self._failure}; {INSTALL}")
        folder = Path(self._folder.name)
        write(folder)
        try:
            self._process.stdin.write(b"go\n")
            self._process.stdin.flush()
            code = self._process.wait(self.timeout_s)
        except BrokenPipeError:
            code = self._process.wait()
        except subprocess.TimeoutExpired:
            raise ProgramError(
                f"the checks took longer than {self.timeout_s:g} s; raise "
                "LIFECYCLE_CHECKS_TIMEOUT_S, or lower checks.sample_rows"
            ) from None
        if code != 0:
            raise ProgramError(
                f"the checks' program ended with {code}: {_last_line(folder / LOG)}; see that "
                f"{self.python} has what requirements-checks.lock names ({INSTALL})"
            )
        return _read(folder, suites)

    def close(self) -> None:
        """End the process, if it still runs, and remove its files."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            if self._process.stdin is not None:
                self._process.stdin.close()
        if self._folder is not None:
            self._folder.cleanup()
        self._process = self._folder = None


def _last_line(log: Path) -> str:
    lines = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
    return redact(lines[-1]) if lines else "it printed nothing"


def _read(folder: Path, suites: tuple[Suite, ...]) -> Answer:
    """The report, whole and about all suites.

    Raises:
        ProgramError: it is not.
    """
    try:
        text = (folder / checks_program.REPORT).read_text(encoding="utf-8")
        report = Report.model_validate_json(text)
        plotly = (folder / checks_program.PLOTLY).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError, ValidationError) as error:
        what = str(error).splitlines()[0]
        raise ProgramError(
            f"the report of the checks' program is unusable: {what}; {INSTALL}"
        ) from None
    for suite in suites:
        found = report.suites.get(suite)
        if found is None or not (found.results or found.skipped):
            raise ProgramError(
                f"the report of the checks' program says nothing of {suite}; {INSTALL}"
            )
    return Answer(report.suites, plotly)
