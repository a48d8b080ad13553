"""Ray for the length of a flow's block."""

from collections.abc import Iterator
from contextlib import contextmanager

from lifecycle.cluster import capacity, connect_ray, is_connected
from lifecycle.settings import Settings
from tasks.progress import say, update


@contextmanager
def ray_cluster(settings: Settings) -> Iterator[None]:
    """Ray, started and stopped here, or joined and left; inside a running connection, nothing."""
    running = is_connected()
    if not running:
        update("ray", "starting" if settings.local_ray else f"joining {settings.ray_address}")
    with connect_ray(settings):
        if not running:
            say("ray", capacity())
        yield
