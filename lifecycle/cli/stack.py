"""`lifecycle status` and `lifecycle down`: what a script left running for the next one."""

from datetime import UTC, datetime
from typing import Annotated

import typer

from lifecycle.cli.options import EnvOption
from lifecycle.errors import BackendError
from lifecycle.runtime.console import open_console
from lifecycle.runtime.servers import auth_file, prefect_home
from lifecycle.runtime.warm_server import end_server, running_server, runs_until, unused
from lifecycle.settings import Settings

Force = Annotated[bool, typer.Option(help="End it although a script uses it.")]


def status(env: EnvOption = None) -> None:
    """Show what runs for this home when no script does: where, since when, until when."""
    settings = Settings.load(env)
    home = prefect_home(settings)
    server = running_server(home)
    if server is None:
        open_console().print(f"Nothing runs for {settings.home} (LIFECYCLE_HOME).")
        return
    with unused(home) as nobody:
        until = f"until {_clock(runs_until(home, server))} unless it is used"
        stays = until if nobody else f"in use, and {server.minutes:g} minutes after that"
    open_console().print(
        f"Prefect  {server.url}    its page asks for the text in {auth_file(home)}\n"
        f"         process {server.process}, since {_clock(server.started)}, {stays}\n"
        "`lifecycle down` ends it."
    )


def down(env: EnvOption = None, force: Force = False) -> None:
    """End what a script left running for the next one; runs and models stay."""
    home = prefect_home(Settings.load(env))
    server = running_server(home)
    if server is None:
        open_console().print("Nothing runs.")
        return
    with unused(home) as nobody:
        if not (nobody or force):
            raise BackendError(
                f"a script uses the Prefect server at {server.url}: wait for it, or use --force"
            )
        end_server(home, server)
    open_console().print(f"Ended the Prefect server at {server.url}.")


def _clock(moment: datetime) -> str:
    """Hours and minutes of this machine's clock, with the day where it is another."""
    local, today = moment.astimezone(), datetime.now(UTC).astimezone().date()
    return f"{local:%H:%M}" if local.date() == today else f"{local:%Y-%m-%d %H:%M}"
