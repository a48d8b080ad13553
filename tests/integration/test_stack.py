"""Staging and production on the parts of `make stack`: from the first rows to a rollback.

Every step is a run of a deployment that a worker picks up, in an operator's folder that is no
checkout; the lake and the artifacts are in a bucket. Between the steps each part is killed.
"""

import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pandas as pd
import psutil
import pytest
import yaml

from deployments.stack import Stack
from lifecycle.audit.model_trail import CROWNING, history
from lifecycle.monitoring.alarms import stored_alarms
from lifecycle.monitoring.retraining import read_attempts
from lifecycle.project.loader import load_project
from lifecycle.serving.auth import KeyStore
from lifecycle.settings import Settings
from tests.support.prefect_server import wait_for
from tests.support.sinks import webhook
from tests.support.small import ROOT, SMALL, small_frame

RUN_S = 300
DATA = {"text": "{{subject}}: {{body}}"}
"""What the webhook is sent, by the names of Prefect's block."""
OVER = ("COMPLETED", "FAILED", "CRASHED", "CANCELLED")

pytestmark = [pytest.mark.system, pytest.mark.alone, pytest.mark.timeout(1500)]


class Operator:
    """Whoever deploys to the stack, and what he sees of it.

    Attributes:
        posted: what came in at the webhook.
    """

    def __init__(self, stack: Stack, posted: list[dict[str, Any]]) -> None:
        self.stack, self.posted = stack, posted
        login = stack.environment["PREFECT_API_AUTH_STRING"].split(":", 1)
        url = stack.environment["PREFECT_API_URL"]
        self._api = httpx.Client(base_url=url, auth=(login[0], login[1]), timeout=60)
        variables = stack.environment
        self._login = (variables["MLFLOW_TRACKING_USERNAME"], variables["MLFLOW_TRACKING_PASSWORD"])

    def close(self) -> None:
        self._api.close()

    def post(self, path: str, body: object) -> Any:
        answer = self._api.post(path, json=body)
        answer.raise_for_status()
        return answer.json() if answer.content else None

    def get(self, path: str) -> Any:
        answer = self._api.get(path)
        answer.raise_for_status()
        return answer.json()

    def begin(self, name: str, env: str, delay_s: float = 0, **parameters: Any) -> str:
        """Have a run of the deployment `name/env` scheduled; its id."""
        deployment = self.get(f"/deployments/name/{name}/{env}")["id"]
        at = (datetime.now(UTC) + timedelta(seconds=delay_s)).isoformat()
        state = {"type": "SCHEDULED", "state_details": {"scheduled_time": at}}
        body = {"parameters": parameters, "state": state}
        return str(self.post(f"/deployments/{deployment}/create_flow_run", body)["id"])

    def state(self, run: str) -> str:
        try:
            return str(self.get(f"/flow_runs/{run}")["state"]["type"])
        except httpx.HTTPError:  # the server is killed, too
            return "UNKNOWN"

    def starts(self, run: str) -> int:
        """Count of the processes that began with the run."""
        return int(self.get(f"/flow_runs/{run}")["run_count"])

    def is_noticed(self, run: str) -> bool:
        """Whether the server has a heartbeat of the run: without one it never misses the next."""
        resource = {"id": [f"prefect.flow-run.{run}"]}
        query = {"event": {"name": ["prefect.flow-run.heartbeat"]}, "resource": resource}
        return bool(self.post("/events/filter", {"filter": query})["events"])

    def end(self, run: str) -> str:
        """Wait until a run is over, which it must be in success; what it logged."""
        wait_for(lambda: self.state(run) in OVER, RUN_S, f"the end of the run {run}")
        text = self.log(run)
        assert self.state(run) == "COMPLETED", f"{text}\n{self.stack.tail('worker-staging')}"
        return text

    def flow(self, name: str, env: str = "staging", **parameters: Any) -> str:
        """Run a deployment to its end; what it logged."""
        return self.end(self.begin(name, env, **parameters))

    def log(self, run: str) -> str:
        """What a run logged: its last lines are sent after its state, and not in their order."""
        query = {"logs": {"flow_run_id": {"any_": [run]}}, "limit": 200}
        lines: list[str] = []
        while True:
            time.sleep(1.5)
            before, lines = lines, [x["message"] for x in self.post("/logs/filter", query)]
            if len(lines) == len(before):
                return "\n".join(lines)

    def mlflow(self, path: str, env: str = "staging") -> Any:
        url = f"{self.stack.places[f'mlflow-{env}']}/api/2.0/mlflow/{path}"
        answer = httpx.get(url, auth=self._login, timeout=60)
        answer.raise_for_status()
        return answer.json()

    def champion(self, env: str = "staging", name: str = "small") -> int:
        """The version with the alias, as the MLflow server has it."""
        model = self.mlflow(f"registered-models/get?name={name}", env)["registered_model"]
        return int({a["alias"]: a["version"] for a in model["aliases"]}["champion"])

    @contextmanager
    def settings(self, env: str) -> Iterator[Settings]:
        """What the deployed flows run with."""
        file = self.stack.folder / "deployments" / f"{env}.env"
        with pytest.MonkeyPatch.context() as patch:
            for name, value in self.stack.environment.items():
                patch.setenv(name, value)
            yield Settings(_env_file=file, env=env)  # type: ignore[call-arg]

    def ask(self, key: str, env: str = "staging") -> httpx.Response:
        record = small_frame().drop(columns=["bought", "customer"]).to_dict("records")[0]
        return self.send("small/predict", key, env, records=[record])

    def send(self, route: str, key: str, env: str = "staging", **body: Any) -> httpx.Response:
        """Post to a route of an environment's endpoint."""
        return httpx.post(
            f"http://127.0.0.1:{self.stack.ports[f'serve-{env}']}/{route}",
            json=body,
            headers={"X-API-Key": key},
            trust_env=False,
            timeout=30,
        )

    def kill(self, name: str) -> None:
        """SIGKILL for a server and all its processes, as a machine that loses its power."""
        process = psutil.Process(self.stack.processes[name].pid)
        for one in (*process.children(recursive=True), process):
            with suppress(psutil.NoSuchProcess):
                one.kill()
        self.stack.processes[name].wait(30)


@pytest.fixture(scope="module")
def operator() -> Iterator[Operator]:
    # not below pytest's own folder: PostgreSQL's user passes through
    folder = Path(tempfile.mkdtemp(prefix="stack-", dir="/tmp"))
    folder.chmod(0o755)
    small_frame().to_csv(folder / "small.csv", index=False)
    write_project(folder)
    shutil.copy(ROOT / "prefect.yaml", folder)
    try:
        with webhook() as (url, posted), Stack(folder, nodes=1) as stack:
            block(stack, url)
            more = {"staging": {"LIFECYCLE_NOTIFY": "custom-webhook/ops"}}
            more["prod"] = {"LIFECYCLE_APPROVAL": "required", "LIFECYCLE_PROMOTES_FROM": "staging"}
            for env, changes in more.items():
                with (folder / "deployments" / f"{env}.env").open("a") as file:
                    file.writelines(f"{name}={value}\n" for name, value in changes.items())
                stack.command("python", "-m", "tasks.deployments", "--env", env)
            operator = Operator(stack, posted)
            yield operator
            operator.close()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def block(stack: Stack, url: str) -> None:
    """Make the notification block that staging names."""
    hook = f"CustomWebhookNotificationBlock(name='ops', url={url!r}, json_data={DATA!r})"
    code = "from prefect.blocks.notifications import CustomWebhookNotificationBlock\n"
    stack.command("python", "-c", f"{code}{hook}.save('ops')")


def write_project(folder: Path, file: str = "project.yaml", **changes: Any) -> None:
    gate = {"gain_over_baseline": -1.0, "gain_over_champion": -1.0, "require_checks": False}
    project = SMALL | {"checks": {"suites": []}, "gate": gate} | changes
    (folder / file).write_text(yaml.safe_dump(project, sort_keys=False))


def test_the_doctor_finds_all_in_order(operator: Operator) -> None:
    for env in ("staging", "prod"):
        text = operator.stack.command("lifecycle", "doctor", "--env", env)
        assert f"{env} has what it needs" in text
        assert "fail " not in text
    page = httpx.get(f"{operator.stack.places['prefect']}/ui-settings", trust_env=False)
    assert page.json()["api_url"] == "/api", "Prefect's page asks the server that it came from"


def test_a_first_model_on_a_schedule_and_behind_a_key(operator: Operator) -> None:
    operator.flow("prepare")
    operator.end(operator.begin("train", "staging", delay_s=5))
    assert "small v1 is champion and answers" in operator.flow("release")
    assert operator.champion() == 1
    experiment = operator.mlflow("experiments/get-by-name?experiment_name=small")["experiment"]
    assert experiment["artifact_location"].startswith("mlflow-artifacts:/")
    model = operator.mlflow("registered-models/get?name=small")["registered_model"]
    assert model["latest_versions"][0]["source"].startswith("models:/m-")
    state = operator.stack.folder / "state" / "staging"
    assert not (state / "mlflow.db").exists()
    assert not (state / "lake").exists(), "tables are in the bucket"
    assert operator.ask("lc_nobody").status_code == 401
    with operator.settings("staging") as settings:
        key = KeyStore(settings.keys_file).add("tester")
    wait_for(lambda: operator.ask(key).status_code == 200, 10, "the key to hold")


def test_each_part_is_killed_and_nothing_is_lost(operator: Operator) -> None:
    """One after another in the middle of a training; what is started again, goes on."""
    training = {"rounds": 12, "early_stopping_rounds": 5, "parameters": {"max_depth": 2}}
    write_project(operator.stack.folder, training=training)
    run = operator.begin("train", "staging")
    wait_for(lambda: operator.is_noticed(run), RUN_S, "the first heartbeat of the training")
    operator.kill("worker-staging")
    operator.stack.restart("worker-staging")
    wait_for(lambda: operator.starts(run) == 2, RUN_S, "the run to be taken up again")
    for name in ("prefect", "mlflow-staging", "postgresql"):
        operator.kill(name)
        operator.stack.restart(name)
    wait_for(lambda: operator.state(run) in OVER, RUN_S, "the end of the run, or of its process")
    if operator.state(run) != "COMPLETED":  # the new Prefect server would take 15 minutes
        operator.flow("train")
    operator.kill("ray-staging-1")
    operator.stack.restart("ray-staging-1")
    operator.flow("release")
    assert operator.champion() == 2
    model = operator.mlflow("registered-models/get?name=small")["registered_model"]
    assert int(model["latest_versions"][0]["version"]) == 2, "no version twice"


def test_scoring_and_monitoring(operator: Operator) -> None:
    operator.flow("score")
    operator.flow("monitor")
    assert "nothing to delete" in operator.flow("retention")


def test_a_promotion_waits_for_a_person(operator: Operator) -> None:
    run = operator.begin("promote", "prod")
    wait_for(lambda: operator.state(run) == "PAUSED", RUN_S, "the question")
    form = {"approved": True, "who": "Ada Lovelace", "reason": "better on Oslo's rows"}
    answer = operator.post(f"/flow_runs/{run}/resume", {"run_input": form})
    assert answer["status"] == "ACCEPT", answer
    operator.end(run)
    assert operator.champion("prod") == 1
    with operator.settings("prod") as settings:
        changes = list(history(settings, "small"))
        key = KeyStore(settings.keys_file).add("tester")
    assert "approve" in [change.action for change in changes]
    wait_for(lambda: operator.ask(key, "prod").status_code == 200, 10, "the key to hold")
    digests = {}
    for env, version in (("staging", operator.champion()), ("prod", 1)):
        with operator.settings(env) as settings:
            changes = [c for c in history(settings, "small") if c.action == "promote"]
        digests[env] = {change.digest for change in changes if change.version == version}
    assert digests["staging"] == digests["prod"]
    assert len(digests["prod"]) == 1


def test_a_rollback_is_told(operator: Operator) -> None:
    words = ["python", "-m", "flows.release", "--project", "project.yaml", "--env", "staging"]
    text = operator.stack.command(*words, "--rollback", "--reason", "complaints from Oslo")
    assert "small v1 is champion and answers" in text
    assert operator.champion() == 1
    wait_for(lambda: "complaints from Oslo" in str(operator.posted), 60, "the notification")
    with operator.settings("staging") as settings:
        actions = [f"{c.action} v{c.version}" for c in history(settings, "small")]
    assert actions[-1] == "rollback v1"


def turned(frame: pd.DataFrame) -> pd.DataFrame:
    """The rows of a world in which who bought does not, and who did not does."""
    return frame.assign(bought=1 - frame["bought"], customer=frame["customer"] + 10_000)


def live_through(operator: Operator, key: str, world: pd.DataFrame) -> int:
    """Ask the shop's endpoint about visitors, then tell it what they did; who answered."""
    visitors = world[["age", "visits", "city"]].to_dict("records")
    answer = operator.send("shop/predict", key, records=visitors).raise_for_status().json()
    labels = [
        {"prediction_id": f"{answer['id']}-{at}", "bought": int(value)}
        for at, value in enumerate(world["bought"])
    ]
    operator.send("shop/labels", key, labels=labels).raise_for_status()
    return int(answer["model"]["version"])


def test_a_model_is_replaced_and_taken_back_without_a_hand(operator: Operator) -> None:
    """The world turns, and turns back: all that the test does after the first line is to ask."""
    folder, old = operator.stack.folder, small_frame()
    gate = {"gain_over_baseline": -1.0, "require_checks": False}
    live = {"live": "150 rows", "live_delay": "0 minutes"}
    changes = {"name": "shop", "source": {"path": "shop.csv"}, "gate": gate, "monitoring": live}
    write_project(folder, "shop.yaml", **changes)
    old.to_csv(folder / "shop.csv", index=False)
    deploy = ("python", "-m", "tasks.deployments", "--env", "staging", "--project", "shop.yaml")
    operator.stack.command(*deploy)
    operator.flow("end-to-end", "staging-shop")
    with operator.settings("staging") as settings:
        key = KeyStore(settings.keys_file).add("shop")
    first = old[["age", "visits", "city"]].head(1).to_dict("records")
    wait_for(
        lambda: operator.send("shop/predict", key, records=first).status_code == 200,
        10,
        "the key to hold",
    )
    pd.concat([old, turned(small_frame(1200))]).to_csv(folder / "shop.csv", index=False)
    for delay_s in range(5, 400, 30):  # the hourly schedule, so to say
        operator.begin("monitor-live", "staging-shop", delay_s=delay_s)

    visitors = small_frame(225).query("city != 'Rome'").reset_index(drop=True)
    assert live_through(operator, key, turned(visitors)) == 1
    wait_for(lambda: operator.champion(name="shop") == 2, 2 * RUN_S, "a model of the new world")
    wait_for(lambda: live_through(operator, key, visitors) == 2, 30, "its answers")
    wait_for(lambda: operator.champion(name="shop") == 1, 2 * RUN_S, "the version before")

    with operator.settings("staging") as settings:
        wait_for(
            lambda: [a.outcome for a in read_attempts(settings, "shop")] == ["rolled back"],
            30,
            "the try to be noted",
        )
        crowned = [c for c in history(settings, "shop") if c.action in CROWNING]
        alarms = stored_alarms(load_project(folder / "shop.yaml"), settings)
    assert [(change.action, change.version) for change in crowned] == [
        ("promote", 1),
        ("promote", 2),
        ("rollback", 1),
    ]
    assert "within retraining.probation" in crowned[-1].reasons[-1]
    live = [alarm for alarm in alarms if alarm.source == "live"]
    assert "quality" in {alarm.cause for alarm in live if alarm.version == 1}
    assert {alarm.version for alarm in live} == {1, 2}
    begun = {"flow_runs": {"name": {"any_": ["retrain-shop"]}}}  # named when they begin
    runs = operator.post("/flow_runs/filter", begun)
    assert {run["created_by"]["type"] for run in runs} == {"AUTOMATION"}
    subjects = ("a window of v1 alarms", "v2 was rolled back")
    wait_for(
        lambda: all(f"shop in staging: {text}" in str(operator.posted) for text in subjects),
        60,
        "the notifications",
    )
    operator.stack.command(
        *("lifecycle", "page", "shop.yaml", "--env", "staging", "--only", "--output", "site")
    )
    text = (folder / "site" / "index.html").read_text()
    for words in ("promote v2", "rollback v1", "retraining by itself: rolled back, v2"):
        assert words in text


def test_only_loopback_is_open_and_no_secret_is_in_a_log(operator: Operator) -> None:
    for process in operator.stack.processes.values():
        tree = psutil.Process(process.pid)
        for one in (tree, *tree.children(recursive=True)):
            for connection in one.net_connections("inet"):
                if connection.status == psutil.CONN_LISTEN:
                    assert connection.laddr.ip in ("127.0.0.1", "::1", "::ffff:127.0.0.1"), (
                        one.cmdline(),
                        connection,
                    )
    secret = {
        operator.stack.environment[name].rpartition(":")[2]
        for name in ("PGPASSWORD", "MLFLOW_TRACKING_PASSWORD", "AWS_SECRET_ACCESS_KEY")
    }
    for log in operator.stack.folder.glob("servers/*.log"):
        text = log.read_text(errors="replace")
        assert not [word for word in (*secret, "lc_") if word in text], log
