"""`lifecycle versions`: the versions of a project's tables and models."""

from typing import Any

from rich.console import Console
from rich.table import Table

from lifecycle.lake import history, table_uri
from lifecycle.options import EnvOption, ProjectPath
from lifecycle.project.loader import load_project
from lifecycle.runtime.console import open_console
from lifecycle.settings import Settings


def versions(
    project: ProjectPath,
    env: EnvOption = None,
) -> None:
    """List a project's dataset versions and model versions."""
    from lifecycle.lineage.datasets import tables
    from lifecycle.release.registry import versions as model_versions  # MLflow takes a while

    loaded, settings = load_project(project), Settings.load(env)
    console = open_console()
    known = {
        name: history(table_uri(settings, loaded.name, name)).to_dict("records")
        for name in tables(loaded, settings)
    }
    models = _table("Models", "version", "alias", "digest", "identity")
    for model, aliases in model_versions(loaded.name, settings).items():
        models.add_row(
            str(model.version), ", ".join(aliases), model.digest[:12], model.identity[:12]
        )
    if not any(known.values()) and not models.row_count:
        console.print(f"{loaded.name}: nothing yet in {settings.home} (LIFECYCLE_HOME)")
        return
    if any(known.values()):
        _show_data(console, known)
    if models.row_count:
        console.print(models)


def _show_data(console: Console, known: dict[str, list[dict[Any, Any]]]) -> None:
    """A line a version; the rule of a split, which is long and the same for its parts, once."""
    data = _table("Data", "version", "rows", "written (UTC)", "digest", "contract")
    data.add_column("window")
    data.columns[1].justify = "right"
    rules: dict[str, list[str]] = {}
    for name, rows in known.items():
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
        console.print(f"{', '.join(of)}: {rule}")


def _table(title: str, *columns: str) -> Table:
    """A table whose cells stay on one line, where the screen is wide enough for that."""
    table = Table(title=title, title_justify="left")
    for column in columns:
        table.add_column(column, no_wrap=True)
    return table
