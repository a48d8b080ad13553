"""A release as a process of its own, which a test kills: `python -m … PROJECT HOME RAY PORT`.

What the release flow does once its gate has opened, on the Serve of a Ray that runs already.
"""

import sys
import time
from collections.abc import Callable
from pathlib import Path

from lifecycle.audit.model_trail import Trail
from lifecycle.project import Project
from lifecycle.project.loader import load_project
from lifecycle.records import Decision
from lifecycle.release import policies
from lifecycle.release.policies import roll_out
from lifecycle.release.registry import CHALLENGER, CHAMPION, by_alias
from lifecycle.release.rollout import Handover, RolloutOutcome
from lifecycle.release.watch import LogWatch
from lifecycle.runtime.cluster import connect_ray
from lifecycle.settings import Settings
from tasks.rollout import ServeLane

GATE = Decision(gate="promotion", passed=True, reasons=("Good enough.",))


def unheard(text: str, stays: bool) -> None:
    """Nobody looks."""


def release(
    project: Project, settings: Settings, who: str, tell: Callable[[str, bool], None] = unheard
) -> RolloutOutcome:
    """Put the version with the alias `challenger` in front of traffic as the project says."""
    challenger = by_alias(project.name, CHALLENGER, settings)
    champion = by_alias(project.name, CHAMPION, settings)
    assert challenger
    return roll_out(
        Handover(
            challenger=challenger,
            champion=champion,
            decision=GATE,
            lane=ServeLane(project, settings),
            trail=Trail(settings, project.name, who),
            spec=project.serving.rollout,
            watch=LogWatch(project, settings, challenger, champion or challenger, time.time()),
            tell=tell,
        )
    )


if __name__ == "__main__":
    file, home, address, port = sys.argv[1:]
    policies.GRACE_SECONDS = 6.0  # a minute is long for whoever watches a test
    here = Settings(home=Path(home), ray_address=address, serve_port=int(port))
    with connect_ray(here):
        release(load_project(file), here, "the killed one")
