"""The README's main command as a user runs it: twice, in an environment of its own.

`make test` runs it on the example's years until 1978 only, with a short search and one suite.
"""

import re
import shutil
import subprocess
import sys
import time
import uuid
from pathlib import Path
from typing import NamedTuple

import pytest
import yaml

from tests.support.scripts import environment, marked
from tests.support.small import ROOT

EXAMPLE = ROOT / "examples" / "health_visits"
UNTIL_1978 = """
all_rows = rows


def rows() -> pd.DataFrame:
    return all_rows().query("calendar_year <= 1978")
"""

pytestmark = pytest.mark.system


class Demo(NamedTuple):
    code: int
    screen: str
    seconds: float
    left: list[str]
    """Processes that outlived the run by more than a few seconds."""


def run_demo(home: Path, project: str = "examples/health_visits/project.yaml") -> Demo:
    mark = uuid.uuid4().hex
    started = time.monotonic()
    done = subprocess.run(
        [sys.executable, "flows/end_to_end.py", "--project", project],
        cwd=ROOT,
        env=environment(home, TEST_MARK=mark),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=580,
    )
    seconds = time.monotonic() - started
    deadline = time.monotonic() + 10
    while (left := marked(mark)) and time.monotonic() < deadline:
        time.sleep(0.5)
    return Demo(done.returncode, done.stdout, seconds, [str(process) for process in left])


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("demo") / "lifecycle"


@pytest.fixture(scope="module")
def demo(home: Path) -> Demo:
    return run_demo(home)


@pytest.fixture(scope="module")
def second(home: Path, demo: Demo) -> Demo:
    assert demo.code == 0, "nothing to run again"
    return run_demo(home)


@pytest.fixture(scope="module")
def short(tmp_path_factory: pytest.TempPathFactory) -> Demo:
    """The example until 1978: the year in which sites join, and one that asks for nothing."""
    folder = tmp_path_factory.mktemp("short")
    shutil.copytree(EXAMPLE, folder / "project")
    file = folder / "project" / "project.yaml"
    declared = yaml.safe_load(file.read_text())
    declared["tuning"]["trials"] = 3
    declared["checks"] = {"suites": ["data_integrity"]}
    file.write_text(yaml.safe_dump(declared, sort_keys=False))
    with (folder / "project" / "person_years.py").open("a") as source:
        source.write(UNTIL_1978)
    return run_demo(folder / "lifecycle", str(file))


def check(run: Demo) -> None:
    """It ended well, left no process, and every line is a result with its time, or of one.

    A gate's reason may begin with `Warning:`.
    """
    assert run.code == 0, run.screen[-4000:]
    assert run.left == []
    noise = re.compile(r"(?<!· )Warning|Traceback|INFO|WARN|ERROR|\(pid=|it/s|%\|")
    assert [line for line in run.screen.splitlines() if noise.search(line)] == []


def check_summary(run: Demo) -> None:
    for word in (
        "learned from (calendar_year start to 1976)",
        "health_visits v1",
        "baseline",
        "Gate for v1: passed",
        "Gate for v2: passed",
        "make serve",
        "curl ",
        "checks v1 ",
        "checks v2 ",
        "· train of v2",
        "MLflow ",
        "Prefect ",
    ):
        assert word in run.screen, word


def check_report(run: Demo) -> None:
    found = re.search(r"(\S+summary\.html)", run.screen)
    assert found
    page = Path(found[1]).read_text()
    assert "health_visits" in page
    assert "http://" not in re.sub(r"http://(127\.0\.0\.1|www\.w3\.org)\S*", "", page)


@pytest.mark.smoke
def test_a_short_one_ends_well_and_leaves_nothing(short: Demo) -> None:
    check(short)


@pytest.mark.smoke
def test_a_short_ones_summary_and_report(short: Demo) -> None:
    check_summary(short)
    check_report(short)


@pytest.mark.smoke
def test_a_short_one_shows_both_outcomes_of_monitoring(short: Demo) -> None:
    assert "Arrived: calendar_year 1977: retraining asked for" in short.screen
    assert "Arrived: calendar_year 1978: nothing to do" in short.screen
    assert "Arrived: calendar_year 1979" not in short.screen
    assert "features drifted: site (cramers_v" in short.screen
    assert "v2 is champion" in short.screen


def test_it_ends_well_and_leaves_nothing(demo: Demo) -> None:
    check(demo)


def test_the_summary_says_it_all(demo: Demo) -> None:
    check_summary(demo)


def test_both_outcomes_of_monitoring_are_seen_for_real_reasons(demo: Demo) -> None:
    """Sites join in 1977 and the model that learns them wins; the years after ask for nothing."""
    for year, verdict in (
        (1977, "retraining asked for"),
        (1978, "nothing to do"),
        (1979, "nothing to do"),
        (1980, "nothing to do"),
        (1981, "retraining asked for"),
    ):
        assert f"Arrived: calendar_year {year}: {verdict}" in demo.screen
    assert "features drifted: site (cramers_v" in demo.screen
    assert "Better than champion v1, beyond chance" in demo.screen
    assert "v2 is champion" in demo.screen


def test_the_report_is_a_page(demo: Demo) -> None:
    check_report(demo)


def test_the_second_run_reuses_what_is_unchanged(demo: Demo, second: Demo) -> None:
    check(second)
    # a window is taken in once more to be the window before the next one
    assert not re.search(r"(split: unchanged,|\bv1 is) served from the cache", demo.screen)
    again = second.screen
    assert "ingest: unchanged, served from the cache" in again
    assert "split: unchanged, served from the cache" in again
    assert re.search(r"identity \w+ is unchanged: health_visits v1 is served from the cache", again)
    assert "registered health_visits" not in again, "nothing may be trained twice"
    assert "retraining asked for" not in again, "the champion knows all sites by then"
