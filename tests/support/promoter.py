"""Promotes in processes that are killed: `python -m tests.support.promoter PROJECT POINT…`.

What is slow to import is imported once; each promotion runs in a fork of this process, which kills
itself right after the point that it is told. Prints a line of JSON per point: the state afterwards.
"""

import json
import os
import shutil
import signal
import sys
import time
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any

from lifecycle.audit.model_trail import (
    Trail,
    approval_of,
    champions,
    history,
    standing,
    verify,
)
from lifecycle.project import RolloutSpec
from lifecycle.project.loader import load_project
from lifecycle.records import (
    Decision,
    Evaluated,
    Gain,
    Judgement,
    ModelVersion,
    Observed,
    Split,
    Trained,
)
from lifecycle.release import offer as offers
from lifecycle.release import policies, promotion, register, rollout
from lifecycle.release.artifacts import record_of
from lifecycle.release.mlflow_store import connect, load_mlflow
from lifecycle.release.registry import CHALLENGER, CHAMPION, by_alias, versions
from lifecycle.settings import Settings
from tests.support.scripted import FakeLane

HOME = "LIFECYCLE_HOME"
POINTS: dict[str, tuple[Any, str]] = {
    "approval": (Trail, "record"),
    "claim": (promotion, "claim"),
    "version": (register, "_create_version"),
    "challenger": (promotion, "accept"),
    "alias": (rollout, "set_alias"),
    "export": (promotion, "note"),
}
"""Point → the function after whose first call the process is killed."""


def main(file: str, points: list[str]) -> None:
    """Promote once undisturbed and, for each point, in a home of its own, killed and again."""
    staging, home = Settings.load("staging"), Settings.load("prod").home
    load_mlflow(staging)  # or each fork imports it anew
    trail = Path(staging.lake, "small", "audit")
    shutil.copytree(trail, trail.with_name("before"))
    os.environ[HOME] = str(home / "empty")
    fork(lambda: connect(Settings.load("prod")) and None)  # its migrations take seconds
    for point in ("", *points):
        os.environ[HOME] = str(home / (point or "undisturbed"))
        shutil.copytree(home / "empty", os.environ[HOME])
        shutil.rmtree(trail)
        shutil.copytree(trail.with_name("before"), trail)
        ends = [fork(lambda: promote(file, point))] if point else []  # noqa: B023 - called at once
        ends.append(fork(lambda: promote(file, "")))
        fork(lambda: tell(point, ends, staging))  # noqa: B023


def fork(act: Callable[[], None]) -> int:
    """Act in a fork, so that this process has no connection; its exit code, or minus its signal."""
    process = os.fork()
    if not process:
        code = 1
        try:
            act()
            code = 0
        finally:
            sys.stdout.flush()
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])


def tell(point: str, ends: list[int], staging: Settings) -> None:
    """Print a point's line."""
    state = {"point": point, "ends": ends} | after(Settings.load("prod"), staging)
    sys.stdout.write(json.dumps(state) + "\n")


def promote(file: str, point: str) -> None:
    """The steps of the flow, without Prefect and with a lane that serves nothing."""
    if point:
        owner, name = POINTS[point]
        setattr(owner, name, deadly(getattr(owner, name)))
    promotion.ask = ask_here
    prod, project = Settings.load("prod"), load_project(file, "prod")
    trail = Trail(prod, "small", "ben")
    base = standing(trail.changes())
    offer = promotion.take_offer(project, prod, "staging")
    champion = by_alias("small", CHAMPION, prod)
    if champion is None or champion.digest != offer.model.digest:
        named = promotion.as_unregistered(project, prod, offer)
        if approval_of(trail.changes(), offer.model.digest) is None:
            Trail(prod, "small", "eve").record("approve", named, ("It is better.",))
        promotion.claim(trail, offer, named, base, {})
        promotion.accept(project, prod, offer, judgement_of(offer.trained, offer.trained.split))
    model = by_alias("small", CHALLENGER, prod) or champion
    assert model
    if model != champion or champions(trail.changes())[-1:] != [model.version]:
        roll_out(trail, model, champion)
    promotion.note(project, offer, "export", "ben", "prod", "As v1, champion there")


def roll_out(trail: Trail, model: ModelVersion, champion: ModelVersion | None) -> None:
    """Release straight, with a lane that serves nothing."""
    policies.roll_out(
        rollout.Handover(
            challenger=model,
            champion=champion,
            decision=Decision(gate="promotion", passed=True, reasons=("Good.",)),
            lane=FakeLane(champion, trail.settings),
            trail=trail,
            spec=RolloutSpec(),
            watch=lambda since: rollout.Sight(unseen(), unseen()),
            tell=lambda text, stays: None,
        )
    )


def judgement_of(trained: Trained, split: Split) -> Judgement:
    """Findings of the training, as if they were those of another environment on a split of its."""
    gain = Gain(value=0.1, low=0.0, high=0.2, least=0.0, confidence=0.9)
    evaluated = Evaluated(
        candidate=trained.evaluation,
        baseline=trained.baseline,
        champion=None,
        gain_over_baseline=gain,
        gain_over_champion=None,
    )
    return Judgement(
        split=split, evaluated=evaluated, checks=trained.checks, decision=trained.decision
    )


def unseen() -> Observed:
    """No request."""
    return Observed(
        version=1, requests=0, errors=0, p50_seconds=0, p99_seconds=0, predictions=(), ids=()
    )


def ask_here(request: offers.OfferRequest, env: str, folder: Path) -> offers.OfferAnswer:
    """Answer in this process: one of its own imports MLflow again."""
    (folder / offers.REQUEST).write_text(request.model_dump_json())
    home = os.environ.pop(HOME, None)
    os.environ["LIFECYCLE_ENV"] = env
    try:
        answer = offers.answer_request(folder)
    finally:
        del os.environ["LIFECYCLE_ENV"]
        os.environ |= {HOME: home} if home else {}
    return offers.without_error(answer, env)


def deadly(function: Callable[..., Any]) -> Callable[..., Any]:
    """The function, after which its process is killed."""

    @wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        function(*args, **kwargs)
        os.kill(os.getpid(), signal.SIGKILL)
        time.sleep(60)

    return call


def after(prod: Settings, staging: Settings) -> dict[str, Any]:
    """State of both environments, without times and ids."""
    champion = by_alias("small", CHAMPION, prod)
    assert champion
    return {
        "versions": [[m.version, m.digest, list(a)] for m, a in versions("small", prod).items()],
        "origin": str(record_of(champion, prod).origin),
        "prod": [[line.action, line.version, line.who] for line in history(prod, "small")],
        "staging": [[line.action, line.version, line.who] for line in history(staging, "small")],
        "sound": [verify(prod, "small"), verify(staging, "small")],
        "bundles": sorted(p.name for p in prod.home.glob("bundles/small/*")),
    }


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
