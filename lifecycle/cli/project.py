"""`lifecycle init`, `validate` and `schema`: project files, and the arguments that name one."""

import json
import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from lifecycle.environments import environment_help, environments, shipped_folder
from lifecycle.errors import ProjectError
from lifecycle.project.base import NAMES_SHOWN
from lifecycle.project.loader import PROJECT_FILE, in_environment, load_project
from lifecycle.runtime.console import open_console
from lifecycle.runtime.files import write_atomic
from lifecycle.settings import Settings

if TYPE_CHECKING:
    from lifecycle.project import Project

PROJECT_SUFFIXES = (".yaml", ".yml")
SCHEMA = shipped_folder("docs") / "project.schema.json"

ProjectPath = Annotated[Path, typer.Argument(metavar="[PROJECT]", help="Project file.")]
EnvOption = Annotated[
    str | None,
    typer.Option("--env", help=environment_help(), autocompletion=lambda: list(environments())),
]


def project_first(words: list[str]) -> tuple[Path, list[str]]:
    """The project that the words of a command begin with, or the default, and the other words."""
    if words and words[0].endswith(PROJECT_SUFFIXES):
        return Path(words[0]), words[1:]
    return PROJECT_FILE, words


def init(
    data: Annotated[
        str,
        typer.Argument(
            metavar="DATA",
            help="CSV, Parquet, JSON lines or Excel file, its URL, a folder, a pattern in quotes.",
        ),
    ],
    target: Annotated[
        str | None, typer.Option(help="Column to predict; without it the columns are listed.")
    ] = None,
    output: Annotated[
        Path | None, typer.Option(help="By default project.yaml next to the data file.")
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
        str | None, typer.Option(help="CSV: character between cells, or tab. Otherwise detected.")
    ] = None,
    encoding: Annotated[
        str | None,
        typer.Option(help="CSV, JSON lines: encoding, such as cp1252. Otherwise detected."),
    ] = None,
    sheet: Annotated[
        str | None, typer.Option(help="Excel: name or index from 0. Otherwise one with the target.")
    ] = None,
    decimal: Annotated[
        str | None, typer.Option(help="Decimal mark of numbers: a point or a comma.")
    ] = None,
    time: Annotated[
        str | None, typer.Option(help="Column that orders the rows in time. Otherwise guessed.")
    ] = None,
    entity: Annotated[
        str | None,
        typer.Option(help="Column that identifies the entity of a row. Otherwise guessed."),
    ] = None,
    id_column: Annotated[
        list[str] | None,
        typer.Option(
            "--id", help="Column that numbers the rows and is no feature; may be repeated."
        ),
    ] = None,
) -> None:
    """Write a working project file for a data file, and say what was guessed."""
    from lifecycle.scaffold.generate import column_names, infer_project  # pandas takes a while
    from lifecycle.scaffold.roles import RoleOptions
    from lifecycle.scaffold.source import ReadingOptions, folder_of, is_pattern

    remote = "://" in data
    file = output or folder_of(data) / "project.yaml"
    if file.exists() and not force and (remote or is_pattern(data) or Path(data).exists()):
        raise ProjectError(f"{file} already exists: name another --output, or use --force")
    reading = ReadingOptions(separator, encoding, sheet, decimal, _formats(dates or []))
    if target is None:
        names = column_names(data, reading)
        more = ", …" if len(names) > NAMES_SHOWN else ""
        examples = ", ".join(names[:NAMES_SHOWN])
        raise ProjectError(f"--target: name the column to predict, one of: {examples}{more}")
    role_options = RoleOptions(time, entity, tuple(id_column or ()))
    text, guesses = infer_project(data, target, name, file.parent, reading, role_options)
    if SCHEMA.is_file():
        schema = os.path.relpath(SCHEMA, file.parent.resolve())
        text = f"# yaml-language-server: $schema={schema}\n{text}"
    _write(file, text)
    console = open_console()
    table = Table("guess", "because", title=f"Guessed from {data}", title_justify="left")
    for guess in guesses:
        key, _, reason = guess.partition(": ")
        table.add_row(key, reason)
    console.print(table)
    profiled = "" if remote else f" lifecycle profile {file} shows what is in the data."
    console.print(f"Wrote {file}.{profiled} Read it once, then:")
    console.print(f"  {_program()} run end_to_end {file}")
    console.print(_rehearse(load_project(file)), style="dim")


def _program() -> str:
    """Return this command as a shell finds it."""
    program = Path(sys.executable).with_name("lifecycle")
    on_path = shutil.which("lifecycle")
    return "lifecycle" if on_path == str(program) else os.path.relpath(program)


def _formats(dates: list[str]) -> dict[str, str]:
    """`COLUMN=FORMAT`, by column."""
    for date in dates:
        if not all(date.partition("=")):
            raise ProjectError(f"--dates {date}: write the column and its format: since=%d/%m/%Y")
    return dict(date.split("=", 1) for date in dates)


def validate(
    project: ProjectPath = PROJECT_FILE,
    source: Annotated[
        str | None,
        typer.Option(help="Try this file, folder or URL against the contract instead."),
    ] = None,
    env: EnvOption = None,
) -> None:
    """Say whether a project file is sound: contract, split, features and parameters are tried.

    With --source, whether other data keep the contract; they need not have the target.
    """
    from lifecycle.data.contract import check_compatible, last_contract  # pandas takes a while
    from lifecycle.data.preview import trial_words, try_source
    from lifecycle.training.trainers.registry import open_trainer

    settings = Settings.load(env)
    declared = load_project(project)
    loaded = in_environment(declared, settings.env)
    if source is not None:
        words = trial_words(trial := try_source(loaded.with_source(source)), loaded)
        sound = "it keeps the contract" if trial.accepted == trial.rows else "it can be used"
        open_console().print(f"{source}: {sound}. " + "\n".join(words))
        return
    if (former := last_contract(settings, loaded.name)) is not None:
        check_compatible(former, loaded.contract)
    text = _rehearse(loaded)
    open_trainer(loaded).check(loaded)
    lines = [f"{project}: sound. {text}", *_source_lines(declared, settings.env)]
    open_console().print("\n".join(lines))


def schema(
    output: Annotated[
        Path | None,
        typer.Option(
            help="By default docs/project.schema.json of the checkout, otherwise in this folder."
        ),
    ] = None,
) -> None:
    """Write the JSON schema of project files, which editors complete and check with."""
    from lifecycle.project import Project

    in_package = SCHEMA.is_relative_to(Path(__file__).parents[1])
    output = output or (Path(SCHEMA.name) if in_package else SCHEMA)
    _write(output, json.dumps(Project.model_json_schema(), indent=1) + "\n")
    open_console().print(f"Wrote {output}")


def _source_lines(project: "Project", env: str) -> Iterator[str]:
    """The place that each environment reads; nothing where all read the same one."""
    for name in project.environments:
        place = in_environment(project, name).source.place
        tried = " (tried here)" if name == env else ""
        warning = "" if name in environments() else f": there is no deployments/{name}.env"
        yield f"{name} reads {place}{tried}{warning}"
    if project.environments and env not in project.environments:
        yield f"{env} reads {in_environment(project, env).source.place} (tried here)"


def _rehearse(project: "Project") -> str:
    """Preview ingestion and split of the source, without writing anything.

    Raises:
        DataError: the source, a column or the target is unusable.
    """
    from lifecycle.data.preview import rehearse, summary_lines  # as above
    from lifecycle.data.split import small_holdout
    from lifecycle.features.encode import build_features, load_hook, refuse_text_and_times
    from lifecycle.features.join import try_views

    rehearsal = rehearse(project)
    features = build_features(try_views(project, rehearsal.head), project, load_hook(project))
    refuse_text_and_times(features, project.columns)
    if project.evaluation.segments:
        from lifecycle.training.evaluation.slices import parts_of

        parts_of(rehearsal.head, project)
    holdout = rehearsal.parts.holdout
    small = small_holdout(int(holdout.sum()), len(holdout), project)
    return "\n".join(
        [*summary_lines(rehearsal, project), *([f"Warning: {small}"] if small else [])]
    )


def _write(file: Path, text: str) -> None:
    try:
        write_atomic(file, text)
    except OSError as error:
        raise ProjectError(
            f"{file}: cannot write it ({error.strerror}); name another place with --output"
        ) from None
