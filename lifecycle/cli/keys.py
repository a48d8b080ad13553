"""`lifecycle keys …`: who may ask the endpoint; `lifecycle front-env`: its front on a cluster."""

import os
import shlex
import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from lifecycle.cli import EnvOption
from lifecycle.ingress import launcher
from lifecycle.runtime.cluster import ENVIRONMENT, LOOPBACK, require_ray
from lifecycle.runtime.console import open_console, write_error
from lifecycle.runtime.process import TELEMETRY
from lifecycle.runtime.ray_internals import start_node_on_loopback
from lifecycle.serving.auth import KeyStore
from lifecycle.settings import Settings

keys = typer.Typer(no_args_is_help=True, help="API keys of the endpoint.")
Name = Annotated[str, typer.Argument(help="Who uses the key; shown in lists and logs.")]


@keys.command()
def add(
    name: Name,
    rate: Annotated[
        float | None, typer.Option(help="Requests a second; without it as many as can be served.")
    ] = None,
    project: Annotated[
        list[str] | None, typer.Option(help="Only this project; may be repeated.")
    ] = None,
    env: EnvOption = None,
) -> None:
    """Make a key and show it, once; only its hash is kept."""
    settings = Settings.load(env)
    if settings.serve_keys is None:
        settings.folder()
    key = KeyStore(settings.keys_file).add(name, rate, project or ())
    limit = f", {rate:g} requests a second" if rate else ""
    where = ", ".join(project) if project else "all projects"
    write_error(f"Key {name!r} for {where}{limit}; it is shown only now:")
    typer.echo(key)
    if not settings.needs_keys:
        write_error(f"{settings.env} asks for no keys; LIFECYCLE_SERVE_ACCESS=keys makes it ask")


@keys.command("list")
def list_keys(env: EnvOption = None) -> None:
    """Show the names of all keys and what they may do."""
    settings = Settings.load(env)
    found = KeyStore(settings.keys_file).list()
    if not found:
        typer.echo(f"no keys in {settings.keys_file}; `lifecycle keys add NAME` makes one")
        return
    table = Table("name", "created (UTC)", "requests/s", "projects", "state")
    for key in found:
        table.add_row(
            key.name,
            f"{key.created:%Y-%m-%d %H:%M:%S}",
            f"{key.rate:g}" if key.rate else "no limit",
            ", ".join(key.projects) or "all",
            "revoked" if key.revoked else "in use",
        )
    open_console().print(table)


@keys.command()
def revoke(name: Name, env: EnvOption = None) -> None:
    """Make a key worthless, within 2 seconds and without a new deployment."""
    KeyStore(Settings.load(env).keys_file).revoke(name)
    write_error(f"Key {name!r} is revoked")


def front_env(
    env: EnvOption = None,
    one_machine: Annotated[
        bool, typer.Option(help="Every port of Ray on loopback: all nodes are on this machine.")
    ] = False,
) -> None:
    """Print what a cluster's nodes need in their environment before `ray start`."""
    settings = Settings.load(env)
    # short, for the sockets in it, and of one endpoint alone; the front refuses it if another user
    # was there first
    folder = Path(f"/tmp/lc-front-{os.getuid()}-{settings.serve_port}")  # noqa: S108
    variables = (
        TELEMETRY | launcher.environment() | launcher.certificate(settings) | launcher.files(folder)
    )
    if one_machine:
        variables |= LOOPBACK
    typer.echo(f"mkdir -p -m 700 {folder}")
    for name, value in variables.items():
        typer.echo(f"export {name}={shlex.quote(value)}")


# `lifecycle ray-node`: one more Ray node on this machine, in a cluster that keeps to loopback.

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
    main = start_node_on_loopback()
    arguments = ["start", f"--address={host}:{port}", "--node-ip-address", HOST]
    arguments += ["--num-cpus", str(cpus), *(["--block"] if block else [])]
    sys.argv = ["ray", *arguments]
    main()
