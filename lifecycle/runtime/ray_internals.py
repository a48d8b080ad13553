"""Every use of what Ray does not promise to keep, each with its cause and a check that it works.

Ray has no public setting or call for these. tests/lifecycle/runtime/test_library_internals.py
holds each against the installed version, and fails first after an upgrade: look there whether
Ray has a public way by now.
"""

from importlib import import_module
from typing import Any

from lifecycle.errors import RayError
from lifecycle.runtime.remote_driver import on_cluster

LOOPBACK = "127.0.0.1"
SETUP_HOOK = "__RAY_WORKER_PROCESS_SETUP_HOOK_ENV_VAR"
"""Variable of a worker with the name of the function that it calls first.

Cause: `ray.init` makes it of `worker_process_setup_hook` in the `runtime_env`, but not where it
goes through Ray Client: the function would never be called.
"""


def use_cluster_mode(enabled: bool) -> None:
    """Say whether this process's Ray may be one of several machines; if not, it is on loopback.

    Cause: `RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER` is read once, when Ray is imported, and a user's code
    may have done so (https://github.com/ray-project/ray/pull/32409 made the variable).

    Raises:
        RayError: this Ray has no such constant.
    """
    constants: Any = import_module("ray._private.ray_constants")
    _require(constants, "ENABLE_RAY_CLUSTER")
    constants.ENABLE_RAY_CLUSTER = enabled


def start_node_on_loopback() -> Any:
    """Ray's `ray start`, to call with `sys.argv` set, such that it joins a head on loopback.

    Cause: Ray looks for a machine's outer address even if it is told to use 127.0.0.1, and refuses
    to join while multi-node clusters are off (https://github.com/ray-project/ray/pull/32409).

    Raises:
        RayError: this Ray finds its address in another way.
    """
    use_cluster_mode(True)
    services: Any = import_module("ray._private.services")
    _require(services, "get_node_ip_address")
    services.get_node_ip_address = lambda address=None: LOOPBACK
    return import_module("ray.scripts.scripts").main


def serve_grpc_on_loopback() -> None:
    """Keep a replica's gRPC server off the machine's other interfaces.

    Cause: Serve opens it on all of them after the replica's `__init__`, and it unpickles what it
    is sent; https://github.com/ray-project/ray/pull/64623 would add a setting for its port, none
    for its address.

    Raises:
        RayError: this Ray Serve opens it in another way.
    """
    replica: Any = import_module("ray.serve._private.replica")
    _require(replica, "add_port_to_grpc_server")
    add_port = replica.add_port_to_grpc_server
    if getattr(add_port, "on_loopback", False):
        return

    def add_loopback_port(server: Any, address: str) -> Any:
        return add_port(server, address.replace("[::]", LOOPBACK))

    add_loopback_port.on_loopback = True  # type: ignore[attr-defined]  # a mark of ours
    replica.add_port_to_grpc_server = add_loopback_port


@on_cluster
def free_cpus() -> list[float]:
    """CPUs of each node that nothing holds at the moment; Ray is connected already.

    Cause: `ray.available_resources()` has their sum, and a task has to fit on one node.

    Raises:
        RayError: this Ray counts them elsewhere.
    """
    state: Any = import_module("ray._private.state")
    _require(state, "available_resources_per_node")
    nodes: dict[str, dict[str, float]] = state.available_resources_per_node()
    return [resources.get("CPU", 0.0) for resources in nodes.values()]


def serve_port() -> int:
    """The port that this cluster's Ray Serve listens on.

    Cause: `serve.status()` and `serve.start()` do not report it.

    Raises:
        RayError: this Ray Serve keeps it elsewhere.
    """
    context: Any = import_module("ray.serve.context")
    _require(context, "_get_global_client")
    return int(context._get_global_client().http_config.port)


def with_version(deployment: Any, version: str) -> Any:
    """A Serve deployment whose replicas are kept as long as their version is the same.

    Cause: `version=` is Serve's own since users may not give it, but without one every deployment
    starts all replicas anew, even if only `user_config` is another.

    Raises:
        RayError: this Ray Serve ignores the version.
    """
    versioned = deployment.options(version=version, _internal=True)
    if versioned.version != version:
        raise RayError("this version of Ray Serve ignores a deployment's version")
    return versioned


def lean_trainer() -> Any:
    """The class of Ray Train's XGBoost trainer without what costs and is not needed here.

    Causes: two actors are processes that take seconds to start. One hands out datasets, which our
    workers read themselves; the other outlives a controller that died to free its placement group,
    which Ray does anyway (https://github.com/ray-project/ray/issues/65443 has its costs). And
    Ray's handler of Ctrl-C would outlive the training; the trainer keeps its `controller` instead.

    Raises:
        RayError: this Ray Train has other callbacks.
    """
    from ray.train.v2._internal.callbacks.datasets import DatasetsCallback
    from ray.train.v2._internal.callbacks.placement_group_callback import (
        PlacementGroupCleanerCallback,
    )
    from ray.train.xgboost import XGBoostTrainer

    base: Any = XGBoostTrainer
    _require(base, "_create_default_callbacks", "_register_sigint_handler")

    class LeanTrainer(base):  # type: ignore[misc]  # V1 is what mypy sees
        controller: Any = None

        def _create_default_callbacks(self) -> list[Any]:
            unused = (DatasetsCallback, PlacementGroupCleanerCallback)
            callbacks = super()._create_default_callbacks()
            return [callback for callback in callbacks if not isinstance(callback, unused)]

        def _register_sigint_handler(self, controller: Any) -> None:
            self.controller = controller

    return LeanTrainer


def _require(owner: Any, *names: str) -> None:
    missing = [name for name in names if not hasattr(owner, name)]
    if missing:
        place = getattr(owner, "__module__", None) or owner.__name__
        raise RayError(
            f"this version of Ray has no {place}.{missing[0]}, which lifecycle relies on; install "
            "the version in requirements.lock"
        )
