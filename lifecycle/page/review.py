"""Review of a change: what the newest version's gate says, and how it differs from another one.

Markdown, for the comment at a pull request. It is made from what a training has left: the record
of the version with the gate's decision, the registry, and the parts that the models learned from.
"""

from collections.abc import Iterator, Sequence
from html import escape

from lifecycle.data.contract import changes
from lifecycle.errors import LifecycleError, RegistryError
from lifecycle.page.comparison import (
    VersionComparison,
    compare_versions,
    difference_table,
    metric_table,
    verdicts,
    worse_metrics,
)
from lifecycle.profiling.diff import diff
from lifecycle.project import ContractSpec, Project
from lifecycle.quality.card_page import difference_table as claim_table
from lifecycle.quality.gates import render
from lifecycle.records import ModelVersion, counted, one_line
from lifecycle.records.data import VersionDiff
from lifecycle.redaction import redact
from lifecycle.release.artifacts import logged_record
from lifecycle.release.card_verification import project_of
from lifecycle.release.cards import read_card
from lifecycle.release.registry import CHAMPION, by_alias, versions
from lifecycle.runtime.html import Cell, Table
from lifecycle.settings import Settings

GROUPS = ("data", "parameters", "code")
WORSE = "**Worse than "
"""Begins the line that `.ci/train-sample` fails by."""
COLUMNS_SHOWN = 8
"""Of the columns whose distribution moved, the furthest first."""
TITLES = ("column", "distance", "missing", "mean")


def marker(project_name: str) -> str:
    """First line of the comment, by which the next run finds it."""
    return f"<!-- lifecycle review: {project_name} -->"


def review(project: Project, settings: Settings, against: str | None = None) -> str:
    """Say what a project's newest version is, as Markdown.

    Args:
        against: version to compare with: a number, an alias or an MLflow run; by default the
            champion, or the version before where there is none.

    Raises:
        RegistryError: nothing was trained yet.
        BackendError: a store cannot be read.
    """
    registered = sorted(versions(project.name, settings), key=lambda model: model.version)
    if not registered:
        store = redact(settings.tracking_uri)
        raise RegistryError(
            f"{project.name} has no version in {settings.env} ({store}): `lifecycle run train` "
            "makes one"
        )
    newest = registered[-1]
    record = logged_record(newest, settings)
    against = against or _former(project, settings, registered)
    comparison: VersionComparison | str = ""
    if against is not None:
        try:
            comparison = compare_versions(project, settings, (against, str(newest.version)))
        except LifecycleError as error:
            comparison = f"Not compared with {_text(against)}: {_text(str(error))}"
    lines = [
        marker(project.name),
        f"# {_text(project.name)} v{newest.version}, trained in {settings.env}",
        "",
        *(_worse(comparison) if isinstance(comparison, VersionComparison) else ()),
        render(record.decision).replace("@", "&#64;"),
        *_changes(project, settings, comparison),
    ]
    return "\n".join(lines).rstrip() + "\n"


def _former(project: Project, settings: Settings, registered: Sequence[ModelVersion]) -> str | None:
    """The champion, or the version before the newest."""
    *earlier, newest = registered
    champion = by_alias(project.name, CHAMPION, settings)
    if champion is not None and champion != newest:
        return CHAMPION
    return str(earlier[-1].version) if earlier else None


def _worse(comparison: VersionComparison) -> Iterator[str]:
    """A first line that the gate may not have: it compares with the champion alone."""
    if names := worse_metrics(comparison.gains[0]):
        former = comparison.versions[0].version
        yield f"{WORSE}v{former}, beyond chance: {', '.join(map(_text, names))}.**"
        yield ""


def _changes(
    project: Project, settings: Settings, comparison: VersionComparison | str
) -> Iterator[str]:
    """What differs between the newest version and another.

    Args:
        comparison: of both, or why there is none; empty without another version.
    """
    if isinstance(comparison, str):
        yield comparison or (
            "There is no other version to compare with: none was trained before, or nothing that "
            "shapes a model has changed since."
        )
        return
    former, newest = comparison.versions
    yield f"## Against v{former.version}"
    yield ""
    yield from (_text(cell.text) for cell in verdicts(comparison, project.metric))
    yield ""
    yield from _markdown(metric_table(comparison))
    yield f"On the {comparison.rows:,} rows of {_text(comparison.holdout)}; gains in pairs."
    yield ""
    yield from _differences(comparison)
    yield from _card_difference(former, newest, settings)
    projects = [project_of(model, settings) for model in (former, newest)]
    yield from _contract(*(each.contract if each else None for each in projects))
    parts = [logged_record(model, settings).split.train for model in (former, newest)]
    yield "## Data"
    yield ""
    if parts[0].digest == parts[1].digest:
        yield f"The same {parts[0].rows:,} rows were learned from."
        return
    try:
        yield from _data(diff(parts[0], parts[1], project.contract))
    except LifecycleError as error:  # such as rows that were erased since
        yield f"Not compared: {_text(str(error))}"


def _contract(former: ContractSpec | None, present: ContractSpec | None) -> Iterator[str]:
    """What the contract allows now and did not, or the other way round."""
    differences = changes(former, present) if former and present else ()
    if differences:
        yield "## Contract"
        yield ""
        yield from (f"- {_text(str(difference))}" for difference in differences)
        yield ""


def _differences(comparison: VersionComparison) -> Iterator[str]:
    """Inputs of the trainings that differ, to be opened."""
    tables = [table for group in GROUPS if (table := difference_table(comparison, group))]
    if not tables:
        yield "The same data, parameters and code."
        yield ""
        return
    groups = ", ".join(f"{table.header[0]} ({len(table.rows)})" for table in tables)
    yield f"<details><summary>What differs: {groups}</summary>"
    yield ""
    for table in tables:
        yield from _markdown(table)
    yield "</details>"
    yield ""


def _card_difference(
    former: ModelVersion, newest: ModelVersion, settings: Settings
) -> Iterator[str]:
    """Claims of the model cards that differ, to be opened."""
    cards = [read_card(model, settings) for model in (former, newest)]
    if cards[0] is None or cards[1] is None:
        return
    table = claim_table(cards[0], cards[1])
    yield f"<details><summary>Claims of the model card that differ: {len(table.rows)}</summary>"
    yield ""
    yield from _markdown(table)
    yield "</details>"
    yield ""


def _data(difference: VersionDiff) -> Iterator[str]:
    """Rows, columns and distributions of the training parts."""
    rows, schema = difference.rows, difference.columns_diff
    counts = {"the same": rows.same, "added": rows.added, "removed": rows.removed}
    if rows.changed is not None:
        counts["changed"] = rows.changed
    yield f"Rows: {', '.join(f'{count:,} {name}' for name, count in counts.items())}."
    for name, columns in (("New", schema.added), ("Gone", schema.removed)):
        if columns:
            yield f"{name} columns: {_text(', '.join(columns))}."
    for name, (before, after) in schema.changed.items():
        yield f"Type of {_text(name)}: {_text(before)} → {_text(after)}."
    moved = [column for column in difference.columns if column.statistic]
    moved.sort(key=lambda column: -(column.statistic or 0))
    if not moved:
        return
    yield ""
    yield from _markdown(
        Table(
            TITLES,
            tuple(
                (
                    column.column,
                    f"{column.statistic:.3f}",
                    _pair(f"{column.former.missing:,}", f"{column.present.missing:,}"),
                    _pair(_mean(column.former.mean), _mean(column.present.mean)),
                )
                for column in moved[:COLUMNS_SHOWN]
            ),
        )
    )
    yield "Distance: 0 (alike) to 1, between the distributions."
    if len(moved) > COLUMNS_SHOWN:
        yield f"And {counted(len(moved) - COLUMNS_SHOWN, 'column')} that moved less."


def _pair(before: str, after: str) -> str:
    return before if before == after else f"{before} → {after}"


def _mean(value: float | None) -> str:
    return "" if value is None else f"{value:.4g}"


def _markdown(table: Table) -> Iterator[str]:
    """A table of a page as one of Markdown, and an empty line."""
    yield _row(table.header)
    yield _row(("---",) * len(table.header))
    for row in table.rows:
        yield _row([cell.text if isinstance(cell, Cell) else cell for cell in row])
    yield ""


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(_text(cell) for cell in cells)} |"


def _text(text: str) -> str:
    """Text that is neither markup nor calls anybody by `@name`."""
    plain = escape(one_line(text), quote=False)
    return plain.replace("|", "\\|").replace("@", "&#64;").replace("`", "&#96;")
