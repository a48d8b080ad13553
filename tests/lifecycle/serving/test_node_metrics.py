"""Two nodes behind one port: a real Prometheus has the counts of both, without false restarts."""

import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from deployments.scrape_config import Targets, scrape_config
from lifecycle.ingress import launcher
from lifecycle.project import Project
from lifecycle.runtime.servers import free_port
from lifecycle.serving.auth import KeyStore
from lifecycle.serving.records import to_records
from lifecycle.settings import Settings
from tests.support.load import load
from tests.support.nodes import driver, nodes
from tests.support.prefect_server import wait_for
from tests.support.prometheus import prometheus_program, running_prometheus
from tests.support.spread import serve_spread

pytestmark = [pytest.mark.system, pytest.mark.alone]

WATCHED_S = 10.0
SELECTOR = '{job="endpoint-prod", route="/predict"}'


@pytest.fixture
def short() -> Iterator[Path]:
    """A folder for the front's sockets, whose paths are limited."""
    folder = Path(tempfile.mkdtemp(prefix="lc-", dir="/tmp"))
    folder.chmod(0o700)
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


def test_rates_are_right_and_no_counter_seems_to_restart(
    make_project: Callable[..., Project],
    train: Callable[..., Any],
    settings: Settings,
    short: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    prometheus_program()
    for name, value in launcher.isolation(short, free_port()).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("RAY_metrics_report_interval_ms", "1000")
    made = train(make_project(serving={"replicas": 2}), settings)
    records = to_records(made.holdout()[list(made.project.input_columns)].head(20))
    with nodes(2) as cluster, driver(cluster) as call:
        joined = settings.model_copy(
            update={"ray_address": cluster.address, "serve_port": free_port()}
        )
        url, agents = call(serve_spread, made.bundle.path, made.model, made.project, joined)
        assert len(agents) == 3
        key = tmp_path / "key"
        key.write_text(KeyStore(joined.keys_file).add("prometheus"))
        targets = {"prod": Targets(url.split("/")[2], key, agents)}
        config = yaml.safe_load(scrape_config(targets, "1s").replace("health_visits", "small"))
        # as everybody would do it: one target, whose nodes take turns
        plain = config["scrape_configs"][0] | {"job_name": "one-port"}
        del plain["metric_relabel_configs"]
        config["scrape_configs"].append(plain)
        with running_prometheus(config, tmp_path) as prometheus:
            with load(url, records, clients=2, pause=0.02) as busy:
                count = f"count(lifecycle_requests_total{SELECTOR} > 50)"
                wait_for(lambda: prometheus.number(count) == 2, 40, "the counts of two nodes")
                begin, before = time.monotonic(), busy.total
                time.sleep(WATCHED_S)
                rate = prometheus.number(f"sum(rate(lifecycle_requests_total{SELECTOR}[8s]))")
                true_rate = (busy.total - before) / (time.monotonic() - begin)
                resets = prometheus.number(f"sum(resets(lifecycle_requests_total{SELECTOR}[1m]))")
            assert busy.failures == []
            assert resets == 0
            assert rate == pytest.approx(true_rate, rel=0.2)
            total = f"sum(lifecycle_requests_total{SELECTOR})"
            wait_for(lambda: prometheus.number(total) == busy.total, 15, "every request")
            one_port = prometheus.number(total.replace("endpoint-prod", "one-port"))
            assert one_port < 0.8 * busy.total, "it has one node's counts at a time"
            buckets = 'sum(lifecycle_request_seconds_bucket{job="endpoint-prod", le="+Inf"})'
            assert prometheus.number(buckets) >= busy.total
            assert prometheus.number('up{job="endpoint-prod"}') == 1
            assert prometheus.number('sum(lifecycle_model_info{job="endpoint-prod"})') == 2
