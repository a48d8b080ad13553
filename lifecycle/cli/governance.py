"""`lifecycle erase`, `retention`, `audit` and `lineage`: what a data officer does."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from lifecycle.cli.project import EnvOption, ProjectPath, project_first
from lifecycle.errors import ProjectError
from lifecycle.project.loader import PROJECT_FILE, load_project
from lifecycle.records import Change, DataChange, Erasure, Link, Searched, counted
from lifecycle.runtime.console import TABLE_WIDTH, open_console, styled, write_error
from lifecycle.settings import Settings

INCOMPLETE = 2
"""Exit code where something is left of a person."""
MAX_VIOLATIONS_SHOWN = 20


def erase(
    project: ProjectPath = PROJECT_FILE,
    entity: Annotated[
        list[str] | None, typer.Option(help="Value of the entity column; may be repeated.")
    ] = None,
    entities_file: Annotated[
        Path | None, typer.Option(help="File with one value per line.")
    ] = None,
    value: Annotated[
        list[str] | None,
        typer.Option(help="Other personal data, such as an email address; may be repeated."),
    ] = None,
    reason: Annotated[str, typer.Option(help="Reason for the audit trail; no personal data.")] = "",
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only report where they occur.")
    ] = False,
    later: Annotated[
        bool,
        typer.Option("--later", help="Only file the request; `lifecycle run erase` does the rest."),
    ] = False,
    env: EnvOption = None,
    check: Annotated[bool, typer.Option("--check", hidden=True)] = False,
) -> None:
    """Remove persons from everything that holds rows, and prove it; exit code 2 if any is left.

    Without persons: carry out the requests that are pending.
    """
    from lifecycle.governance import erase as erasing
    from lifecycle.governance import requests

    settings = Settings.load(env)
    loaded = load_project(project, settings.env)
    persons = erasing.read_entities(entity or (), entities_file)
    if dry_run or check:  # `--check`, its former name, still stands in scripts
        _show_search(erasing.check(loaded, settings, persons, value or ()))
        return
    if persons or value:
        request = requests.file_request(loaded, settings, persons, reason, value or ())
        if later:
            open_console().print(f"Request {request.id} is filed")
            return
    incomplete = False
    for request in requests.pending(loaded, settings):
        erasure = erasing.erase(loaded, settings, request)
        show_erasure(erasure)
        incomplete |= not erasure.searched.clean
    if incomplete:
        raise typer.Exit(INCOMPLETE)


def retention(
    project: ProjectPath = PROJECT_FILE,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only report what would be deleted.")
    ] = False,
    env: EnvOption = None,
) -> None:
    """Delete rows older than `contract.retention.days` that no champion or challenger needs."""
    from lifecycle.governance.retention import retain

    settings = Settings.load(env)
    loaded = load_project(project, settings.env)
    result = retain(loaded, settings, dry_run)
    console = open_console()
    if result.days is None:
        console.print("Nothing to delete: the contract declares no retention.days")
        return
    verb = "would be deleted" if dry_run else "deleted"
    for name, versions in result.versions.items():
        console.print(f"{name}: {', '.join(f'v{v}' for v in versions)} {verb}")
    for name, model in result.kept.items():
        console.print(f"{name}: kept, {model} was made from it")
    console.print(f"prediction log: {result.log_rows:,} rows {verb}")
    verb = "would be put together" if dry_run else "put together"
    for name, count in result.packed.items():
        console.print(f"{name}: {count:,} small files {verb}, with the same rows")


def lake(
    project: ProjectPath = PROJECT_FILE,
    env: EnvOption = None,
) -> None:
    """Show the size of each table of a project, and what of it models need.

    It also says what `lifecycle retention` would delete, and changes nothing.
    """
    from lifecycle.governance.retention import lake_sizes

    settings = Settings.load(env)
    loaded = load_project(project, settings.env)
    console = open_console(width=TABLE_WIDTH)
    sizes = lake_sizes(loaded, settings)
    if not sizes:
        console.print(f"{loaded.name}: nothing yet in {settings.lake}")
        return
    total = sum(size.bytes + size.log_bytes for size in sizes)
    freed = sum(size.freed_bytes for size in sizes)
    retention = loaded.contract.retention
    rule = (
        f"older than {retention.days:g} days" if retention else "none: the contract declares none"
    )
    console.print(
        f"{loaded.name}: {_megabytes(total)}; retention ({rule}) frees {_megabytes(freed)}"
    )
    table = Table("table", "versions", "newest rows", "files", "data", "log", "kept for")
    for column in table.columns[1:6]:
        column.justify = "right"
    for size in sizes:
        reasons = [f"v{version}: {model}" for version, model in size.needed.items()]
        reasons += [f"{counted(len(size.expired), 'version')} would go"] if size.expired else []
        if size.packable_files and retention:
            reasons += [f"{size.packable_files:,} small files would be put together"]
        table.add_row(
            size.table,
            f"{size.versions:,}",
            f"{size.rows:,}",
            f"{size.files:,}",
            _megabytes(size.bytes),
            _megabytes(size.log_bytes),
            ", ".join(reasons),
        )
    console.print(table)
    console.print("Versions share files: an increment writes its own rows, a part its row numbers.")


def _megabytes(size: int) -> str:
    return f"{size / 1e6:,.2f} MB"


def show_erasure(erasure: Erasure) -> None:
    """Print what was erased, which models learned from it, and what remains."""
    console = open_console()
    persons, erased = counted(erasure.persons, "person"), counted(erasure.rows, "row")
    console.print(styled((f"Request {erasure.request}", "bold"), f": {persons}, {erased}"))
    for name, versions in erasure.tables.items():
        rows = {version: counted(number, "row") for version, number in versions.items()}
        parts = ", ".join(f"{n} of v{v}" if v >= 0 else n for v, n in rows.items())
        console.print(f"  {name}: {parts}")
    for text in erasure.changed:
        console.print(f"  {text}")
    if erasure.kept:
        console.print(
            f"  {counted(len(erasure.kept), 'page')} of these models kept: no row of the persons"
        )
        for place in erasure.kept[:MAX_VIOLATIONS_SHOWN]:
            console.print(f"    {place}")
    for learner in erasure.learners:
        aliases = f" ({', '.join(learner.aliases)})" if learner.aliases else ""
        console.print(
            f"  {learner.model.name} v{learner.model.version}{aliases} learned from "
            f"{learner.learned:,} and "
            f"was measured on {learner.measured:,} of these rows"
        )
    for text in _to_retrain(erasure):
        console.print(styled("  ", (text, "bold")))
    if not erasure.rows:
        console.print("  No matching rows found. Check that the value is spelled as in the data")
    _tell_search(console, erasure.searched, "left")
    if not erasure.searched.clean:
        write_error("not everything is erased: the list shows what is left or was not searched")


def _to_retrain(erasure: Erasure) -> list[str]:
    """Advise what to do about a champion that was trained on erased rows."""
    return [
        f"{learner.model.name} v{learner.model.version} is the champion, and "
        f"{counted(learner.learned, 'row')} "
        "it learned from are gone: learn from what is left (`lifecycle run retrain --force`)"
        for learner in erasure.learners
        if learner.needs_retraining
    ]


def _show_search(searched: Searched) -> None:
    _tell_search(open_console(), searched, "found")
    if not searched.clean:
        raise typer.Exit(INCOMPLETE)


def _tell_search(console: Console, searched: Searched, verb: str) -> None:
    console.print(f"Searched {counted(searched.files, 'file')}, {searched.megabytes:,} MB")
    if searched.unknown:
        names = ", ".join(searched.unknown)
        console.print(
            f"  not searched for: the plain text of {names}, which no table keeps; name "
            "what you know of it with --value"
        )
    for title, places in (
        (verb, searched.left),
        ("not searched", searched.unsearched),
        ("of other projects", searched.elsewhere),
    ):
        for place in places[:MAX_VIOLATIONS_SHOWN]:
            console.print(f"  {title}: {place}")
        if len(places) > MAX_VIOLATIONS_SHOWN:
            console.print(f"  {title}: {len(places) - MAX_VIOLATIONS_SHOWN} more places")
    if searched.clean:
        console.print(f"Nothing is {verb}" + (" in this project" if searched.elsewhere else ""))
    if searched.elsewhere:
        console.print(
            "Other projects name them, or another person with the same value: erase there, too"
        )


# `lifecycle audit`: who changed which version of models or data, and whether the trail holds.

BROKEN = 2
"""Exit code for a trail that is not intact."""


def audit(
    project: ProjectPath = PROJECT_FILE,
    check: Annotated[
        bool, typer.Option("--verify", help="Check every line against its hash.")
    ] = False,
    env: EnvOption = None,
) -> None:
    """List every change of models and data; with --verify, exit code 2 if a line was changed."""
    from lifecycle.audit.card_trail import card_chain
    from lifecycle.audit.data_trail import data_chain
    from lifecycle.audit.model_trail import model_chain

    settings = Settings.load(env)
    loaded = load_project(project, settings.env)
    console = open_console()
    models, data = model_chain(settings, loaded.name), data_chain(settings, loaded.name)
    cards = card_chain(settings, loaded.name)
    broken_ends = {"models": models.broken, "data": data.broken, "model cards": cards.broken}
    for name, find in broken_ends.items() if check else ():
        broken = find()
        if broken is not None:
            write_error(f"{loaded.name}: the audit trail of {name} is not intact: {broken}")
            raise typer.Exit(BROKEN)
    lines: dict[str, Sequence[Link]] = {
        "models": models.lines(),
        "data": data.lines(),
        "model cards": cards.lines(),
    }
    if not any(lines.values()):
        console.print(f"{loaded.name}: no version was ever changed in {settings.lake}")
        return
    for name, changes in lines.items():
        if not changes:
            continue
        before: tuple[str, ...] = ()
        for number, change in enumerate(changes) if not check else ():
            is_repeat = len(change.reasons) > 1 and change.reasons == before
            _show(console, number, change, ("as above",) if is_repeat else change.reasons)
            before = change.reasons
        verdict = "every line holds; " if check else ""
        console.print(f"{name}: {len(changes)} lines; {verdict}the last hash is {changes[-1].hash}")


def _show(console: Console, number: int, change: Link, reasons: Sequence[str]) -> None:
    time = change.time.replace("T", " ")[:19]
    made_from = f"identity {change.identity[:12]}  " if isinstance(change, Change) else ""
    by = (
        f"{change.who}, {change.run}"
        if isinstance(change, DataChange) and change.run
        else change.who
    )
    console.print(styled((f"{number}  {time} UTC  {change}", "bold"), f"  {made_from}by {by}"))
    for reason in reasons:
        console.print(f"    {reason}")


# `lifecycle lineage`: what a model, dataset or prediction was made from, and what it led to.


def lineage(
    words: Annotated[
        list[str],
        typer.Argument(
            metavar="[PROJECT] REF",
            help="model:3, champion, train@5, digits of a digest, or a prediction id.",
        ),
    ],
    as_json: Annotated[bool, typer.Option("--json", help="Print the graph as JSON.")] = False,
    picture: Annotated[
        Path | None,
        typer.Option(
            help="Also draw it: a file that ends with .md or .mmd (Mermaid) or .dot (Graphviz)."
        ),
    ] = None,
    openlineage: Annotated[
        str | None,
        typer.Option(
            metavar="FILE|URL",
            help="Also send it as OpenLineage events; a file gets those it does not have yet.",
        ),
    ] = None,
    env: EnvOption = None,
) -> None:
    """Walk both ways: to the rows, code and run something was made from, and to all it led to."""
    from lifecycle.lineage import walk  # MLflow takes a while

    project, refs = project_first(words)
    if len(refs) != 1:
        raise ProjectError("lifecycle lineage [PROJECT] REF: name one thing, such as champion")
    [ref] = refs
    settings = Settings.load(env)
    loaded = load_project(project, settings.env)
    graph = walk.load_graph(loaded, settings)
    nodes = graph.around(loaded.name, walk.find(graph, loaded, settings, ref))
    console = open_console(width=TABLE_WIDTH)
    if as_json:
        typer.echo(nodes.model_dump_json(indent=1))
    else:
        from lifecycle.lineage.picture import trees

        for tree in trees(nodes):
            console.print(tree)
    err_console = open_console(stderr=as_json)
    if picture:
        from lifecycle.lineage.picture import draw

        err_console.print(f"Drawn: {draw(nodes, picture)}")
    if openlineage:
        from lifecycle.lineage.emit import send
        from lifecycle.lineage.openlineage import events_of

        events = events_of(graph, [node.id for node in nodes.nodes], loaded, settings)
        sent = send(events, openlineage)
        before = len(events) - sent
        note = f" ({before} more are in it already)" if before else ""
        err_console.print(f"{sent} OpenLineage events → {openlineage}{note}")
