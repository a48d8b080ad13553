"""What tests/support/tiers.py promises: long files begin, and a tier that takes too long fails."""

import re
import subprocess
import sys
import tomllib
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests.support.small import ROOT
from tests.support.tiers import (
    BUDGET,
    ENFORCED,
    SharedServerScheduling,
    TierTimes,
    put_long_files_first,
    refuse_shared_ids,
)


def test_long_files_begin_and_others_keep_their_order() -> None:
    long = list(tomllib.loads(BUDGET.read_text())["files"])
    assert [file for file in long if not (ROOT / file).is_file()] == []
    names = ["a.py::one", f"{long[1]}::two", "a.py::three", f"{long[0]}::four"]
    items: list[Any] = [SimpleNamespace(nodeid=name) for name in names]
    put_long_files_first(items)
    assert [item.nodeid for item in items] == [names[3], names[1], names[0], names[2]]


def test_two_tests_with_one_id_are_refused() -> None:
    refuse_shared_ids(["a.py::one", "a.py::two"])
    with pytest.raises(pytest.UsageError, match=r"2 times a\.py::one"):
        refuse_shared_ids(["a.py::one", "a.py::two", "a.py::one"])


def test_files_of_one_prefect_server_and_ray_are_in_one_process() -> None:
    files = tomllib.loads(BUDGET.read_text())["shared"]["files"]
    assert [file for file in files if not (ROOT / file).is_file()] == []
    using = {
        str(file.relative_to(ROOT))
        for file in (ROOT / "tests").rglob("test_*.py")
        if file != Path(__file__)
        for text in [file.read_text()]
        if re.search(r'"(prefect_server|ray_cluster)"', text) and "mark.alone" not in text
    }
    assert using - set(files) == set()
    scheduling = SharedServerScheduling.__new__(SharedServerScheduling)
    scheduling._shared = files
    assert {scheduling._split_scope(f"{file}::test") for file in files} == {"shared"}
    assert scheduling._split_scope("tests/other.py::test[a::b]") == "tests/other.py"


@pytest.mark.parametrize(
    ("enforced", "times_budget", "status"), [("1", 1.6, 1), ("1", 1.4, 0), ("", 1.6, 0)]
)
def test_a_tier_that_takes_half_as_long_again_fails_where_budgets_are_enforced(
    monkeypatch: pytest.MonkeyPatch, enforced: str, times_budget: float, status: int
) -> None:
    monkeypatch.setenv(ENFORCED, enforced)
    allowed = tomllib.loads(BUDGET.read_text())["tiers"]["smoke"]
    times = TierTimes(processes=2)
    report: Any = SimpleNamespace(keywords={"smoke": 1, "system": 1}, duration=allowed)
    for _ in range(round(times_budget * 2 * 10)):
        report.duration = allowed / 10
        times.pytest_runtest_logreport(report)
    session: Any = SimpleNamespace(exitstatus=0)
    times.pytest_sessionfinish(session)
    assert session.exitstatus == status


@pytest.mark.parametrize(
    ("thread", "code"),
    [
        ("threading.Thread(target=threading.Event().wait).start()", 1),
        ("concurrent.futures.ThreadPoolExecutor().submit(int).result()", 0),
    ],
)
def test_a_thread_that_does_not_end_fails_the_session_with_its_stack(
    thread: str, code: int
) -> None:
    text = (
        "import concurrent.futures, threading; from tests.support.tiers import end_with_threads\n"
        f"{thread}\nend_with_threads(0.5)"
    )
    ended = subprocess.run([sys.executable, "-c", text], cwd=ROOT, capture_output=True, text=True)
    assert ended.returncode == code
    assert ("in wait" in ended.stderr) == bool(code)
