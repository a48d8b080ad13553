"""Rolling back by hand: end what is under way, or go back to the version that was champion before.

Which one that was, the audit trail says: it knows all champions in their order, where an alias
would know one.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from lifecycle.audit.model_trail import BY_HAND, CROWNING, Trail, champions, decisive
from lifecycle.errors import LifecycleError, RegistryError
from lifecycle.records import Change, Endpoint, ModelVersion, Traffic
from lifecycle.release.registry import CHAMPION, set_alias
from lifecycle.release.rollout import Lane, put_back


class RolledBack(NamedTuple):
    """Result of a rollback."""

    away: ModelVersion
    """The version that no longer answers requests."""
    champion: ModelVersion
    endpoint: Endpoint | None
    """None if only a candidate was sent back: the champion answered all along."""
    reasons: tuple[str, ...]


def roll_back(
    champion: ModelVersion | None,
    registered: Mapping[int, ModelVersion],
    lane: Lane,
    trail: Trail,
    reason: str = "",
) -> RolledBack:
    """End a canary or shadow that is under way; without one, the champion before serves again.

    Deploy and smoke test, the line in the trail, then the alias: killed anywhere and run again, it
    goes back to the same version.

    Args:
        champion: the version with the alias.
        registered: every registered version by its number.
        reason: why, for the trail.

    Raises:
        LifecycleError: the version before does not serve; the champion serves again.
        RegistryError: there is no version to go back to, or it is not what it was.
    """
    changes = decisive(trail.changes())
    further_reasons = (reason,) if reason else ()
    if champion is None:
        raise RegistryError(f"{trail.project_name}: there is no champion to roll back from")
    if changes and changes[-1].action in ("canary", "shadow") and lane.serving() is not None:
        away = _as_it_was(changes[-1], registered)
        reasons = (f"{changes[-1].action} {BY_HAND}", *further_reasons)
        trail.record("reject", away, reasons)  # first: a release that is under way sees it and ends
        lane.set_traffic(Traffic())
        lane.stop_candidate()
        return RolledBack(away, champion, None, reasons)
    target = _as_it_was(_before(changes, champion), registered)
    reasons = (f"Back from v{champion.version}, by hand.", *further_reasons)
    try:
        endpoint = lane.deploy(target)
    except LifecycleError:
        put_back(champion, lane, trail)
        raise
    trail.record("rollback", target, reasons)
    set_alias(target, CHAMPION, trail.settings)
    lane.stop_candidate()
    return RolledBack(champion, target, endpoint, reasons)


def _before(changes: Sequence[Change], champion: ModelVersion) -> Change:
    """The newest line that made the champion before.

    Raises:
        RegistryError: there was none.
    """
    crowned = [change for change in changes if change.action in CROWNING]
    if crowned and crowned[-1].action == "rollback" and crowned[-1].version != champion.version:
        return crowned[-1]  # a rollback that was cut short before the alias
    earlier = [version for version in champions(changes) if version != champion.version]
    if not earlier:
        raise RegistryError(
            f"{champion.name}: no version was champion before v{champion.version}, so there is "
            "nothing to go back to; the audit trail (`lifecycle audit`) lists every champion"
        )
    return next(change for change in reversed(crowned) if change.version == earlier[-1])


def _as_it_was(change: Change, registered: Mapping[int, ModelVersion]) -> ModelVersion:
    model = registered.get(change.version)
    if model is None or model.digest != change.digest:
        reason = "is not registered any more" if model is None else "is another bundle now"
        raise RegistryError(
            f"{change.model}: v{change.version} {reason}; promote another version with a release"
        )
    return model
