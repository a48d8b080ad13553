"""`lifecycle audit`: who changed which version, when and why, and whether the trail still holds."""

import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

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
    table = Table("line", "time (UTC)", "who", "action", "version", "identity", "reasons")
    for number, change in enumerate(changes):
        table.add_row(
            str(number),
            change.time.replace("T", " ")[:19],
            escape(change.who),
            change.action,
            f"v{change.version}",
            change.identity[:12],
            escape("\n".join(change.reasons)),
        )
    console.print(table)
    held = "every line holds; " if check else ""
    console.print(f"{len(changes)} lines; {held}the last hash is {changes[-1].hash}")
