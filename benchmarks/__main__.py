"""`make bench`: run every measurement, print the table, write results.json."""

import argparse
import json
import os
from pathlib import Path

from rich.console import Console
from rich.table import Table

from benchmarks import cycle

RESULTS = Path(__file__).with_name("results.json")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3, help="interleaved rounds")
    results = list(cycle.measure(parser.parse_args().rounds))
    table = Table("measurement", "value", "unit", "bar", "holds", "detail")
    for result in results:
        bar = "–" if result["bar"] is None else f"{result['bar']:g}"
        holds = {None: "–", True: "yes", False: "NO"}[result["holds"]]
        value = f"{result['value']:.2f}"
        table.add_row(result["name"], value, result["unit"], bar, holds, result["detail"])
    Console(width=140).print(table)
    aside = RESULTS.with_suffix(f".{os.getpid()}")
    aside.write_text(json.dumps(results, indent=1, ensure_ascii=False) + "\n")
    aside.replace(RESULTS)


if __name__ == "__main__":
    main()
