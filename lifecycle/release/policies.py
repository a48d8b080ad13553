"""Rollout policies: straight, canary by rising shares, shadow, and the choice of one."""

import logging
from collections.abc import Callable

from lifecycle.audit.model_trail import decisive
from lifecycle.errors import LifecycleError
from lifecycle.quality.canary_gate import Check, decide_canary
from lifecycle.records import Action, Change, Decision, Traffic
from lifecycle.release.rollout import (
    Handover,
    Policy,
    RolloutOutcome,
    note_failure,
    rehearse,
    same,
    straight,
    take_over,
)

# Trial of a challenger next to the champion, with a look at the numbers every second.

logger = logging.getLogger(__name__)

LOOK_SECONDS = 1.0
"""Between two looks; the prediction log is as old as that anyway."""
GRACE_SECONDS = 60.0
"""For how long a version may go on beside the champion after its release was killed."""


class EndedError(Exception):
    """Somebody else has changed the project's versions meanwhile; carries their last change."""

    def __init__(self, change: Change) -> None:
        super().__init__(change)
        self.change = change


def try_candidate(handover: Handover, action: Action, run: Callable[[], Check]) -> RolloutOutcome:
    """Start the challenger beside the champion, let `run` try it, then take over or send it back.

    Args:
        run: makes the steps with `hold`; its check decides.

    Raises:
        LifecycleError: what the lane raised, or BackendError if log or trail cannot be read; the
            champion answers all again.
    """
    lane, model, champion = handover.lane, handover.challenger, handover.champion
    assert champion  # noqa: S101 - without one every release is straight
    rehearse(handover)
    served = lane.serving()
    if served is None or not same(served, champion):
        lane.deploy(champion)  # a release or a rollback before this one was cut short
        handover.trail.record("deploy", champion, ("It is the champion.",))
    try:
        lane.set_traffic(Traffic())  # not to a candidate that was left over
        lane.start_candidate(model)
        check = run()
        decision = check.decision(action)
        if not decision.passed:
            return _sent_back(handover, decision)
    except EndedError as ended:
        return _ended(handover, ended.change, action)
    except BaseException as error:
        note_failure(handover, f"{action} broken off", error)
        _champion_answers(handover)
        raise
    return take_over(handover, decision)


def hold(handover: Handover, traffic: Traffic, name: str) -> Check:
    """Keep the traffic like this for the bake time, or until a look fails.

    Too few answers make it last longer, up to `max_wait_seconds`.

    Args:
        traffic: as it should be; the lease is this function's.
        name: the step, in words.

    Raises:
        EndedError: somebody else has changed the project's versions.
    """
    spec, clock, model = handover.spec, handover.clock, handover.challenger
    action: Action = "shadow" if traffic.policy == "shadow" else "canary"
    mark, before = handover.trail.mark(), len(decisive(handover.trail.changes()))
    lease = _renew(handover, traffic)
    since = clock.now()
    while True:
        clock.sleep(LOOK_SECONDS)
        if (now := handover.trail.mark()) != mark:
            mark, changes = now, decisive(handover.trail.changes())
            if len(changes) != before:
                raise EndedError(changes[-1])
        sight = handover.watch(since)
        check = decide_canary(
            sight.champion,
            sight.candidate,
            spec,
            classes=handover.classes,
            labelled=sight.labelled,
            agreement=sight.agreement,
        )
        elapsed = clock.now() - since
        handover.tell(
            f"{action}, {name}, {elapsed:.0f} of {spec.bake_seconds:g} s: "
            f"v{model.version} gave {sight.candidate.requests:,} answers, "
            f"{sight.candidate.errors:,} errors",
            False,
        )
        if check.outcome == "fail":
            return _led_by(f"Failed at {name} after {elapsed:.0f} s.", check)
        if check.outcome == "pass" and elapsed >= spec.bake_seconds:
            return _led_by(f"Held at {name} for {elapsed:.0f} s.", check)
        if check.outcome == "wait" and elapsed >= max(spec.max_wait_seconds, spec.bake_seconds):
            lead = f"Too few answers at {name} after {elapsed:.0f} s (max_wait_seconds)."
            return _led_by(lead, Check("fail", check.reasons))
        if lease - clock.now() < GRACE_SECONDS / 2:
            lease = _renew(handover, traffic)


def _led_by(lead: str, check: Check) -> Check:
    return Check(check.outcome, (lead, *check.reasons))


def _renew(handover: Handover, traffic: Traffic) -> float:
    """Set the traffic until the step's end and some grace, at most a minute ahead of that."""
    ahead = min(handover.spec.bake_seconds, GRACE_SECONDS)
    lease = handover.clock.now() + ahead + GRACE_SECONDS
    handover.lane.set_traffic(traffic.model_copy(update={"expires_at": lease}))
    return lease


def _sent_back(handover: Handover, decision: Decision) -> RolloutOutcome:
    """The champion answers all, at once; then it is written down, then the candidate stops."""
    _champion_answers(handover, lambda: _reject(handover, decision))
    return RolloutOutcome(None, decision)


def _reject(handover: Handover, decision: Decision) -> None:
    handover.trail.record("reject", handover.challenger, decision.reasons)


def _champion_answers(handover: Handover, then: Callable[[], None] = lambda: None) -> None:
    """All requests to the champion; a lane that fails now must not keep the rest from happening."""

    def straight() -> None:
        handover.lane.set_traffic(Traffic())

    for act in (straight, then, handover.lane.stop_candidate):
        try:
            act()
        except LifecycleError as error:
            logger.error("while %s was sent back: %s", handover.challenger.uri, error)


def _ended(handover: Handover, change: Change, action: Action) -> RolloutOutcome:
    if change.action in ("reject", "rollback"):  # a step may have begun just after it
        _champion_answers(handover)
    words = f"Ended by {change.who}: {change.action} of v{change.version}."
    return RolloutOutcome(
        None, Decision(gate=action, passed=False, reasons=(words, *change.reasons))
    )


# Shadow: the challenger gets every request as well; its answers are only compared.


def shadow(handover: Handover) -> RolloutOutcome:
    """Compare for the bake time, then straight; the first failing look sends it back.

    Raises:
        LifecycleError: see `beside`.
    """

    def compare() -> Check:
        name = "all requests, unseen"
        reasons = (f"To {name}.", *handover.decision.reasons)
        handover.trail.record("shadow", handover.challenger, reasons)
        check = hold(handover, Traffic(policy="shadow", candidate=handover.challenger), name)
        if check.outcome == "pass":
            handover.tell(f"shadow: {check.reasons[0]} {check.reasons[-1]}", True)
        return check

    return try_candidate(handover, "shadow", compare)


# Canary: a rising share of the entities gets the challenger's answers, gated at every step.


def canary(handover: Handover) -> RolloutOutcome:
    """Step by step, each held for the bake time; the first failing look sends it back.

    Each step is in the audit trail with what the gate before it said.

    Raises:
        LifecycleError: see `beside`.
    """

    def steps() -> Check:
        check = Check("pass", handover.decision.reasons)
        for share in handover.spec.steps:
            name = f"{share * 100:g} % of the entities"
            handover.trail.record("canary", handover.challenger, (f"To {name}.", *check.reasons))
            traffic = Traffic(policy="canary", candidate=handover.challenger, share=share)
            check = hold(handover, traffic, name)
            if check.outcome != "pass":
                return check
            handover.tell(f"canary: {check.reasons[0]}", True)
        return check

    return try_candidate(handover, "canary", steps)


POLICIES: dict[str, Policy] = {"straight": straight, "canary": canary, "shadow": shadow}


def roll_out(handover: Handover) -> RolloutOutcome:
    """Follow the project's policy; straight where there is nothing to hold a challenger against.

    Raises:
        LifecycleError: what the policy raised; the champion answers all again.
    """
    return POLICIES[_policy(handover)](handover)


def _policy(handover: Handover) -> str:
    policy_name, model, champion = handover.spec.policy, handover.challenger, handover.champion
    if policy_name == "straight":
        return policy_name
    served = handover.lane.serving()
    if champion is None or served is None:
        reason = "nothing is served yet"
    elif same(champion, model):
        reason = f"v{model.version} is champion already"
    elif same(served, model):  # a release before this one was cut short behind its last gate
        reason = f"v{model.version} has passed it and is served already"
    else:
        return policy_name
    handover.tell(f"{policy_name}: {reason}, so it goes straight", True)
    return "straight"
