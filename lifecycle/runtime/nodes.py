"""The nodes of a Ray cluster: what each runs, and the folder of its own that each has.

Nodes share object storage, the registry and the settings, and need no folder in common.
"""

import os
import platform
import time
from pathlib import Path
from typing import Any, NamedTuple

from lifecycle.errors import RayError, SettingsError
from lifecycle.runtime.identity import code_digest, lock_digest
from lifecycle.settings import Settings

ANSWER_S = 60.0
"""Seconds all nodes may take to start a worker and answer: a cold one imports for some of them."""
JOIN_S = 20.0
"""The same where a flow joins, and waits for it."""
HEAD = "node:__internal_head__"
"""Resource that Ray gives its head alone."""
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


def machine_folder(*parts: str) -> Path:
    """A folder of this machine's own, made if needed: what nodes keep of what others sent them.

    It is in `LIFECYCLE_HOME`, else in the user's cache folder (XDG Base Directory Specification).

    Raises:
        SettingsError: it cannot be made.
    """
    cache = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "lifecycle"
    path = Path(os.environ.get("LIFECYCLE_HOME") or cache).absolute().joinpath(*parts)
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise SettingsError(
            f"LIFECYCLE_HOME: cannot make the folder {path} ({error.strerror}); "
            "name a writable one in the environment of this node"
        ) from None
    return path


def on_this_machine(settings: Settings) -> Settings:
    """The settings as a process on a node needs them, which may not have the flow's folders.

    Raises:
        SettingsError: `home` is not here, and was the only place of a secret.
    """
    if settings.home.is_dir():
        return settings
    if settings.pii_key is None:
        raise SettingsError(
            f"this node does not have {settings.home}, and so not the key of personal data: set "
            "LIFECYCLE_PII_KEY where the flows run"
        )
    if settings.needs_keys and not settings.keys_file.is_file():
        raise SettingsError(
            f"this node does not have the API keys {settings.keys_file}: set LIFECYCLE_SERVE_KEYS "
            "to a file that every node reaches"
        )
    return settings.model_copy(update={"home": machine_folder()})


def own_facts() -> NodeFacts:
    """The facts of this process."""
    return NodeFacts(platform.python_version(), lock_digest(), code_digest("any"), time.time())


def require_same_nodes() -> None:
    """See that the nodes of the connected Ray run what this process runs.

    One that does not answer in time is not judged: it may be dead, and Ray not know it yet.

    Raises:
        RayError: a node has another Python, other packages or other code.
    """
    own = own_facts()
    problems = [
        f"node {node.address} {text}"
        for node in ask_nodes(JOIN_S)
        if node.facts is not None and (text := differences(node, own, clocks=False))
    ]
    if problems:
        raise RayError(
            f"LIFECYCLE_RAY_ADDRESS: {'; '.join(problems)}: install the same release and its lock "
            "on every node, and start the cluster again"
        )


def head_variable(name: str) -> str:
    """Return an environment variable of the head of the connected Ray; empty without one."""
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    [head] = [node for node in ray.nodes() if HEAD in node["Resources"]]  # type: ignore[no-untyped-call]  # the same
    affinity = NodeAffinitySchedulingStrategy(head["NodeID"], soft=False)
    remote = ray.remote(num_cpus=0, scheduling_strategy=affinity)(os.getenv)  # type: ignore[call-overload]  # the same
    return str(ray.get(remote.remote(name, "")))


def ask_nodes(patience: float = ANSWER_S) -> list[ClusterNode]:
    """Ask each live node of the connected Ray for its facts.

    Args:
        patience: seconds to wait for all of them.
    """
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
    ready, _ = ray.wait(list(references), num_returns=len(references), timeout=patience)
    delay = time.time() - begin
    return [
        _answer(reference, address, delay)
        if reference in ready
        else ClusterNode(address, None, f"no answer within {patience:g} s")
        for reference, address in references.items()
    ]


def _answer(reference: Any, address: str, delay: float) -> ClusterNode:
    import ray
    from ray.exceptions import RayError as AnyRayError
    from ray.exceptions import RayTaskError

    try:
        return ClusterNode(address, NodeFacts(*ray.get(reference)), delay=delay)
    except RayTaskError as error:
        return ClusterNode(address, None, str(error.cause))
    except AnyRayError as error:
        return ClusterNode(address, None, str(error).partition("\n")[0])


def differences(node: ClusterNode, own: NodeFacts, clocks: bool = True) -> str:
    """Say in words how a node differs from this process; empty where it does not.

    Args:
        clocks: whether clocks are compared, too.
    """
    if node.facts is None:
        return node.error
    parts = []
    if node.facts.python != own.python:
        parts.append(f"has Python {node.facts.python}, here it is {own.python}")
    if node.facts.lock != own.lock:
        parts.append("has other locked packages (requirements.lock)")
    if node.facts.code != own.code:
        parts.append("has other code of this package")
    if clocks and (seconds := abs(node.facts.clock - own.clock)) > CLOCK_S + node.delay:
        parts.append(f"has a clock that differs by {seconds:.0f} s")
    return ", ".join(parts)
