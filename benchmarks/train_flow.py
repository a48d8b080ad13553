"""The whole train flow on 1,000,000 × 28 beside bare XGBoost, in processes of their own.

Warm: a Ray cluster and a Prefect server run already; what counts is the call of the flow, with
everything in it (read, contract, lake, split, fit, evaluation, bundle, MLflow). Cold: the script
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
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import psutil

from benchmarks import large
from benchmarks.result import Result, ratio, shown

ROOT = Path(__file__).parents[1]
SAMPLE_S = 0.05
FLOW = """
import json, sys, time
from flows.server import prefect_server
from flows.train import train
from flows.console import quiet_third_parties
from lifecycle.cluster import connect_ray
from lifecycle.settings import Settings
settings = Settings.load()
quiet_third_parties()
with connect_ray(settings), prefect_server(settings):
    started = time.perf_counter()
    trained = train(sys.argv[1])
    print(json.dumps({"work": time.perf_counter() - started}))
"""
CLUSTER = """
import sys
from ray.cluster_utils import Cluster
from lifecycle.cluster import prepare_environment
cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 2, "include_dashboard": False})
print(cluster.address, flush=True)
sys.stdin.read()
cluster.shutdown()
"""
SERVER = """
import sys
from flows.server import prefect_server
from lifecycle.settings import Settings
from prefect.settings import PREFECT_API_URL
with prefect_server(Settings.load()):
    print(PREFECT_API_URL.value(), flush=True)
    sys.stdin.read()
"""


class Measured:
    """What a process printed as its last line, its wall time, and the peak memory of its tree."""

    def __init__(self, command: list[str], env: dict[str, str], beside: list[int]) -> None:
        self.peak = 0
        started = time.perf_counter()
        process = subprocess.Popen(
            command, cwd=ROOT, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        done = threading.Event()
        watch = threading.Thread(target=self._watch, args=([process.pid, *beside], done))
        watch.start()
        out, err = process.communicate()
        self.wall = time.perf_counter() - started
        done.set()
        watch.join()
        if process.returncode:
            raise RuntimeError(f"{command} ended with {process.returncode}: {err[-2000:]}")
        self.printed: dict[str, Any] = {}
        if out.strip().splitlines()[-1].startswith("{"):
            self.printed = json.loads(out.strip().splitlines()[-1])

    def _watch(self, roots: list[int], done: threading.Event) -> None:
        while not done.wait(SAMPLE_S):
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
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("PREFECT", "MLFLOW", "RAY"))}
    return kept | {"LIFECYCLE_HOME": str(home), "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"} | more


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
    """Interleaved rounds: bare, warm, bare process, cold."""
    warm: list[Measured] = []
    cold: list[Measured] = []
    bare: list[Measured] = []
    with TemporaryDirectory(dir="/tmp") as place:
        folder = Path(place)
        project = large.write(folder)
        template = _prepared_home(folder, project)
        source = str(folder / "large.parquet")
        twin = [sys.executable, "-m", "benchmarks.bare_train", source]
        for at in range(rounds):
            bare.append(Measured(twin, environment(folder), []))
            for kind, found in (("warm", warm), ("cold", cold)):
                home = folder / f"{kind}{at}"
                shutil.copytree(template, home)
                found.append(_warm(home, project) if kind == "warm" else _cold(home, project))
                shutil.rmtree(home)
    work = [b.printed["work"] for b in bare]
    what = f"s; {large.ROWS:,} × {large.FEATURES}, {large.ROUNDS} rounds"
    yield ratio("train flow, warm", [w.printed["work"] for w in warm], work, 1.5, what)
    yield ratio("train flow, cold", [c.wall for c in cold], [b.wall for b in bare], 2.5, what)
    memory = "GB at the peak, all processes, PSS"
    peaks = [b.peak / 1e9 for b in bare]
    yield ratio("train flow, peak memory, cold", [c.peak / 1e9 for c in cold], peaks, 2, memory)
    yield ratio(
        "train flow, peak memory, warm, with Ray and Prefect's server",
        [w.peak / 1e9 for w in warm],
        peaks,
        2,
        memory,
    )
    imports = [b.printed["imports"] for b in bare]
    yield shown("train flow: imports of the bare process", imports, "s", "part of its cold start")


def _warm(home: Path, project: Path) -> Measured:
    alone = environment(home)
    with _running(CLUSTER, alone) as (ray, head), _running(SERVER, alone) as (api, its):
        joined = environment(home, LIFECYCLE_RAY_ADDRESS=ray, PREFECT_API_URL=api)
        command = [sys.executable, "-c", FLOW, str(project)]
        return Measured(command, joined, [head, its])


def _cold(home: Path, project: Path) -> Measured:
    command = [sys.executable, "flows/train.py", "--project", str(project)]
    return Measured(command, environment(home), [])
