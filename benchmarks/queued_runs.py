"""Runs that wait in a queue: all end once, though the Prefect server is killed in the middle.

The flow does nothing but add its run to a file, so that one that ran twice is seen. Workers, pool
and heartbeats are those of our deployments; the database is SQLite. No automation is there, which
in a deployment takes up again what has crashed.
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
OVER = ("COMPLETED", "FAILED", "CRASHED", "CANCELLED")
PATIENCE_S = 1_700.0
POLL_S = 1.0
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
from prefect import flow
from prefect.deployments import run_deployment

deployed = flow.from_source(sys.argv[1], entrypoint="noted.py:noted")
deployed.deploy(name="queue", work_pool_name="queue", build=False, print_next_steps=False)
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
            "PREFECT_FLOWS_HEARTBEAT_FREQUENCY": "30",
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
        """Number of runs in each state."""
        body = {"limit": 200, "sort": "ID_DESC"}
        runs = self._api.post("/flow_runs/filter", json=body).raise_for_status().json()
        return Counter(str(run["state_type"]) for run in runs)

    def unfinished(self) -> int:
        """Number of runs that wait or are under way."""
        return RUNS - sum(count for state, count in self.states().items() if state in OVER)

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
            while queue.unfinished() and time.monotonic() < end:
                time.sleep(POLL_S)
            seconds = time.monotonic() - begun
            states = queue.states()
            workers.close()
        noted = Counter(queue.noted.read_text().splitlines())
    detail = (
        f"{RUNS} runs, {WORKERS} workers with {AT_ONCE} at once, Prefect on SQLite killed after "
        f"{KILLED_AT} and up again {back - killed:.1f} s later"
    )
    ends = json.dumps(dict(states))
    yield limit("queue: runs that did not complete", [RUNS - states["COMPLETED"]], "runs", 0, ends)
    yield limit("queue: runs that never ran", [RUNS - len(noted)], "runs", 0, detail)
    repeats = sum(count > 1 for count in noted.values())
    yield limit("queue: runs that ran twice", [repeats], "runs", 0, detail)
    yield information("queue: from the first worker to the last run", [seconds], "s", detail)
    yield information("queue: next run after the server is back", [resumed - back], "s", detail)
