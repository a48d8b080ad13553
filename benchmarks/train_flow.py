"""The whole train flow on 1,000,000 × 28 beside bare XGBoost, in processes of their own.

Warm: Ray runs and is joined, the script's Prefect server is up, libraries are imported; what counts
is the call of the flow, with everything in it (read, contract, lake, split, fit, evaluation,
bundle, MLflow). A lasting Prefect server adds 1 s of heartbeat to each of its two flow runs, see
`orchestration`. Cold: the script
from the shell, with its imports and its own Prefect server, beside the whole bare process. Each
round has new stores, so that nothing comes from a cache; their databases are made beforehand.
deepchecks is left out here: it has a row of its own.
"""

import json
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import psutil

from benchmarks import large
from benchmarks.result import Result, ratio

ROOT = Path(__file__).parents[1]
SAMPLE_S = 0.1
MEMORY_ROUNDS = 2
FLOW = """
import json, sys, time
from flows.server import prefect_server
from flows.train import train
from flows.console import quiet_third_parties
from lifecycle.runtime.cluster import connect_ray
from lifecycle.release.mlflow_store import load_mlflow
from lifecycle.settings import Settings
settings = Settings.load()
quiet_third_parties()
load_mlflow(settings)  # as the twin has imported its libraries when its clock starts
with connect_ray(settings), prefect_server(settings):
    time.sleep(6)  # warm is when the cluster's worker has imported what it needs
    started = time.perf_counter()
    trained = train(sys.argv[1])
    print(json.dumps({"work": time.perf_counter() - started}))
"""
CLUSTER = """
import sys
from ray.cluster_utils import Cluster
from lifecycle.runtime.cluster import prepare_environment
cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 2, "include_dashboard": False})
print(cluster.address, flush=True)
sys.stdin.read()
cluster.shutdown()
"""


class Measured:
    """Last line printed by a process, its wall time, and the peak memory of its tree.

    Reading memory takes CPU time from the process, so it is for runs that are not timed.
    """

    def __init__(
        self, command: list[str], env: dict[str, str], other_pids: Sequence[int], memory: bool
    ) -> None:
        self.peak = 0
        started = time.perf_counter()
        process = subprocess.Popen(
            command, cwd=ROOT, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        stop_event = threading.Event()
        watch = threading.Thread(target=self._watch, args=([process.pid, *other_pids], stop_event))
        if memory:
            watch.start()
        out, err = process.communicate()
        self.wall = time.perf_counter() - started
        if memory:
            stop_event.set()
            watch.join()
        if process.returncode:
            raise RuntimeError(f"{command} ended with {process.returncode}: {err[-2000:]}")
        self.printed: dict[str, Any] = {}
        if out.strip().splitlines()[-1].startswith("{"):
            self.printed = json.loads(out.strip().splitlines()[-1])

    def _watch(self, roots: list[int], stop_event: threading.Event) -> None:
        while not stop_event.wait(SAMPLE_S):
            self.peak = max(self.peak, sum(_memory(root) for root in roots))


def _memory(root: int) -> int:
    """Bytes of a process and all below it; pages that several share count once (PSS)."""
    total = 0
    try:
        parent = psutil.Process(root)
        for process in (parent, *parent.children(recursive=True)):
            total += process.memory_full_info().pss
    except psutil.Error:  # it ended meanwhile
        pass
    return total


@contextmanager
def _running(code: str, env: dict[str, str]) -> Iterator[tuple[str, int]]:
    """A helper process that prints where it can be reached; ends when its input closes."""
    process = subprocess.Popen(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env=env,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert process.stdout
    assert process.stdin
    try:
        yield process.stdout.readline().strip(), process.pid
    finally:
        process.stdin.close()
        process.wait(60)


def environment(home: Path, **more: str) -> dict[str, str]:
    variables = {
        k: v for k, v in os.environ.items() if not k.startswith(("PREFECT", "MLFLOW", "RAY"))
    }
    own = {"LIFECYCLE_HOME": str(home), "LIFECYCLE_KEEP_WARM": "0"}
    return variables | own | {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"} | more


def _prepared_home(folder: Path, project: Path) -> Path:
    """Stores whose databases are made and empty of this project's models."""
    home = folder / "template"
    small = folder / "small"
    small.mkdir()
    tiny = large.write(small, rows=2_000)
    tiny.write_text(tiny.read_text().replace("name: large", "name: tiny"))
    command = [sys.executable, "flows/train.py", "--project", str(tiny)]
    subprocess.run(command, cwd=ROOT, env=environment(home), check=True, capture_output=True)
    return home


def measure(rounds: int) -> Iterator[Result]:
    """Interleaved rounds of bare, warm and cold; then some more that only look at memory."""
    with TemporaryDirectory(dir="/tmp") as place:
        folder = Path(place)
        project = large.write(folder)
        template = _prepared_home(folder, project)
        timed = [_round(folder, project, template, memory=False) for _ in range(rounds)]
        looked = [_round(folder, project, template, memory=True) for _ in range(MEMORY_ROUNDS)]
    bare, warm, cold = zip(*timed, strict=True)
    work = [round_.printed["work"] for round_ in bare]
    detail = f"s; {large.ROWS:,} × {large.FEATURES}, {large.ROUNDS} rounds"
    yield ratio("train flow, warm", [round_.printed["work"] for round_ in warm], work, 1.5, detail)
    walls = [round_.wall for round_ in bare]
    yield ratio("train flow, cold", [round_.wall for round_ in cold], walls, 2.5, detail)
    bare, warm, cold = zip(*looked, strict=True)
    peaks = [round_.peak / 1e9 for round_ in bare]
    memory = "GB at the peak, PSS of all processes"
    yield ratio("train flow, peak memory", [round_.peak / 1e9 for round_ in cold], peaks, 2, memory)
    label = "train flow, peak memory with a Ray cluster beside"
    yield ratio(label, [round_.peak / 1e9 for round_ in warm], peaks, 2, memory)


def _round(folder: Path, project: Path, template: Path, memory: bool) -> tuple[Measured, ...]:
    """Bare, warm, cold."""
    twin = [sys.executable, "-m", "benchmarks.bare_train", str(folder / "large.parquet")]
    bare = Measured(twin, environment(folder), [], memory)
    results = []
    for run in (_warm, _cold):
        home = folder / run.__name__
        shutil.copytree(template, home)
        results.append(run(home, project, memory))
        shutil.rmtree(home)
    return bare, *results


def _warm(home: Path, project: Path, memory: bool) -> Measured:
    own_environment = environment(home)
    with _running(CLUSTER, own_environment) as (ray, head):
        joined = environment(home, LIFECYCLE_RAY_ADDRESS=ray)
        command = [sys.executable, "-c", FLOW, str(project)]
        return Measured(command, joined, [head], memory)


def _cold(home: Path, project: Path, memory: bool) -> Measured:
    command = [sys.executable, "flows/train.py", "--project", str(project)]
    return Measured(command, environment(home), [], memory)
