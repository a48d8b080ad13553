"""A flow run is cancelled through Prefect's API: within seconds nothing of it is left."""

import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import psutil
import pytest

from lifecycle.project import Project
from tests.support.nodes import Nodes, nodes, working
from tests.support.prefect_server import Server, wait_for
from tests.support.scripts import marked

pytestmark = [pytest.mark.system, pytest.mark.alone]

SECONDS = 10
ENDLESS = {"rounds": 1_000_000, "early_stopping_rounds": 1_000_000, "threads": 1}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    running = Server(tmp_path_factory.mktemp("cancel"))
    worker = None
    try:
        wait_for(running.healthy, 120, "the Prefect server")
        running.run("work-pool", "create", "lifecycle-dev", "--type", "process")
        running.make_deploy("dev")
        worker = running.start("worker", "start", "--pool", "lifecycle-dev")
        yield running
    finally:
        for process in filter(None, (worker, running.process)):
            process.terminate()
            process.wait(60)
        running.log.close()


@pytest.fixture(scope="module")
def cluster() -> Iterator[Nodes]:
    with nodes(2) as running:
        yield running


class Run:
    """A run of the deployment, known by a mark that its processes inherit."""

    def __init__(self, server: Server, project: Path, **env: str) -> None:
        self._server, self._mark = server, uuid.uuid4().hex
        home = str(project.parent / "lifecycle")
        variables = env | {"LIFECYCLE_HOME": home, "TEST_MARK": self._mark}
        deployment = httpx.get(f"{server.api}/deployments/name/train/dev").json()["id"]
        body = {
            "parameters": {"project": str(project)},
            "job_variables": {"env": {"LIFECYCLE_ENV": "dev", **variables}},
        }
        self._id = server.post(f"/deployments/{deployment}/create_flow_run", body).json()["id"]

    def processes(self) -> list[psutil.Process]:
        return marked(self._mark)

    def state(self) -> str:
        run = httpx.get(f"{self._server.api}/flow_runs/{self._id}").json()
        return str(run["state"]["type"])

    def cancel(self) -> None:
        state = {"state": {"type": "CANCELLING"}}
        answer = self._server.post(f"/flow_runs/{self._id}/set_state", state).json()
        assert answer["status"] == "ACCEPT", answer

    def working(self) -> bool:
        """Whether a process of a local Ray works for it."""
        self.check()
        return any(map(working, self.processes()))

    def check(self) -> None:
        assert self.state() in ("SCHEDULED", "PENDING", "RUNNING"), self.log()

    def log(self) -> str:
        return Path(self._server.log.name).read_text()[-4000:]


def test_tuning_on_a_local_ray(
    server: Server, make_project: Callable[..., Project], tmp_path: Path
) -> None:
    space = {"max_depth": {"type": "int", "low": 1, "high": 2}}
    make_project(training=ENDLESS, tuning={"trials": 9, "workers": 2, "space": space})
    run = Run(server, tmp_path / "project.yaml", LIFECYCLE_RAY_CPUS="2")
    wait_for(run.working, 120, "a trial")
    run.cancel()
    wait_for(lambda: not run.processes(), SECONDS, "the end of all processes")
    wait_for(lambda: run.state() == "CANCELLED", 30, "the state")


@pytest.mark.parametrize("workers", [1, 2])
def test_training_on_a_joined_cluster(
    server: Server,
    cluster: Nodes,
    make_project: Callable[..., Project],
    tmp_path: Path,
    workers: int,
) -> None:
    make_project(training=ENDLESS | {"num_workers": workers, "checkpoint_rounds": 1000})
    run = Run(server, tmp_path / "project.yaml", LIFECYCLE_RAY_ADDRESS=cluster.address)

    def training() -> bool:
        run.check()
        names = [p.cmdline()[0] for busy in cluster.workers().values() for p in busy]
        wanted = "ray::_send" if workers == 1 else "RayTrainWorker"
        return sum(wanted in name for name in names) == workers

    wait_for(training, 120, "training")
    run.cancel()

    def ended() -> bool:
        return not run.processes() and not any(cluster.workers().values())

    wait_for(ended, SECONDS, "the end of all processes")
    wait_for(lambda: run.state() == "CANCELLED", 30, "the state")
    assert len(cluster.workers()) == 3  # the nodes live on
