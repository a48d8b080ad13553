"""A cluster of two hosts that share nothing but Python: one of them is killed in a training.

The machine itself is no node of it: flows there reach it through Ray Client.
"""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

import boto3
import httpx
import pytest
import yaml

from lifecycle.runtime.cluster import ENVIRONMENT
from lifecycle.runtime.servers import free_port
from tests.support.hosts import BIN, Host, can_make_hosts, two_hosts
from tests.support.prefect_server import wait_for
from tests.support.small import SMALL, small_frame

pytestmark = [
    pytest.mark.system,
    pytest.mark.alone,
    pytest.mark.timeout(900),
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
PROJECT = SMALL | {
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
ROWS = 4000


class Cluster(NamedTuple):
    """A head on one host, a node on the other, S3 and MLflow beside them."""

    head: Host
    node: Host
    env: dict[str, str]

    @property
    def outside(self) -> str:
        """Its address for a machine that is no node."""
        return f"ray://{self.head.address}:10001"

    def join(self) -> None:
        """Start Ray on the other host."""
        command = ["ray", "start", "--address", self.env["LIFECYCLE_RAY_ADDRESS"]]
        command += ["--node-ip-address", self.node.address, *RAY]
        self.node.start(command, self.env | {"LIFECYCLE_HOME": "/tmp/of-the-node"}, "ray.log")  # noqa: S108 - its own


RAY = ["--num-cpus", "2", "--disable-usage-stats", "--block"]


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    folder = tmp_path_factory.mktemp("beside")
    with ExitStack() as stack:
        address, head, node = stack.enter_context(two_hosts())
        s3, mlflow = (f"http://{address}:{free_port()}" for _ in range(2))
        keys = KEYS | {"AWS_ENDPOINT_URL": s3}
        stack.enter_context(_server(s3, _moto(address, s3), keys, folder))
        wait_for(lambda: _answers(f"{s3}/moto-api/"), 60, "S3")
        client = boto3.client("s3", endpoint_url=s3, region_name="us-east-1", **_boto(keys))
        for bucket in ("lake", "models"):
            client.create_bucket(Bucket=bucket)
        stack.enter_context(_server(mlflow, _mlflow(address, mlflow, folder), keys, folder))
        env = keys | ENVIRONMENT | TOKEN
        env |= {
            "LIFECYCLE_HOME": "/tmp/of-the-flow",  # noqa: S108 - the host's own
            "LIFECYCLE_RAY_ADDRESS": f"{head.address}:6379",
            "LIFECYCLE_LAKE_URI": "s3://lake/lake",
            "LIFECYCLE_RAY_STORAGE": "s3://lake/ray",
            "LIFECYCLE_MLFLOW_TRACKING_URI": mlflow,
            "LIFECYCLE_PII_KEY": "the-key-of-both-hosts",
            "LIFECYCLE_SERVE_HOST": head.address,
            "LIFECYCLE_KEEP_WARM": "0",
        }
        start = ["ray", "start", "--head", "--node-ip-address", head.address, "--port", "6379"]
        head.start([*start, "--include-dashboard", "false", *RAY], env, "ray.log")
        wait_for(lambda: "--block" in _text(head.tmp / "ray.log"), 90, "the head")
        made = Cluster(head, node, env)
        made.join()
        wait_for(lambda: _answers(f"{mlflow}/health"), 120, "MLflow")
        wait_for(lambda: "--block" in _text(node.tmp / "ray.log"), 90, "the node")
        yield made


def test_the_whole_cycle_with_a_host_killed_in_training(cluster: Cluster) -> None:
    folder = cluster.head.tmp / "project"
    folder.mkdir()
    small_frame(ROWS).to_csv(folder / "small.csv", index=False)
    (folder / "features.py").write_text(HOOK)
    (folder / "project.yaml").write_text(yaml.safe_dump(PROJECT))
    command = ["lifecycle", "run", "end_to_end", "project/project.yaml"]
    log = cluster.head.tmp / "flow.log"
    flow = cluster.head.start(command, cluster.env, log.name)

    wait_for(lambda: _checkpoints(cluster) or flow.poll() is not None, 300, "a checkpoint")
    assert flow.poll() is None, _text(log)
    cluster.node.kill()
    cluster.join()
    assert flow.wait(420) == 0, _text(log)[-4000:]

    text = _text(log)
    assert "fitted 400 rounds" in text
    score = ["lifecycle", "run", "score", "project/project.yaml"]
    scored = cluster.head.run(score, cluster.env)
    assert f"{ROWS:,} predictions of v1 in Ray Data" in scored
    answer = httpx.get(f"http://{cluster.head.address}:8000/small/model", timeout=30).json()
    assert answer["model"]["version"] == 1, answer
    home = cluster.node.tmp / "of-the-node"
    assert len(list(home.glob("plugs/*/features.py"))) == 1, "the hook came by content"
    assert len(list(home.glob("bundles/small/*/model.ubj"))) == 1, "a replica fetched its bundle"


def test_a_flow_on_a_machine_that_is_no_node(cluster: Cluster, tmp_path: Path) -> None:
    small_frame(ROWS).to_csv(tmp_path / "small.csv", index=False)
    (tmp_path / "features.py").write_text(HOOK)
    training = {"rounds": 5, "early_stopping_rounds": 5, "num_workers": 2}
    project = PROJECT | {"name": "remote", "training": training, "serving": {"replicas": 1}}
    (tmp_path / "project.yaml").write_text(yaml.safe_dump(project))
    settings = {"LIFECYCLE_HOME": str(tmp_path / "home"), "LIFECYCLE_RAY_ADDRESS": cluster.outside}
    said = ""
    for flow in ("end_to_end", "score"):
        done = subprocess.run(
            [BIN / "lifecycle", "run", flow, "project.yaml"],
            cwd=tmp_path,
            env={"PATH": os.environ["PATH"], "HOME": str(tmp_path), **cluster.env, **settings},
            capture_output=True,
            text=True,
            timeout=200,
        )
        said += done.stdout + done.stderr
        assert done.returncode == 0, said[-6000:]
    assert "fitted 5 rounds" in said
    assert f"{ROWS:,} predictions of v1 in Ray Data" in said
    assert "Traceback" not in said
    answer = httpx.get(f"http://{cluster.head.address}:8000/remote/model", timeout=30).json()
    assert answer["model"]["version"] == 1, answer


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


def _mlflow(address: str, url: str, folder: Path) -> list[str]:
    command = [str(BIN / "mlflow"), "server", "--host", address, "--port", url.rpartition(":")[2]]
    command += ["--backend-store-uri", f"sqlite:///{folder / 'mlflow.db'}", "--workers", "1"]
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
