"""`make bench`: run every measurement, print the table, write results.json."""

import argparse
import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path

from rich.console import Console
from rich.table import Table

from benchmarks import (
    bundle,
    causes,
    checks,
    command_line,
    cycle,
    damage,
    estimate,
    evaluation,
    growth,
    ingest,
    init,
    labels,
    lake,
    monitoring,
    orchestration,
    page,
    peers,
    queued_runs,
    reading,
    serving,
    split,
    startup,
    tracking,
    train_flow,
    tuning,
    wide,
)
from benchmarks.result import Result

RESULTS = Path(__file__).with_name("results.json")
PARTS: dict[str, Callable[[int], Iterator[Result]]] = {
    "train_flow": train_flow.measure,
    "tuning": tuning.measure,
    "orchestration": orchestration.measure,
    "queue": queued_runs.measure,
    "serving": serving.measure,
    "serving_memory": serving.measure_memory,
    "tracking": tracking.measure,
    "causes": causes.measure,
    "checks": checks.measure,
    "ingest": ingest.measure,
    "growth": growth.measure,
    "init": init.measure,
    "labels": labels.measure,
    "lake": lake.measure,
    "monitoring": monitoring.measure,
    "command_line": command_line.measure,
    "split": split.measure,
    "evaluation": evaluation.measure,
    "bundle": bundle.measure,
    "cycle": cycle.measure,
    "startup": startup.measure,
    "wide": wide.measure,
    "damage": damage.measure,
    "estimate": estimate.measure,
    "page": page.measure,
    "peers": peers.measure,
    "reading": reading.measure,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("parts", nargs="*", choices=[*PARTS, []], help="by default all")
    parser.add_argument("--rounds", type=int, default=5, help="interleaved rounds")
    options = parser.parse_args()
    console = Console(width=150)
    for name in options.parts or PARTS:
        console.print(f"measuring {name} …", style="dim")
        results = []
        for result in PARTS[name](options.rounds):  # a part that fails late leaves what it has
            results.append(result)
            _keep([result])
        console.print(_table(results))
    console.print(f"all of it: {RESULTS}")


def _table(results: list[Result]) -> Table:
    table = Table("measurement", "value", "unit", "bar", "holds", "detail")
    for result in results:
        bar = "–" if result["bar"] is None else f"{result['bar']:g}"
        holds = {None: "–", True: "yes", False: "NO"}[result["holds"]]
        value = f"{result['value']:.4g}"
        table.add_row(result["name"], value, result["unit"], bar, holds, result["detail"])
    return table


def _keep(results: list[Result]) -> None:
    """Put results in the place of those with the same names, in one step."""
    results_kept: list[Result] = json.loads(RESULTS.read_text()) if RESULTS.is_file() else []
    names = {result["name"] for result in results}
    merged = [*(result for result in results_kept if result["name"] not in names), *results]
    scratch = RESULTS.with_suffix(f".{os.getpid()}")
    scratch.write_text(json.dumps(merged, indent=1, ensure_ascii=False) + "\n")
    scratch.replace(RESULTS)


if __name__ == "__main__":
    main()
