"""`--env staging` on real parts, from a folder that is no checkout.

PostgreSQL behind an MLflow server and a Prefect server, a Ray cluster that stays, a process worker,
API keys at the endpoint. Every step is a run of a deployment, except for the rollback.
"""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from lifecycle.audit.model_trail import history
from lifecycle.ingress import launcher
from lifecycle.runtime.cluster import LOOPBACK
from lifecycle.serving.auth import KeyStore
from lifecycle.settings import Settings
from tests.support.ports import free_port
from tests.support.postgres import Postgres
from tests.support.prefect_server import wait_for
from tests.support.small import SMALL, small_frame

ROOT = Path(__file__).parents[2]
BIN = Path(sys.executable).parent
START_S = 180
ATTEMPTS = 3
"""Ray gives its own processes 30 s to start, which a busy machine may miss."""
RUN_S = 300

pytestmark = [pytest.mark.system, pytest.mark.alone, pytest.mark.timeout(1500)]


def answers(url: str) -> bool:
    try:
        return httpx.get(url, trust_env=False).is_success
    except httpx.HTTPError:
        return False


class Staging:
    """The services, the folder of an operator, and how its commands are run.

    Attributes:
        folder: holds `deployments/staging.env`, the project and its data; no code.
        stores: what the operator never sees: the servers' databases, artifacts and logs.
    """

    def __init__(self, folder: Path, stores: Path, stack: ExitStack) -> None:
        self.folder, self.stores, self._stack = folder, stores, stack
        self.mlflow = f"http://127.0.0.1:{free_port()}"
        self.prefect = f"http://127.0.0.1:{free_port()}"
        self.ray_port, self.serve_port = free_port(), free_port()
        kept = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("LIFECYCLE", "PREFECT", "MLFLOW", "RAY"))
        }
        self.env = kept | {
            "PREFECT_HOME": str(stores / "prefect-client"),
            "PREFECT_API_URL": f"{self.prefect}/api",
            "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
            "PREFECT_WORKER_QUERY_SECONDS": "1",  # 10 by default, and twelve runs wait for it
            "MLFLOW_DISABLE_TELEMETRY": "true",
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN": "a" * 64,
            "DO_NOT_TRACK": "1",
        }

    def start(self, name: str, *command: str, **more: str) -> "subprocess.Popen[bytes]":
        """Start a server, ended with the fixture; what it says goes to a file."""
        log = self._stack.enter_context((self.stores / f"{name}.log").open("wb"))
        process = subprocess.Popen(
            [str(BIN / command[0]), *command[1:]],
            cwd=self.stores,
            env=self.env | more,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
        self._stack.callback(end, process)
        return process

    def run(self, *command: str, code: int = 0) -> str:
        """A command of the operator's in his folder; what it says."""
        done = subprocess.run(
            [str(BIN / command[0]), *command[1:]],
            cwd=self.folder,
            env=self.env,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=RUN_S,
        )
        assert done.returncode == code, done.stdout
        return done.stdout

    def flow(self, name: str, **parameters: Any) -> str:
        """Run the deployment `name/staging`, and wait for its end; what the run logged."""
        found = self._get(f"{self.prefect}/api/deployments/name/{name}/staging")
        body = {"parameters": parameters, "state": {"type": "SCHEDULED"}}
        run = self._post(f"/deployments/{found['id']}/create_flow_run", body)

        def is_over() -> bool:
            run.update(self._get(f"{self.prefect}/api/flow_runs/{run['id']}"))
            return run["state"]["type"] in ("COMPLETED", "FAILED", "CRASHED", "CANCELLED")

        wait_for(is_over, RUN_S, f"the run of {name}")
        text = self._log(run["id"])
        assert run["state"]["type"] == "COMPLETED", f"{text}\n{self.tail('worker')}"
        return text

    def _log(self, run: str) -> str:
        """What a run logged. Its last lines are sent after its state; one of them names that."""
        logs = {"logs": {"flow_run_id": {"any_": [run]}}, "limit": 200}
        end = time.monotonic() + 5
        text = ""
        while "Finished in state" not in text and time.monotonic() < end:
            time.sleep(0.2)
            text = "\n".join(line["message"] for line in self._post("/logs/filter", logs))
        return text

    def _post(self, path: str, body: object) -> Any:
        answer = httpx.post(f"{self.prefect}/api{path}", json=body, timeout=60, trust_env=False)
        answer.raise_for_status()
        return answer.json()

    def _get(self, url: str) -> Any:
        answer = httpx.get(url, timeout=60, trust_env=False)
        answer.raise_for_status()
        return answer.json()

    def tail(self, name: str) -> str:
        return (self.stores / f"{name}.log").read_text(errors="replace")[-4000:]

    def settings(self) -> Settings:
        """What the deployed flows run with."""
        file = self.folder / "deployments" / "staging.env"
        return Settings(_env_file=file, env="staging")  # type: ignore[call-arg]

    def champion(self) -> int:
        """The version with the alias, as the MLflow server has it."""
        found = self.mlflow_get("registered-models/get?name=small")["registered_model"]
        return int({a["alias"]: a["version"] for a in found["aliases"]}["champion"])

    def mlflow_get(self, path: str) -> dict[str, Any]:
        found: dict[str, Any] = self._get(f"{self.mlflow}/api/2.0/mlflow/{path}")
        return found


def end(process: "subprocess.Popen[bytes]") -> None:
    """End a server with all that it started."""
    try:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait(20)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    except ProcessLookupError:
        process.wait()


@contextmanager
def services(made: Staging, postgres: Postgres) -> Iterator[None]:
    """Everything that a staging environment names, started and answering."""
    short = Path(tempfile.mkdtemp(prefix="lc-", dir="/tmp"))
    with (
        postgres.database("staging_mlflow") as mlflow,
        postgres.database("staging_prefect") as prefect,
        made._stack,
    ):
        made._stack.callback(shutil.rmtree, short, ignore_errors=True)
        at = made.mlflow.rpartition(":")[2]
        server = ["mlflow", "server", "--host", "127.0.0.1", "--port", at, "--workers", "1"]
        server += ["--backend-store-uri", mlflow, "--serve-artifacts"]
        server += ["--artifacts-destination", str(made.stores / "artifacts")]
        made.start("mlflow", *server, MLFLOW_SERVER_ENABLE_JOB_EXECUTION="false")
        at = made.prefect.rpartition(":")[2]
        database = prefect.replace("+psycopg", "+asyncpg")
        made.start(
            "prefect",
            *("prefect", "server", "start", "--host", "127.0.0.1", "--port", at),
            PREFECT_HOME=str(made.stores / "prefect-server"),
            PREFECT_API_DATABASE_CONNECTION_URL=database,
        )
        (short / "f").mkdir(mode=0o700)
        ours = launcher.environment() | launcher.isolation(short / "f") | LOOPBACK
        head = ["--head", "--node-ip-address", "127.0.0.1", "--port", str(made.ray_port)]
        head += ["--num-cpus", "2", "--include-dashboard", "false", "--temp-dir", str(short / "r")]
        head += ["--disable-usage-stats", "--block"]
        for _ in range(ATTEMPTS):
            node = made.start("ray", "ray", "start", *head, **ours)
            while node.poll() is None and "Ray runtime started" not in made.tail("ray"):
                time.sleep(0.3)
            if node.poll() is None:
                break
        wait_for(lambda: answers(f"{made.mlflow}/health"), START_S, "the MLflow server")
        wait_for(lambda: answers(f"{made.prefect}/api/health"), START_S, "the Prefect server")
        assert "Ray runtime started" in made.tail("ray"), made.tail("ray")
        yield


@pytest.fixture(scope="module")
def staging(tmp_path_factory: pytest.TempPathFactory, postgres: Postgres) -> Iterator[Staging]:
    folder, stores = tmp_path_factory.mktemp("operator"), tmp_path_factory.mktemp("stores")
    made = Staging(folder, stores, ExitStack())
    with services(made, postgres):
        (folder / "deployments").mkdir()
        (folder / "deployments" / "staging.env").write_text(
            f"LIFECYCLE_WORKSPACE={folder}\n"
            "LIFECYCLE_PROJECT=project.yaml\n"
            f"LIFECYCLE_HOME={folder / 'state'}\n"
            f"LIFECYCLE_MLFLOW_TRACKING_URI={made.mlflow}\n"
            f"LIFECYCLE_RAY_ADDRESS=127.0.0.1:{made.ray_port}\n"
            f"LIFECYCLE_SERVE_PORT={made.serve_port}\n"
        )
        small_frame().to_csv(folder / "small.csv", index=False)
        write_project(folder)
        shutil.copy(ROOT / "prefect.yaml", folder)
        made.run(
            "prefect",
            "--no-prompt",
            "work-pool",
            "create",
            "lifecycle-staging",
            "--type",
            "process",
        )
        made.env |= dict(
            line.split("=", 1)
            for line in (folder / "deployments" / "staging.env").read_text().splitlines()
        )
        made.run("prefect", "--no-prompt", "deploy", "--name", "*/staging")
        for name in [name for name in made.env if name.startswith("LIFECYCLE")]:
            del made.env[name]  # the worker has only what the files say
        made.start("worker", "prefect", "worker", "start", "--pool", "lifecycle-staging")
        yield made


def write_project(folder: Path, **changes: Any) -> None:
    gate = {"gain_over_baseline": -1.0, "gain_over_champion": -1.0, "require_checks": False}
    project = SMALL | {"checks": {"suites": []}, "gate": gate} | changes
    (folder / "project.yaml").write_text(yaml.safe_dump(project, sort_keys=False))


def ask(staging: Staging, key: str) -> httpx.Response:
    record = small_frame().drop(columns=["bought", "customer"]).to_dict("records")[0]
    return httpx.post(
        f"http://127.0.0.1:{staging.serve_port}/small/predict",
        json={"records": [record]},
        headers={"X-API-Key": key},
        trust_env=False,
    )


def test_from_the_first_rows_to_a_rollback(staging: Staging) -> None:
    staging.flow("prepare")
    staging.flow("train")
    told = staging.flow("release")
    assert "small v1 is champion and answers" in told
    assert staging.champion() == 1
    check_mlflow(staging)
    check_keys(staging)

    training = {"rounds": 12, "early_stopping_rounds": 5, "parameters": {"max_depth": 2}}
    write_project(staging.folder, training=training)
    staging.flow("train")
    staging.flow("release")
    assert staging.champion() == 2
    assert "small v2 is champion" in staging.flow("release"), "done already, and it says so"

    staging.flow("score")
    staging.flow("monitor")
    assert "nothing to delete" in staging.flow("retention")

    script = ["python", "-m", "flows.release", "--project", "project.yaml", "--env", "staging"]
    told = staging.run(*script, "--rollback", "--reason", "complaints from Oslo")
    assert "small v1 is champion and answers" in told
    assert staging.champion() == 1
    staging.flow("train")
    assert "was rolled back" in staging.flow("release"), "it does not come back by itself"
    assert staging.champion() == 1
    actions = [f"{c.action} v{c.version}" for c in history(staging.settings(), "small")]
    assert actions == [
        *("deploy v1", "promote v1", "deploy v2", "promote v2", "rollback v1"),
    ]


def check_mlflow(staging: Staging) -> None:
    """Everything is on the server, and found from another machine."""
    experiment = staging.mlflow_get("experiments/get-by-name?experiment_name=small")["experiment"]
    assert experiment["artifact_location"].startswith("mlflow-artifacts:/")
    assert not (staging.folder / "state" / "mlartifacts").exists()
    assert not (staging.folder / "state" / "mlflow.db").exists()
    found = staging.mlflow_get("registered-models/get?name=small")["registered_model"]
    assert found["latest_versions"][0]["source"].startswith("models:/m-")


def check_keys(staging: Staging) -> None:
    """The endpoint asks for a key; that of the smoke test is gone and was told nowhere."""
    store = KeyStore(staging.settings().keys_file)
    assert store.list() == ()
    assert ask(staging, "lc_nobody").status_code == 401
    key = store.add("tester")
    wait_for(lambda: ask(staging, key).status_code == 200, 10, "the key to hold")
    for log in staging.stores.glob("*.log"):
        assert "lc_" not in log.read_text(errors="replace")
