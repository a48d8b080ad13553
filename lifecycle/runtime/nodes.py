"""The nodes of a Ray cluster: what each runs, held against this process."""

import platform
import time
from typing import Any, NamedTuple

from lifecycle.runtime.identity import code_digest, lock_digest

ANSWER_S = 60.0
"""Seconds all nodes may take to start a worker and answer: a cold one imports for some of them."""
CLOCK_S = 5.0
"""Seconds that a clock may differ; leases and time limits are in tens of seconds."""


class NodeFacts(NamedTuple):
    """The versions of a process, and its time."""

    python: str
    lock: str
    """Digest of the locked packages."""
    code: str
    """Digest of the files that shape results."""
    clock: float
    """Seconds since 1970."""


class ClusterNode(NamedTuple):
    """A node that answered, or did not."""

    address: str
    facts: NodeFacts | None
    error: str = ""
    delay: float = 0.0
    """Seconds its answer took: by so much its clock may seem to differ."""


def own_facts() -> NodeFacts:
    """The facts of this process."""
    return NodeFacts(platform.python_version(), lock_digest(), code_digest("any"), time.time())


def ask_nodes() -> list[ClusterNode]:
    """Ask each live node of the connected Ray for its facts."""
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    def facts() -> Any:  # nested, so that a node without this package gets it by value
        from importlib import import_module

        return tuple(import_module("lifecycle.runtime.nodes").own_facts())

    references = {}
    begin = time.time()
    for node in ray.nodes():  # type: ignore[no-untyped-call]  # Ray leaves it untyped
        if node["Alive"]:
            affinity = NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
            remote = ray.remote(num_cpus=0, max_retries=0, scheduling_strategy=affinity)(facts)  # type: ignore[call-overload]  # Ray's own type is none of its overloads
            references[remote.remote()] = node["NodeManagerAddress"]
    ready, _ = ray.wait(list(references), num_returns=len(references), timeout=ANSWER_S)
    delay = time.time() - begin
    return [
        _answer(reference, address, delay)
        if reference in ready
        else ClusterNode(address, None, f"no answer within {ANSWER_S:g} s")
        for reference, address in references.items()
    ]


def _answer(reference: Any, address: str, delay: float) -> ClusterNode:
    import ray
    from ray.exceptions import RayError, RayTaskError

    try:
        return ClusterNode(address, NodeFacts(*ray.get(reference)), delay=delay)
    except RayTaskError as error:
        return ClusterNode(address, None, str(error.cause))
    except RayError as error:
        return ClusterNode(address, None, str(error).partition("\n")[0])


def differences(node: ClusterNode, own: NodeFacts) -> str:
    """Say in words how a node differs from this process; empty where it does not."""
    if node.facts is None:
        return node.error
    parts = []
    if node.facts.python != own.python:
        parts.append(f"has Python {node.facts.python}, here it is {own.python}")
    if node.facts.lock != own.lock:
        parts.append("has other locked packages (requirements.lock)")
    if node.facts.code != own.code:
        parts.append("has other code of this package")
    if (apart := abs(node.facts.clock - own.clock)) > CLOCK_S + node.delay:
        parts.append(f"has a clock that differs by {apart:.0f} s")
    return ", ".join(parts)
