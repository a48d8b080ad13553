"""Which policy a release follows."""

from lifecycle.release.canary import canary
from lifecycle.release.rollout import Handover, Outcome, Policy, same, straight
from lifecycle.release.shadow import shadow

POLICIES: dict[str, Policy] = {"straight": straight, "canary": canary, "shadow": shadow}


def roll_out(handover: Handover) -> Outcome:
    """Follow the project's policy; straight where there is nothing to hold a challenger against.

    Raises:
        LifecycleError: what the policy raised; the champion answers all again.
    """
    return POLICIES[_policy(handover)](handover)


def _policy(handover: Handover) -> str:
    asked, model, champion = handover.spec.policy, handover.challenger, handover.champion
    if asked == "straight":
        return asked
    served = handover.lane.serving()
    if champion is None or served is None:
        why = "nothing is served yet"
    elif same(champion, model):
        why = f"v{model.version} is champion already"
    elif same(served, model):  # a release before this one was cut short behind its last gate
        why = f"v{model.version} has passed it and is served already"
    else:
        return asked
    handover.tell(f"{asked}: {why}, so it goes straight", True)
    return "straight"
