"""`lifecycle`: helper verbs. Running the lifecycle itself is what `flows/` is for."""

import json
import os
import signal
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from lifecycle.cli import EnvOption, ProjectPath
from lifecycle.cli.contract import contract, rejected
from lifecycle.cli.data import diff, profile, versions
from lifecycle.cli.governance import audit, erase, lineage, retention
from lifecycle.cli.keys import front_env, keys, ray_node
from lifecycle.cli.ui import down, status, ui
from lifecycle.data.contract import check_compatible, last_contract
from lifecycle.data.preview import rehearse, told, trial_words, try_source
from lifecycle.data.split import small_holdout
from lifecycle.errors import LifecycleError, ProjectError, RegistryError
from lifecycle.features.encode import build_features, load_hook, refuse_text_and_times
from lifecycle.features.join import try_views
from lifecycle.lake import read_version
from lifecycle.project import Project
from lifecycle.project.base import NAMES_SHOWN
from lifecycle.project.loader import load_project
from lifecycle.runtime.console import open_console, write_error
from lifecycle.runtime.files import write_atomic
from lifecycle.runtime.process import prepare_process
from lifecycle.scaffold.generate import column_names, infer_project
from lifecycle.scaffold.roles import RoleOptions
from lifecycle.scaffold.source import ReadingOptions, folder_of, is_pattern
from lifecycle.settings import Settings

SCHEMA = Path(__file__).parents[2] / "docs" / "project.schema.json"
app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Helpers around project files; the lifecycle itself runs with `python flows/….py`.",
)


def main() -> None:
    """Run the command; a user's mistake is one message on stderr and exit code 2."""
    prepare_process()
    try:
        app()
    except LifecycleError as error:
        write_error(str(error))
        sys.exit(2)


def init(
    data: Annotated[
        str,
        typer.Argument(
            help="CSV, Parquet, JSON lines or Excel file, its URL, a folder or a pattern in quotes."
        ),
    ],
    target: Annotated[
        str | None, typer.Option(help="Column to predict; without it the columns are listed.")
    ] = None,
    output: Annotated[
        Path | None, typer.Option(help="By default project.yaml beside the data file.")
    ] = None,
    name: Annotated[
        str | None, typer.Option(help="By default the data file's name and the target.")
    ] = None,
    force: Annotated[bool, typer.Option(help="Overwrite an existing project file.")] = False,
    dates: Annotated[
        list[str] | None,
        typer.Option(help="How a column's dates are written: COLUMN=%d/%m/%Y. May be repeated."),
    ] = None,
    separator: Annotated[
        str | None, typer.Option(help="CSV: between cells; one sign, or tab. Else detected.")
    ] = None,
    encoding: Annotated[
        str | None, typer.Option(help="CSV, JSON lines: such as cp1252. Else detected.")
    ] = None,
    sheet: Annotated[
        str | None, typer.Option(help="Excel: by name, or place from 0. Else one with the target.")
    ] = None,
    decimal: Annotated[
        str | None, typer.Option(help="Before the decimals of a number: a point, or a comma.")
    ] = None,
    time: Annotated[
        str | None, typer.Option(help="Column that orders the rows in time. Else guessed.")
    ] = None,
    entity: Annotated[
        str | None, typer.Option(help="Column of whom the rows are about. Else guessed.")
    ] = None,
    id_column: Annotated[
        list[str] | None,
        typer.Option("--id", help="Column that numbers the rows, no feature; may be repeated."),
    ] = None,
) -> None:
    """Write a working project file for a data file, and say what was guessed."""
    remote = "://" in data
    file = output or folder_of(data) / "project.yaml"
    if file.exists() and not force and (remote or is_pattern(data) or Path(data).exists()):
        raise ProjectError(f"{file} is there already: name another --output, or use --force")
    reading = ReadingOptions(separator, encoding, sheet, decimal, _formats(dates or []))
    if target is None:
        names = column_names(data, reading)
        more = ", …" if len(names) > NAMES_SHOWN else ""
        shown = ", ".join(names[:NAMES_SHOWN])
        raise ProjectError(f"--target: name the column to predict, one of: {shown}{more}")
    wanted = RoleOptions(time, entity, tuple(id_column or ()))
    text, guesses = infer_project(data, target, name, file.parent, reading, wanted)
    if SCHEMA.is_file():
        schema = os.path.relpath(SCHEMA, file.parent.resolve())
        text = f"# yaml-language-server: $schema={schema}\n{text}"
    _write(file, text)
    console = open_console()
    table = Table("guess", "because", title=f"Guessed from {data}", title_justify="left")
    for guess in guesses:
        key, _, why = guess.partition(": ")
        table.add_row(key, why)
    console.print(table)
    profiled = "" if remote else f" lifecycle profile {file} shows what is in the data."
    console.print(f"Wrote {file}.{profiled} Read it once, then:")
    flow = os.path.relpath(Path(__file__).parents[2] / "flows" / "end_to_end.py")
    console.print(f"  {os.path.relpath(sys.executable)} {flow} --project {file}")
    console.print(_rehearse(load_project(file)), style="dim")


def _formats(dates: list[str]) -> dict[str, str]:
    """`COLUMN=FORMAT`, by column."""
    for one in dates:
        if not all(one.partition("=")):
            raise ProjectError(f"--dates {one}: write the column and its format: since=%d/%m/%Y")
    return dict(one.split("=", 1) for one in dates)


def validate(
    project: ProjectPath,
    source: Annotated[
        str | None,
        typer.Option(help="Try this file, folder or URL against the contract instead."),
    ] = None,
    env: EnvOption = None,
) -> None:
    """Say whether a project file is sound: contract, split, features and parameters are tried.

    With --source, whether other data keep the contract; they need not have the target.
    """
    from lifecycle.training.trainers.registry import open_trainer  # XGBoost takes a while

    loaded = load_project(project)
    if source is not None:
        words = trial_words(done := try_source(loaded.with_source(source)), loaded)
        sound = "it keeps the contract" if done.accepted == done.rows else "it can be used"
        open_console().print(f"{source}: {sound}. " + "\n".join(words))
        return
    if (former := last_contract(Settings.load(env), loaded.name)) is not None:
        check_compatible(former, loaded.contract)
    text = _rehearse(loaded)
    open_trainer(loaded).check(loaded)
    open_console().print(f"{project}: sound. {text}")


def schema(
    output: Annotated[Path, typer.Option(help="Where to write it.")] = SCHEMA,
) -> None:
    """Write the JSON schema of project files, which editors complete and check with."""
    _write(output, json.dumps(Project.model_json_schema(), indent=1) + "\n")
    open_console().print(f"Wrote {output}")


def serve(project: ProjectPath, env: EnvOption = None) -> None:
    """Serve the champion in the foreground, until Ctrl-C."""
    from lifecycle.release.artifacts import bundle_path, record_of
    from lifecycle.release.hooks import as_trained
    from lifecycle.release.registry import by_alias, erased_rows_of
    from lifecycle.runtime.cluster import connect_ray  # Ray and MLflow take a while
    from lifecycle.serving.deployment import deploy, undeploy
    from lifecycle.serving.online_features import as_requests
    from lifecycle.serving.predictor import engine_for
    from lifecycle.serving.proxy import check_port
    from lifecycle.serving.records import curl_command
    from lifecycle.training.bundle import load_bundle

    loaded, settings = load_project(project), Settings.load(env)
    champion = by_alias(loaded.name, "champion", settings)
    if champion is None:
        raise RegistryError(
            f"{loaded.name} has no champion yet: run python flows/end_to_end.py --project {project}"
        )
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    console = open_console()
    if erased := erased_rows_of(champion, settings):
        console.print(
            f"{champion.name} v{champion.version} learned from {erased:,} rows that were erased "
            "since: train and release anew"
        )
    if settings.local_ray:  # a joined one may serve already, and knows its own port
        check_port(settings.serve_host, settings.serve_port)
    console.print(f"Starting Ray Serve with {champion.name} v{champion.version} …")
    holdout = read_version(record_of(champion, settings).split.holdout)
    row, bundle = holdout.head(1), bundle_path(champion, settings)
    loaded = as_trained(loaded, champion, settings)
    with connect_ray(settings):
        engine = engine_for(bundle, champion, loaded, holdout)
        url = deploy(bundle, champion, loaded, settings, engine)
        console.print(f"{champion.name} v{champion.version} answers. Ctrl-C stops it. Try:")
        if settings.needs_keys:
            console.print(
                f"It asks for a key of {settings.keys_file}: add -H 'X-API-Key: …' to these; "
                "`lifecycle keys add NAME` makes one."
            )
        console.print(f"curl -s {url}/model", soft_wrap=True)
        asked = as_requests(row, load_bundle(bundle, champion.digest).schema, loaded)
        console.print(curl_command(url, asked), soft_wrap=True)
        stop.wait()
        undeploy(loaded.name)


def _rehearse(project: Project) -> str:
    """What ingestion and split would make of the source, without writing anything.

    Raises:
        DataError: the source, a column or the target cannot be used.
    """
    done = rehearse(project)
    features = build_features(try_views(project, done.head), project, load_hook(project))
    refuse_text_and_times(features, project.columns)
    if project.evaluation.segments:
        from lifecycle.training.evaluation.slices import parts_of  # as above

        parts_of(done.head, project)
    holdout = done.parts.holdout
    small = small_holdout(int(holdout.sum()), len(holdout), project)
    return "\n".join([*told(done, project), *([f"Warning: {small}"] if small else [])])


def _write(file: Path, text: str) -> None:
    try:
        write_atomic(file, text)
    except OSError as error:
        raise ProjectError(
            f"{file}: cannot write it ({error.strerror}); name another place with --output"
        ) from None


def _register(panel: str, *commands: Callable[..., None]) -> None:
    for command in commands:
        app.command(rich_help_panel=panel)(command)


_register("Project file", init, validate, schema)
_register("Data", profile, contract, rejected, versions, diff, lineage)
_register("Endpoint", serve, front_env, ray_node)
_register("Pages and servers", ui, status, down)
app.add_typer(keys, name="keys", rich_help_panel="Endpoint")
_register("Governance", audit, erase, retention)
