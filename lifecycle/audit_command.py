"""`lifecycle audit`: who changed which version of models or data, and whether the trail holds."""

from collections.abc import Sequence
from typing import Annotated

import typer
from rich.console import Console

from lifecycle.options import EnvOption, ProjectPath
from lifecycle.project.loader import load_project
from lifecycle.records import Change, DataChange, Link
from lifecycle.runtime.console import open_console, styled, write_error
from lifecycle.settings import Settings

BROKEN = 2
"""Exit code for a trail that does not hold."""


def audit(
    project: ProjectPath,
    check: Annotated[
        bool, typer.Option("--verify", help="Hold every line against its hash.")
    ] = False,
    env: EnvOption = None,
) -> None:
    """List every change of models and data; with --verify, exit code 2 if a line was changed."""
    from lifecycle.audit.data_trail import data_chain
    from lifecycle.audit.model_trail import model_chain

    loaded, settings = load_project(project), Settings.load(env)
    console = open_console()
    models, data = model_chain(settings, loaded.name), data_chain(settings, loaded.name)
    for name, chain in (("models", models), ("data", data)) if check else ():
        broken = chain.broken()
        if broken is not None:
            write_error(f"{loaded.name}: the audit trail of {name} does not hold: {broken}")
            raise typer.Exit(BROKEN)
    lines: dict[str, Sequence[Link]] = {"models": models.lines(), "data": data.lines()}
    if not any(lines.values()):
        console.print(f"{loaded.name}: no version was ever changed in {settings.lake}")
        return
    for name, changes in lines.items():
        if not changes:
            continue
        before: tuple[str, ...] = ()
        for number, change in enumerate(changes) if not check else ():
            again = len(change.reasons) > 1 and change.reasons == before
            _show(console, number, change, ("as above",) if again else change.reasons)
            before = change.reasons
        held = "every line holds; " if check else ""
        console.print(f"{name}: {len(changes)} lines; {held}the last hash is {changes[-1].hash}")


def _show(console: Console, number: int, change: Link, reasons: Sequence[str]) -> None:
    time = change.time.replace("T", " ")[:19]
    made_from = f"identity {change.identity[:12]}  " if isinstance(change, Change) else ""
    by = (
        f"{change.who}, {change.run}"
        if isinstance(change, DataChange) and change.run
        else change.who
    )
    console.print(styled((f"{number}  {time} UTC  {change}", "bold"), f"  {made_from}by {by}"))
    for reason in reasons:
        console.print(f"    {reason}")
