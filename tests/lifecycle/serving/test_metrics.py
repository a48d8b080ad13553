"""Metrics of several replicas: summed, kept when one is killed, and readable by Prometheus."""

import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from lifecycle.errors import BackendError
from lifecycle.serving.counters import CELLS, FOLDED, Counters, clear, fold, snapshot
from lifecycle.serving.metrics import ANSWERED_METRIC, DROPPED, LOGGED, Meters
from tests.support.log_writer import model_of
from tests.support.small import ROOT

MetersOf = Callable[..., Meters]
Samples = dict[tuple[str, tuple[tuple[str, str], ...]], float]

KILLED = """
import os, signal, sys
from pathlib import Path
from lifecycle.serving.metrics import ANSWERED_METRIC, Meters
from tests.support.log_writer import model_of
meters = Meters(Path(sys.argv[1]), model_of("small"), "champion")
for _ in range(1000):
    meters.started()
    meters.count_answer("/predict", 200, 0.003, 2, 1)
meters.started()
meters.counts.cells[meters.counts.cell(ANSWERED_METRIC)] += 2000
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.fixture
def meters_of() -> Iterator[MetersOf]:
    """Makes the meters of a replica in this process."""
    with ExitStack() as stack:

        def make(folder: Path, version: int = 1, role: str = "champion") -> Meters:
            meters = Meters(folder, model_of("small", version), role)
            stack.callback(meters.close)
            return meters

        yield make


def kill_a_replica(folder: Path) -> None:
    done = subprocess.run([sys.executable, "-c", KILLED, folder], cwd=ROOT, check=False)
    assert done.returncode == -signal.SIGKILL


def samples(meters: Meters) -> Samples:
    return {
        (sample.name.removeprefix("lifecycle_"), tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(meters.render().decode())
        for sample in family.samples
    }


def requests(found: Samples, status: int = 200, version: int = 1) -> float:
    labels = {"route": "/predict", "status": str(status), "version": str(version)}
    return found["requests_total", tuple(sorted(labels.items()))]


@pytest.mark.component
def test_every_number_is_told(tmp_path: Path, meters_of: MetersOf) -> None:
    meters = meters_of(tmp_path)
    for seconds, status, rows in ((0.0004, 200, 3), (0.003, 200, 2), (9.0, 500, 1)):
        meters.started()
        meters.count_answer("/predict", status, seconds, rows, 1)
    meters.started()
    meters.rate_limited()
    meters.candidate_failed()
    found = samples(meters)
    assert (requests(found), requests(found, 500)) == (2, 1)
    where = (("route", "/predict"), ("version", "1"))
    assert found["rows_total", where] == 6
    assert found["request_seconds_count", where] == 3
    assert found["request_seconds_sum", where] == pytest.approx(9.0034)
    buckets = {
        dict(labels)["le"]: value
        for (name, labels), value in found.items()
        if name == "request_seconds_bucket"
    }
    assert (buckets["0.0005"], buckets["0.0025"], buckets["0.005"]) == (1, 1, 2)
    assert (buckets["5.0"], buckets["+Inf"]) == (2, 3)
    assert found["requests_in_flight", ()] == 1
    assert (found["rate_limited_total", ()], found["candidate_errors_total", ()]) == (1, 1)
    info = {"name": "small", "version": "1", "digest": "digest1", "role": "champion"}
    assert found["model_info", tuple(sorted(info.items()))] == 1


@pytest.mark.component
def test_one_replica_tells_of_all(tmp_path: Path, meters_of: MetersOf) -> None:
    first, second = meters_of(tmp_path), meters_of(tmp_path, 2, "candidate")
    for meters, version in ((first, 1), (first, 1), (second, 1), (second, 2)):
        meters.started()
        meters.count_answer("/predict", 200, 0.001, 1, version)
    assert samples(first) == samples(second)
    assert requests(samples(first)) == 3
    assert requests(samples(first), version=2) == 1
    assert sum(v for (name, _), v in samples(first).items() if name == "model_info") == 2


@pytest.mark.system
def test_a_killed_replica_stays_in_the_sums_and_leaves_the_gauges(
    tmp_path: Path, meters_of: MetersOf
) -> None:
    kill_a_replica(tmp_path)
    kill_a_replica(tmp_path)
    meters = meters_of(tmp_path)
    before = samples(meters)
    assert requests(before) == 2000
    assert before["requests_in_flight", ()] == 0
    assert before["prediction_log_lost_rows", ()] == 4000
    assert sum(v for (name, _), v in before.items() if name == "model_info") == 1
    meters.sweep(lambda _: 1500)
    after = samples(meters)
    assert requests(after) == 2000
    assert after["prediction_log_lost_rows", ()] == 1000
    assert after["prediction_log_logged_rows_total", ()] == 3000
    assert len(list(tmp_path.glob("*.counts"))) == 1
    meters.sweep(lambda _: 0)
    assert samples(meters) == after


@pytest.mark.component
def test_rows_that_live_replicas_hold_are_not_lost(tmp_path: Path, meters_of: MetersOf) -> None:
    meters = meters_of(tmp_path)
    cells, cell = meters.counts.cells, meters.counts.cell
    cells[cell(ANSWERED_METRIC)] += 10
    cells[cell(LOGGED)] += 4
    assert samples(meters)["prediction_log_lost_rows", ()] == 0
    cells[cell(DROPPED, reason="full")] += 1
    meters.close()
    assert samples(meters_of(tmp_path))["prediction_log_lost_rows", ()] == 5


@pytest.mark.system
def test_a_sweep_that_cannot_ask_the_table_changes_nothing(
    tmp_path: Path, meters_of: MetersOf
) -> None:
    kill_a_replica(tmp_path)
    meters = meters_of(tmp_path)
    before = samples(meters)

    def unreachable(_: str) -> int:
        raise BackendError("no lake")

    with pytest.raises(BackendError):
        meters.sweep(unreachable)
    assert samples(meters) == before


@pytest.mark.system
def test_a_fold_that_was_killed_before_it_removed_files_counts_nothing_twice(
    tmp_path: Path, meters_of: MetersOf
) -> None:
    kill_a_replica(tmp_path)
    meters = meters_of(tmp_path)
    before = samples(meters)
    dead = tmp_path / f"{next(iter(snapshot(tmp_path).dead))}.counts"
    kept = dead.read_bytes()
    meters.sweep()
    dead.write_bytes(kept)  # as if it had never been removed
    assert samples(meters) == before
    meters.sweep()
    assert samples(meters) == before
    assert not dead.exists()
    kill_a_replica(tmp_path)
    meters.sweep()
    assert requests(samples(meters)) == 2000


@pytest.mark.system
def test_a_new_serving_starts_at_zero(tmp_path: Path, meters_of: MetersOf) -> None:
    folder = tmp_path / "metrics"
    clear(folder)
    kill_a_replica(folder)
    former = meters_of(folder)
    former.sweep()
    former.close()
    kill_a_replica(folder)
    clear(folder)
    assert not list(folder.glob("*.counts"))
    assert not (folder / FOLDED).exists()
    assert not [name for name, _ in samples(meters_of(folder)) if name == "requests_total"]


@pytest.mark.component
def test_names_beyond_the_file_are_not_counted_and_break_nothing(tmp_path: Path) -> None:
    counts = Counters(tmp_path)
    for number in range(CELLS + 5):
        counts.cells[counts.cell("many", number=number)] += 1
    counts.cells[counts.cell("long", label="x" * 600)] += 1
    found = snapshot(tmp_path).alive[counts.token]
    assert len(found) == CELLS - 1
    assert set(found.values()) == {1.0}
    counts.close()


@pytest.mark.system
def test_only_one_folds_at_a_time(tmp_path: Path) -> None:
    kill_a_replica(tmp_path)
    calls: list[str] = []

    def settle(token: str, values: dict[object, float]) -> dict[object, float]:
        calls.append(token)
        fold(tmp_path, lambda *_: pytest.fail("a second fold went in"))
        return values

    fold(tmp_path, settle)  # type: ignore[arg-type]
    assert len(calls) == 1


@pytest.mark.component
def test_odd_label_values_are_escaped(tmp_path: Path, meters_of: MetersOf) -> None:
    meters = meters_of(tmp_path)
    meters.count_answer('/odd"\n\\', 200, 0.001, 1, 1)
    routes = {dict(labels).get("route") for _, labels in samples(meters)}
    assert '/odd"\n\\' in routes
