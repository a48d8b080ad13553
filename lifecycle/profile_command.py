"""`lifecycle profile`: what a data set looks like, in the terminal and as a page."""

from pathlib import Path
from typing import Annotated

import typer

from lifecycle.options import EnvOption
from lifecycle.runtime.console import open_console
from lifecycle.settings import Settings

WIDE = 150
"""Columns where the output is no terminal."""


def profile(
    data: Annotated[str, typer.Argument(metavar="PROJECT|FILE", help="Project or data file.")],
    table: Annotated[str, typer.Argument(help="Of a project.")] = "accepted",
    version: Annotated[
        int | None, typer.Option(help="Of the table; by default the newest, else the source.")
    ] = None,
    against: Annotated[
        str | None,
        typer.Option(metavar="N|FILE", help="Measure drift against this version or data file."),
    ] = None,
    target: Annotated[str | None, typer.Option(help="Column to predict, of a data file.")] = None,
    output: Annotated[
        Path | None, typer.Option(help="The page; by default in the reports of LIFECYCLE_HOME.")
    ] = None,
    env: EnvOption = None,
) -> None:
    """Profile a version of a project's data, its source, or a data file; writes an HTML page."""
    from lifecycle.profiling import profile as look  # pandas and scipy take a while
    from lifecycle.profiling.terminal import show

    settings = Settings.load(env)
    other = int(against) if against is not None and against.isdigit() else against
    found = look(
        data, target=target, table=table, version=version, against=other, settings=settings
    )
    console = open_console(width=WIDE)
    show(found.summary, console)
    name = "".join(char if char.isalnum() else "_" for char in found.summary.title)
    file = "profile.html" if table == "accepted" else f"profile-{table}.html"
    page = found.save(output or settings.folder("reports", name) / file)
    console.print(f"The page: {page}", soft_wrap=True)
