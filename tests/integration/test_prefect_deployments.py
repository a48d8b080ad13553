"""A real Prefect server and a process worker on loopback: deploy all, run the dev training."""

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest
import yaml
from prefect.workers.process import ProcessWorker

from lifecycle.project import Project
from tests.support.prefect_server import Server, wait_for
from tests.support.small import ROOT

pytestmark = pytest.mark.system


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("prefect-server")
    running = Server(folder)
    try:
        wait_for(running.healthy, 120, "the Prefect server")
        template = ProcessWorker.get_default_base_job_template()
        # as `prefect work-pool create` does in seconds
        pool = {"name": "lifecycle-dev", "type": "process", "base_job_template": template}
        running.post("/work_pools/", pool).raise_for_status()
        yield running
    finally:
        running.process.terminate()
        running.process.wait(30)
        running.log.close()
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="module")
def dev(server: Server) -> Server:
    """With the deployments of one environment."""
    server.make_deploy("dev")
    return server


@pytest.mark.smoke
def test_the_dev_training_deployment_completes(
    dev: Server, make_project: Callable[..., Project], tmp_path: Path
) -> None:
    make_project(gate={"require_checks": False}, checks={"suites": []})
    worker = dev.start("worker", "start", "--pool", "lifecycle-dev", "--name", "of-the-test")
    try:
        dev.run("deployment", "run", "train/dev", "--param", f"project={tmp_path / 'project.yaml'}")

        def state() -> str:
            runs = dev.post("/flow_runs/filter", {"flows": {"name": {"any_": ["train"]}}})
            return str(runs.json()[0]["state"]["type"])

        wait_for(lambda: state() in ("COMPLETED", "FAILED", "CRASHED"), 240, "the flow run")
        assert state() == "COMPLETED", Path(dev.log.name).read_text()[-4000:]

        def told() -> bool:
            logs = dev.post("/logs/filter", {"limit": 200}).json()
            return any("registered small v1" in entry["message"] for entry in logs)

        wait_for(told, 30, "what the steps say, on the server")
    finally:
        worker.terminate()
        worker.wait(60)


def test_make_deploy_makes_each_flow_a_deployment_with_an_inactive_schedule(dev: Server) -> None:
    found = dev.post("/deployments/filter", {"limit": 100}).json()
    declared = yaml.safe_load((ROOT / "prefect.yaml").read_text())["deployments"]
    assert {d["entrypoint"] for d in found} == {d["entrypoint"] for d in declared}
    assert {d["name"] for d in found} == {"dev"}
    train = next(d for d in found if d["entrypoint"] == "flows.train.train")
    assert train["parameters"]["project"] == "examples/health_visits/project.yaml"
    assert train["concurrency_limit"] is None, "two projects must not wait for each other"
    (step,) = train["pull_steps"]
    assert step["prefect.deployments.steps.set_working_directory"]["directory"] == str(ROOT)
    schedules = [schedule for d in found for schedule in d["schedules"]]
    assert {schedule["active"] for schedule in schedules} == {False}


def test_a_bad_parameter_is_refused(dev: Server) -> None:
    found = httpx.get(f"{dev.api}/deployments/name/train/dev").json()
    answer = dev.post(
        f"/deployments/{found['id']}/create_flow_run", {"parameters": {"env": "moon"}}
    )
    assert answer.status_code == 409
