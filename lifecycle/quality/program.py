"""Starts `checks_program` with the interpreter of the checks, asks it, and ends it.

Whatever goes wrong, there is a reason in words and no report: nothing that did not run may pass.
"""

import json
import os
import subprocess
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, NamedTuple, Self

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray
from pydantic import ValidationError

from lifecycle.errors import first_line
from lifecycle.features.encode import most_probable
from lifecycle.profiling.compare import cramers_v_by_chance, kolmogorov_smirnov_by_chance
from lifecycle.project import METRICS, ChecksSpec, Metric, Scalar, Suite, TaskKind
from lifecycle.quality import checks_program
from lifecycle.quality import checks_program as program
from lifecycle.quality.findings import SuiteResult, left_out_kinds, left_out_names
from lifecycle.quality.own_checks import answered_kinds
from lifecycle.quality.parts import ALPHA, PartComparison, PredictedPart
from lifecycle.records.base import Record
from lifecycle.redaction import redact
from lifecycle.runtime.files import temporary_prefix
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
    """Content of `report.json`."""

    version: Literal[1]
    suites: dict[Suite, SuiteResult]


class ProgramReport(NamedTuple):
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
        self.is_used = False
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
        """Start importing; `ask` reports what goes wrong."""
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

    def ask(self, suites: tuple[Suite, ...], write: Callable[[Path], None]) -> ProgramReport:
        """The program's answer to the request that `write` puts into a folder.

        Raises:
            ProgramError: there is none.
        """
        if self.is_used:
            self.close()  # a process answers once
        self.start()
        self.is_used = True
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
                f"the checks' program ended with {code}: {_last_line(folder / LOG)}; check "
                f"that {self.python} has what requirements-checks.lock names ({INSTALL})"
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


def _read(folder: Path, suites: tuple[Suite, ...]) -> ProgramReport:
    """The report, whole and about all suites.

    Raises:
        ProgramError: it is not.
    """
    try:
        text = (folder / checks_program.REPORT).read_text(encoding="utf-8")
        report = Report.model_validate_json(text)
        plotly = (folder / checks_program.PLOTLY).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError, ValidationError) as error:
        raise ProgramError(
            f"the report of the checks' program is unusable: {first_line(error)}; {INSTALL}"
        ) from None
    for suite in suites:
        suite_report = report.suites.get(suite)
        if suite_report is None or not (suite_report.results or suite_report.skipped):
            raise ProgramError(
                f"the report of the checks' program does not mention {suite}; {INSTALL}"
            )
    return ProgramReport(report.suites, plotly)


# Input files of the checks' program: both parts as deepchecks needs them, and a request.


PPS_CHANGE, DRIFT, TARGET_DRIFT = 0.2, 0.2, 0.15
"""deepchecks' own limits, which hold where the holdout is large."""


def compared_by(task: TaskKind, metric: Metric) -> Metric:
    """The metric deepchecks compares by: the deciding one, or for one of the project's own the
    first of the task."""
    return metric if metric in METRICS[task] else METRICS[task][0]


@dataclass(frozen=True)
class ChecksRequest:
    """Arguments of the checks, next to the rows."""

    task: TaskKind
    metric: Metric
    """The deciding one, by which deepchecks compares performance if it knows it."""
    spec: ChecksSpec
    categorical: Sequence[str] = ()
    """Features that are categories."""
    importances: Mapping[str, float] = field(default_factory=dict)
    """Feature → importance ≥ 0 (a feature without an entry has none)."""
    classes: Sequence[Scalar] = ()
    """Multiclass: the classes' names in the order of their codes."""


def write_request(
    folder: Path,
    train: PredictedPart,
    holdout: PredictedPart,
    request: ChecksRequest,
    comparison: PartComparison,
) -> None:
    """Write what `checks_program` reads.

    Args:
        train, holdout: at most `spec.sample_rows` rows, all with a truth.
    """
    task, spec, classes = request.task, request.spec, request.classes
    features = [str(name) for name in train.features.columns]
    dtypes: dict[str, str] = {}
    for part, key in ((train, "train"), (holdout, "test")):
        columns = _columns(part, task, request.categorical, classes)
        dtypes |= write_part(columns, folder / program.PARTS[key])
    ranks = {name: max(request.importances.get(name, 0.0), 0.0) for name in features}
    total = sum(ranks.values())
    values: list[Any] = []
    if task in ("binary", "multiclass"):
        values = sorted(classes) if task == "multiclass" else [0, 1]  # deepchecks wants them sorted
    content = {
        "version": program.VERSION,
        "task": task,
        "metric": compared_by(task, request.metric),
        "suites": spec.suites,
        "sample_rows": spec.sample_rows,
        "features": features,
        "categorical": [name for name in request.categorical if name in features],
        "importances": {n: rank / total for n, rank in ranks.items()} if total > 0 else None,
        "dtypes": dtypes,
        "classes": values,
        "probabilities": [_probability(at) for at in range(len(values))],
        "answered": answered_kinds(task),
        "left_out_kinds": left_out_kinds(task),
        "left_out_names": left_out_names(spec),
        "limits": _limits(train, holdout, comparison),
    }
    (folder / program.REQUEST).write_text(json.dumps(content, default=_number), encoding="utf-8")


def write_part(columns: Mapping[str, NDArray[Any]], path: Path) -> dict[str, str]:
    """Write columns as Parquet; each one's type, with which `checks_program.read` restores it.

    Arrow has no column of mixed types and one kind of missing value, so that objects go as JSON.
    """
    arrays = {}
    for name, values in columns.items():
        if values.dtype == object:
            texts: dict[Any, str] = {}
            arrays[name] = pa.array([_text(value, texts) for value in values], pa.string())
        else:
            arrays[name] = pa.array(values)
    pq.write_table(pa.table(arrays), path, compression="lz4")
    return {name: str(values.dtype) for name, values in columns.items()}


def _text(value: Any, texts: dict[Any, str]) -> str:
    """A cell as JSON; `texts` keeps those that were met before (1 and True are one key)."""
    key = (type(value), value)
    if key not in texts:
        texts[key] = json.dumps(value, default=_number)
    return texts[key]


def _number(value: Any) -> Any:
    """Convert values unknown to JSON: NumPy scalars to Python's, anything else to text."""
    return value.item() if isinstance(value, np.generic) else str(value)


def _columns(
    part: PredictedPart, task: TaskKind, categorical: Sequence[str], classes: Sequence[Scalar]
) -> dict[str, NDArray[Any]]:
    """Features, roles and answers of a part as deepchecks takes them: NumPy's types alone."""
    columns = {
        str(name): _plain(part.features[name], name in categorical)
        for name in part.features.columns
    }
    answers = part.answers
    if task == "multiclass":
        label = most_probable(np.eye(len(classes))[part.truth.astype(int)], classes)
        order = sorted(range(len(classes)), key=lambda at: classes[at])
        answer, probabilities = most_probable(answers, classes), answers[:, order]
    elif task == "binary":
        label = part.truth.astype(int)
        answer = (answers >= part.threshold).astype(int)
        probabilities = np.column_stack([1 - answers, answers])
    else:
        label, answer, probabilities = part.truth, answers, np.empty((len(answers), 0))
    roles = {program.LABEL: label, program.ENTITY: part.entity, program.TIME: _moments(part.time)}
    columns |= {name: np.asarray(values) for name, values in roles.items() if values is not None}
    columns[program.ANSWER] = answer
    return columns | {_probability(at): column for at, column in enumerate(probabilities.T)}


def _probability(at: int) -> str:
    return f"(probability {at})"


def _plain(column: pd.Series, categorical: bool) -> NDArray[Any]:
    """A column without pandas' own types, which deepchecks does not know: nullable ones and
    categories are objects with None, or floats with NaN."""
    if not isinstance(column.dtype, pd.api.extensions.ExtensionDtype):
        return column.to_numpy()
    if categorical:
        return column.astype(object).where(column.notna(), None).to_numpy()
    return column.astype("float64").to_numpy()


def _moments(times: NDArray[Any] | None) -> NDArray[Any] | None:
    """Dates, and moments with a zone, as UTC; any other time column as it is."""
    if times is None or times.dtype != object or not all(hasattr(t, "isoformat") for t in times):
        return times
    moments = pd.to_datetime(pd.Series(times), utc=True)
    return moments.dt.tz_localize(None).to_numpy()


def _limits(
    train: PredictedPart, holdout: PredictedPart, comparison: PartComparison
) -> dict[str, Any]:
    """Limits that allow for the holdout's size.

    Drift counts beyond what two samples of one distribution show, new categories beyond what the
    number of those seen once foretells.
    """
    rows = len(train.features), len(holdout.features)
    alpha = ALPHA / max(len(comparison.new_categories), 1)
    numeric = kolmogorov_smirnov_by_chance(*rows, alpha)
    categorical = cramers_v_by_chance(*rows, comparison.levels, alpha)
    roles = {program.ENTITY: train.entity, program.TIME: train.time}
    identifiers = [name for name, values in roles.items() if values is not None]
    return {
        "numeric_drift": round(max(DRIFT, numeric), 3),
        "categorical_drift": round(max(DRIFT, categorical), 3),
        "drift": round(max(TARGET_DRIFT, numeric, categorical if comparison.levels else 0.0), 3),
        "pps_change": round(PPS_CHANGE + 2 / rows[1] ** 0.5, 2),
        "new_categories": comparison.new_categories,
        "constant_columns": [*identifiers, *comparison.nearly_constant],
    }
