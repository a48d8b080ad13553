"""The command `lifecycle`: its verbs, and `lifecycle run`, which starts a flow.

A verb's module is imported when the verb runs or shows its own help, so that `lifecycle --help`
and the completion of a shell need nothing but Typer.
"""

import os
import sys
from importlib import import_module
from importlib.metadata import version
from importlib.util import find_spec
from itertools import groupby
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import typer
from typer.core import TyperCommand, TyperGroup

from lifecycle.cli.flow import HELP, hand_over
from lifecycle.errors import LifecycleError, SettingsError, full_disk
from lifecycle.redaction import redact
from lifecycle.runtime.process import prepare_process, process_age

DISTRIBUTION = "lifecycle-flows"


class Verb(NamedTuple):
    """A verb as the list of verbs shows it."""

    panel: str
    place: str
    """Module in this package and function."""
    summary: str
    """The first line of the function's docstring."""
    example: str


VERBS = {
    "init": Verb(
        "Project file",
        "project:init",
        "Write a working project file for a data file, and say what was guessed.",
        "lifecycle init customers.csv --target churned",
    ),
    "validate": Verb(
        "Project file",
        "project:validate",
        "Say whether a project file is sound: contract, split, features and parameters are tried.",
        "lifecycle validate --source new.csv",
    ),
    "schema": Verb(
        "Project file",
        "project:schema",
        "Write the JSON schema of project files, which editors complete and check with.",
        "lifecycle schema --output project.schema.json",
    ),
    "profile": Verb(
        "Data",
        "data:profile",
        "Profile a version of a project's data, its source, or a data file; writes an HTML page.",
        "lifecycle profile customers.csv --target churned",
    ),
    "contract": Verb(
        "Data",
        "contract:contract",
        "Show a project's data contract, and what changed in it since the last ingestion.",
        "lifecycle contract export project.yaml --output contract.odcs.yaml",
    ),
    "rejected": Verb(
        "Data",
        "contract:rejected",
        "Show the rows that broke the data contract: why, how many, and the first of them.",
        "lifecycle rejected --rows 20",
    ),
    "versions": Verb(
        "Data",
        "data:versions",
        "List a project's dataset versions and model versions.",
        "lifecycle versions project.yaml",
    ),
    "diff": Verb(
        "Data",
        "data:diff",
        "Compare two versions of a table: schema, rows, and how each column's distribution moved.",
        "lifecycle diff 3 4",
    ),
    "compare": Verb(
        "Data",
        "page:compare",
        "Compare trained versions: what differs in data, parameters and code, and what it did.",
        "lifecycle compare champion 3",
    ),
    "card": Verb(
        "Data",
        "card:card",
        "Show the model card of a version, or two side by side; exit code 2 if a claim is false.",
        "lifecycle card champion 3",
    ),
    "note": Verb(
        "Data",
        "card:note",
        "Note something of a model version: on its card and in the audit trail.",
        "lifecycle note 3 'the board asked for a second opinion'",
    ),
    "review": Verb(
        "Data",
        "page:review",
        "Say what the newest version's gate says and what differs, at the pull request.",
        "lifecycle review project.yaml champion --event event.json",
    ),
    "predictions": Verb(
        "Data",
        "predictions:predictions",
        "Show the newest predictions of scored rows, or write all of a version to a file.",
        "lifecycle predictions project.yaml --output predictions.csv",
    ),
    "labels": Verb(
        "Data",
        "data:labels",
        "Take in what came true, each label once, for the measured quality of predictions.",
        "lifecycle labels project.yaml outcomes.csv",
    ),
    "alarms": Verb(
        "Data",
        "alarms:alarms",
        "List what monitoring found: cause, since when, and who acknowledged it, for which reason.",
        "lifecycle alarms acknowledge 3f9c --reason 'the meter is being changed'",
    ),
    "reproduce": Verb(
        "Data",
        "alarms:reproduce",
        "Compute an alarm again from the same versions of the data; exit code 2 if it differs.",
        "lifecycle reproduce 3f9c",
    ),
    "lake": Verb(
        "Data",
        "governance:lake",
        "Show the size of each table of a project, and what of it models need.",
        "lifecycle lake project.yaml",
    ),
    "lineage": Verb(
        "Data",
        "governance:lineage",
        "Walk both ways: to the rows, code and run something was made from, and to all it led to.",
        "lifecycle lineage champion",
    ),
    "serve": Verb(
        "Endpoint",
        "servers:serve",
        "Serve the champion in the foreground, until Ctrl-C.",
        "lifecycle serve project.yaml",
    ),
    "front-env": Verb(
        "Endpoint",
        "servers:front_env",
        "Print what a cluster's nodes need in their environment before `ray start`.",
        'eval "$(lifecycle front-env --env prod)"',
    ),
    "ray-node": Verb(
        "Endpoint",
        "servers:ray_node",
        "Add a node on this machine to a Ray head that was started with `front-env --one-machine`.",
        "lifecycle ray-node 127.0.0.1:6379 --cpus 2",
    ),
    "keys": Verb(
        "Endpoint",
        "servers:keys",
        "API keys of the endpoint.",
        "lifecycle keys add shop --rate 50",
    ),
    "page": Verb(
        "Pages and servers",
        "page:page",
        "Write one page about a project in all environments: what runs, since when, why, how well.",
        "lifecycle page project.yaml",
    ),
    "ui": Verb(
        "Pages and servers",
        "servers:ui",
        "Show MLflow, Prefect and a project's page in a browser, on loopback, until Ctrl-C.",
        "lifecycle ui project.yaml --mlflow-port 5001",
    ),
    "doctor": Verb(
        "Pages and servers",
        "servers:doctor",
        "Ask for everything an environment needs: a line each, with the cure of what is wrong.",
        "lifecycle doctor --env staging",
    ),
    "upgrade": Verb(
        "Pages and servers",
        "upgrade:upgrade",
        "Upgrade an environment's databases after a rehearsal on copies, or leave it as it is.",
        "lifecycle upgrade --rehearse --env staging --python ../new/.venv/bin/python",
    ),
    "status": Verb(
        "Pages and servers",
        "servers:status",
        "Show what runs for this home when no script does: where, since when, until when.",
        "lifecycle status",
    ),
    "down": Verb(
        "Pages and servers",
        "servers:down",
        "End what a script left running for the next one; runs and models stay.",
        "lifecycle down --force",
    ),
    "audit": Verb(
        "Governance",
        "governance:audit",
        "List every change of models and data; with --verify, exit code 2 if a line was changed.",
        "lifecycle audit --verify",
    ),
    "erase": Verb(
        "Governance",
        "governance:erase",
        "Remove persons from everything that holds rows, and prove it; exit code 2 if any is left.",
        "lifecycle erase --entity 125024 --dry-run",
    ),
    "retention": Verb(
        "Governance",
        "governance:retention",
        "Delete rows older than `contract.retention.days` that no champion or challenger needs.",
        "lifecycle retention --dry-run",
    ),
}


def example_text(command: str) -> str:
    """The end of a help text: an example on a line of its own."""
    return f"\b\nExample:\n  {command}"


class LazyCommand(TyperCommand):
    """A verb whose module is imported when it is used: the list of verbs does without."""

    def load(self) -> Any:
        """The verb itself."""
        verb = VERBS[str(self.name)]
        module, _, name = verb.place.partition(":")
        entry = getattr(import_module(f"lifecycle.cli.{module}"), name)
        if isinstance(entry, typer.Typer):
            return typer.main.get_command(entry)
        single = typer.Typer(add_completion=False, rich_markup_mode=None)
        single.command(self.name, epilog=example_text(verb.example))(entry)
        return typer.main.get_command(single)

    def make_context(self, *args: Any, **options: Any) -> Any:
        """The context of the verb itself, which is what runs, shows help and completes."""
        return self.load().make_context(*args, **options)


class Verbs(TyperGroup):
    """The list of verbs, by panel."""

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """Write one section per panel."""
        commands: list[Any] = [self.get_command(ctx, name) for name in self.list_commands(ctx)]
        for panel, verbs in groupby(commands, lambda command: command.rich_help_panel):
            with formatter.section(panel):
                formatter.write_dl([(verb.name, verb.help.partition("\n")[0]) for verb in verbs])


app = typer.Typer(
    cls=Verbs,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    epilog=example_text("lifecycle init customers.csv --target churned"),
)


def main() -> None:
    """Run the command; a user's mistake is one message on stderr and exit code 2."""
    prepare_process()
    try:
        app()
    except LifecycleError as error:
        from lifecycle.runtime.console import write_error  # not for every `--help`

        write_error(str(error))
        sys.exit(2)
    except OSError as error:
        if not (text := full_disk(error)):
            raise
        from lifecycle.runtime.console import write_error  # as above

        write_error(text)
        sys.exit(2)


def _print_version(is_set: bool) -> None:
    if is_set:
        typer.echo(f"lifecycle {version(DISTRIBUTION)}")
        raise typer.Exit


@app.callback()
def describe(
    show_version: Annotated[
        bool,
        typer.Option("--version", is_eager=True, callback=_print_version, help="Show the version."),
    ] = False,
) -> None:
    """Run the machine-learning lifecycle of a project file, and look at what it made."""


def flow_summaries() -> dict[str, str]:
    """The flows, by name, with what each does: the first line of its file."""
    spec = find_spec("flows")  # found, not imported: that would load Prefect
    summaries = {}
    for folder in spec.submodule_search_locations or () if spec else ():
        for file in sorted(Path(folder).glob("*.py")):
            with file.open(encoding="utf-8") as lines:
                name, _, summary = lines.readline().strip().strip('"').partition(": ")
            if name == file.stem:
                summaries[name] = summary
    return summaries


def run(
    context: typer.Context,
    flow: Annotated[
        str,
        typer.Argument(
            metavar="FLOW [PROJECT] [OPTIONS]",
            help="A flow of the list above, its project file and its options.",
            autocompletion=lambda: list(flow_summaries()),
        ),
    ],
) -> None:
    """Run a flow: `lifecycle run FLOW --help` shows its options."""
    name = flow.replace("-", "_")
    if name not in (flows := flow_summaries()):
        raise SettingsError(f"there is no flow {flow!r}; choose one of {', '.join(flows)}")
    hand_over(name, context.args, f"lifecycle run {name}")
    if not HELP & set(context.args):
        _announce(" ".join((name, *context.args)))
    # the same process goes on as the flow, so that signals and exit code are its own. -P: a
    # package of the working folder must not stand in for one of ours
    os.execv(sys.executable, [sys.executable, "-P", "-m", "flows", name, *context.args])  # noqa: S606


def _announce(command: str) -> None:
    """Show at once that a flow starts: it imports for seconds before it has anything to say."""
    from lifecycle.runtime.console import open_console, progress_line  # not for every `--help`

    text = f"{redact(command)}: importing Prefect and what the flow needs"
    open_console().print(progress_line(process_age(), "start", text, ended=False), soft_wrap=True)
    sys.stdout.flush()  # of a pipe: what is not written yet would be lost


class FlowCommand(TyperCommand):
    """The verb whose help lists the flows."""

    def format_epilog(self, ctx: Any, formatter: Any) -> None:
        """Write the flows, then the example."""
        with formatter.section("Flows"):
            formatter.write_dl(list(flow_summaries().items()))
        super().format_epilog(ctx, formatter)


app.command(
    cls=FlowCommand,
    rich_help_panel="Lifecycle",
    epilog=example_text("lifecycle run train project.yaml --seeds 5"),
    # what follows the name of the flow is the flow's
    context_settings={
        "allow_extra_args": True,
        "allow_interspersed_args": False,
        "ignore_unknown_options": True,
    },
)(run)
for _name, _verb in VERBS.items():
    app.command(_name, cls=LazyCommand, rich_help_panel=_verb.panel, help=_verb.summary)(
        lambda: None
    )
