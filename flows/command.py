"""What every flow does when it is run as a script: read the command line, run, end with a code.

Exit codes: 0 all stages did their work; 2 a mistake the user can mend (one message, no traceback);
1 a failure of ours (with traceback); 130 interrupted.
"""

import argparse
import inspect
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

from prefect import Flow

from flows.console import Screen
from flows.server import prefect_server, start_early
from lifecycle.errors import LifecycleError
from lifecycle.project.loader import load_project
from lifecycle.records import Window
from lifecycle.runtime.console import open_console, write_error
from lifecycle.runtime.process import prepare_process
from lifecycle.settings import Settings, environments
from tasks.cluster import preload
from tasks.services import require_services

WITHOUT_REGISTRY = ("prepare",)
"""Flows that do their work without MLflow."""
WITH_CLUSTER = ("train", "release", "retrain", "end-to-end")
"""Flows that join the cluster whatever the project is."""


def script(flow: Flow[..., Any]) -> int:
    """Run `flow` with the options of the command line; returns the exit code."""
    prepare_process()
    options = _parser(flow).parse_args()
    try:
        settings = Settings.load(options.env)
        project = load_project(options.project)
        if options.source:
            project = project.with_source(options.source)
        arguments: dict[str, Any] = {"project": project, "env": options.env}
        if hasattr(options, "first"):
            window = Window(first=options.first, last=options.last)
            arguments["window"] = None if window == Window() else window
        if hasattr(options, "entity"):  # kept from Prefect, which keeps parameters
            from tasks.governance import file_request  # seconds, which no other flow pays

            persons = options.entity, options.entities_file
            file_request(project, settings, *persons, options.why, options.value)
        for name in ("force", "seeds", "rollback", "again", "reason", "retrain"):
            if hasattr(options, name):
                arguments[name] = getattr(options, name)
        require_services(
            settings,
            registry=flow.name not in WITHOUT_REGISTRY,
            cluster=flow.name in WITH_CLUSTER,
        )
        preload(settings)
        with Screen(open_console()), prefect_server(settings):
            flow(**arguments)
    except LifecycleError as error:
        write_error(str(error))
        return 2
    except KeyboardInterrupt:
        return 130
    return 0


def _start_early() -> None:
    """Start the server of a script now: what else its file imports takes seconds."""
    is_script = Path(sys.argv[0]).parent.absolute() == Path(__file__).parent
    if not is_script or {"-h", "--help"} & set(sys.argv):
        return
    parser = argparse.ArgumentParser(add_help=False, exit_on_error=False)
    parser.add_argument("--env")
    with suppress(LifecycleError, argparse.ArgumentError):  # told when the flow begins
        start_early(Settings.load(parser.parse_known_args()[0].env))


def _parser(flow: Flow[..., Any]) -> argparse.ArgumentParser:
    known = inspect.signature(flow.fn).parameters
    parser = argparse.ArgumentParser(
        prog=Path(sys.argv[0]).name, description=inspect.getdoc(flow.fn) or ""
    )
    parser.add_argument("--project", required=True, help="project file (YAML)")
    known_environments = ", ".join(environments())
    parser.add_argument("--env", help=f"{known_environments}; by default LIFECYCLE_ENV, or dev")
    parser.add_argument("--source", help="data file instead of the project's source.path")
    if "window" in known:
        parser.add_argument("--first", type=_time, help="first time of the window, included")
        parser.add_argument("--last", type=_time, help="last time of the window, included")
    if "force" in known:
        parser.add_argument("--force", action="store_true", help=_FORCE)
    if "seeds" in known:
        parser.add_argument("--seeds", type=_count, metavar="N", help=_SEEDS)
    if "rollback" in known:
        parser.add_argument("--rollback", action="store_true", help=_ROLLBACK)
        parser.add_argument("--again", action="store_true", help=_AGAIN)
        parser.add_argument("--reason", default="", help="why, for the audit trail")
    if "retrain" in known:
        parser.add_argument("--entity", action="append", default=[], help="whom to erase")
        parser.add_argument("--entities-file", type=Path, help="a file with one a line")
        parser.add_argument("--value", action="append", default=[], help="what else is theirs")
        parser.add_argument("--reason", dest="why", default="", help="why, for the audit trail")
        parser.add_argument("--retrain", action="store_true", help=_RETRAIN)
    return parser


_FORCE = "go on although monitoring found nothing to do"
_ROLLBACK = "end a canary that is under way, or go back to the champion before"
_AGAIN = "release a version although it was rolled back"
_RETRAIN = "train and release anew where a model had learned from them"
_SEEDS = "train with N seeds, to tell a gain from noise; by default gate.seeds"


def _count(text: str) -> int:
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"a whole number from 1 on (got {text!r})")
    return int(text)


def _time(text: str) -> int | str:
    return int(text) if text.lstrip("-").isdigit() else text


_start_early()
