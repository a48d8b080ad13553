"""`lifecycle ray-node`: one more Ray node on this machine, in a cluster that keeps to loopback."""

import os
import sys
from importlib import import_module
from typing import Annotated, Any

import typer

from lifecycle.runtime.cluster import ENVIRONMENT, LOOPBACK, require_ray

HOST = "127.0.0.1"


def ray_node(
    address: Annotated[str, typer.Argument(help="Of the head: host:port.")],
    cpus: Annotated[int, typer.Option(min=0, help="CPUs of the node.")] = 1,
    block: Annotated[bool, typer.Option(help="Stay in the foreground; Ctrl-C ends it.")] = False,
) -> None:
    """Add a node on this machine to a Ray head that was started with `front-env --one-machine`.

    `ray start --address` refuses to join with all ports on loopback.
    """
    host, port = require_ray(address)
    os.environ.update(LOOPBACK)
    for name, value in ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    from ray._private import ray_constants
    from ray.scripts.scripts import main

    # Ray's processes read the variable, the refusal this constant; with it Ray would take another
    # address of this machine for 127.0.0.1
    ray_constants.ENABLE_RAY_CLUSTER = True
    services: Any = import_module("ray._private.services")
    services.get_node_ip_address = lambda address=None: HOST
    arguments = ["start", f"--address={host}:{port}", "--node-ip-address", HOST]
    arguments += ["--num-cpus", str(cpus), *(["--block"] if block else [])]
    sys.argv = ["ray", *arguments]
    main()  # type: ignore[no-untyped-call]  # Ray leaves it untyped
