"""200 flow runs queued for two workers, the Prefect server killed and started again in the middle.

Each run notes its id in a file when it begins and when it ends, so that a run that is lost, or that
two workers start, is seen whatever the server says.
"""

import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import httpx

from benchmarks.result import Result, information, limit
from lifecycle.runtime.process import TELEMETRY
from lifecycle.runtime.servers import HOST, free_port

RUNS, WORKERS, AT_ONCE = 200, 2, 1
POOL = "load"
PAGE = 200
START_S, END_S = 120.0, 3600.0
DOWN_S = 5.0
"""Seconds for which there is no server."""
FLOW = """
import os
from prefect import flow
from prefect.runtime import flow_run

def note(word):
    with open(os.environ["LOAD_NOTES"], "a") as file:
        file.write(f"{word} {flow_run.id}\\n")

@flow
def noted():
    note("began")
    note("ended")
"""


class Load:
    """A server, its workers and what the runs note, in a folder; ended by `close`."""

    def __init__(self, folder: Path) -> None:
        self._folder, self._port = folder, free_port()
        self._api = f"http://{HOST}:{self._port}/api"
        self._processes: list[subprocess.Popen[bytes]] = []
        self._notes = folder / "notes"
        self._notes.touch()
        (folder / "load.py").write_text(FLOW)
        self._environment = {k: v for k, v in os.environ.items() if not k.startswith("PREFECT")}
        self._environment |= TELEMETRY | {
            "PREFECT_HOME": str(folder / "prefect"),
            "PREFECT_API_URL": self._api,
            "PREFECT_WORKER_QUERY_SECONDS": "2",
            "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
            "LOAD_NOTES": str(self._notes),
        }

    def start_server(self) -> "subprocess.Popen[bytes]":
        """Start the server where it was, and wait until it answers."""
        process = self._start("server", "start", "--host", HOST, "--port", str(self._port))
        _wait(self._answers, START_S, "the Prefect server")
        return process

    def queue(self) -> None:
        """Make a pool and a deployment, queue all runs, and start the workers."""
        self._post("work_pools/", {"name": POOL, "type": "process"})
        flow = self._post("flows/", {"name": "noted"})["id"]
        place = {"entrypoint": "load.py:noted", "path": str(self._folder), "work_pool_name": POOL}
        body = place | {"name": "load", "flow_id": flow}
        deployment = self._post("deployments/", body)["id"]
        for _ in range(RUNS):
            self._post(f"deployments/{deployment}/create_flow_run", {})
        for number in range(WORKERS):
            options = ["--pool", POOL, "--limit", str(AT_ONCE), "--name", f"worker-{number}"]
            self._start("worker", "start", "--type", "process", *options)

    def wait(self, runs: int) -> None:
        """Wait until so many runs have ended."""
        _wait(lambda: len(self.noted("ended")) >= runs, END_S, f"{runs} runs")

    def noted(self, word: str) -> "Counter[str]":
        """How often each run noted a word."""
        lines = self._notes.read_text().splitlines()
        return Counter(line.split()[1] for line in lines if line.startswith(f"{word} "))

    def states(self) -> "Counter[str]":
        """How many runs are in each state, as the server has it."""
        counts: Counter[str] = Counter()
        query = {"limit": PAGE, "sort": "ID_DESC"}
        while page := self._post("flow_runs/filter", query | {"offset": counts.total()}):
            counts.update(str(run["state"]["type"]) for run in page)
        return counts

    def close(self) -> None:
        """End the workers, then the server."""
        for process in reversed(self._processes):
            if process.poll() is None:
                process.terminate()
                process.wait(60)

    def _answers(self) -> bool:
        try:
            return httpx.get(f"{self._api}/health", trust_env=False).status_code == 200
        except httpx.HTTPError:
            return False

    def _post(self, path: str, body: object) -> Any:
        answer = httpx.post(f"{self._api}/{path}", json=body, timeout=60, trust_env=False)
        answer.raise_for_status()
        return answer.json()

    def _start(self, *command: str) -> "subprocess.Popen[bytes]":
        program = str(Path(sys.executable).with_name("prefect"))
        with (self._folder / f"{command[0]}.log").open("ab") as log:
            process = subprocess.Popen(
                [program, *command],
                cwd=self._folder,
                env=self._environment,
                stdout=log,
                stderr=log,
            )
        self._processes.append(process)
        return process


def _wait(condition: Callable[[], bool], seconds: float, what: str) -> None:
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            raise TimeoutError(f"{what}: not within {seconds:g} s")
        time.sleep(0.5)


def measure(rounds: int) -> Iterator[Result]:
    """One round: it takes minutes."""
    with TemporaryDirectory(dir="/tmp") as folder:
        load = Load(Path(folder))
        try:
            server = load.start_server()
            load.queue()
            begun = time.monotonic()
            load.wait(RUNS // 3)
            server.kill()
            server.wait()
            time.sleep(DOWN_S)
            load.start_server()
            load.wait(RUNS)
            seconds = time.monotonic() - begun
            _wait(lambda: load.states()["COMPLETED"] == RUNS, START_S, "the last states")
            began, ended = load.noted("began"), load.noted("ended")
        finally:
            load.close()
    detail = f"of {RUNS} on {WORKERS} workers; server killed after a third, down for {DOWN_S:g} s"
    lost, twice = RUNS - len(ended), began.total() - len(began)
    yield limit("load: runs that did not end", [lost], "runs", 0, detail)
    yield limit("load: runs that began twice", [twice], "runs", 0, detail)
    yield information("load: runs ended", [60 * RUNS / seconds], "1/min", detail)
