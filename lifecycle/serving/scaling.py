"""When replicas are added or taken away: by requests in work, and by how busy each replica is.

Ray Serve's own policy looks at requests in work alone. A request of few rows is answered in one go
on the event loop, so whoever counts on that loop always counts none; what tells is how much of its
time the loop is busy. Requests of many rows are worked on beside it, and there the count tells.
"""

import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ray.serve.config import AutoscalingContext

BUSY = "busy_share"


class BusyShare:
    """Share of the time between two looks that the calling thread was on a processor."""

    def __init__(self) -> None:
        self._busy, self._looked = time.thread_time(), time.monotonic()

    def look(self) -> float:
        """The share since the last look, in [0, 1]; each look is made by the same thread."""
        busy, now = time.thread_time(), time.monotonic()
        share = (busy - self._busy) / max(now - self._looked, 1e-9)
        self._busy, self._looked = busy, now
        return min(max(share, 0.0), 1.0)


class ByLoad:
    """An autoscaling policy of Ray Serve, which asks it in its controller several times a second.

    Ray keeps the number between the bounds, and waits for the declared delays.

    Args:
        target_busy_share: share of its time that a replica is to be busy.
    """

    def __init__(self, target_busy_share: float) -> None:
        self._target = target_busy_share

    def __call__(self, context: "AutoscalingContext") -> tuple[float, dict[str, Any]]:
        """Replicas wanted, so that neither target is missed, and no state."""
        config: Any = context.config
        in_work = context.total_num_requests / config.get_target_ongoing_requests()
        told = (context.raw_metrics or {}).get(BUSY, {})
        busy = sum(points[-1].value for points in told.values() if points)
        return max(in_work, busy / self._target), {}
