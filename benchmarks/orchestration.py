"""Cost of Prefect: a task call and a flow run that do nothing, under our own policies."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks.result import Result, information, limit
from benchmarks.train_flow import ROOT, environment

CALLS, FLOWS = 200, 10
EMPTY = f"""
import json, time
from prefect import flow, task
from prefect.settings import PREFECT_FLOWS_HEARTBEAT_FREQUENCY, temporary_settings
from flows.console import quiet_third_parties
from flows.server import prefect_server
from lifecycle.settings import Settings
from tasks.policies import CACHED, NOT_CACHED, cached_by

@task(**NOT_CACHED)
def nothing(number): return number

@task(cache_key_fn=cached_by("number"), **CACHED)
def kept(settings, number): return number

@flow
def empty(): return 1

@flow
def tasks(settings, task, calls):
    started = time.perf_counter()
    for number in range(calls):
        task(number) if settings is None else task(settings, number)
    return (time.perf_counter() - started) / calls

def flow_seconds():
    started = time.perf_counter()
    for _ in range({FLOWS}):
        empty()
    return (time.perf_counter() - started) / {FLOWS}

settings = Settings.load()
quiet_third_parties()
started = time.perf_counter()
with prefect_server(settings):
    server = time.perf_counter() - started
    empty()
    found = {{"server": server, "flow": flow_seconds()}}
    with temporary_settings({{PREFECT_FLOWS_HEARTBEAT_FREQUENCY: 30}}):
        found["flow on a server"] = flow_seconds()
    found["task"] = tasks(None, nothing, {CALLS})
    found["cached"] = tasks(settings, kept, {CALLS})
    found["hit"] = tasks(settings, kept, {CALLS})
print(json.dumps(found))
"""


def measure(rounds: int) -> Iterator[Result]:
    """Each round is a process with a Prefect server of its own, made before the first round."""
    rounds_measured: list[dict[str, float]] = []
    with TemporaryDirectory(dir="/tmp") as home:
        command = [sys.executable, "-c", EMPTY]
        for _ in range(rounds + 1):
            process = subprocess.run(
                command,
                cwd=ROOT,
                env=environment(Path(home)),
                check=True,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                text=True,
            )
            rounds_measured.append(json.loads(process.stdout.strip().splitlines()[-1]))
    first, *rounds_measured = rounds_measured  # the first makes Prefect's database

    def of(name: str, scale: float = 1.0) -> list[float]:
        return [measurement[name] * scale for measurement in rounds_measured]

    calls = f"{CALLS} calls in one flow run"
    yield limit("Prefect: task call", of("task", 1e3), "ms", 10, f"not cached, {calls}")
    cached = f"result written and key computed, {calls}"
    yield limit("Prefect: task call, cached task", of("cached", 1e3), "ms", 10, cached)
    yield information("Prefect: task call, cache hit", of("hit", 1e3), "ms", calls)
    flows = f"mean of {FLOWS} runs"
    yield limit(
        "Prefect: flow run of a script", of("flow"), "s", 1.3, f"without heartbeat; {flows}"
    )
    heartbeat = f"with the heartbeat that a lasting server needs; {flows}"
    yield limit("Prefect: flow run on a server", of("flow on a server"), "s", 1.3, heartbeat)
    yield information(
        "Prefect: start of the temporary server", of("server"), "s", "its database exists"
    )
    yield information(
        "Prefect: very first start", [first["server"]], "s", "makes the database; once"
    )
