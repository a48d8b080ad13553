"""`lifecycle card` and `note`: what is claimed of a model version, and what people say of it."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lifecycle.cli.project import EnvOption, project_first
from lifecycle.errors import ProjectError
from lifecycle.project.loader import load_project
from lifecycle.records import one_line
from lifecycle.runtime.console import TABLE_WIDTH, open_console, write_error
from lifecycle.settings import Settings

if TYPE_CHECKING:
    from lifecycle.records import ModelVersion

FALSE = 2
"""Exit code for a card that claims what is not so."""


def card(
    words: Annotated[
        list[str],
        typer.Argument(
            metavar="[PROJECT] VERSION [OTHER]",
            help="Versions: 3, champion, or the first 6 letters of an MLflow run's id.",
        ),
    ],
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the card, or what differs, as JSON.")
    ] = False,
    output: Annotated[
        Path | None, typer.Option(help="File for the page; by default in the project's reports.")
    ] = None,
    env: EnvOption = None,
) -> None:
    """Show the model card of a version, or two side by side; exit code 2 if a claim is false.

    Each claim is compared with what the store has: the MLflow run, the bundle, the lake, the record
    of the training and the audit trail.
    """
    project, refs = project_first(words)
    if not 1 <= len(refs) <= 2:
        raise ProjectError("lifecycle card [PROJECT] VERSION [OTHER]: name one or two versions")
    from lifecycle.quality.card_page import (
        card_page,
        difference_page,
        difference_table,
        markdown,
    )
    from lifecycle.release.card_verification import verify_card
    from lifecycle.release.cards import card_text, require_card, status_and_history
    from lifecycle.runtime.html import write_page

    settings = Settings.load(env)
    loaded = load_project(project, settings.env)
    models = [_model(loaded.name, ref, settings) for ref in refs]
    cards = [require_card(model, settings) for model in models]
    console = open_console(width=TABLE_WIDTH)
    if len(cards) == 1:
        status, history = status_and_history(models[0], settings)
        html, name = card_page(cards[0], status, history), f"card-{models[0].version}"
        text = card_text(cards[0]) if as_json else markdown(cards[0], status, history)
        typer.echo(text)
    else:
        first, other = cards
        table = difference_table(first, other)
        html, name = difference_page(first, other), f"card-{models[0].version}-{models[1].version}"
        if as_json:
            import json

            typer.echo(
                json.dumps([dict(zip(table.header, row, strict=True)) for row in table.rows])
            )
        else:
            from lifecycle.cli.page import show_table

            show_table(console, table)
    place = output or settings.folder("reports", loaded.name) / f"{name}.html"
    try:
        write_page(html, place)
    except OSError as error:
        raise ProjectError(f"--output {place}: cannot write it ({error.strerror})") from None
    problems = [claim for model in models for claim in verify_card(model, settings, loaded)]
    if not as_json:
        if not problems:
            console.print("Every claim is what the store has.")
        console.print(f"The page: {place}", soft_wrap=True)
    for claim in problems:
        write_error(one_line(str(claim)))
    if problems:
        raise typer.Exit(FALSE)


def note(
    words: Annotated[
        list[str],
        typer.Argument(metavar="[PROJECT] VERSION TEXT", help="A version, and a note in quotes."),
    ],
    env: EnvOption = None,
) -> None:
    """Note something of a model version: on its card and in the audit trail.

    A note stays: it is a line of a trail that only grows. Never name a person in it.
    """
    project, texts = project_first(words)
    if len(texts) != 2:
        raise ProjectError("lifecycle note [PROJECT] VERSION TEXT: quote the text")
    from lifecycle.release.cards import add_note

    settings = Settings.load(env)
    loaded = load_project(project, settings.env)
    model = _model(loaded.name, texts[0], settings)
    line = add_note(model, texts[1], settings)
    open_console().print(f"{model.name} v{model.version}: noted by {line.who}.", soft_wrap=True)


def _model(name: str, ref: str, settings: Settings) -> "ModelVersion":
    """The version that is meant.

    Raises:
        RegistryError: there is none.
    """
    from lifecycle.page.comparison import find_version  # pandas, Arrow and MLflow take a while
    from lifecycle.release.registry import versions

    return find_version(name, versions(name, settings), ref)
