"""`lifecycle versions`, `diff` and `profile`: what data there are, and what is in them."""

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from lifecycle.cli.project import EnvOption, ProjectPath, project_first
from lifecycle.errors import DataError
from lifecycle.project.loader import PROJECT_FILE, load_project
from lifecycle.records import DatasetVersion
from lifecycle.records.data import Moments, RowsDiff, SchemaDiff, VersionDiff
from lifecycle.runtime.console import TABLE_WIDTH, open_console, styled
from lifecycle.settings import Settings


def versions(
    project: ProjectPath = PROJECT_FILE,
    env: EnvOption = None,
) -> None:
    """List a project's dataset versions and model versions."""
    from lifecycle.audit.card_trail import status_of
    from lifecycle.audit.model_trail import history as model_history
    from lifecycle.lake.table import history, table_uri
    from lifecycle.lineage.datasets import tables
    from lifecycle.lineage.models import holdout_metrics, model_runs
    from lifecycle.release.registry import CHAMPION
    from lifecycle.release.registry import versions as model_versions  # MLflow takes a while

    settings = Settings.load(env)
    loaded = load_project(project, settings.env)
    console = open_console(width=TABLE_WIDTH)
    histories = {
        name: history(table_uri(settings, loaded.name, name)).to_dict("records")
        for name in tables(loaded, settings)
    }
    quality = f"{loaded.metric} (95 %)"
    models = _table("Models", "version", "alias", "card", quality, "digest", "identity")
    runs = {run.info.run_id: holdout_metrics(run) for run in model_runs(loaded, settings)}
    changes = model_history(settings, loaded.name)
    registered = model_versions(loaded.name, settings)
    champion = next((m.version for m, names in registered.items() if CHAMPION in names), None)
    for model, aliases in registered.items():
        value = runs.get(model.run_id, {}).get(loaded.metric)
        models.add_row(
            str(model.version),
            ", ".join(aliases),
            status_of(model.version, changes, champion),
            f"{value.value:.4f} ({value.low:.4f} to {value.high:.4f})" if value else "–",
            model.digest[:12],
            model.identity[:12],
        )
    if not any(histories.values()) and not models.row_count:
        text = f"{loaded.name}: nothing yet in {settings.home} (LIFECYCLE_HOME)"
        console.print(text, soft_wrap=True)
        return
    if any(histories.values()):
        _show_data(console, histories)
    if models.row_count:
        console.print(models)


def _show_data(console: Console, tables: dict[str, list[dict[Any, Any]]]) -> None:
    """A line a version; the rule of a split, which is long and the same for its parts, once."""
    data = _table("Data", "version", "rows", "written (UTC)", "digest", "contract")
    data.add_column("window")
    data.columns[1].justify = "right"
    rules: dict[str, list[str]] = {}
    for name, rows in tables.items():
        for row in rows:
            note, version = row["note"], f"{name}@{row['version']}"
            data.add_row(
                version,
                f"{row['rows']:,}",
                f"{row['time']:%Y-%m-%d %H:%M}",
                row["digest"][:12],
                note.get("contract", ""),
                note.get("window", ""),
            )
            if "rule" in note:
                rules.setdefault(note["rule"], []).append(version)
    console.print(data)
    for rule, of in rules.items():
        console.print(f"{', '.join(of)}: {rule}", soft_wrap=True)


def _table(title: str, *columns: str) -> Table:
    """A table whose cells stay on one line, where the screen is wide enough for that."""
    table = Table(title=title, title_justify="left")
    for column in columns:
        table.add_column(column, no_wrap=True)
    return table


# `lifecycle diff`: what differs between two versions of a project's data.

TESTS = {"kolmogorov_smirnov": "KS", "cramers_v": "V"}


def diff(
    versions: Annotated[
        list[str],
        typer.Argument(
            metavar="[PROJECT] [TABLE] A B",
            help="Two versions, by default of `accepted`, such as 3 4; or train@3 holdout@3.",
        ),
    ],
    as_json: Annotated[bool, typer.Option("--json", help="Print the record as JSON.")] = False,
    env: EnvOption = None,
) -> None:
    """Compare two versions of a table: schema, rows, and how each column's distribution moved."""
    from lifecycle.profiling.diff import diff as compare  # pandas and Arrow take a while

    project, words = project_first(versions)
    if not 2 <= len(words) <= 3:
        raise DataError("lifecycle diff [PROJECT] [TABLE] A B: name two versions, such as 3 4")
    *tables, former, present = words
    settings = Settings.load(env)
    loaded = load_project(project, settings.env)
    table = tables[0] if tables else "accepted"
    comparison = compare(
        _version(settings, loaded.name, table, former),
        _version(settings, loaded.name, table, present),
        loaded.contract,
    )
    if as_json:
        typer.echo(comparison.model_dump_json(indent=1))
    else:
        show(comparison)


def _version(settings: Settings, project_name: str, table: str, text: str) -> DatasetVersion:
    """`4` of the table, or `train@4`.

    Raises:
        DataError: there is no such version.
    """
    from lifecycle.lake.table import numbered_version, table_uri

    name, _, number = text.rpartition("@")
    if not number.isdecimal():
        raise DataError(f"{text!r} is no version: name a number, such as 4, or train@4")
    return numbered_version(table_uri(settings, project_name, name or table), int(number))


def show(difference: VersionDiff) -> None:
    """The differences on the screen."""
    console = open_console(width=TABLE_WIDTH)
    for name, version in (("former", difference.former), ("present", difference.present)):
        table = version.uri.rstrip("/").rpartition("/")[2]
        title = f"{table}@{version.version}, {version.rows:,} rows, digest {version.digest[:12]}"
        console.print(f"{name:<8} {title}")
    if difference.former.digest == difference.present.digest:
        console.print("The two have the same content.")
        return
    _show_schema(console, difference.columns_diff)
    _show_rows(console, difference.rows)
    _show_columns(console, difference)


def _show_schema(console: Console, schema: SchemaDiff) -> None:
    if not (schema.added or schema.removed or schema.changed):
        console.print(styled("\n", ("Schema", "bold"), ": the same columns"))
        return
    table = Table("column", "before", "after", title="Schema", title_justify="left")
    for name, kind in schema.removed.items():
        table.add_row(name, kind, styled(("gone", "red")))
    for name, kind in schema.added.items():
        table.add_row(name, styled(("not there", "green")), kind)
    for name, (before, after) in schema.changed.items():
        table.add_row(name, before, after)
    console.print(table)


def _show_rows(console: Console, rows: RowsDiff) -> None:
    by = f"by {', '.join(rows.key)}" if rows.key else "by whole rows"
    table = Table("rows", "count", "such as row", title=f"Rows, {by}", title_justify="left")
    for name in ("same", "added", "removed", "changed"):
        count = getattr(rows, name)
        if count is not None:
            numbers = ", ".join(map(str, rows.examples.get(name, ())))
            table.add_row(name, f"{count:,}", numbers)
    console.print(table)
    if rows.changed_in:
        counts = ", ".join(f"{name} {count:,}" for name, count in rows.changed_in.items())
        console.print(f"changed in: {counts}")
    if rows.note:
        console.print(styled((rows.note, "yellow")))


def _show_columns(console: Console, difference: VersionDiff) -> None:
    title = "Distributions, the furthest moved first"
    table = Table("column", "distance", title=title, title_justify="left")
    for name in ("missing", "mean ± deviation", "range", "levels"):
        table.add_column(name)
    for column in sorted(difference.columns, key=lambda column: -(column.statistic or 0)):
        levels = [f"+{level}" for level in column.new_levels]
        levels += [f"-{level}" for level in column.gone_levels]
        sides = (column.former, column.present)
        test = TESTS.get(column.test or "", "")
        table.add_row(
            column.column,
            "too many values" if column.statistic is None else f"{test} {column.statistic:.3f}",
            _before_and_after(*(f"{side.missing:,}" for side in sides)),
            _before_and_after(*map(_middle, sides)),
            _before_and_after(*map(_range, sides)),
            ", ".join(levels),
        )
    console.print(table)
    console.print("KS: Kolmogorov-Smirnov; V: Cramér's V; each 0 (alike) to 1", style="dim")


def _before_and_after(before: str, after: str) -> str:
    return before if before == after else f"{before} →\n{after}"


def _middle(side: Moments) -> str:
    if side.mean is None:
        return ""
    return f"{side.mean:.4g}" + (f" ± {side.deviation:.3g}" if side.deviation is not None else "")


def _range(side: Moments) -> str:
    if side.minimum is None:
        return ""
    ends = (side.minimum, side.maximum)
    return " to ".join(end if isinstance(end, str) else f"{end:.4g}" for end in ends)


# `lifecycle profile`: what a data set looks like, in the terminal and as a page.

PROFILE_WIDTH = 150
"""Columns where the output is no terminal."""


def profile(
    data: Annotated[
        str, typer.Argument(metavar="[PROJECT|FILE]", help="Project or data file.")
    ] = str(PROJECT_FILE),
    table: Annotated[str, typer.Argument(help="Table of a project.")] = "accepted",
    version: Annotated[
        int | None,
        typer.Option(help="Version of the table; by default the newest, otherwise the source."),
    ] = None,
    against: Annotated[
        str | None,
        typer.Option(metavar="N|FILE", help="Measure drift against this version or data file."),
    ] = None,
    target: Annotated[str | None, typer.Option(help="Column of a data file to predict.")] = None,
    output: Annotated[
        Path | None,
        typer.Option(help="File for the page; by default in the reports of LIFECYCLE_HOME."),
    ] = None,
    env: EnvOption = None,
) -> None:
    """Profile a version of a project's data, its source, or a data file; writes an HTML page."""
    from lifecycle.profiling import profile as look  # pandas and scipy take a while
    from lifecycle.profiling.terminal import show

    settings = Settings.load(env)
    other = int(against) if against is not None and against.isdigit() else against
    summary = look(
        data, target=target, table=table, version=version, against=other, settings=settings
    )
    console = open_console(width=PROFILE_WIDTH)
    show(summary.summary, console)
    name = "".join(char if char.isalnum() else "_" for char in summary.summary.title)
    file = "profile.html" if table == "accepted" else f"profile-{table}.html"
    page = summary.save(output or settings.folder("reports", name) / file)
    console.print(f"The page: {page}", soft_wrap=True)


# `lifecycle labels`: what came true, taken into the ledger.


def labels(
    words: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[PROJECT] [SOURCE]",
            help="File, URL, folder or pattern in quotes; by default `monitoring.labels`.",
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the record as JSON.")] = False,
    env: EnvOption = None,
) -> None:
    """Take in what came true, each label once, for the measured quality of predictions."""
    from lifecycle.labels.delivery import deliver, label_source  # pandas and Arrow take a while

    project, places = project_first(words or [])
    if len(places) > 1:
        raise DataError("lifecycle labels [PROJECT] [SOURCE]: name one source, such as labels.csv")
    settings = Settings.load(env)
    loaded = load_project(project, settings.env)
    source = label_source(loaded, places[0] if places else None)
    delivery = deliver(loaded, settings, source)
    if as_json:
        typer.echo(delivery.model_dump_json(indent=1))
        return
    console = open_console(width=TABLE_WIDTH)
    console.print(f"{loaded.name}: {delivery.text}", soft_wrap=True)
    console.print(f"The ledger has {delivery.labels:,} labels, digest {delivery.digest[:12]}.")
