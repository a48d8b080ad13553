"""Rollout: the order in which a challenger takes over, whatever serves it.

`straight` is the only policy so far: all traffic at once, after a smoke test. A policy that moves
traffic in steps (canary) or copies it (shadow) is another function with this signature.
"""

import logging
from collections.abc import Callable
from typing import Protocol

from lifecycle.errors import LifecycleError
from lifecycle.records import Endpoint, ModelVersion
from lifecycle.release.registry import CHALLENGER, CHAMPION, delete_alias, set_alias
from lifecycle.settings import Settings

logger = logging.getLogger(__name__)

Deploy = Callable[[ModelVersion], Endpoint]
"""Put a version in front of traffic and smoke-test it; raises if it does not answer as it must."""


class Rollout(Protocol):
    """What every policy guarantees.

    The alias `champion` moves last, only to a version that `deploy` has tested. If a step fails,
    the former champion serves again where there is one, and the error goes on. Running again after
    being killed anywhere gives the same result.
    """

    def __call__(
        self,
        challenger: ModelVersion,
        champion: ModelVersion | None,
        deploy: Deploy,
        settings: Settings,
    ) -> Endpoint: ...


def straight(
    challenger: ModelVersion, champion: ModelVersion | None, deploy: Deploy, settings: Settings
) -> Endpoint:
    """Deploy and smoke-test, then the alias `champion`; on failure the champion serves again.

    Raises:
        LifecycleError: what `deploy` raised, or BackendError if the alias cannot be moved.
    """
    try:
        endpoint = deploy(challenger)
        promote(challenger, settings)
    except LifecycleError:
        if champion is not None and champion != challenger:
            _restore(champion, deploy)
        raise
    return endpoint


def promote(model: ModelVersion, settings: Settings) -> None:
    """Make a version the champion; it is the challenger no longer.

    Raises:
        BackendError: the registry cannot be reached.
    """
    set_alias(model, CHAMPION, settings)
    delete_alias(model, CHALLENGER, settings)


def _restore(champion: ModelVersion, deploy: Deploy) -> None:
    """Serve the champion again; if that fails too, say so but keep the first error."""
    try:
        deploy(champion)
    except LifecycleError as error:
        logger.error("%s: the champion could not be put back: %s", champion.uri, error)
