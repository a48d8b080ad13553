"""Rollout: the order in which a challenger takes over, whatever serves it.

The shares of a canary are decided in `policies.canary`.

Every policy ends with `straight`, and so do all releases while nothing is served. What keeps a
release that is killed anywhere safe is the order:

1. `rehearse` in a process of its own; 2. canary or shadow beside the champion, under a lease that
runs out by itself; 3. `deploy` and its smoke test; 4. the alias `champion`; 5. the line `promote`
in the audit trail; 6. the alias `challenger` goes; 7. the candidate stops.

Up to 3 the former champion answers, and running again starts anew. From 3 on the gates have passed,
and running again finds the challenger served and takes up at 3, where every step is the same once
or twice.
"""

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from lifecycle.audit.model_trail import Trail, champions
from lifecycle.errors import LifecycleError, first_line, is_verdict
from lifecycle.project import RolloutSpec
from lifecycle.quality.canary_gate import Agreement, Labelled
from lifecycle.records import Action, Decision, Endpoint, ModelVersion, Observed, Traffic
from lifecycle.release.registry import CHALLENGER, CHAMPION, delete_alias, set_alias

logger = logging.getLogger(__name__)


class Lane(Protocol):
    """The serving side of a rollout.

    Each call may be repeated without effect, and raises a LifecycleError if it fails.
    """

    def serving(self) -> ModelVersion | None:
        """Return the version that the application serves; None if there is no application."""

    def rehearse(self, model: ModelVersion) -> None:
        """Load a version and let it predict, in a process of its own."""

    def deploy(self, model: ModelVersion) -> Endpoint:
        """Serve a version in place of the former one, all traffic straight, and smoke-test it."""

    def start_candidate(self, model: ModelVersion) -> None:
        """Serve a version beside the champion, where no request reaches it yet."""

    def set_traffic(self, traffic: Traffic) -> None:
        """Share the requests like this; all replicas do when it returns."""

    def stop_candidate(self) -> None:
        """Stop serving whichever version is beside the champion, if there is one."""


class Sight(NamedTuple):
    """Observations of champion and candidate since a moment."""

    champion: Observed
    candidate: Observed
    labelled: Labelled | None = None
    agreement: Agreement | None = None


Watch = Callable[[float], Sight]
"""What both did since a moment (Unix seconds)."""


class Clock(NamedTuple):
    """Time, so that a test need not wait."""

    now: Callable[[], float] = time.time
    """Unix seconds, as in the prediction log."""
    sleep: Callable[[float], None] = time.sleep


SYSTEM = Clock()


class RolloutOutcome(NamedTuple):
    """Result of a rollout."""

    endpoint: Endpoint | None
    """None if the champion stayed."""
    decision: Decision


@dataclass(frozen=True)
class Handover:
    """A challenger that is to take over, and all that a policy needs for it."""

    challenger: ModelVersion
    champion: ModelVersion | None
    decision: Decision
    """Of the promotion gate."""
    lane: Lane
    trail: Trail
    spec: RolloutSpec
    watch: Watch
    tell: Callable[[str, bool], None]
    """Takes what to show, and whether it stays on the screen."""
    classes: bool = False
    """Whether predictions are classes."""
    clock: Clock = SYSTEM


class Policy(Protocol):
    """Guarantees that every policy gives.

    The alias `champion` moves only to a version that `deploy` has tested. If a step fails, the
    former champion answers every request again where there is one. Running again after being killed
    anywhere ends as an uninterrupted run.
    """

    def __call__(self, handover: Handover) -> RolloutOutcome: ...


def straight(handover: Handover) -> RolloutOutcome:
    """All requests at once: rehearse, deploy and smoke-test, then the alias `champion`.

    Raises:
        LifecycleError: what the lane raised, or BackendError if alias or trail cannot be written;
            the champion serves again.
    """
    model, served = handover.challenger, handover.lane.serving()
    if served is not None and not same(served, model):
        rehearse(handover)
    return take_over(handover, handover.decision, replaces=served is not None)


def rehearse(handover: Handover) -> None:
    """Have the lane rehearse the challenger; a failure is written down.

    Raises:
        LifecycleError: what the lane raised.
    """
    try:
        handover.lane.rehearse(handover.challenger)
    except LifecycleError as error:
        note_failure(handover, "Failed its rehearsal", error)
        raise


def take_over(handover: Handover, decision: Decision, replaces: bool = True) -> RolloutOutcome:
    """Deploy, smoke-test, promote; on failure the champion serves again.

    Args:
        decision: of the gate that opened last.
        replaces: whether another version is served now.

    Raises:
        LifecycleError: as `straight`.
    """
    model, champion = handover.challenger, handover.champion
    try:
        endpoint = handover.lane.deploy(model)
        handover.trail.record("deploy", model, decision.reasons)
        _promote(handover, decision)
    except LifecycleError as error:
        note_failure(handover, "Could not take over", error)
        if champion is not None and champion != model and (replaces or is_verdict(error)):
            put_back(champion, handover.lane, handover.trail)
        raise
    handover.lane.stop_candidate()
    return RolloutOutcome(endpoint, decision)


def put_back(champion: ModelVersion, lane: Lane, trail: Trail) -> None:
    """Serve the champion again after an error; if that fails too, say so but keep the error."""
    try:
        lane.deploy(champion)
    except LifecycleError as error:
        logger.error("%s: the champion could not be put back: %s", champion.uri, error)
    else:
        note(trail, "deploy", champion, "Put back.")


def note_failure(handover: Handover, step: str, error: BaseException) -> None:
    """Record that a release ended with an error: as the challenger's rejection, or as no verdict.

    Args:
        step: the step that failed, in words.
    """
    action: Action = "reject" if is_verdict(error) else "not released"
    note(handover.trail, action, handover.challenger, f"{step}: {first_line(error)}")


def note(trail: Trail, action: Action, model: ModelVersion, *reasons: str) -> None:
    """Record what happened while another error is on its way; a failure to do so is logged."""
    try:
        trail.record(action, model, reasons)
    except LifecycleError as error:
        logger.error("%s of %s is not in the audit trail: %s", action, model.uri, error)


def same(first: ModelVersion, other: ModelVersion) -> bool:
    """Return whether two records name the same registered version with the same bundle."""
    return (first.version, first.digest) == (other.version, other.digest)


def _promote(handover: Handover, decision: Decision) -> None:
    """Make the challenger the champion; it is the challenger no longer."""
    model, champion, trail = handover.challenger, handover.champion, handover.trail
    if champion is not None and champion != model:
        champions_so_far = champions(trail.changes())
        if (
            not champions_so_far or champions_so_far[-1] != champion.version
        ):  # by hand, or before there was a trail
            trail.record("promote", champion, ("It was champion already.",))
    set_alias(model, CHAMPION, trail.settings)
    trail.record("promote", model, decision.reasons)
    delete_alias(model, CHALLENGER, trail.settings)
