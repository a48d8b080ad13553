"""`lifecycle audit`: who changed which version, when and why, and whether the trail still holds."""

import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape

from lifecycle.project import load_project
from lifecycle.settings import Settings

BROKEN = 2
"""Exit code for a trail that does not hold."""


def audit(
    project: Annotated[Path, typer.Argument(help="Project file.")],
    check: Annotated[
        bool, typer.Option("--verify", help="Hold every line against its hash.")
    ] = False,
    env: Annotated[str | None, typer.Option("--env", help="dev, staging or prod.")] = None,
) -> None:
    """List every change of version; with --verify, exit code 2 if a line was changed."""
    from lifecycle.release.audit import history, verify

    loaded, settings = load_project(project), Settings.load(env)
    console = Console(highlight=False, soft_wrap=True)
    if check:
        broken = verify(settings, loaded.name)
        if broken is not None:
            sys.stderr.write(f"{loaded.name}: the audit trail does not hold: {broken}\n")
            raise typer.Exit(BROKEN)
    changes = history(settings, loaded.name)
    if not changes:
        console.print(f"{loaded.name}: no version was ever changed in {settings.lake}")
        return
    for number, change in enumerate(changes) if not check else ():
        time = change.time.replace("T", " ")[:19]
        console.print(
            f"[bold]{number}  {time} UTC  {change.action} v{change.version}[/]  "
            f"identity {change.identity[:12]}  by {escape(change.who)}"
        )
        for reason in change.reasons:
            console.print(f"    {escape(reason)}")
    held = "every line holds; " if check else ""
    console.print(f"{len(changes)} lines; {held}the last hash is {changes[-1].hash}")
