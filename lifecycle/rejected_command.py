"""`lifecycle rejected`: the quarantine, which rows broke the data contract, and why."""

from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from lifecycle.options import EnvOption, ProjectPath
from lifecycle.project import Project
from lifecycle.project.loader import load_project
from lifecycle.records import counted
from lifecycle.runtime.console import open_console, styled
from lifecycle.settings import Settings

if TYPE_CHECKING:
    from lifecycle.data.contract.quarantine_view import Quarantine, Row

CELLS = 8
"""Shown of a row, at least; those that its reasons are about are all shown."""
WIDE = 140
"""Columns where the output is no terminal."""


def rejected(
    project: ProjectPath,
    version: Annotated[
        int | None, typer.Option(help="Of the quarantine; by default the newest.")
    ] = None,
    rows: Annotated[int, typer.Option(min=0, help="How many rows to show.")] = 10,
    env: EnvOption = None,
) -> None:
    """Show the rows that broke the data contract: why, how many, and the first of them."""
    from lifecycle.data.contract.quarantine_view import quarantine
    from lifecycle.lake import history, table_uri  # Arrow takes a while

    loaded, settings = load_project(project), Settings.load(env)
    found = quarantine(loaded, settings, version, rows)
    console = open_console(width=WIDE)
    if found is not None:
        _show(console, loaded, found)
    elif len(history(table_uri(settings, loaded.name, "accepted"))):
        console.print(f"{loaded.name}: no quarantine, because no row was rejected so far.")
    else:
        told = f"{loaded.name}: no quarantine, because nothing was ingested yet in"
        console.print(f"{told} {settings.lake}", soft_wrap=True)


def _show(console: Console, project: Project, found: "Quarantine") -> None:
    ref, note = found.version, found.note
    console.print(
        styled(
            (project.name, "bold"),
            f" rejected@{ref.version}: {counted(found.rows, 'row')}, written "
            f"{found.written:%Y-%m-%d %H:%M} UTC under contract {note.get('contract', '?')}",
        )
    )
    source, window = note.get("source_place", "?"), note.get("window", "?")
    console.print(f"from {source}, {window}", soft_wrap=True)
    made = f"The other rows are {found.accepted}." if found.accepted else "No version was made."
    console.print(f"{made} {_newer(found)}".strip())
    if not found.rows:
        console.print("All its rows were erased since.")
        return
    table = Table("column", "what is wrong", title="Reasons", title_justify="left")
    table.add_column("rows", justify="right")
    for reason, count in found.reasons.items():
        table.add_row(reason.column, reason.problem, f"{count:,}")
    console.print(table)
    if found.first:
        _show_rows(console, found)


def _show_rows(console: Console, found: "Quarantine") -> None:
    shown = len(found.first)
    title = "Rows" if shown == found.rows else f"The first {shown:,} of {found.rows:,} rows"
    table = Table(title=title, title_justify="left")
    table.add_column("row", justify="right", no_wrap=True)
    table.add_column("what is wrong")
    table.add_column("as it was read")
    for row in found.first:
        wrong = "\n".join(f"{one.column}: {one.problem}" for one in row.reasons)
        table.add_row(str(row.number), wrong, _cells(row))
    console.print(table)
    console.print(f"All of it: version {found.version.version} of the Delta table")
    console.print(f"  {found.version.uri}", soft_wrap=True)


def _cells(row: "Row") -> Text:
    """The cells that show what is wrong, in bold, then as many of the others as there is room."""
    others = [name for name in row.cells if name not in row.about]
    left = max(0, CELLS - len(row.about))
    told = [styled((f"{name} {row.cells[name]}", "bold")) for name in row.about]
    told += [styled(f"{name} {row.cells[name]}") for name in others[:left]]
    if len(others) > left:
        told.append(styled(f"and {len(others) - left} more"))
    return Text(", ").join(told)


def _newer(found: "Quarantine") -> str:
    return f"{found.newer} is newer; nothing was rejected for it." if found.newer else ""
