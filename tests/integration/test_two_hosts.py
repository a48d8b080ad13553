"""A cluster of two hosts that share nothing but Python: the whole life of a model, on both.

One of them is killed in a training. Then a canary under load, watched by a real Prometheus;
millions of rows are scored and monitored; a person is erased. The machine itself is no node of it:
flows there reach it through Ray Client.
"""

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

import boto3
import httpx
import pyarrow as pa
import pytest
import yaml
from pyarrow import csv

from deployments.scrape_config import Targets, scrape_config
from lifecycle.runtime.cluster import ENVIRONMENT
from lifecycle.runtime.servers import free_port
from tests.support.hosts import BIN, Host, can_make_hosts, two_hosts
from tests.support.load import Load, load
from tests.support.postgres import running_postgres
from tests.support.prefect_server import wait_for
from tests.support.prometheus import (
    Prometheus,
    prometheus_program,
    running_prometheus,
    running_pushgateway,
)
from tests.support.sinks import collector
from tests.support.small import SMALL, small_frame

pytestmark = [
    pytest.mark.system,
    pytest.mark.alone,
    pytest.mark.timeout(1200),
    pytest.mark.skipif(not can_make_hosts(), reason="it may not make network namespaces"),
]

KEYS = {
    "AWS_ACCESS_KEY_ID": "two-hosts",
    "AWS_SECRET_ACCESS_KEY": "the-secret-of-two-hosts",
    "AWS_REGION": "us-east-1",
    "AWS_DEFAULT_REGION": "us-east-1",
    "AWS_ALLOW_HTTP": "true",
}
TOKEN = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": "5e" * 32}
HOOK = """\
def make(frame):
    return frame.assign(old=frame["age"] > 50)
"""
LOGGING_HOOK = HOOK.replace(
    "def make(frame):\n",
    "import logging\n\n\n"
    "def make(frame):\n    logging.getLogger('features').warning('made rows')\n",
)
PROJECT: dict[str, Any] = SMALL | {
    "features": "features:make",
    "training": {
        "rounds": 400,
        "early_stopping_rounds": 400,
        "num_workers": 2,
        "checkpoint_rounds": 20,
        "parameters": {"max_depth": 2, "learning_rate": 0.01},
    },
    "gate": {"gain_over_baseline": -1.0, "require_checks": False},
    "checks": {"suites": []},
    "scoring": {"ray_data_above_rows": 1000},
    "serving": {"replicas": 2},
}
CANARY: dict[str, Any] = PROJECT | {
    "gate": PROJECT["gate"] | {"gain_over_champion": -1.0},
    "training": {"rounds": 60, "parameters": {"max_depth": 3, "learning_rate": 0.1}},
    "serving": {
        "replicas": 2,
        "rollout": {
            "policy": "canary",
            "steps": [0.5, 1.0],
            "bake_seconds": 3,
            "max_p99_milliseconds": 10_000,
            "max_prediction_drift": 1.0,
        },
    },
}
PLACE = "project/project.yaml"
ROWS = 4000
LARGE_ROWS = 3_000_000
PERSON = "1003"
AGENT_PORT = 8080
WATCHED_S = 10
REQUESTS = 'lifecycle_requests_total{job="endpoint-prod", project="small", route="/predict"}'
RAY = ["--num-cpus", "2", "--object-store-memory", "400000000", "--disable-usage-stats"]
RAY += ["--metrics-export-port", str(AGENT_PORT), "--block"]


class Cluster(NamedTuple):
    """A head on one host, a node on the other; S3, PostgreSQL, MLflow, a collector of traces and,
    where it is installed, a Pushgateway beside them.
    """

    head: Host
    node: Host
    env: dict[str, str]
    spans: list[Any]
    """What the collector was sent."""
    gateway: str | None
    """Host and port of the Pushgateway."""

    @property
    def outside(self) -> str:
        """Its address for a machine that is no node."""
        return f"ray://{self.head.address}:10001"

    @property
    def front(self) -> str:
        """Where clients ask."""
        return f"{self.head.address}:8000"

    def join(self) -> None:
        """Start Ray on the other host."""
        command = ["--address", self.env["LIFECYCLE_RAY_ADDRESS"]]
        self.begin_ray(self.node, {"LIFECYCLE_HOME": "/tmp/of-the-node"}, *command)  # noqa: S108 - its own

    def begin_ray(self, host: Host, env: dict[str, str], *options: str) -> None:
        """Start Ray on a host as the how-to does, with the front's variables."""
        start = " ".join(["ray", "start", "--node-ip-address", host.address, *RAY, *options])
        # Ray gives its processes 30 s to start, which a busy machine may miss
        script = f'eval "$(lifecycle front-env)" && ({start} || {start} || {start})'
        host.start(["sh", "-c", script], self.env | env, "ray.log")

    def declare(self, project: dict[str, Any]) -> None:
        """Write the project file on the head, where the flows run."""
        (self.head.tmp / PLACE).write_text(yaml.safe_dump(project))

    def flow(self, name: str, *options: str) -> str:
        """Run a flow on the head to its end; what it says."""
        return self.head.run(["lifecycle", "run", name, PLACE, *options], self.env, 600)


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    folder = tmp_path_factory.mktemp("beside")
    with ExitStack() as stack:
        address, head, node = stack.enter_context(two_hosts())
        s3, mlflow = (f"http://{address}:{free_port()}" for _ in range(2))
        keys = KEYS | {"AWS_ENDPOINT_URL": s3}
        stack.enter_context(_server(s3, _moto(address, s3), keys, folder))
        postgres = stack.enter_context(running_postgres(address))
        database = stack.enter_context(postgres.database("mlflow"))
        wait_for(lambda: _answers(f"{s3}/moto-api/"), 60, "S3")
        client = boto3.client("s3", endpoint_url=s3, region_name="us-east-1", **_boto(keys))
        for bucket in ("lake", "models"):
            client.create_bucket(Bucket=bucket)
        stack.enter_context(_server(mlflow, _mlflow(address, mlflow, database), keys, folder))
        traces, spans = stack.enter_context(collector(address))
        gateway = stack.enter_context(running_pushgateway(folder, address))
        env = keys | ENVIRONMENT | TOKEN
        env |= {
            "LIFECYCLE_HOME": "/tmp/of-the-flow",  # noqa: S108 - the host's own
            "LIFECYCLE_RAY_ADDRESS": f"{head.address}:6379",
            "LIFECYCLE_LAKE_URI": "s3://lake/lake",
            "LIFECYCLE_RAY_STORAGE": "s3://lake/ray",
            "LIFECYCLE_MLFLOW_TRACKING_URI": mlflow,
            "LIFECYCLE_MLFLOW_ARTIFACT_ROOT": "s3://models/mlflow",
            "LIFECYCLE_DATABASES": database,
            "LIFECYCLE_PII_KEY": "the-key-of-both-hosts",
            "LIFECYCLE_SERVE_HOST": head.address,
            "LIFECYCLE_KEEP_WARM": "0",
            "LIFECYCLE_TRACES": traces,
            "LIFECYCLE_PUSHGATEWAY": f"http://{gateway}" if gateway else "",
            "RAY_metrics_report_interval_ms": "1000",
        }
        made = Cluster(head, node, env, spans, gateway)
        made.begin_ray(head, {}, "--head", "--port", "6379", "--include-dashboard", "false")
        _wait_for_ray(head)
        made.join()
        wait_for(lambda: _answers(f"{mlflow}/health"), 240, "MLflow")
        _wait_for_ray(node)
        yield made


@pytest.fixture(scope="module")
def released(cluster: Cluster) -> str:
    """The first release, one host killed in its training; what the flow said."""
    folder = cluster.head.tmp / "project"
    folder.mkdir()
    small_frame(ROWS).to_csv(folder / "small.csv", index=False)
    (folder / "features.py").write_text(HOOK)
    cluster.declare(PROJECT)
    log = cluster.head.tmp / "flow.log"
    command = ["lifecycle", "run", "end_to_end", PLACE]
    flow = cluster.head.start(command, cluster.env, log.name)

    wait_for(lambda: _checkpoints(cluster) or flow.poll() is not None, 400, "a checkpoint")
    assert flow.poll() is None, _text(log)
    cluster.node.kill()
    cluster.join()
    assert flow.wait(600) == 0, _text(log)[-4000:]
    return _text(log)


@pytest.fixture(scope="module")
def prometheus(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prometheus]:
    """It scrapes the front, both hosts and the gateway, as `deployments/prometheus` says."""
    prometheus_program()
    folder = tmp_path_factory.mktemp("prometheus")
    key = folder / "key"
    key.write_text("none is asked for")
    agents = [f"{host.address}:{AGENT_PORT}" for host in (cluster.head, cluster.node)]
    targets = {"prod": Targets(cluster.front, key, agents)}
    text = scrape_config(targets, "1s", cluster.gateway)
    config = yaml.safe_load(text.replace("health_visits", "small"))
    with running_prometheus(config, folder) as made:
        yield made


def test_a_host_is_killed_in_training(cluster: Cluster, released: str) -> None:
    assert "fitted 400 rounds" in released
    answer = httpx.get(f"http://{cluster.front}/small/model", timeout=30).json()
    assert answer["model"]["version"] == 1, answer
    home = cluster.node.tmp / "of-the-node"
    assert len(list(home.glob("plugs/*/features.py"))) == 1, "the hook came by content"
    assert len(list(home.glob("bundles/small/*/model.ubj"))) == 1, "a replica fetched its bundle"
    assert _senders(cluster.spans, "train in a worker") == {"fit_model"}
    assert _senders(cluster.spans, "survey rows") == {"fit_model"}
    names = ("end_to_end", "fit_model", "train in a worker")
    traces = {span.trace_id for span in cluster.spans if span.name in names}
    assert len(traces) == 1, "one run, one trace"


@pytest.fixture(scope="module")
def outside(cluster: Cluster, released: str, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The life of a model by flows on a machine that is no node; what they said, in JSON too."""
    tmp_path = tmp_path_factory.mktemp("outside")
    small_frame(ROWS).to_csv(tmp_path / "small.csv", index=False)
    (tmp_path / "features.py").write_text(LOGGING_HOOK)
    training = {"rounds": 5, "early_stopping_rounds": 5, "num_workers": 2}
    project = PROJECT | {"name": "remote", "training": training, "serving": {"replicas": 1}}
    (tmp_path / "project.yaml").write_text(yaml.safe_dump(project))
    settings = {"LIFECYCLE_HOME": str(tmp_path / "home"), "LIFECYCLE_RAY_ADDRESS": cluster.outside}
    settings |= {"LIFECYCLE_LOG_FORMAT": "json"}
    said = ""
    for flow in ("end_to_end", "monitor"):
        done = subprocess.run(
            [BIN / "lifecycle", "run", flow, "project.yaml"],
            cwd=tmp_path,
            env={"PATH": os.environ["PATH"], "HOME": str(tmp_path), **cluster.env, **settings},
            capture_output=True,
            text=True,
            timeout=300,
        )
        said += done.stdout + done.stderr
        assert done.returncode == 0, said[-6000:]
    return said


def test_a_flow_on_a_machine_that_is_no_node(cluster: Cluster, outside: str) -> None:
    assert "fitted 5 rounds" in outside
    assert f"{ROWS:,} predictions of v1 in Ray Data" in outside
    assert "were not pushed" not in outside
    assert "Traceback" not in outside
    answer = httpx.get(f"http://{cluster.front}/remote/model", timeout=30).json()
    assert answer["model"]["version"] == 1, answer


def test_what_workers_did_for_a_flow_outside_is_below_its_steps(
    cluster: Cluster, outside: str
) -> None:
    traces = {
        record["labels"]["flow"]: record["trace"]["id"]
        for record in _log_lines(outside)
        if "trace" in record
    }
    lines = [
        record
        for host in (cluster.head, cluster.node)
        for file in host.tmp.glob("ray/session_2*/logs/worker-*.err")
        for record in _log_lines(_text(file))
    ]
    in_training = {
        "train in a worker": "run on the head",
        "survey rows": "run on the head",
        "run on the head": "fit_model",
        "deploy on the head": "roll_out",
    }
    in_monitoring = {"scoring of rows": "score_dataset"}
    # the second flow is the one that joins Ray, inside the first
    for flow, joined, work in (
        ("end_to_end", "end_to_end", in_training),
        ("monitor", "score", in_monitoring),
    ):
        trace = traces[flow]
        spans = [span for span in cluster.spans if span.trace_id.hex() == trace]
        assert {name: _senders(spans, name) for name in work} == {
            name: {step} for name, step in work.items()
        }
        mine = [record for record in lines if record.get("trace", {}).get("id") == trace]
        assert "made rows" in {record["message"] for record in mine}
        assert {record["labels"]["flow"] for record in mine} == {joined}
        assert all("flow_run_id" in record["labels"] for record in mine)


def _log_lines(text: str) -> list[dict[str, Any]]:
    """The lines of JSON that are of a flow."""
    lines = [line for line in text.splitlines() if line.startswith('{"@timestamp"')]
    return [record for line in lines if "flow" in (record := json.loads(line))["labels"]]


@pytest.mark.parametrize("place", ["node", "outside"])
def test_a_node_of_another_release_is_refused_by_name(cluster: Cluster, place: str) -> None:
    script = (
        "import lifecycle.runtime.identity as identity, lifecycle.runtime.nodes as nodes\n"
        "nodes.lock_digest = lambda: 'of another release'\n"
        "from lifecycle.settings import Settings\n"
        "from lifecycle.runtime.cluster import connect_ray\n"
        "from lifecycle.errors import RayError\n"
        "try:\n"
        "    with connect_ray(Settings()):\n"
        "        print('joined')\n"
        "except RayError as error:\n"
        "    print(error)\n"
    )
    address = {"LIFECYCLE_RAY_ADDRESS": cluster.outside} if place == "outside" else {}
    said = cluster.head.run([sys.executable, "-c", script], cluster.env | address, 120)
    for host in (cluster.head, cluster.node):
        assert f"node {host.address} has other locked packages (requirements.lock)" in said
    assert "joined" not in said


@pytest.mark.usefixtures("outside")
def test_what_a_flow_outside_found_is_one_series(cluster: Cluster, prometheus: Prometheus) -> None:
    assert_one_series(cluster, prometheus, "remote")
    assert prometheus.number('lifecycle_monitoring_rows{project="remote"}') == ROWS


def assert_one_series(cluster: Cluster, prometheus: Prometheus, project: str) -> None:
    """The gateway alone has what monitoring found, and Prometheus sees no other value."""
    if cluster.gateway is None:
        pytest.skip("prometheus-pushgateway is not installed: make servers")
    gauge = f'lifecycle_monitoring_rows{{project="{project}"}}'
    wait_for(lambda: prometheus.number(gauge) > 0, 60, "the gauges")
    for _ in range(6):  # nodes take turns
        page = httpx.get(f"http://{cluster.front}/{project}/metrics", timeout=30)
        assert "lifecycle_model_info" in page.text
        assert "lifecycle_monitoring" not in page.text
    wait_for(lambda: prometheus.number(f"count_over_time({gauge}[5s])") >= 4, 30, "scrapes")
    (series,) = prometheus.ask(gauge)
    assert series["metric"]["job"] == "flows-dev"
    assert "instance" not in series["metric"]
    assert prometheus.number(f"changes({gauge}[5s])") == 0


@pytest.mark.usefixtures("released")
def test_a_canary_under_load_with_the_counts_of_both_hosts(
    cluster: Cluster, prometheus: Prometheus
) -> None:
    cluster.declare(CANARY)
    assert "v2" in cluster.flow("train")
    records = small_frame(ROWS).drop(columns="bought").to_dict("records")
    hosts = f"count(sum by (instance) ({REQUESTS}) > 50)"
    with load(f"http://{cluster.front}/small", records, clients=2, pause=0.02) as busy:
        wait_for(lambda: prometheus.number(hosts) == 2, 120, "both hosts' counts")
        time.sleep(WATCHED_S + 3)
        # a scrape that comes late on a busy machine is no wrong count: the next window is right
        wait_for(lambda: _is_counted(busy, prometheus), 30, "a rate as the clients count it")
        said = cluster.flow("release")
        busy.wait_for(busy.total + 200)
    # the smoke tests of the releases asked, too
    total = f"sum({REQUESTS})"
    wait_for(lambda: prometheus.number(total) >= busy.total, 120, "every request")
    assert busy.failures == []
    assert prometheus.number(f"sum(resets({REQUESTS}[10m]))") == 0
    new = REQUESTS.replace("}", ', version="2"}')
    assert prometheus.number(f"count(sum by (instance) ({new}) > 20)") == 2, said
    assert busy.versions[1] > 200, said
    assert busy.answers[-1][1] == 2, said
    versions = [version for _, version in busy.answers]
    last_of_v1 = len(versions) - versions[::-1].index(1) - 1
    assert versions.index(2) < last_of_v1, "both answered for a while"


@pytest.mark.usefixtures("released")
def test_millions_of_rows_are_scored_and_monitored_and_a_person_erased(
    cluster: Cluster, request: pytest.FixtureRequest
) -> None:
    table = pa.Table.from_pandas(small_frame(LARGE_ROWS), preserve_index=False)
    csv.write_csv(table, cluster.head.tmp / "project" / "small.csv")
    monitored = cluster.flow("monitor")
    assert re.search(rf"{LARGE_ROWS:,} predictions of v\d in Ray Data", monitored), monitored
    assert re.search(r"drifted features of \d+: none", monitored), monitored
    assert _senders(cluster.spans, "scoring of rows") >= {"score_dataset"}
    if cluster.gateway is not None:
        assert_one_series(cluster, request.getfixturevalue("prometheus"), "small")

    erased = cluster.flow("erase", "--entity", PERSON, "--reason", "letter 17")
    assert "nothing is left" in erased
    # the search reaches the head's home, and not another host's: there must be no rows in it
    home = cluster.node.tmp / "of-the-node"
    assert {path.name for path in home.iterdir()} - {"gauges"} == {"bundles", "metrics", "plugs"}


def _wait_for_ray(host: Host) -> None:
    log = host.tmp / "ray.log"
    try:
        wait_for(lambda: "--block" in _text(log), 240, f"Ray of {host.address}")
    except AssertionError as error:
        error.add_note(_text(log)[-4000:])
        raise


def _is_counted(busy: Load, prometheus: Prometheus) -> bool:
    rate = prometheus.number(f"sum(rate({REQUESTS}[{WATCHED_S}s]))")
    low, high = _rates(busy, WATCHED_S)
    return 0.9 * low <= rate <= 1.1 * high


def _rates(busy: Load, seconds: float) -> tuple[float, float]:
    """Least and most answers per second in windows of so many seconds that end up to 3 s ago.

    A scrape knows what Ray's agent was told up to 3 s before.
    """
    now = time.monotonic()
    times = [moment for moment, _ in busy.answers]
    counts = [
        sum(now - delay - seconds < moment <= now - delay for moment in times)
        for delay in (0.0, 1.0, 2.0, 3.0)
    ]
    return min(counts) / seconds, max(counts) / seconds


def _senders(spans: list[Any], name: str) -> set[str]:
    """Names of the spans that the spans of a name are below."""
    names = {span.span_id: span.name for span in spans}
    return {names.get(span.parent_span_id, "?") for span in spans if span.name == name}


def _checkpoints(cluster: Cluster) -> bool:
    keys = {name: value for name, value in cluster.env.items() if name.startswith("AWS")}
    client = boto3.client(
        "s3", endpoint_url=keys["AWS_ENDPOINT_URL"], region_name="us-east-1", **_boto(keys)
    )
    found = client.list_objects_v2(Bucket="lake", Prefix="ray/").get("Contents", [])
    return any(entry["Key"].endswith("model.ubj") for entry in found)


def _server(url: str, command: list[str], env: dict[str, str], folder: Path) -> "ExitStack":
    stack = ExitStack()
    log = stack.enter_context((folder / f"{url.rpartition(':')[2]}.log").open("w"))
    process = subprocess.Popen(command, env={**os.environ, **env}, stdout=log, stderr=log)
    stack.callback(process.wait)
    stack.callback(process.terminate)
    return stack


def _moto(address: str, url: str) -> list[str]:
    port = url.rpartition(":")[2]
    script = f"from moto.server import main; main(['-H', '{address}', '-p', '{port}'])"
    return [sys.executable, "-c", script]


def _mlflow(address: str, url: str, database: str) -> list[str]:
    command = [str(BIN / "mlflow"), "server", "--host", address, "--port", url.rpartition(":")[2]]
    command += ["--backend-store-uri", database, "--workers", "1"]
    return [*command, "--artifacts-destination", "s3://models/mlflow", "--allowed-hosts", "*"]


def _boto(keys: dict[str, str]) -> dict[str, str]:
    names = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")
    return {name.lower(): keys[name] for name in names}


def _answers(url: str) -> bool:
    try:
        return httpx.get(url, timeout=5).status_code == 200
    except httpx.HTTPError:
        return False


def _text(file: Path) -> str:
    return file.read_text(errors="replace") if file.is_file() else ""
