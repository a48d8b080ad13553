"""A real Ray cluster of several nodes on loopback, in processes of its own.

Run as a script it is that cluster; `Nodes` starts it and ends it. The head has no CPU, so that
work is on the other nodes, of one CPU each, and any of them may be killed.
"""

import json
import multiprocessing
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from lifecycle.runtime.cluster import connect_ray, prepare_environment
from lifecycle.settings import Settings

SLOTS = {"object_store_memory": 100 << 20, "include_dashboard": False}
SERVICES = ("Agent", "_StatsActor", "_AutoscalingCoordinatorActor")
"""A node's own processes, and two that Ray Data keeps for a whole cluster; none holds a CPU."""
DEATH = {"health_check_initial_delay_ms": 2000, "health_check_period_ms": 1000}


@dataclass(frozen=True)
class Nodes:
    """What runs."""

    address: str
    raylets: tuple[int, ...]
    """Process ids, the head's first."""

    def workers(self) -> dict[int, list[psutil.Process]]:
        """Raylet → its processes that run a task or an actor."""
        children = {
            raylet: psutil.Process(raylet).children(recursive=True)
            for raylet in self.raylets
            if psutil.pid_exists(raylet)
        }
        return {raylet: list(filter(working, found)) for raylet, found in children.items()}

    def kill(self, raylet: int) -> None:
        """SIGKILL for one node."""
        psutil.Process(raylet).kill()


def working(process: psutil.Process) -> bool:
    """Whether it is a process of Ray's that runs a task or an actor."""
    try:
        name = (process.cmdline() or [""])[0]
    except psutil.Error:  # it ended meanwhile
        return False
    return name.startswith("ray::") and name != "ray::IDLE" and not name.endswith(SERVICES)


@contextmanager
def nodes(count: int) -> Iterator[Nodes]:
    """A head and `count` nodes of one CPU, until the block ends."""
    with subprocess.Popen(
        [sys.executable, "-m", "tests.support.nodes", str(count)],
        cwd=Path(__file__).parents[2],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout
        assert process.stdin
        try:
            said = json.loads(process.stdout.readline())
            yield Nodes(said["address"], tuple(said["raylets"]))
        finally:
            process.stdin.close()
            process.wait(60)


@contextmanager
def driver(cluster: Nodes) -> Iterator[Callable[..., Any]]:
    """Calls functions in a process that is connected; the test's own may have another Ray."""
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, spawn, join, (cluster.address,)) as pool:
        yield lambda function, *arguments: pool.submit(function, *arguments).result(240)


_joined = ExitStack()


def join(address: str) -> None:
    """Connect a process of a pool, for as long as it lives."""
    _joined.enter_context(connect_ray(Settings(ray_address=address)))


def main(count: int) -> None:
    prepare_environment(local=True)
    from ray._private import ray_constants
    from ray.cluster_utils import Cluster

    head = {"num_cpus": 0, "_system_config": DEATH} | SLOTS
    for last in (False, False, True):
        try:
            cluster = Cluster(initialize_head=True, head_node_args=head)
            break
        except Exception as error:  # a busy machine misses the 30 s that Ray gives its processes
            if last or "timed out" not in str(error):
                raise
    started = [cluster.head_node, *(cluster.add_node(num_cpus=1, **SLOTS) for _ in range(count))]
    raylets = [
        node.all_processes[ray_constants.PROCESS_TYPE_RAYLET][0].process.pid for node in started
    ]
    print(json.dumps({"address": cluster.address, "raylets": raylets}), flush=True)  # noqa: T201
    sys.stdin.read()
    cluster.shutdown()


if __name__ == "__main__":
    main(int(sys.argv[1]))
