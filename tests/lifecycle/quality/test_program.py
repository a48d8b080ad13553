"""The checks' program: what crosses, what happens when it fails, and that it never stays behind."""

import ast
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from lifecycle.project import METRICS, ChecksSpec
from lifecycle.quality import checks_program, gates
from lifecycle.quality.checks import run_checks
from lifecycle.quality.parts import PredictedPart
from lifecycle.quality.program import (
    ChecksProgram,
    ChecksRequest,
    ProgramError,
    _moments,
    _plain,
    write_part,
)
from lifecycle.records import CheckReport
from lifecycle.settings import Settings
from lifecycle.training.evaluation.metrics import family_of

SECOND = np.datetime64("2024-05-01T10:30:00", "s")
COLUMNS: dict[str, tuple[pd.Series, bool, list[Any]]] = {
    # a column of features, whether it is a category, and its cells as deepchecks gets them
    "float": (pd.Series([1.5, np.nan, -0.0]), False, [1.5, np.nan, -0.0]),
    "float32": (pd.Series([1.5, np.nan], dtype="float32"), False, [1.5, np.nan]),
    "integer": (pd.Series([1, 2**60]), False, [1, 2**60]),
    "small integer": (pd.Series([1, 2], dtype="int8"), False, [1, 2]),
    "boolean": (pd.Series([True, False]), False, [True, False]),
    "nullable integer": (pd.Series([1, None], dtype="Int64"), False, [1.0, np.nan]),
    "nullable boolean": (pd.Series([True, None], dtype="boolean"), False, [1.0, np.nan]),
    "nullable codes": (pd.Series([1, None, 3], dtype="Int64"), True, [1, None, 3]),
    "nullable yes or no": (pd.Series([True, None], dtype="boolean"), True, [True, None]),
    "category": (pd.Series(["a", None, "b"], dtype="category"), True, ["a", None, "b"]),
    "category of numbers": (pd.Series([1, 2, 1], dtype="category"), True, [1, 2, 1]),
    "text": (pd.Series(["", 'ä\n"', "null", "NaN"]), True, ["", 'ä\n"', "null", "NaN"]),
    "NaN and None": (pd.Series(["a", np.nan, None], dtype=object), True, ["a", np.nan, None]),
    "mixed": (
        pd.Series([1, 1.0, True, "1"], dtype=object), True, [1, 1.0, True, "1"]
    ),
    "time": (
        pd.Series(pd.to_datetime(["2024-05-01T10:30:00.123456789", None])),
        False,
        [np.datetime64("2024-05-01T10:30:00.123456789"), np.datetime64("NaT", "ns")],
    ),
    "time in seconds": (pd.Series(np.array([SECOND])), False, [SECOND]),
}  # fmt: skip


def same(a: Any, b: Any) -> bool:
    """Whether two cells are one value of one type; NaN is NaN and never None."""
    if type(a) is not type(b):
        return False
    return bool(a == b) or (a is not None and bool(a != a) and bool(b != b))


@pytest.mark.parametrize("kind", COLUMNS)
def test_a_column_arrives_as_it_left(kind: str, tmp_path: Path) -> None:
    column, category, cells = COLUMNS[kind]
    left = _plain(column, category)
    dtypes = write_part({"x": left}, tmp_path / "part.parquet")
    arrived = checks_program.read(tmp_path / "part.parquet", dtypes)["x"]
    assert arrived.dtype == left.dtype
    values = list(arrived.to_numpy())
    assert all(map(same, values, list(left))), values
    assert [pd.isna(value) for value in values] == [pd.isna(cell) for cell in cells]
    assert [value for value in values if not pd.isna(value)] == [
        cell for cell in cells if not pd.isna(cell)
    ]
    if left.dtype == object:
        assert all(map(same, values, cells)), values


def test_moments_arrive_as_utc_and_other_times_as_they_are() -> None:
    zoned = pd.Series(pd.to_datetime(["2024-05-01T12:00+02:00", "2024-05-01T12:00Z"], utc=True))
    expected = np.array(["2024-05-01T10:00", "2024-05-01T12:00"], dtype="datetime64[ns]")
    np.testing.assert_array_equal(_moments(zoned.astype(object).to_numpy()), expected)
    days = np.array([pd.Timestamp("2024-05-01").date()], dtype=object)
    np.testing.assert_array_equal(_moments(days), np.array(["2024-05-01"], dtype="datetime64[ns]"))
    years, names = np.array([2023, 2024]), np.array(["2023", "later"], dtype=object)
    assert _moments(years) is years
    assert _moments(names) is names
    assert _moments(None) is None


@pytest.mark.component
def test_columns_arrive_as_they_left_at_the_other_interpreter(
    tmp_path: Path, settings: Settings
) -> None:
    dtypes, paths = {}, {}
    for at, (column, category, _) in enumerate(COLUMNS.values()):
        path = tmp_path / f"{at}.parquet"
        dtypes[str(path)] = write_part({"x": _plain(column, category)}, path)
        paths[str(path)] = _plain(column, category)
    code = """
import importlib.util, json, sys
spec = importlib.util.spec_from_file_location("program", sys.argv[1])
program = importlib.util.module_from_spec(spec); spec.loader.exec_module(program)
found = {}
for path, dtypes in json.loads(sys.argv[2]).items():
    column = program.read(path, dtypes)["x"]
    cells = [f"{type(v).__name__.rstrip('_')} {v!s}" for v in column.to_numpy()]
    found[path] = [str(column.dtype), cells]
print(json.dumps(found))
"""
    done = subprocess.run(
        [
            settings.checks_interpreter,
            "-I",
            "-c",
            code,
            checks_program.__file__,
            json.dumps(dtypes),
        ],
        capture_output=True,
        text=True,
        check=True,
    )
    expected = {  # NumPy 1 calls its booleans `bool_`, and writes numbers otherwise in `repr`
        path: [str(left.dtype), [f"{type(value).__name__.rstrip('_')} {value!s}" for value in left]]
        for path, left in paths.items()
    }
    assert json.loads(done.stdout) == expected


@pytest.mark.component
def test_checks_that_ask_for_the_same_trees_share_one_answer(settings: Settings) -> None:
    code = """
import importlib.util, os, sys
spec = importlib.util.spec_from_file_location("program", sys.argv[1])
program = importlib.util.module_from_spec(spec); spec.loader.exec_module(program)
sys.meta_path.insert(0, program._Absent())
os.environ["DISABLE_LATEST_VERSION_CHECK"] = "true"
import pandas as pd
from deepchecks import ppscore
fitted = []
score = ppscore.score
def counted(df, x, y, **options):
    fitted.append(x)
    return score(df, x, y, **options)
ppscore.score = counted
program.fit_trees_once()
frame = pd.DataFrame({"a": range(200), "b": [n % 7 for n in range(200)], "y": [0, 1] * 100})
first = ppscore.predictors(df=frame, y="y", random_seed=42)
again = ppscore.predictors(df=frame.copy(), y="y", random_seed=42)
assert fitted == ["a", "b"], fitted
assert first.equals(again) and first is not again
ppscore.predictors(df=frame.astype({"y": object}), y="y", random_seed=42)
ppscore.predictors(df=frame.assign(b=frame["b"] + 1), y="y", random_seed=42)
ppscore.predictors(df=frame, y="y", random_seed=43)
assert len(fitted) == 8, fitted
"""
    command = [settings.checks_interpreter, "-I", "-W", "ignore", "-c", code]
    done = subprocess.run(
        [*command, checks_program.__file__], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_the_program_imports_nothing_of_ours_and_deepchecks_only_when_it_runs() -> None:
    tree = ast.parse(Path(checks_program.__file__).read_text())
    everywhere = [node for node in ast.walk(tree) if isinstance(node, (ast.Import, ast.ImportFrom))]
    names = {
        alias.name if isinstance(node, ast.Import) else node.module or ""
        for node in everywhere
        for alias in node.names
    }
    assert not [name for name in names if name.split(".")[0] in ("lifecycle", "tasks", "flows")]
    at_import = {
        (node.names[0].name if isinstance(node, ast.Import) else node.module or "").split(".")[0]
        for node in tree.body
        if isinstance(node, (ast.Import, ast.ImportFrom))
    }
    assert at_import <= sys.stdlib_module_names


def test_the_program_opens_no_connection() -> None:
    for event in ("socket.connect", "socket.getaddrinfo", "socket.gethostbyname"):
        with pytest.raises(PermissionError, match="no network"):
            checks_program._refuse_network(event, ())
    checks_program._refuse_network("open", ())


@pytest.mark.parametrize("metric", METRICS["multiclass"])
def test_a_metric_of_classes_is_that_of_the_evaluation(metric: str) -> None:
    rng = np.random.default_rng(5)
    truth = rng.integers(0, 3, 400)  # of four classes one has no row
    probabilities = rng.dirichlet(np.ones(4), 400)
    family = family_of(metric, "multiclass")
    measured = family.prepare(truth.astype(float), probabilities)(np.ones(400, dtype=np.int64))
    sign = -1 if metric == "log_loss" else 1
    expected = sign * measured[family.names.index(metric)]
    assert checks_program.class_score(metric, truth, probabilities) == pytest.approx(expected)
    if metric == "roc_auc":
        assert checks_program.class_score(metric, np.zeros(9, int), probabilities[:9]) == 0.5


@pytest.mark.parametrize(
    ("task", "metric"), [(task, m) for task in ("regression", "count") for m in METRICS[task]]
)
def test_a_metric_of_numbers_is_that_of_the_evaluation(task: str, metric: str) -> None:
    rng = np.random.default_rng(6)
    expected = rng.uniform(0.5, 9, 400)
    truth = rng.poisson(expected).astype(float)
    family = family_of(metric, task)  # type: ignore[arg-type]  # a parameter
    measured = family.prepare(truth, expected)(np.ones(400, dtype=np.int64))
    sign = 1 if metric == "r2" else -1
    score = checks_program.value_score(metric, truth, expected)
    assert score == pytest.approx(sign * measured[family.names.index(metric)])


# what goes wrong

PART = PredictedPart(
    pd.DataFrame({"a": np.arange(50.0)}), np.arange(50) % 2.0, np.linspace(0, 1, 50)
)
Interpreter = Callable[[str], Path]


@pytest.fixture
def interpreter(tmp_path: Path) -> Interpreter:
    """An interpreter of the checks that runs this code instead, with `folder` as its place."""

    def make(code: str) -> Path:
        file = tmp_path / "python"
        start = "import sys, os, json\nfolder = sys.argv[3]\n"
        file.write_text(f"#!{sys.executable}\n{start}{code}\n")
        file.chmod(0o700)
        return file

    return make


EMPTY = {"title": "t", "results": [], "skipped": {"a": "why"}}


def report_of(python: Path, folder: Path, timeout_s: float = 60.0) -> CheckReport:
    with ChecksProgram(Settings(checks_python=python, checks_timeout_s=timeout_s)) as program:
        return run_checks(
            PART,
            PART,
            ChecksRequest(task="binary", metric="roc_auc", spec=ChecksSpec()),
            folder / "pages",
            program,
        )


REPORT = (
    'sys.stdin.readline(); open(folder + "/plotly.js", "w"); f = open(folder + "/report.json", "w")'
)
FAILURES = {
    "crash": ('raise SystemExit("no such thing")', "ended with 1: no such thing"),
    "crash when asked": ("sys.stdin.readline(); os.abort()", "ended with -6"),
    "end without a report": ("sys.stdin.readline()", "No such file"),
    "no JSON": (f"{REPORT}; f.write('fine')", "unusable"),
    "bytes": (f"{REPORT}; f.buffer.write(bytes([255, 0]))", "unusable"),
    "another shape": (f"{REPORT}; json.dump({{'version': 1, 'suites': []}}, f)", "unusable"),
    "another version": (f"{REPORT}; json.dump({{'version': 2, 'suites': {{}}}}, f)", "unusable"),
    "nothing of a suite": (
        f"{REPORT}; json.dump({{'version': 1, 'suites': {{}}}}, f)",
        "does not mention data_integrity",
    ),
    "an empty suite": (
        f"{REPORT}; one = dict(title='', results=[], skipped={{}}); json.dump(dict(version=1, "
        "suites=dict(data_integrity=one, train_test_validation=one, model_evaluation=one)), f)",
        "does not mention data_integrity",
    ),
}


@pytest.mark.parametrize("failure", FAILURES)
def test_a_program_that_fails_is_not_run_with_the_reason_and_the_way_out(
    failure: str, interpreter: Interpreter, tmp_path: Path
) -> None:
    code, reason = FAILURES[failure]
    report = report_of(interpreter(code), tmp_path)
    assert_not_run(report, reason, "LIFECYCLE_CHECKS_PYTHON")
    assert not (tmp_path / "pages").exists()


def test_a_program_that_has_ended_before_it_is_asked(
    interpreter: Interpreter, tmp_path: Path
) -> None:
    settings = Settings(checks_python=interpreter('raise SystemExit("no such thing")'))
    with ChecksProgram(settings) as program:
        program.start()
        assert program._process is not None
        program._process.wait(30)
        with pytest.raises(ProgramError, match="ended with 1: no such thing"):
            program.ask(("data_integrity",), lambda folder: None)


def test_no_interpreter_is_not_run(tmp_path: Path) -> None:
    report = report_of(tmp_path / "nowhere", tmp_path)
    assert_not_run(
        report, f"no interpreter for the checks at {tmp_path / 'nowhere'}", "make -B install"
    )


def test_a_program_that_takes_too_long_is_not_run_and_ended(
    interpreter: Interpreter, tmp_path: Path
) -> None:
    note = tmp_path / "pid"
    code = f"open({str(note)!r}, 'w').write(str(os.getpid())); import time; time.sleep(600)"
    report = report_of(interpreter(code), tmp_path, timeout_s=2)
    assert_not_run(report, "took longer than 2 s", "LIFECYCLE_CHECKS_TIMEOUT_S")
    assert not alive(int(note.read_text()))


def assert_not_run(report: CheckReport, reason: str, way_out: str) -> None:
    assert not report.ran
    assert set(report.not_run) == {
        "Suite data_integrity", "Suite train_test_validation", "Suite model_evaluation"
    }  # fmt: skip
    for text in report.not_run.values():
        assert reason in text
        assert way_out in text
    [(passed, sentence)] = gates._checks(report, True, {})
    assert not passed
    assert reason in sentence
    [(passed, sentence)] = gates._checks(report, False, {})
    assert passed
    assert reason in sentence


def test_the_program_gets_no_secret_and_no_path_of_ours(
    interpreter: Interpreter, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LIFECYCLE_PII_KEY", "secret")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    monkeypatch.setenv("PYTHONPATH", "/elsewhere")
    note = tmp_path / "variables"
    code = f"json.dump(dict(os.environ), open({str(note)!r}, 'w'))"
    report_of(interpreter(code), tmp_path)
    variables = json.loads(note.read_text())
    assert "secret" not in variables.values()
    assert "PYTHONPATH" not in variables
    assert variables["OMP_NUM_THREADS"] == "1"


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return Path(f"/proc/{pid}/stat").read_text().split()[2] != "Z"


def wait_until(condition: Callable[[], bool], seconds: float = 60.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.05)


PARENT = """
import sys, time
from lifecycle.quality.program import ChecksProgram
from lifecycle.settings import Settings
with ChecksProgram(Settings()) as program:
    program.start()
    print(program._process.pid, program._folder.name, flush=True)
    time.sleep(600)
"""


@pytest.mark.component
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_the_program_ends_with_the_run_that_started_it(number: int, settings: Settings) -> None:
    assert settings.checks_interpreter.is_file()
    with subprocess.Popen(
        [sys.executable, "-c", PARENT], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as parent:
        assert parent.stdout
        pid, folder = parent.stdout.readline().split()
        assert alive(int(pid))
        parent.send_signal(number)
    wait_until(lambda: not alive(int(pid)))
    wait_until(lambda: not Path(folder).exists())


def test_a_closed_program_is_gone_with_its_files(interpreter: Interpreter, tmp_path: Path) -> None:
    program = ChecksProgram(Settings(checks_python=interpreter("sys.stdin.read()")))
    program.start()
    assert program._process
    assert program._folder
    process, folder = program._process, Path(program._folder.name)
    assert folder.stat().st_mode & 0o077 == 0
    program.close()
    assert process.returncode == -signal.SIGKILL
    assert not folder.exists()
    program.close()


def test_a_second_request_is_never_answered_by_the_first_report(
    interpreter: Interpreter, tmp_path: Path
) -> None:
    made = json.dumps({"version": 1, "suites": {"data_integrity": EMPTY}})
    note = tmp_path / "asked"
    code = (
        f"sys.stdin.readline(); note = {str(note)!r}\n"
        f"if os.path.exists(note): raise SystemExit('the second')\n"
        f"open(note, 'w'); open(folder + '/plotly.js', 'w')\n"
        f"open(folder + '/report.json', 'w').write({made!r})"
    )
    with ChecksProgram(Settings(checks_python=interpreter(code))) as program:
        answer = program.ask(("data_integrity",), lambda folder: None)
        assert answer.suites["data_integrity"].skipped == {"a": "why"}
        with pytest.raises(ProgramError, match="the second"):
            program.ask(("data_integrity",), lambda folder: None)


def test_a_failed_request_can_be_told_apart_from_one_that_was_not_made(tmp_path: Path) -> None:
    with ChecksProgram(Settings(checks_python=tmp_path / "nowhere")) as program:
        program.start()
        assert not program.is_used
        with pytest.raises(ProgramError):
            program.ask(("data_integrity",), lambda folder: None)
        assert program.is_used
