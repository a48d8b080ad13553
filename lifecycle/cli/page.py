"""`lifecycle page`, `compare`, `review`: what runs where, and how versions differ."""

import io
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http import HTTPStatus
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, BinaryIO

import typer

from lifecycle.cli.project import EnvOption, ProjectPath, project_first
from lifecycle.environments import environments
from lifecycle.errors import LifecycleError, ProjectError
from lifecycle.page.readers import read_states
from lifecycle.project import Project
from lifecycle.project.loader import PROJECT_FILE, load_project
from lifecycle.records import one_line
from lifecycle.runtime.console import TABLE_WIDTH, open_console, write_error
from lifecycle.runtime.files import write_atomic
from lifecycle.settings import Settings

if TYPE_CHECKING:
    from rich.console import Console

    from lifecycle.runtime.html import Table

GROUPS = ("data", "parameters", "code")


def page(
    project: ProjectPath = PROJECT_FILE,
    output: Annotated[
        Path | None,
        typer.Option(help="Folder of the site; by default the reports of the project in its home."),
    ] = None,
    only: Annotated[
        bool, typer.Option("--only", help="Only this environment, and not the others.")
    ] = False,
    env: EnvOption = None,
) -> None:
    """Write one page about a project in all environments: what runs, since when, why, how well.

    It needs no server and no network. The pages that it links to are copied into its folder, so
    that the folder can be handed on as it is.
    """
    settings = Settings.load(env)
    loaded = load_project(project, settings.env)
    place = build(loaded, settings, output, only=only)
    open_console().print(f"The page: {place}", soft_wrap=True)


def build(
    project: Project,
    settings: Settings,
    output: Path | None = None,
    *,
    only: bool = False,
    servers: tuple[str, str] = ("", ""),
) -> Path:
    """Write the site and return the place of its first page.

    Args:
        servers: addresses where an MLflow and a Prefect that are files are shown; empty for none.

    Raises:
        LifecycleError: this environment cannot be read, or the folder cannot be written.
    """
    others = [] if only else [name for name in environments() if name != settings.env]
    states = read_states(project, settings, others)
    from lifecycle.page.site import write_site  # pandas and Arrow take a while: imported meanwhile
    from lifecycle.page.sources import Sources

    if missing := [state.env for state in states if state.problem]:
        write_error(f"Left out: {', '.join(missing)}; the page says why")
    folder = output or settings.folder("reports", project.name)
    try:
        return write_site(project, states, Sources(folder, servers))
    except OSError as error:
        raise ProjectError(f"--output {folder}: cannot write it ({error.strerror})") from None


# The page in a browser of this machine.

HOST = "127.0.0.1"
HOSTS = (HOST, "localhost")
"""Names under which a browser of this machine asks; another site that resolves to it is refused."""


class _Files(SimpleHTTPRequestHandler):
    """Serves the site to this machine, without a line per request."""

    def send_head(self) -> "io.BytesIO | BinaryIO | None":
        """Answer a request for a file, if it is asked for under a name of this machine."""
        if self.headers.get("Host", "").partition(":")[0] not in HOSTS:
            self.send_error(HTTPStatus.FORBIDDEN)
            return None
        return super().send_head()

    def log_message(self, format: str, *args: object) -> None:
        """Log nothing."""


@contextmanager
def serving_page(
    project: Project, settings: Settings, port: int, servers: tuple[str, str]
) -> Iterator[bool]:
    """Build the site and serve it within the block; False if it cannot be built, which is said.

    Args:
        servers: addresses of MLflow and Prefect.
    """
    try:
        folder = build(project, settings, servers=servers).parent
    except LifecycleError as error:
        write_error(f"no page of {project.name}: {error}")
        yield False
        return
    with ThreadingHTTPServer((HOST, port), partial(_Files, directory=str(folder))) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield True
        finally:
            server.shutdown()


# `lifecycle compare`.


def compare(
    words: Annotated[
        list[str],
        typer.Argument(
            metavar="[PROJECT] A B [C]",
            help="Versions: 3, champion, or the first 6 letters of an MLflow run's id.",
        ),
    ],
    as_json: Annotated[bool, typer.Option("--json", help="Print the record as JSON.")] = False,
    output: Annotated[
        Path | None, typer.Option(help="File for the page; by default in the project's reports.")
    ] = None,
    env: EnvOption = None,
) -> None:
    """Compare trained versions: what differs in data, parameters and code, and what it did."""
    project, refs = project_first(words)
    if not 2 <= len(refs) <= 3:
        raise ProjectError("lifecycle compare [PROJECT] A B [C]: name two or three versions")
    from lifecycle.page.comparison import (  # pandas, Arrow and MLflow take a while
        compare_versions,
        comparison_page,
        difference_table,
        metric_table,
        verdicts,
    )
    from lifecycle.runtime.html import write_page

    settings = Settings.load(env)
    loaded = load_project(project, settings.env)
    comparison = compare_versions(loaded, settings, refs)
    if as_json:
        typer.echo(comparison.model_dump_json(indent=1))
        return
    console = open_console(width=TABLE_WIDTH)
    for group in GROUPS:
        if table := difference_table(comparison, group):
            show_table(console, table)
        else:
            console.print(f"The same {group}.")
    show_table(console, metric_table(comparison))
    console.print(f"On the {comparison.rows:,} rows of {comparison.holdout}; gains in pairs.")
    for line in (*comparison.notes, *(cell.text for cell in verdicts(comparison, loaded.metric))):
        console.print(line, soft_wrap=True)
    name = "-".join(str(model.version) for model in comparison.versions)
    place = output or settings.folder("reports", loaded.name) / f"compare-{name}.html"
    try:
        write_page(comparison_page(comparison, loaded.metric), place)
    except OSError as error:
        raise ProjectError(f"--output {place}: cannot write it ({error.strerror})") from None
    console.print(f"The page: {place}", soft_wrap=True)


def show_table(console: "Console", content: "Table") -> None:
    """Print a table of a page."""
    from rich.table import Table as Printed

    table = Printed(*content.header)
    for row in content.rows:
        texts = (cell if isinstance(cell, str) else cell.text for cell in row)
        table.add_row(*(one_line(text) for text in texts))
    console.print(table)


# `lifecycle review`: the newest version and its differences, as a comment at a pull request.


def review(
    words: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[PROJECT] [AGAINST]",
            help="Version to compare with; by default the champion, or the version before.",
        ),
    ] = None,
    event: Annotated[
        Path | None,
        typer.Option(help="Event of a pull request, as JSON; by default the pipeline's own."),
    ] = None,
    report: Annotated[
        Path | None, typer.Option(help="Comment with the text of this file: nothing is read.")
    ] = None,
    output: Annotated[
        Path | None, typer.Option(help="File for the text; then nothing is commented.")
    ] = None,
    env: EnvOption = None,
) -> None:
    """Say what the newest version's gate says and what differs, at the pull request.

    The comment of an earlier run is replaced. Without a pull request or a token the text is
    printed.
    """
    from lifecycle.page.comment import discussion_of, put_comment

    project, refs = project_first(words or [])
    if len(refs) > 1:
        raise ProjectError("lifecycle review [PROJECT] [AGAINST]: name one version at most")
    if report is not None:
        text = _text_of(report)
    else:
        from lifecycle.page.review import review as write_review  # pandas and MLflow take a while

        settings = Settings.load(env)
        text = write_review(load_project(project, settings.env), settings, *refs)
    if output is not None:
        write_atomic(output, text)
        return
    discussion = discussion_of(event, os.environ)
    notes = open_console(stderr=True)
    if discussion is None:
        note = "no comment: this is no pipeline of a pull request, and no --event names one"
    elif not discussion.headers:
        names = " or ".join(discussion.token_names)
        note = f"no comment at {discussion.title}: set {names} to write it"
    else:
        note = put_comment(discussion, text)
    if note.startswith("no comment"):
        typer.echo(text)
    notes.print(note, soft_wrap=True)


def _text_of(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else error.reason
        raise ProjectError(f"--report {file}: cannot be read ({reason})") from None
