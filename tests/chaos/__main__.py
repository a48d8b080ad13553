"""`make chaos`: strike the flows of a small project; exit code 1 if a point is not mended."""

import argparse
import sys
import tempfile
from collections import Counter
from pathlib import Path

from tests.chaos.run import Outcome, chaos


def say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def main() -> int:
    parser = argparse.ArgumentParser(prog="make chaos", description=__doc__)
    parser.add_argument("--points", type=int, default=200)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    outcomes: list[Outcome] = []
    with tempfile.TemporaryDirectory(prefix="chaos-") as folder, chaos(Path(folder)) as struck:
        struck.live()
        for point in struck.points(options.points, options.seed):
            outcome = struck.strike(point)
            outcomes.append(outcome)
            for problem in outcome.problems:
                say(f"{point.stage}, {point.kind} at {point.at} of {point.of}: {problem}")
    say("| stage | changes of files | kills | disk full | not mended |")
    say("|---|---|---|---|---|")
    for stage in dict.fromkeys(outcome.point.stage for outcome in outcomes):
        mine = [outcome for outcome in outcomes if outcome.point.stage == stage]
        kinds = Counter(outcome.point.kind for outcome in mine if outcome.struck)
        bad = sum(bool(outcome.problems) for outcome in mine)
        say(f"| {stage} | {mine[0].point.of} | {kinds['kill']} | {kinds['full']} | {bad} |")
    seconds = sum(outcome.seconds for outcome in outcomes)
    say(f"{len(outcomes)} points, {seconds / len(outcomes):.1f} s each")
    return int(any(outcome.problems for outcome in outcomes))


if __name__ == "__main__":
    sys.exit(main())
