"""Wall time of the demo, stage by stage, next to the bare libraries doing the same work."""

import json
import os
import re
import statistics
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks.result import Result, information
from lifecycle.runtime.servers import free_port

ROOT = Path(__file__).parents[1]
DEMO = [sys.executable, "flows/end_to_end.py"]
DEMO += ["--project", "examples/health_visits/project.yaml"]
LINE = re.compile(r"^ *(\d+\.\d) s  (\w+) +(.*)$")
STAGES = {
    "starting a temporary server": "start Prefect",
    "starting": "start Ray",
    "reading and validating": "prepare",
    "splitting": "prepare",
    "tuning": "tune",
    "fitting": "fit",
    "evaluating": "evaluate",
    "deepchecks": "check",
    "registering": "register",
    "deploying": "deploy",
    "scoring": "score",
    "comparing": "monitor",
}
"""How a step's first words on the screen name the stage."""

Seconds = dict[str, float]


def stages_of(screen: str, wall: float) -> Seconds:
    """Seconds a stage: from the line that starts a step to the line that ends it.

    What lies between steps (flow and task runs, registry look-ups) is `between steps`; what comes
    before the first line and after the last one is `imports` and `stop`.
    """
    seconds: Seconds = defaultdict(float)
    stage, since = "imports", 0.0
    last = 0.0
    for line in screen.splitlines():
        match = LINE.match(line)
        if not match:
            continue
        last = float(match[1])
        if "tuning: trial" in match[3]:
            continue
        seconds[stage] += last - since
        since = last
        begins = match[3].endswith("…")
        words = next((w for w in STAGES if match[3].startswith(w)), None)
        stage = STAGES[words] if begins and words else "between steps"
    # the screen's clock starts after the imports, and stops before Ray and Prefect do
    seconds["imports and stop"] = wall - last
    seconds.pop("imports", None)
    return dict(seconds)


def run_demo(home: Path) -> tuple[float, str]:
    """Wall seconds and screen of the demo on these stores."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("PREFECT", "MLFLOW"))}
    variables = {
        "LIFECYCLE_HOME": str(home),
        "LIFECYCLE_SERVE_PORT": str(free_port()),
        "LIFECYCLE_KEEP_WARM": "0",
    }
    started = time.perf_counter()
    process = subprocess.run(
        DEMO, cwd=ROOT, env=environment | variables, capture_output=True, text=True, check=True
    )
    return time.perf_counter() - started, process.stdout


def run_bare(trainings: int) -> tuple[float, Seconds]:
    """Wall seconds and seconds a stage of the bare twin."""
    command = [sys.executable, "-m", "benchmarks.bare_cycle", "--trainings", str(trainings)]
    started = time.perf_counter()
    process = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    wall = time.perf_counter() - started
    seconds: Seconds = json.loads(process.stdout.strip().splitlines()[-1])
    return wall, seconds | {"imports and stop": wall - sum(seconds.values())}


def measure(rounds: int) -> Iterator[Result]:
    """Interleaved rounds of ours and the twin; medians."""
    stage_times: list[Seconds] = []
    bare: list[Seconds] = []
    walls: list[tuple[float, float, float]] = []
    trainings = 0
    for _ in range(rounds):
        with TemporaryDirectory() as folder:
            first, screen = run_demo(Path(folder))
            second, _ = run_demo(Path(folder))
        trainings = screen.count("  fitted ")
        twin, stages = run_bare(trainings)
        stage_times.append(stages_of(screen, first))
        bare.append(stages)
        walls.append((first, second, twin))
    first, second, twin = (statistics.median(column) for column in zip(*walls, strict=True))
    detail = f"median of {rounds} interleaved rounds, {trainings} trainings"
    yield information("cycle: wall time, first run", [first], "s", detail)
    yield information("cycle: wall time, second run (unchanged)", [second], "s", detail)
    yield information(
        "cycle: wall time, bare libraries", [twin], "s", f"{detail}; no release, no registry"
    )
    yield information(
        "cycle: overhead ratio", [first / twin], "×", f"{detail}; ours / bare, wall time"
    )
    unchecked = statistics.median(
        (wall[0] - duration.get("check", 0.0)) / (wall[2] - bare_seconds.get("check", 0.0))
        for wall, duration, bare_seconds in zip(walls, stage_times, bare, strict=True)
    )
    slimmed = "ours / bare, wall time; our deepchecks look at fewer rows in two checks"
    yield information("cycle: overhead ratio without deepchecks", [unchecked], "×", slimmed)
    for stage in dict.fromkeys(name for seconds in stage_times for name in seconds):
        duration = statistics.median(seconds.get(stage, 0.0) for seconds in stage_times)
        bare_seconds = [seconds[stage] for seconds in bare if stage in seconds]
        detail_of_stage = (
            f"bare {statistics.median(bare_seconds):.2f} s" if bare_seconds else "bare does without"
        )
        yield information(f"cycle: {stage}", [duration], "s", detail_of_stage)
