"""Runs that wait in a queue: all end once, though the Prefect server is killed in the middle.

The flow does nothing but add its run to a file, so that one that ran twice is seen. Workers, pool,
heartbeats and the automations that take up again what has crashed are those of our deployments;
the database is SQLite.
"""

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import httpx

from benchmarks.result import Result, information, limit
from lifecycle.runtime.process import TELEMETRY
from lifecycle.runtime.servers import HOST, Process, answers, free_port, server

RUNS, WORKERS = 200, 2
AT_ONCE = 2
"""Runs that a worker has under way, at most."""
KILLED_AT = 60
"""Runs that have ended when the server is killed."""
ENDED = {"Completed", "Failed", "Cancelled", "GivenUp"}
"""The last is `tasks.automations.GIVEN_UP`, whose module would import Prefect here."""
PATIENCE_S = 1_700.0
"""Longer than the 15 minutes after which a server that was started anew acts on a crash."""
CRASHED = "Crashed"
POLL_S = 1.0
HEARTBEAT_S = 30
FLOW = """
import os
from prefect import flow
from prefect.runtime import flow_run

@flow
def noted():
    file = os.open(os.environ["NOTED"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(file, f"{flow_run.id}\\n".encode())
"""
ENQUEUE = f"""
import sys
from datetime import timedelta
from prefect import flow
from prefect.client.orchestration import get_client
from prefect.deployments import run_deployment
from tasks.automations import Watch, declare, keep_automations

tags = ["lifecycle", "queue"]
never = timedelta(days=1)
watch = Watch("dev", "queue", tags, (), {{}}, {HEARTBEAT_S}, silence=never, quiet=timedelta())
with get_client(sync_client=True) as client:
    keep_automations(client, watch.prefix, declare(watch))
deployed = flow.from_source(sys.argv[1], entrypoint="noted.py:noted")
deployed.deploy(
    name="queue", work_pool_name="queue", tags=tags, build=False, print_next_steps=False
)
for _ in range({RUNS}):
    run_deployment("noted/queue", timeout=0)
"""


class Queue:
    """A Prefect server with a pool, its workers, and a file of what has run.

    Attributes:
        noted: a line per run that the flow has seen.
    """

    def __init__(self, folder: Path) -> None:
        self._folder, self._port = folder, free_port()
        self.noted = folder / "noted"
        self.noted.touch()
        (folder / "noted.py").write_text(FLOW)
        url = f"http://{HOST}:{self._port}/api"
        self.environment = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("PREFECT", "MLFLOW", "RAY"))
        }
        self.environment |= TELEMETRY | {
            "NOTED": str(self.noted),
            "PREFECT_HOME": str(folder / "prefect"),
            "PREFECT_API_URL": url,
            "PREFECT_FLOWS_HEARTBEAT_FREQUENCY": str(HEARTBEAT_S),
            "PREFECT_WORKER_QUERY_SECONDS": "1",  # 10 by default, a pause between short runs
        }
        self._api = httpx.Client(base_url=url, timeout=60, trust_env=False)

    @contextmanager
    def serve(self) -> Iterator[Process]:
        """Have the server up in the block."""
        words = ("server", "start", "--host", HOST, "--port", str(self._port))
        with self._start(*words) as process:
            if not answers(process, f"{self._api.base_url}health"):
                raise RuntimeError((self._folder / "log").read_text()[-2_000:])
            yield process

    def fill(self) -> None:
        """Make the pool and the deployment, and put the runs in the queue."""
        prefect = [sys.executable, "-m", "prefect"]
        create = [*prefect, "work-pool", "create", "queue", "--type", "process"]
        for command in (create, [sys.executable, "-c", ENQUEUE, str(self._folder)]):
            subprocess.run(command, env=self.environment, check=True, capture_output=True)

    def worker(self) -> Any:
        """Have one more worker in a block."""
        return self._start("worker", "start", "--pool", "queue", "--limit", str(AT_ONCE))

    def wait(self, count: int, end: float) -> float:
        """Wait until so many runs were noted, or time is up; the time by the monotonic clock."""
        while len(self.noted.read_text().splitlines()) < count and time.monotonic() < end:
            time.sleep(POLL_S / 4)
        return time.monotonic()

    def states(self) -> Counter[str]:
        """Number of runs in each state, by name."""
        body = {"limit": 200, "sort": "ID_DESC"}
        runs = self._api.post("/flow_runs/filter", json=body).raise_for_status().json()
        return Counter(str(run["state_name"]) for run in runs)

    def settle(self, over: set[str], end: float) -> Counter[str]:
        """Wait until all runs are in one of these states, or time is up; number in each."""
        while (states := self.states()).keys() - over and time.monotonic() < end:
            time.sleep(POLL_S)
        return states

    def _start(self, *words: str) -> Any:
        command = [sys.executable, "-m", "prefect", "--no-prompt", *words]
        return server(command, {}, self._folder / "log", self.environment)


def measure(rounds: int) -> Iterator[Result]:
    """One round, however many are asked for: it takes minutes."""
    with TemporaryDirectory(dir="/tmp") as place, ExitStack() as workers:
        queue = Queue(Path(place))
        with queue.serve() as process:
            queue.fill()
            begun = time.monotonic()
            end = begun + PATIENCE_S
            for _ in range(WORKERS):
                workers.enter_context(queue.worker())
            queue.wait(KILLED_AT, end)
            os.killpg(process.pid, signal.SIGKILL)
            killed = time.monotonic()
        with queue.serve():
            before = len(queue.noted.read_text().splitlines())
            back = time.monotonic()
            resumed = queue.wait(before + 1, end)
            crashed = queue.settle(ENDED | {CRASHED}, end)[CRASHED]
            seconds = time.monotonic() - begun
            states = queue.settle(ENDED, end)
            late = time.monotonic() - begun - seconds
            workers.close()
        noted = Counter(queue.noted.read_text().splitlines())
    detail = (
        f"{RUNS} runs, {WORKERS} workers with {AT_ONCE} at once, Prefect on SQLite killed after "
        f"{KILLED_AT} and up again {back - killed:.1f} s later"
    )
    ends = json.dumps(dict(states))
    yield limit("queue: runs that did not complete", [RUNS - states["Completed"]], "runs", 0, ends)
    yield limit("queue: runs that never ran", [RUNS - len(noted)], "runs", 0, detail)
    repeats = sum(count > 1 for count in noted.values())
    yield limit("queue: runs that ran twice", [repeats], "runs", 0, detail)
    yield information("queue: from the first worker to the last run", [seconds], "s", detail)
    loss = f"{crashed} runs crashed; {detail}"
    yield information("queue: until crashed runs were taken up and ended", [late], "s", loss)
    yield information("queue: next run after the server is back", [resumed - back], "s", detail)
