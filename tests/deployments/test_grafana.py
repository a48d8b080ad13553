"""The dashboard against a real Prometheus, which scrapes what monitoring and an endpoint say."""

import json
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import httpx
import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from deployments.grafana.dashboard import FILE, PROJECTS, ROWS, rendered
from deployments.scrape_config import Targets, scrape_config
from lifecycle.monitoring.gauges import publish_findings, publish_tries
from lifecycle.monitoring.monitor import monitor_windows
from lifecycle.project import Project
from lifecycle.records import Attempt
from lifecycle.runtime.servers import free_port
from lifecycle.serving.metrics import DROPPED, Meters
from lifecycle.settings import Settings
from tests.lifecycle.monitoring.test_monitor import MODEL, released, scored
from tests.support.prefect_server import wait_for
from tests.support.prometheus import running_pushgateway
from tests.support.small import small_frame

Make = Callable[..., Project]
Publish = Callable[[str, Settings], None]


@pytest.fixture
def publish(make_project: Make, settings: Settings) -> Publish:
    """Publish a monitored window and a try of retraining as a project's."""
    project, frame = make_project(), small_frame(800)
    at_release = released(project, frame[:400])
    reference = scored(settings, frame[:400], 1)
    current = scored(settings, frame[400:].assign(city="Lima"), 2)
    found = monitor_windows(project, settings, reference, [current], at_release)
    tries = [Attempt(id="a", time=datetime.now(UTC), by_hand=False, outcome="finding")]

    def publish(name: str, to: Settings) -> None:
        named = project.model_copy(update={"name": name})
        for prefix in ("monitoring", "live"):
            publish_findings(named, to, MODEL, at_release, [found], prefix)
        publish_tries(named, to, tries, useless=1)

    return publish


@pytest.fixture
def meters(publish: Publish, settings: Settings) -> Iterator[Meters]:
    """Meters of a replica on the machine where a window was monitored and retraining was tried."""
    publish("small", settings)
    folder = settings.folder("metrics", "small", "node")
    meters = Meters(folder, MODEL, "champion", settings.gauges_folder("small"))
    meters.counts.cell(DROPPED, reason="full")
    yield meters
    meters.close()


def test_the_file_is_what_the_script_makes() -> None:
    assert FILE.read_text() == rendered(), "run python -m deployments.grafana.dashboard"


def test_what_was_found_stands_in_the_metrics_of_the_endpoint(meters: Meters) -> None:
    families = {
        each.name: each for each in text_string_to_metric_families(meters.render().decode())
    }
    distances = {
        sample.labels["column"]: sample.value
        for sample in families["lifecycle_live_distance"].samples
        if sample.labels["slice"] == "all"
    }
    assert set(distances) == {"age", "visits", "city", "prediction", "bought"}
    assert distances["city"] > 0.5
    bounds = {
        sample.labels["bound"]: sample.value
        for sample in families["lifecycle_monitoring_quality"].samples
        if sample.labels["metric"] == "roc_auc"
    }
    assert bounds["low"] <= bounds["value"] <= bounds["high"]
    alarms = families["lifecycle_monitoring_alarms"].samples
    assert {sample.labels["severity"] for sample in alarms if sample.value} == {"high"}
    assert families["lifecycle_retraining_useless_tries"].samples[0].value == 1


@pytest.mark.component
@pytest.mark.skipif(not shutil.which("prometheus"), reason="no prometheus on this machine")
def test_every_query_returns_data(
    meters: Meters, publish: Publish, settings: Settings, tmp_path: Path
) -> None:
    """Of a project whose gauges are appended to the endpoint's, and of one that pushed them."""
    panels = [each for each in json.loads(FILE.read_text())["panels"] if each["type"] != "row"]
    assert len(panels) == sum(map(len, ROWS.values()))
    assert all(panel["targets"] for panel in panels)
    queries = {target["expr"] for panel in panels for target in panel["targets"]} | {PROJECTS}
    assert len(queries) > 20
    with running_pushgateway(tmp_path) as gateway, scraping(meters, tmp_path, gateway) as ask:
        left = {query.replace("$project", "small") for query in queries}
        if gateway:
            publish("pushed", settings.model_copy(update={"pushgateway": f"http://{gateway}"}))
            left |= {query.replace("$project", "pushed") for query in queries}

        def all_answered() -> bool:
            meters.started()
            meters.count_answer("/predict", 200, 0.003, 1, 1)
            left.difference_update([query for query in left if ask(query)])
            return not left

        wait_for(all_answered, 30, "data for every query")
        assert not ask("lifecycle_no_such_gauge")
        if gateway:
            (pushed,) = ask('lifecycle_monitoring_timestamp_seconds{project="pushed"}')
            labels = {"job": "flows-dev", "env": "dev", "page": "monitoring", "project": "pushed"}
            name = "lifecycle_monitoring_timestamp_seconds"
            assert pushed["metric"] == {"__name__": name} | labels


@contextmanager
def scraping(
    meters: Meters, folder: Path, gateway: str | None
) -> Iterator[Callable[[str], list[Any]]]:
    """A Prometheus that scrapes the meters, and the gateway, as production's does.

    Gives the answer of a query.
    """

    class Page(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "text/plain; version=0.0.4")
            self.end_headers()
            self.wfile.write(meters.render())

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Page)
    Thread(target=server.serve_forever, daemon=True).start()
    target = f"127.0.0.1:{server.server_address[1]}"
    text = scrape_config({"prod": Targets(target, folder / "key", [])}, "500ms", gateway)
    jobs = {job["job_name"]: job for job in yaml.safe_load(text)["scrape_configs"]}
    config = {
        "global": {"scrape_interval": "500ms"},
        "scrape_configs": [
            {  # the rules of the port, so that what they drop is seen; and those of Ray's agent
                "job_name": "endpoint",
                "static_configs": [{"targets": [target]}],
                "metric_relabel_configs": jobs["endpoint-prod"]["metric_relabel_configs"],
            },
            {
                "job_name": "ray",
                "static_configs": [{"targets": [target]}],
                "metric_relabel_configs": [
                    {
                        "source_labels": ["__name__"],
                        "regex": "lifecycle_(monitoring|live|retraining)_.+",
                        "action": "drop",
                    }
                ],
            },
            *([jobs["pushgateway"]] if gateway else []),
        ],
    }
    (folder / "prometheus.yml").write_text(yaml.safe_dump(config))
    port = free_port()
    command = [
        "prometheus",
        f"--config.file={folder}/prometheus.yml",
        f"--storage.tsdb.path={folder}/data",
        f"--web.listen-address=127.0.0.1:{port}",
    ]
    with (folder / "prometheus.log").open("w") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
    url = f"http://127.0.0.1:{port}/api/v1/query"

    def ask(query: str) -> list[Any]:
        text = query.replace("$__rate_interval", "5s")
        assert not re.search(r"\$(?!1)", text), "a variable that only Grafana knows"
        try:
            answer = httpx.get(url, params={"query": text}, timeout=5)
        except httpx.TransportError:
            return []
        assert answer.status_code not in (400, 422), answer.text
        if answer.status_code != 200:  # it is starting
            return []
        result: list[Any] = answer.json()["data"]["result"]
        return result

    try:
        yield ask
    finally:
        process.terminate()
        process.wait(20)
        server.shutdown()
        server.server_close()
