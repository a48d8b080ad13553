"""`lifecycle page`: one page about a project in all its environments."""

import io
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http import HTTPStatus
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Annotated, BinaryIO

import typer

from lifecycle.cli.project import EnvOption, ProjectPath
from lifecycle.environments import environments
from lifecycle.errors import LifecycleError, ProjectError
from lifecycle.project import Project
from lifecycle.project.loader import PROJECT_FILE, load_project
from lifecycle.runtime.console import open_console, write_error
from lifecycle.settings import Settings


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
    servers: tuple[str, str] | None = None,
) -> Path:
    """Write the site and return the place of its first page.

    Args:
        servers: addresses of MLflow and Prefect, where stores that are files are shown.

    Raises:
        LifecycleError: this environment cannot be read, or the folder cannot be written.
    """
    from lifecycle.page.gather import gather  # pandas, Arrow and MLflow take a while
    from lifecycle.page.site import write_site
    from lifecycle.page.sources import Sources

    others = [] if only else [name for name in environments() if name != settings.env]
    states = gather(project, settings, others)
    if missing := [state.env for state in states if state.problem]:
        write_error(f"Left out: {', '.join(missing)}; the page says why")
    folder = output or settings.folder("reports", project.name)
    try:
        return write_site(project, states, Sources(folder, *(servers or ())))
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
