"""The endpoint's metrics, summed over all replicas of an application on a node, dead ones too.

They stay in each replica's memory-mapped file (`counts`): a count is on record as soon as it is
made, a killed replica's counts stay in the sums, and any replica of the node can tell them all.
`Publisher` has Ray's agent of each node tell them too: behind one port nodes take turns, and a
scraper would take one's smaller counts for a restart of the other.
"""

import fcntl
import logging
from bisect import bisect_left
from collections.abc import Callable, Iterator
from pathlib import Path
from threading import Event, Thread
from typing import Any, NamedTuple, TextIO

from lifecycle.records import ModelVersion
from lifecycle.serving.counters import Counters, Snapshot, Values, fold, snapshot, total

logger = logging.getLogger(__name__)

BUCKETS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)
"""Upper bounds of the latency histogram, in seconds."""
ANSWERED_METRIC = "lifecycle_prediction_log_answered_rows"
LOGGED = "lifecycle_prediction_log_logged_rows"
DROPPED = "lifecycle_prediction_log_dropped_rows"
LOST = "lifecycle_prediction_log_lost_rows"
REQUESTS = "lifecycle_requests"
SECONDS = "lifecycle_request_seconds"
ROWS = "lifecycle_rows"
IN_FLIGHT = "lifecycle_requests_in_flight"
INFO = "lifecycle_model_info"
LIMITED = "lifecycle_rate_limited"
CANDIDATE = "lifecycle_candidate_errors"
IGNORED = "lifecycle_ignored_fields"
COUNTERS = {
    REQUESTS: "Requests answered, with whichever status.",
    ROWS: "Rows of the requests answered.",
    LIMITED: "Requests refused because a key sent more than it may.",
    CANDIDATE: "Requests that a candidate failed to answer.",
    IGNORED: "Fields of rows that the model does not take and that were left out.",
    ANSWERED_METRIC: "Rows answered that the prediction log should have.",
    LOGGED: "Rows that are in the prediction log.",
    DROPPED: "Rows left out of the prediction log, by reason.",
}
PUBLISH_S = 2.0
"""Seconds between two publications; Ray's agent forgets what it has not got for 20 s."""
PUBLISHER_LOCK = "publisher.lock"
PLACE = "bucket"
"""Label of a histogram's cells: the index of the bucket, or `sum`."""


class Meters:
    """Metrics of one replica. Only `render` and `sweep` may be called outside the event loop.

    Args:
        folder: the application's folder on this node, on a local disk.
        role: the role of the replica, `champion` or `candidate`.
        gauges: folder of texts that `render` appends: what flows on this machine have found.

    Raises:
        OSError: the folder is not writable.
    """

    def __init__(
        self, folder: Path, model: ModelVersion, role: str, gauges: Path | None = None
    ) -> None:
        self._folder, self._gauges = folder, gauges
        self.counts = Counters(folder)
        self._cells = self.counts.cells
        self._series: dict[tuple[str, int, int], _Series] = {}
        self._in_flight = self.counts.cell(IN_FLIGHT)
        self._limited = self.counts.cell(LIMITED)
        self._candidate = self.counts.cell(CANDIDATE)
        self._ignored = self.counts.cell(IGNORED)
        info = self.counts.cell(
            INFO, name=model.name, version=model.version, digest=model.digest, role=role
        )
        self._cells[info] = 1.0

    def started(self) -> None:
        """Count a request that has arrived; `count_answer` follows in any case."""
        self._cells[self._in_flight] += 1

    def count_answer(
        self, route: str, status: int, seconds: float, rows: int, version: int
    ) -> None:
        """Count an answered request.

        Args:
            route: without names of models or versions in it, so that there are few.
            seconds: from the request's arrival in the replica to its answer.
            rows: rows asked for; 0 if it was no prediction.
        """
        series = self._series.get((route, status, version)) or self._new(route, status, version)
        cells = self._cells
        cells[series.requests] += 1
        cells[series.rows] += rows
        cells[series.buckets[bisect_left(BUCKETS, seconds)]] += 1
        cells[series.sum] += seconds
        cells[self._in_flight] -= 1

    def rate_limited(self) -> None:
        """Count a request that was refused because its key sends too many."""
        self._cells[self._limited] += 1

    def candidate_failed(self) -> None:
        """Count a request that the champion answered because the candidate did not."""
        self._cells[self._candidate] += 1

    def ignored(self, fields: int) -> None:
        """Fields of a request were left out."""
        self._cells[self._ignored] += fields

    def render(self) -> bytes:
        """The sums in Prometheus' text format, for `GET /metrics`."""
        from prometheus_client import CollectorRegistry, generate_latest  # first scrape, not start

        registry = CollectorRegistry()
        registry.register(_Families(snapshot(self._folder)))
        files = sorted(self._gauges.glob("*.prom")) if self._gauges else []
        return b"".join([generate_latest(registry), *(file.read_bytes() for file in files)])

    def sweep(self, committed: Callable[[str], int] | None = None) -> None:
        """Move the numbers of ended replicas to one file.

        Args:
            committed: rows that a replica has in the prediction log, by its name; it may have been
                killed after the commit and before it counted it. None if nothing is logged.

        Raises:
            BackendError: `committed` could not be told; the next sweep will try again.
        """

        def settle(token: str, values: Values) -> Values:
            files = {
                name: value for name, value in values.items() if name[0] not in (IN_FLIGHT, INFO)
            }
            if committed is not None and _sum(values, ANSWERED_METRIC) > _sum(values, LOGGED):
                files[LOGGED, ()] = max(_sum(values, LOGGED), float(committed(token)))
            files[LOST, ()] = lost_rows(files)
            return files

        fold(self._folder, settle)

    def close(self) -> None:
        """Close the counters of this replica; its numbers stay in the sums."""
        self.counts.close()

    def _new(self, route: str, status: int, version: int) -> "_Series":
        cell = self.counts.cell
        of = {"route": route, "version": version}
        series = _Series(
            requests=cell(REQUESTS, route=route, status=status, version=version),
            rows=cell(ROWS, **of),
            buckets=tuple(cell(SECONDS, **of, **{PLACE: at}) for at in range(len(BUCKETS) + 1)),
            sum=cell(SECONDS, **of, **{PLACE: "sum"}),
        )
        self._series[route, status, version] = series
        return series


class Publisher:
    """Has Ray's metrics agent on this node tell the sums of an application, as `ray_lifecycle_…`.

    One replica of a node does so, whoever holds the lock; when it ends, the next one takes over.

    Args:
        folder: the application's folder on this node.
        application: becomes the label `project`.
    """

    def __init__(self, folder: Path, application: str) -> None:
        self._folder, self._application = folder, application
        self._gauges: dict[str, Any] = {}
        self._lock: TextIO | None = None
        self._ended = Event()
        Thread(target=self._run, name="publisher", daemon=True).start()

    def close(self) -> None:
        """Leave it to another replica."""
        self._ended.set()

    def publish(self) -> None:
        """Tell Ray's agent every sum, if no other replica of this node does."""
        if not self._is_ours():
            return
        from ray.util.metrics import Gauge

        for family in _Families(snapshot(self._folder)).collect():
            for sample in family.samples:
                labels = {"project": self._application, **sample.labels}
                gauge = self._gauges.get(sample.name)
                if gauge is None:
                    gauge = Gauge(sample.name, family.documentation, tuple(labels))
                    self._gauges[sample.name] = gauge
                gauge.set(sample.value, labels)

    def _is_ours(self) -> bool:
        if self._lock is None:
            lock = (self._folder / PUBLISHER_LOCK).open("w")
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                lock.close()
                return False
            self._lock = lock
        return True

    def _run(self) -> None:
        is_well = True
        while not self._ended.wait(PUBLISH_S):
            try:
                self.publish()
                is_well = True
            except Exception as error:  # the endpoint goes on without
                if is_well:
                    logger.warning("metrics are not published: %s", error)
                is_well = False
        if self._lock is not None:
            self._lock.close()


class _Series(NamedTuple):
    """Indices of the cells of one route, status and version."""

    requests: int
    rows: int
    buckets: tuple[int, ...]
    sum: int


def lost_rows(values: Values) -> float:
    """Rows that a replica which is gone answered, and neither logged nor dropped."""
    return max(0.0, _sum(values, ANSWERED_METRIC) - _sum(values, LOGGED) - _sum(values, DROPPED))


def _sum(values: Values, metric: str) -> float:
    return sum(value for (name, _), value in values.items() if name == metric)


class _Families:
    """A snapshot as metric families, as prometheus_client takes them from a collector."""

    def __init__(self, snapshot: Snapshot) -> None:
        self._living = total(list(snapshot.alive.values()))
        self._all = total([self._living, *snapshot.dead.values(), snapshot.folded])
        self._lost_rows = snapshot.folded.get((LOST, ()), 0.0) + sum(
            map(lost_rows, snapshot.dead.values())
        )

    def collect(self) -> Iterator[Any]:
        """Families in a fixed order."""
        from prometheus_client.core import (
            CounterMetricFamily,
            GaugeMetricFamily,
            HistogramMetricFamily,
        )

        for metric, text in COUNTERS.items():
            cells = _cells(self._all, metric)
            labels = [label for label, _ in cells[0][0]] if cells else []
            counter = CounterMetricFamily(metric, text, labels=labels)
            for pairs, value in cells:
                counter.add_metric([v for _, v in pairs], value)
            yield counter
        yield GaugeMetricFamily(
            LOST,
            "Rows answered by replicas that were killed before they logged them.",
            self._lost_rows,
        )
        flying = self._living.get((IN_FLIGHT, ()), 0.0)
        yield GaugeMetricFamily(IN_FLIGHT, "Requests being answered.", flying)
        info = GaugeMetricFamily(
            INFO, "Replicas of each model version.", labels=["name", "version", "digest", "role"]
        )
        for pairs, value in _cells(self._living, INFO):
            info.add_metric([v for _, v in pairs], value)
        yield info
        seconds = HistogramMetricFamily(
            SECONDS, "Time in the replica, in seconds.", labels=["route", "version"]
        )
        for (route, version), places in self._histograms().items():
            below, buckets = 0.0, []
            for at, bound in enumerate([*map(str, BUCKETS), "+Inf"]):
                below += places.get(str(at), 0.0)
                buckets.append((bound, below))
            seconds.add_metric([route, version], buckets, places.get("sum", 0.0))
        yield seconds

    def _histograms(self) -> dict[tuple[str, str], dict[str, float]]:
        histograms: dict[tuple[str, str], dict[str, float]] = {}
        for pairs, value in _cells(self._all, SECONDS):
            labels = dict(pairs)
            histograms.setdefault((labels["route"], labels["version"]), {})[labels[PLACE]] = value
        return histograms


def _cells(values: Values, metric: str) -> list[tuple[tuple[tuple[str, str], ...], float]]:
    return [(labels, value) for (name, labels), value in sorted(values.items()) if name == metric]
