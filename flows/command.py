"""The command of a flow: `lifecycle run FLOW [PROJECT]`, and each file of this folder as a script.

Exit codes: 0 all stages did their work; 2 a mistake the user can mend (one message, no traceback);
1 a failure of ours (with traceback); 130 interrupted.
"""

import argparse
import inspect
import sys
from collections.abc import Callable, Sequence
from contextlib import nullcontext, suppress
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any, NoReturn

from prefect import Flow

from flows.console import Screen
from flows.server import forget_early, prefect_server, start_early
from lifecycle.cli.flow import ENV_FLAGS, HELP, PREDICTING
from lifecycle.environments import environment_help
from lifecycle.errors import LifecycleError, full_disk
from lifecycle.project import Project
from lifecycle.project.loader import PROJECT_FILE, load_project
from lifecycle.records import Window
from lifecycle.runtime.console import open_console, write_error
from lifecycle.runtime.fork_server import Script, leave_server
from lifecycle.runtime.logs import begin_logs
from lifecycle.runtime.process import (
    end_process,
    prepare_process,
    process_age,
    without_package,
)
from lifecycle.runtime.servers import prefect_home
from lifecycle.settings import Settings
from tasks.cluster import preload, preload_steps
from tasks.services import require_services


class Option:
    """An option of a flow's command, declared as `ArgumentParser.add_argument` takes it."""

    def __init__(self, flag: str, **declaration: Any) -> None:
        self.flag, self.declaration = flag, declaration


ENV, TO = ENV_FLAGS
"""The option that names the environment, and its spelling in `promote`."""


def no_arguments(options: argparse.Namespace) -> dict[str, Any]:
    """Arguments of a flow that takes no options of its own."""
    return {}


@dataclass(frozen=True)
class Command:
    """A flow with the options of its command; each file of a flow has one, named `command`."""

    flow: Flow[..., Any]
    options: tuple[Option, ...] = ()
    arguments: Callable[[argparse.Namespace], dict[str, Any]] = no_arguments
    """Arguments of the flow, made from the options."""
    before: Callable[[argparse.Namespace, Project, Settings], None] | None = None
    """Runs first, outside Prefect, which keeps what a flow is given."""
    registry: bool = True
    """Whether the flow needs MLflow."""
    cluster: bool = False
    """Whether the flow joins the Ray cluster, whatever the project is."""
    env_flags: tuple[str, ...] = (ENV,)
    """Spellings of the option that names the environment."""

    def parser(self, program: str | None = None) -> argparse.ArgumentParser:
        """The parser of the command line."""
        parser = argparse.ArgumentParser(
            prog=program or Path(sys.argv[0]).name,
            description=inspect.getdoc(self.flow.fn),
            epilog=f"Example: lifecycle run {self.flow.fn.__name__} {PROJECT_FILE}",
        )
        text = "project file (YAML)"
        parser.add_argument("project", nargs="?", help=f"{text}; by default ./{PROJECT_FILE}")
        parser.add_argument("--project", dest="project_option", metavar="PROJECT", help=text)
        parser.add_argument(*self.env_flags, dest="env", help=environment_help())
        parser.add_argument("--source", help="data file instead of the project's source.path")
        for option in self.options:
            parser.add_argument(option.flag, **option.declaration)
        return parser

    def parse(
        self, arguments: Sequence[str] | None = None, program: str | None = None
    ) -> argparse.Namespace:
        """The options of a command line; one that cannot be read ends the process."""
        parser = self.parser(program)
        options = parser.parse_intermixed_args(arguments)
        if options.project and options.project_option:
            parser.error("name the project once: either PROJECT or --project PROJECT")
        options.project = options.project or options.project_option or str(PROJECT_FILE)
        return options

    def run(self, arguments: Sequence[str] | None = None, program: str | None = None) -> int:
        """Run the flow with the options of a command line; returns the exit code."""
        options = self.parse(arguments, program)
        try:
            settings = Settings.load(options.env)
            project = load_project(options.project, settings.env)
            if options.source:
                project = project.with_source(options.source)
            if self.before:
                self.before(options, project, settings)
            require_services(settings, registry=self.registry, cluster=self.cluster)
            preload(settings)
            if settings.log_format == "json":
                begin_logs(settings, project=project.name)
            with Screen(open_console(), process_age()), prefect_server(settings):
                self.flow(project=project, env=options.env, **self.arguments(options))
        except LifecycleError as error:
            write_error(str(error))
            return 2
        except OSError as error:
            if not (text := full_disk(error)):
                raise
            write_error(text)
            return 2
        except KeyboardInterrupt:
            return 130
        return 0


def run_flow(
    name: str,
    arguments: Sequence[str] | None = None,
    program: str | None = None,
    conditions: str | None = None,
) -> NoReturn:
    """Run the command of `flows/NAME.py` and end the process.

    The local Prefect server starts before that file is imported: both take seconds, side by side.

    Args:
        conditions: under which this process began, where it may leave a fork for later scripts.
    """
    options = list(sys.argv[1:] if arguments is None else arguments)
    prepare_process()
    _start_server(options)
    command = _import_command(name)
    if conditions:
        _leave_fork(conditions, name, options)
    end_process(command.run(options, program))


def _import_command(name: str) -> Command:
    with without_package("sklearn") if name in PREDICTING else nullcontext():
        command: Command = import_module(f"flows.{name}").command
    return command


def _leave_fork(conditions: str, name: str, arguments: list[str]) -> None:
    """Leave what is imported for the next script, where settings say so."""
    idle = partial(_import_steps, training=name not in PREDICTING)
    with suppress(LifecycleError, argparse.ArgumentError, OSError):
        settings = Settings.load(_environment(arguments))
        if settings.warm_minutes:
            preload(settings).join()
            home = prefect_home(settings)
            leave_server(conditions, _run_script, home, settings.warm_minutes, forget_early, idle)


def _import_steps(training: bool) -> None:
    """Import what steps import when they begin; with those of training, whichever flow ran."""
    if training:
        import_module("flows.train")
    preload_steps(training)


def _run_script(script: Script) -> int:
    """Do in a fork what a script asks for."""
    prepare_process()
    _start_server(script.arguments)
    return _import_command(script.flow).run(script.arguments, script.program)


def _start_server(arguments: Sequence[str]) -> None:
    """Start the server of the environment that the arguments name, unless they ask for help."""
    if HELP & set(arguments):
        return
    with suppress(LifecycleError, argparse.ArgumentError):  # reported when the flow begins
        start_early(Settings.load(_environment(arguments)))


def _environment(arguments: Sequence[str]) -> str | None:
    """The environment that the arguments of any flow name.

    Raises:
        argparse.ArgumentError: they name it without a value.
    """
    parser = argparse.ArgumentParser(add_help=False, exit_on_error=False)
    parser.add_argument(ENV, TO, dest="env")
    environment: str | None = parser.parse_known_args(arguments)[0].env
    return environment


def window_of(options: argparse.Namespace) -> Window | None:
    """The window of `--first` and `--last`; None without either."""
    window = Window(first=options.first, last=options.last)
    return None if window == Window() else window


def window_argument(options: argparse.Namespace) -> dict[str, Any]:
    """The arguments of a flow that takes a window and no other option."""
    return {"window": window_of(options)}


def at_least_one(text: str) -> int:
    """A count from 1 on."""
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"a whole number from 1 on (got {text!r})")
    return int(text)


def _time(text: str) -> int | str:
    return int(text) if text.lstrip("-").isdigit() else text


WINDOW = (
    Option("--first", type=_time, help="first time of the window, included"),
    Option("--last", type=_time, help="last time of the window, included"),
)
REASON = Option("--reason", default="", help="why, for the audit trail")
