"""Canary: a rising share of the entities gets the challenger's answers, gated at every step."""

from lifecycle.quality.canary_gate import Check
from lifecycle.records import Traffic
from lifecycle.release.bake import beside, hold
from lifecycle.release.rollout import Handover, Outcome


def canary(handover: Handover) -> Outcome:
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

    return beside(handover, "canary", steps)
