"""`lifecycle lineage`: what a model, dataset or prediction was made from, and what it led to."""

from pathlib import Path
from typing import Annotated

import typer

from lifecycle.cli.options import EnvOption, ProjectPath
from lifecycle.project.loader import load_project
from lifecycle.runtime.console import open_console
from lifecycle.settings import Settings

WIDE = 140
"""Columns where the output is no terminal."""


def lineage(
    project: ProjectPath,
    ref: Annotated[
        str,
        typer.Argument(help="model:3, champion, train@5, digits of a digest, or a prediction id."),
    ],
    as_json: Annotated[bool, typer.Option("--json", help="Print the graph as JSON.")] = False,
    picture: Annotated[
        Path | None, typer.Option(help="Draw it, too: a file ending with .svg or .png.")
    ] = None,
    openlineage: Annotated[
        str | None,
        typer.Option(
            metavar="FILE|URL",
            help="Send it as OpenLineage events, too; a file gets those it has not yet.",
        ),
    ] = None,
    env: EnvOption = None,
) -> None:
    """Walk both ways: to the rows, code and run something was made from, and to all it led to."""
    from lifecycle.lineage import walk  # MLflow takes a while

    loaded, settings = load_project(project), Settings.load(env)
    graph = walk.known(loaded, settings)
    found = graph.around(loaded.name, walk.find(graph, loaded, settings, ref))
    console = open_console(width=WIDE)
    if as_json:
        typer.echo(found.model_dump_json(indent=1))
    else:
        from lifecycle.lineage.graph import trees

        for tree in trees(found):
            console.print(tree)
    told = open_console(stderr=as_json)
    if picture:
        from lifecycle.lineage.picture import draw

        told.print(f"Drawn: {draw(found, picture)}")
    if openlineage:
        from lifecycle.lineage.emit import send
        from lifecycle.lineage.openlineage import events_of

        events = events_of(graph, [node.id for node in found.nodes], loaded, settings)
        sent = send(events, openlineage)
        before = len(events) - sent
        again = f" ({before} more are in it already)" if before else ""
        told.print(f"{sent} OpenLineage events → {openlineage}{again}")
