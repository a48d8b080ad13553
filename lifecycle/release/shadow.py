"""Shadow: the challenger gets every request beside the champion; its answers are only compared."""

from lifecycle.quality.canary_gate import Check
from lifecycle.records import Traffic
from lifecycle.release.bake import beside, hold
from lifecycle.release.rollout import Handover, Outcome


def shadow(handover: Handover) -> Outcome:
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

    return beside(handover, "shadow", compare)
