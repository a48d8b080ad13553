"""`lifecycle contract`: what the data promise, and what changed since they were last ingested."""

from collections.abc import Iterator
from itertools import compress

from rich.table import Table

from lifecycle.options import EnvOption, ProjectPath
from lifecycle.project import ColumnSpec, ContractSpec, Project
from lifecycle.project.contract import Bounds
from lifecycle.project.loader import load_project
from lifecycle.runtime.console import open_console, styled
from lifecycle.settings import Settings

CATEGORIES_SHOWN = 8
TITLES = ("column", "type", "unit", "promises", "personal data", "description")


def contract(
    project: ProjectPath,
    env: EnvOption = None,
) -> None:
    """Show a project's data contract, and what changed in it since the last ingestion."""
    from lifecycle.data.contract import last_contract

    loaded, settings = load_project(project), Settings.load(env)
    spec, console = loaded.contract, open_console()
    console.print(
        styled((loaded.name, "bold"), f" contract {spec.version}, owner: {spec.owner or 'nobody'}")
    )
    if spec.description:
        console.print(spec.description)
    console.print(_columns(loaded))
    for line in _whole(spec):
        console.print(line)
    former = last_contract(settings, loaded.name)
    for line in _since(former, spec):
        console.print(line)


def _columns(project: Project) -> Table:
    """A row a column of the data; what is said of none of them is left out."""
    rows = []
    for name, spec in project.contract.columns.items():
        about = f"{spec.pii}, {spec.pii_class or 'no class'}" if spec.pii else ""
        rows.append(
            (name, spec.type, spec.unit, "; ".join(promises(spec)), about, spec.description)
        )
    table, said = Table(), [any(cells) for cells in zip(*rows, strict=True)]
    for name in compress(TITLES, said):
        table.add_column(name)
    for cells in rows:
        table.add_row(*compress(cells, said))
    return table


def promises(spec: ColumnSpec) -> Iterator[str]:
    """What a column promises, in words."""
    if spec.nullable:
        yield "may be missing"
    if spec.unique:
        yield "unique"
    if (spec.minimum, spec.maximum) != (None, None):
        yield _range((spec.minimum, spec.maximum))
    if spec.categories is not None:
        shown = ", ".join(map(str, spec.categories[:CATEGORIES_SHOWN]))
        more = len(spec.categories) - CATEGORIES_SHOWN
        yield f"one of {shown}" + (f" and {more} more" if more > 0 else "")
    if spec.pattern is not None:
        yield f"of the form {spec.pattern}"
    if spec.severity == "warning":
        yield "else a warning"
    for name, bounds in spec.expect.statistics() if spec.expect else ():
        softly = " (warning)" if spec.expect and spec.expect.severity == "warning" else ""
        yield f"{name.replace('_', ' ')} {_range(bounds)}{softly}"


def _whole(spec: ContractSpec) -> Iterator[str]:
    """What is promised of rows and of the data as a whole, a line each."""
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
    """What changed since the last ingestion, and what version that needs."""
    from lifecycle.data.contract import changes, check_compatible
    from lifecycle.errors import ContractError

    if former is None:
        yield "Not ingested under a contract yet."
        return
    found = changes(former, present)
    if not found:
        yield f"The same as was ingested last, {former.version}."
        return
    yield f"Since {former.version}, which was ingested last ({found[0].bump} change):"
    yield from (f"  {change}" for change in found)
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
