"""`lifecycle upgrade`: an environment goes over to new packages, rehearsed, or stays as it is."""

import sys
import time
from pathlib import Path
from typing import Annotated

import typer

from lifecycle.cli.project import EnvOption
from lifecycle.errors import SettingsError
from lifecycle.project.loader import PROJECT_FILE, load_project
from lifecycle.runtime.console import open_console, progress_line, styled
from lifecycle.runtime.process import process_age
from lifecycle.settings import Settings

FAILED = 1
"""Exit code where the environment cannot be upgraded; it is as it was."""
STYLES = {"ok": "green", "warn": "bold yellow", "fail": "bold red"}


def upgrade(
    projects: Annotated[
        list[Path] | None,
        typer.Argument(metavar="[PROJECT]...", help="Project files whose champions are served."),
    ] = None,
    python: Annotated[
        Path | None,
        typer.Option(help="Interpreter of the new environment; by default the running one."),
    ] = None,
    rehearse: Annotated[
        bool, typer.Option("--rehearse", help="Only try it, on copies; servers may run.")
    ] = False,
    back: Annotated[
        bool, typer.Option("--back", help="Put the databases of before the last upgrade back.")
    ] = False,
    env: EnvOption = None,
) -> None:
    """Upgrade an environment's databases after a rehearsal on copies, or leave it as it is.

    Every registered version answers its holdout by both interpreters, byte for byte, and the
    champion is served. Exit code 1 if the environment cannot be upgraded, and so is as it was.
    """
    from lifecycle.upgrade.rehearsal import Upgrade  # MLflow's database takes a while

    if rehearse and back:
        raise SettingsError("--back: puts back what an upgrade did; a rehearsal does nothing")
    settings = Settings.load(env)
    files = projects or [PROJECT_FILE]
    if not back:
        for file in files:
            load_project(file, settings.env)
    interpreter = (python or Path(sys.executable)).expanduser().absolute()
    if not interpreter.is_file():
        raise SettingsError(f"--python: there is no {interpreter}")
    progress, begin = open_console(stderr=True), time.monotonic()

    def tell(subject: str, text: str) -> None:
        progress.print(progress_line(process_age(), subject, text, ended=False), soft_wrap=True)

    run = Upgrade(settings, files, interpreter, tell)
    if back:
        run.put_back()
        verdict = f"{settings.env} has the databases of before the upgrade"
    elif rehearse:
        is_well = run.rehearse()
        verdict = (
            f"{settings.env} {'can' if is_well else 'cannot'} be upgraded; nothing was changed"
        )
    else:
        is_well = run.upgrade()
        verdict = f"{settings.env} is upgraded" if is_well else f"{settings.env} is as it was"
    console = open_console()
    console.print(styled((f"{verdict} ({time.monotonic() - begin:.0f} s)", "bold")))
    for line in run.lines:
        mark = (f"{line.state:<5}", STYLES[line.state])
        console.print(styled(mark, (f"{line.subject:<10}", "bold"), line.text))
    if not back and not is_well:
        raise typer.Exit(FAILED)
