"""`lifecycle predictions`: what a model predicted for the rows that `score` was given."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from lifecycle.cli.project import EnvOption, ProjectPath
from lifecycle.errors import DataError
from lifecycle.project.loader import PROJECT_FILE, load_project
from lifecycle.records import DatasetVersion, counted
from lifecycle.redaction import redact
from lifecycle.runtime.console import TABLE_WIDTH, open_console, styled
from lifecycle.settings import Settings

if TYPE_CHECKING:
    import pandas as pd
    from rich.console import Console


def predictions(
    project: ProjectPath = PROJECT_FILE,
    version: Annotated[
        int | None, typer.Option(help="Version of the predictions; by default the newest.")
    ] = None,
    rows: Annotated[int, typer.Option(min=0, help="Number of rows to show.")] = 10,
    output: Annotated[
        Path | None, typer.Option(help="File for all rows: .csv or .parquet.")
    ] = None,
    env: EnvOption = None,
) -> None:
    """Show the newest predictions of scored rows, or write all of a version to a file."""
    from lifecycle.lake.export import export, writer_of  # pandas and Arrow take a while
    from lifecycle.lake.read import read_head
    from lifecycle.lake.table import history, numbered_version, table_uri
    from lifecycle.serving.batch import TABLE

    settings = Settings.load(env)
    loaded = load_project(project, settings.env)
    uri = table_uri(settings, loaded.name, TABLE)
    if output is not None:
        writer_of(output)  # before anything is read
    versions = history(uri).to_dict("records")
    if not versions:
        store = redact(settings.lake)
        raise DataError(
            f"{loaded.name}: no predictions in {store}: `lifecycle run score` makes them"
        )
    console = open_console(width=TABLE_WIDTH)
    ref = numbered_version(uri, versions[-1]["version"] if version is None else version)
    _show_origin(console, loaded.name, ref, versions)
    if output is not None:
        export(ref, output)
        console.print(f"{counted(ref.rows, 'row')} in {output}", soft_wrap=True)
    elif rows and ref.rows:
        _show_rows(console, ref, read_head(ref, rows))


def _show_origin(
    console: "Console", name: str, ref: DatasetVersion, versions: list[dict[Any, Any]]
) -> None:
    entry = next(entry for entry in versions if entry["version"] == ref.version)
    note = entry["note"]
    model = note["model"].rpartition("/")[2]
    console.print(
        styled(
            (name, "bold"),
            f" predictions@{ref.version}: {counted(ref.rows, 'row')} of {note['table']} "
            f"({note['window']}) by v{model}, written {entry['time']:%Y-%m-%d %H:%M} UTC",
        ),
        soft_wrap=True,
    )
    if others := [entry["version"] for entry in versions if entry["version"] != ref.version]:
        console.print(
            f"{counted(len(others), 'other version')}: `lifecycle versions` lists them", style="dim"
        )


def _show_rows(console: "Console", ref: DatasetVersion, frame: "pd.DataFrame") -> None:
    from pandas.api.types import is_numeric_dtype
    from rich.table import Table

    count = len(frame)
    title = "Rows" if count == ref.rows else f"The first {count:,} of {ref.rows:,} rows"
    table = Table(title=title, title_justify="left")
    for name in frame:
        justify: Literal["left", "right"] = "right" if is_numeric_dtype(frame[name]) else "left"
        table.add_column(str(name), justify=justify)
    for row, missing in zip(frame.itertuples(index=False), frame.isna().to_numpy(), strict=True):
        table.add_row(
            *("" if gap else _cell(value) for value, gap in zip(row, missing, strict=True))
        )
    console.print(table)


def _cell(value: Any) -> str:
    return f"{value:.6g}" if isinstance(value, float) else str(value)
