"""`lifecycle alarms` and `reproduce`: what monitoring found, and who knows of it."""

from typing import Annotated

import typer

from lifecycle.cli.project import EnvOption, project_first
from lifecycle.errors import DataError
from lifecycle.project.loader import load_project
from lifecycle.records import StoredAlarm, counted
from lifecycle.runtime.console import TABLE_WIDTH, open_console, styled
from lifecycle.settings import Settings

DIFFERENT = 2
"""Exit code of an alarm that is another one today."""
USAGE = "lifecycle alarms [PROJECT] [acknowledge ID --reason TEXT]"


def alarms(
    words: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[PROJECT] [acknowledge ID]",
            help="Without `acknowledge`, the list. An id may be cut short.",
        ),
    ] = None,
    reason: Annotated[str, typer.Option(help="Reason for the audit trail; no personal data.")] = "",
    show_all: Annotated[
        bool, typer.Option("--all", help="Also alarms that somebody has acknowledged.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the records as JSON.")] = False,
    env: EnvOption = None,
) -> None:
    """List what monitoring found: cause, since when, and who acknowledged it, for which reason.

    With `acknowledge ID --reason TEXT`: nobody is told of its cause again. It stays in the audit
    trail.
    """
    from lifecycle.monitoring.alarms import acknowledge, stored_alarms  # pandas takes a while

    project, arguments = project_first(words or [])
    settings = Settings.load(env)
    loaded = load_project(project, settings.env)
    console = open_console(width=TABLE_WIDTH)
    if arguments:
        if len(arguments) != 2 or arguments[0] != "acknowledge":
            raise DataError(f"{USAGE}: got {' '.join(arguments)!r}")
        alarm = acknowledge(loaded, settings, arguments[1], reason)
        console.print(f"{alarm.id}: acknowledged by {alarm.acknowledged}", soft_wrap=True)
        return
    stored = stored_alarms(loaded, settings)
    listed_alarms = [alarm for alarm in stored if show_all or not alarm.acknowledged]
    if as_json:
        typer.echo(f"[{','.join(alarm.model_dump_json() for alarm in listed_alarms)}]")
        return
    for alarm in listed_alarms:
        _show(alarm)
    hidden = len(stored) - len(listed_alarms)
    verb = "is" if hidden == 1 else "are"
    note = f", {hidden} more {verb} acknowledged (--all shows them)" if hidden else ""
    console.print(f"{loaded.name}: {counted(len(listed_alarms), 'alarm')}{note}")


def _show(alarm: StoredAlarm) -> None:
    console = open_console(width=TABLE_WIDTH)
    style = "bold red" if alarm.severity == "high" else "bold yellow"
    title = f"{alarm.id}  window {alarm.window}  v{alarm.version}  {alarm.severity}  "
    console.print(styled((title, style), str(alarm.text)), soft_wrap=True)
    console.print(
        f"    {alarm.metric} {alarm.value:.4g}, limit {alarm.limit:.4g}, against {alarm.comparison}"
    )
    if alarm.acknowledged:
        console.print(f"    acknowledged by {alarm.acknowledged}", soft_wrap=True)


def reproduce(
    words: Annotated[
        list[str], typer.Argument(metavar="[PROJECT] ALARM", help="Its id, which may be cut short.")
    ],
    as_json: Annotated[bool, typer.Option("--json", help="Print the record as JSON.")] = False,
    env: EnvOption = None,
) -> None:
    """Compute an alarm again from the same versions of the data; exit code 2 if it differs."""
    from lifecycle.monitoring.reproduce import reproduce as compute  # pandas takes a while

    project, arguments = project_first(words)
    if len(arguments) != 1:
        raise DataError("lifecycle reproduce [PROJECT] ALARM: name one; `lifecycle alarms` has ids")
    settings = Settings.load(env)
    result = compute(load_project(project, settings.env), settings, arguments[0])
    if as_json:
        typer.echo(result.model_dump_json(indent=1))
    else:
        _show(result.alarm)
        console = open_console(width=TABLE_WIDTH)
        for note in result.notes:
            console.print(note, soft_wrap=True)
        for difference in result.differences:
            console.print(styled((f"different: {difference}", "red")), soft_wrap=True)
        if result.same:
            console.print("Computed again: the same, to the digit.")
    if not result.same:
        raise typer.Exit(DIFFERENT)
