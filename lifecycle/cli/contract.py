"""`lifecycle contract` and `rejected`: what the data promise, and the rows that break it."""

from collections.abc import Iterator
from itertools import compress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from lifecycle.cli.project import EnvOption, ProjectPath, project_first
from lifecycle.errors import ContractError, ProjectError
from lifecycle.project import ColumnSpec, ContractSpec, Project
from lifecycle.project.contract import Bounds
from lifecycle.project.loader import PROJECT_FILE, load_project
from lifecycle.records import counted
from lifecycle.runtime.console import TABLE_WIDTH, open_console, styled
from lifecycle.runtime.files import write_atomic
from lifecycle.settings import Settings

if TYPE_CHECKING:
    from lifecycle.data.contract.quarantine_view import Quarantine, Row


CATEGORIES_SHOWN = 8
TITLES = ("column", "type", "unit", "promises", "personal data", "description")


USAGE = "lifecycle contract [PROJECT] [export | import DOCUMENT]"


def contract(
    words: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[PROJECT] [export | import DOCUMENT]",
            help="Without `export` or `import`, the contract is shown.",
        ),
    ] = None,
    output: Annotated[
        Path | None, typer.Option(help="export: file to write; by default the screen.")
    ] = None,
    schema: Annotated[
        str | None, typer.Option(help="import: table of the document, where it has several.")
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="import: show what would change; write nothing.")
    ] = False,
    env: EnvOption = None,
) -> None:
    """Show a project's data contract, and what changed in it since the last ingestion.

    `export` writes it as a document of the Open Data Contract Standard; `import` takes the
    contract of the project file from such a document.
    """
    project, arguments = project_first(words or [])
    if arguments[:1] == ["export"] and len(arguments) <= 2:
        _export(Path(arguments[1]) if len(arguments) == 2 else project, output)
    elif arguments[:1] == ["import"] and len(arguments) == 2:
        _import(project, Path(arguments[1]), schema, dry_run=dry_run)
    elif arguments:
        raise ContractError(f"{USAGE}: got {' '.join(arguments)!r}")
    else:
        _show_contract(project, env)


def _show_contract(project: Path, env: str | None) -> None:
    from lifecycle.data.contract import last_contract

    settings = Settings.load(env)
    loaded = load_project(project, settings.env)
    spec, console = loaded.contract, open_console()
    console.print(
        styled((loaded.name, "bold"), f" contract {spec.version}, owner: {spec.owner or 'nobody'}")
    )
    if spec.description:
        console.print(spec.description)
    console.print(_columns(loaded))
    for line in _table_rules(spec):
        console.print(line)
    former = last_contract(settings, loaded.name)
    for line in _since(former, spec):
        console.print(line)


def _export(project: Path, output: Path | None) -> None:
    """Write the contract as a document of the Open Data Contract Standard."""
    from lifecycle.scaffold.odcs_export import API_VERSION, odcs_document

    loaded = load_project(project)
    document = odcs_document(loaded)
    console = open_console(stderr=output is None)  # the document itself may go into a pipe
    if output is None:
        typer.echo(document.text, nl=False)
    else:
        write_atomic(output, document.text)
        about = f"contract {loaded.contract.version} as an Open Data Contract {API_VERSION}"
        console.print(f"Wrote {output}: {loaded.name}, {about}", soft_wrap=True)
    if document.custom:
        keys = ", ".join(document.custom)
        console.print(f"Only as custom properties, not checked by others: {keys}", soft_wrap=True)
    for name in loaded.feature_views:
        console.print(f"Not in the document: columns of feature_views.{name}", soft_wrap=True)


def _import(project: Path, document: Path, schema: str | None, *, dry_run: bool) -> None:
    """Take the contract of a project file from a document, and say what it has no place for."""
    import yaml

    from lifecycle.data.contract import changes
    from lifecycle.scaffold.odcs_import import read_document
    from lifecycle.scaffold.project_edit import with_contract

    former, text = None, ""
    try:
        text = _text_of(project)
        declared = yaml.safe_load(text)
        if (present := declared.get("contract")) is not None:
            former = ContractSpec.model_validate(present)
    except (ContractError, yaml.YAMLError, ValueError, AttributeError):
        load_project(project)  # says what is wrong, and where
        raise
    try:
        contract, notes = read_document(_text_of(document), declared, schema)
    except ContractError as error:
        lines = str(error).splitlines()
        raise ContractError("\n".join(f"{document}: {line}" for line in lines)) from None
    console = open_console()
    for change in changes(former, contract) if former else ():
        console.print(f"  {change}", soft_wrap=True)
    for note in notes:
        console.print(f"not in the contract: {note}", soft_wrap=True)
    if former == contract:
        console.print(f"{project}: the contract is the document's already")
        return
    changed = with_contract(text, contract)
    with TemporaryDirectory() as folder:
        trial = Path(folder) / project.name
        trial.write_text(changed, encoding="utf-8")
        try:
            load_project(trial)
        except ProjectError as error:
            message = str(error).replace(str(trial), f"{project} with this contract")
            raise ProjectError(message) from None
    if not dry_run:
        write_atomic(project.resolve(), changed)
    verb = "would have" if dry_run else "has"
    console.print(f"{project} {verb} contract {contract.version} of {document}", soft_wrap=True)


def _text_of(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else error.reason
        raise ContractError(f"{file}: cannot be read ({reason})") from None


def _columns(project: Project) -> Table:
    """A row a column of the data; what is said of none of them is left out."""
    rows = []
    for name, spec in project.contract.columns.items():
        about = f"{spec.pii}, {spec.pii_class or 'no class'}" if spec.pii else ""
        rows.append(
            (name, spec.type, spec.unit, "; ".join(promises(spec)), about, spec.description)
        )
    table, has_text = Table(), [any(cells) for cells in zip(*rows, strict=True)]
    for name in compress(TITLES, has_text):
        table.add_column(name)
    for cells in rows:
        table.add_row(*compress(cells, has_text))
    return table


def promises(spec: ColumnSpec) -> Iterator[str]:
    """Constraints of one column, in words."""
    if spec.nullable:
        yield "may be missing"
    if spec.unique:
        yield "unique"
    if (spec.minimum, spec.maximum) != (None, None):
        yield _range((spec.minimum, spec.maximum))
    if spec.categories is not None:
        categories = ", ".join(map(str, spec.categories[:CATEGORIES_SHOWN]))
        more = len(spec.categories) - CATEGORIES_SHOWN
        yield f"one of {categories}" + (f" and {more} more" if more > 0 else "")
    if spec.pattern is not None:
        yield f"of the form {spec.pattern}"
    if spec.severity == "warning":
        yield "else a warning"
    for name, bounds in spec.expect.statistics() if spec.expect else ():
        softly = " (warning)" if spec.expect and spec.expect.severity == "warning" else ""
        yield f"{name.replace('_', ' ')} {_range(bounds)}{softly}"


def _table_rules(spec: ContractSpec) -> Iterator[str]:
    """Rules for rows and for the data as a whole, one per line."""
    if spec.key:
        yield f"key: {', '.join(spec.key)}"
    for group in spec.unique_together:
        yield f"unique together: {', '.join(group)}"
    for rule in spec.rules:
        softly = " (warning)" if rule.severity == "warning" else ""
        about = f" — {rule.description}" if rule.description else ""
        yield f"rule {rule.name}: {rule.expression}{softly}{about}"
    if spec.rows:
        softly = " (warning)" if spec.rows.severity == "warning" else ""
        yield f"rows: {_range((spec.rows.minimum, spec.rows.maximum))}{softly}"
    if spec.freshness:
        softly = " (warning)" if spec.freshness.severity == "warning" else ""
        age, least = spec.freshness.max_age_days, spec.freshness.at_least
        bound = f"at least {least}" if age is None else f"at most {age:g} days old"
        yield f"freshness: the newest row is {bound}{softly}"
    if spec.retention:
        yield f"retention: {spec.retention.days:g} days"
    yield f"rejected: at most {spec.max_rejected_share:.2%} of the rows"
    extra = "refused" if spec.extra_columns == "refuse" else "left out"
    yield f"other columns: {extra}"


def _since(former: ContractSpec | None, present: ContractSpec) -> Iterator[str]:
    """Describe the changes since the last ingestion, and the version that they need."""
    from lifecycle.data.contract import changes, check_compatible
    from lifecycle.errors import ContractError

    if former is None:
        yield "Not ingested under a contract yet."
        return
    differences = changes(former, present)
    if not differences:
        yield f"The same as was ingested last, {former.version}."
        return
    yield f"Since {former.version}, which was ingested last ({differences[0].bump} change):"
    yield from (f"  {change}" for change in differences)
    try:
        check_compatible(former, present)
    except ContractError:
        major = int(former.version.split(".")[0]) + 1
        yield f"Ingestion refuses it as {present.version}: set contract.version: {major}.0.0"


def _range(bounds: Bounds) -> str:
    low, high = bounds
    if low is None:
        return f"≤ {high:g}"
    return f"≥ {low:g}" if high is None else f"{low:g} to {high:g}"


# `lifecycle rejected`: the quarantine, which rows broke the data contract, and why.

CELLS = 8
"""Shown of a row, at least; those that its reasons are about are all shown."""


def rejected(
    project: ProjectPath = PROJECT_FILE,
    version: Annotated[
        int | None, typer.Option(help="Version of the quarantine; by default the newest.")
    ] = None,
    rows: Annotated[int, typer.Option(min=0, help="Number of rows to show.")] = 10,
    env: EnvOption = None,
) -> None:
    """Show the rows that broke the data contract: why, how many, and the first of them."""
    from lifecycle.data.contract.quarantine_view import quarantine
    from lifecycle.lake.table import history, table_uri

    settings = Settings.load(env)
    loaded = load_project(project, settings.env)
    report = quarantine(loaded, settings, version, rows)
    console = open_console(width=TABLE_WIDTH)
    if report is not None:
        _show(console, loaded, report)
    elif len(history(table_uri(settings, loaded.name, "accepted"))):
        console.print(f"{loaded.name}: no quarantine, because no row was rejected so far.")
    else:
        message = f"{loaded.name}: no quarantine, because nothing was ingested yet in"
        console.print(f"{message} {settings.lake}", soft_wrap=True)


def _show(console: Console, project: Project, quarantine: "Quarantine") -> None:
    ref, note = quarantine.version, quarantine.note
    console.print(
        styled(
            (project.name, "bold"),
            f" rejected@{ref.version}: {counted(quarantine.rows, 'row')}, written "
            f"{quarantine.written:%Y-%m-%d %H:%M} UTC under contract {note.get('contract', '?')}",
        )
    )
    source, window = note.get("source_place", "?"), note.get("window", "?")
    console.print(f"from {source}, {window}", soft_wrap=True)
    remaining = (
        f"The other rows are {quarantine.accepted}."
        if quarantine.accepted
        else "No version was made."
    )
    console.print(f"{remaining} {_newer(quarantine)}".strip())
    if not quarantine.rows:
        console.print("All its rows were erased since.")
        return
    table = Table("column", "what is wrong", title="Reasons", title_justify="left")
    table.add_column("rows", justify="right")
    for reason, count in quarantine.reasons.items():
        table.add_row(reason.column, reason.problem, f"{count:,}")
    console.print(table)
    if quarantine.first:
        _show_rows(console, quarantine)


def _show_rows(console: Console, quarantine: "Quarantine") -> None:
    count = len(quarantine.first)
    title = (
        "Rows" if count == quarantine.rows else f"The first {count:,} of {quarantine.rows:,} rows"
    )
    table = Table(title=title, title_justify="left")
    table.add_column("row", justify="right", no_wrap=True)
    table.add_column("what is wrong")
    table.add_column("as it was read")
    for row in quarantine.first:
        wrong = "\n".join(f"{reason.column}: {reason.problem}" for reason in row.reasons)
        table.add_row(str(row.number), wrong, _cells(row))
    console.print(table)
    console.print(f"All of it: version {quarantine.version.version} of the Delta table")
    console.print(f"  {quarantine.version.uri}", soft_wrap=True)


def _cells(row: "Row") -> Text:
    """The cells that show what is wrong, in bold, then as many of the others as there is room."""
    others = [name for name in row.cells if name not in row.about]
    room = max(0, CELLS - len(row.about))
    texts = [styled((f"{name} {row.cells[name]}", "bold")) for name in row.about]
    texts += [styled(f"{name} {row.cells[name]}") for name in others[:room]]
    if len(others) > room:
        texts.append(styled(f"and {len(others) - room} more"))
    return Text(", ").join(texts)


def _newer(quarantine: "Quarantine") -> str:
    return f"{quarantine.newer} is newer; nothing was rejected for it." if quarantine.newer else ""
