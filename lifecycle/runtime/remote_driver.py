"""A flow on a machine that is no Ray node: it reaches the cluster through Ray Client.

Tasks and actors work through Ray Client as they do on a node. Ray Train, Ray Data and Ray Serve do
not: they ask the process that calls them for what only a node has. So a function that calls them is
marked with `on_cluster`, and then runs on the cluster's head, which is a node.
"""

import sys
from collections.abc import Callable
from functools import wraps
from typing import Any, ParamSpec, TypeVar

from lifecycle.errors import LifecycleError, RayError, SettingsError, ray_reason
from lifecycle.runtime.nodes import HEAD, on_this_machine
from lifecycle.runtime.traces import below
from lifecycle.settings import SERVED, Settings

P = ParamSpec("P")
T = TypeVar("T")

PORT = 10001
"""Where a head listens for Ray Client unless `ray start` is told otherwise."""
SHARE_OF_HEAD = 0.001
"""As little as Ray counts, so that any number of functions runs there side by side."""


def is_remote() -> bool:
    """Return whether this process is connected through Ray Client. Does not import Ray."""
    client = sys.modules.get("ray.util.client")
    return bool(client and client.ray.is_connected())


def require_shared_stores(settings: Settings) -> None:
    """Check that the cluster reaches lake and registry, which are not on this machine.

    Raises:
        SettingsError: one of them is a folder or file of this machine.
    """
    reason = "the Ray cluster has no folder of this machine"
    if "://" not in settings.lake:
        raise SettingsError(
            f"LIFECYCLE_LAKE_URI: {reason}, so it cannot be {settings.lake}: name object storage "
            "(s3://…)"
        )
    if not settings.tracking_uri.startswith(SERVED):
        raise SettingsError(
            f"LIFECYCLE_MLFLOW_TRACKING_URI: {reason}, so it must be an MLflow server (http://…)"
        )


def on_cluster(function: Callable[P, T]) -> Callable[P, T]:
    """Have a function run on the cluster's head where this process is not a node itself.

    Its arguments and what it returns are pickled then; settings are those of the head
    (`nodes.on_this_machine`). Its own errors (`LifecycleError`) are raised here as they are there.

    Raises:
        RayError: the head, or the connection to it, is gone.
    """

    @wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> T:
        if not is_remote():
            return function(*args, **kwargs)
        answer: T = _call_on_head(call, args, kwargs)
        return answer

    return call


def _call_on_head(
    function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Any:
    import ray
    from ray.exceptions import RayError as AnyRayError
    from ray.exceptions import RayTaskError

    remote: Any = ray.remote(num_cpus=0, max_retries=0, resources={HEAD: SHARE_OF_HEAD})
    call = below(_call, f"{function.__name__.strip('_')} on the head")
    running = remote(call).remote(function, args, kwargs)
    try:
        answer = ray.get(running)
    except RayTaskError:  # not an error of ours, so its trace is wanted
        raise
    except (AnyRayError, ConnectionError) as error:
        raise RayError(
            f"the cluster's head stopped work ({ray_reason(error)}); run again"
        ) from None
    except BaseException:  # cancelled: what it started there ends with it
        ray.cancel(running, force=True)
        raise
    if isinstance(answer, LifecycleError):
        raise answer
    return answer


def _call(function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Runs on the head. An error of ours is returned: raised, Ray would wrap and print it."""
    try:
        options = {name: _as_here(value) for name, value in kwargs.items()}
        return function(*map(_as_here, args), **options)
    except LifecycleError as error:
        return error


def _as_here(value: Any) -> Any:
    return on_this_machine(value) if isinstance(value, Settings) else value
