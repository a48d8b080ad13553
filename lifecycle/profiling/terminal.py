"""A profile in the terminal: a line a column, then what is worth knowing."""

from collections.abc import Sequence

from rich.console import Console, Group
from rich.table import Table
from rich.text import Text

from lifecycle.profiling.bars import headline, share, short
from lifecycle.profiling.record import Bar, ColumnProfile, Summary
from lifecycle.records import one_line
from lifecycle.runtime.console import styled

BLOCKS = "▁▂▃▄▅▆▇█"
WIDE = 16
PAIRS, MAX_DRIFTED_SHOWN = 8, 8
CLOSE = 0.5
TONES = {"bad": "red", "warn": "yellow", "plain": "default"}


def show(summary: Summary, console: Console) -> None:
    """Print it."""
    console.print(
        styled((summary.title, "bold"), f"  {summary.place}\n{_overview(summary)}"),
        soft_wrap=True,
    )
    console.print(_columns(summary))
    for title, lines in (("Closest pairs", _pairs(summary)), ("Drift", _drift(summary))):
        if lines:
            console.print(Group(styled((title, "bold")), *lines))
    if summary.findings:
        console.print(styled(("Look at first", "bold")))
        for finding in summary.findings:
            console.print(styled((f"• {finding.text}", TONES[finding.tone])), soft_wrap=True)


def spark(bars: Sequence[Bar]) -> str:
    """Bars as blocks, at most 16: neighbours are added up."""
    if not bars:
        return ""
    width = -(-len(bars) // WIDE)
    rows = [sum(bar.rows for bar in bars[at : at + width]) for at in range(0, len(bars), width)]
    most = max(rows) or 1
    return "".join(BLOCKS[min(7, count * 8 // most)] if count else " " for count in rows)


def _overview(summary: Summary) -> str:
    facts = [f"{summary.rows:,} rows, {len(summary.columns)} columns"]
    if summary.rows_with_missing:
        facts.append(f"{summary.rows_with_missing:,} rows with any missing")
    if summary.duplicates:
        facts.append(f"{summary.duplicates:,} duplicates")
    if summary.entity:
        facts.append(f"{summary.entities:,} of {summary.entity}")
    if summary.periods:
        first, last = summary.periods.bars[0].label, summary.periods.bars[-1].label
        facts.append(f"{summary.periods.column} {first} to {last}")
    if summary.sampled < summary.rows:
        facts.append(f"distributions and associations of a sample of {summary.sampled:,}")
    return "; ".join(facts)


def _columns(summary: Summary) -> Table:
    table = Table("column", "type", box=None, pad_edge=False, header_style="bold")
    for name in ("missing", "distinct"):
        table.add_column(name, justify="right")
    table.add_column("histogram", no_wrap=True)
    table.add_column("least · median · most, or levels")
    if summary.target:
        table.add_column("target", justify="right")
    if summary.against:
        table.add_column("drift", justify="right")
    for column in summary.columns:
        cells: list[str | Text] = [
            _name(column),
            column.type,
            share(column.missing_share),
            f"{'' if column.distinct_exact else '≈ '}{column.distinct:,}",
            spark(column.bars),
            headline(column),
        ]
        if summary.target:
            cells.append(f"{column.relation.strength:.2f}" if column.relation else "")
        if summary.against:
            cells.append(_distance(column))
        table.add_row(*cells)
    return table


def _name(column: ColumnProfile) -> Text:
    role = "" if column.role in ("input", "") else f" {column.role}"
    return styled(one_line(short(column.name)), (role, "dim"))


def _distance(column: ColumnProfile) -> Text:
    if column.drift is None:
        return styled()
    text = f"{column.drift.statistic:.2f}"
    return styled((text, "red") if column.drift.drifted else text)


def _pairs(summary: Summary) -> list[Text]:
    close = [pair for pair in summary.pairs if abs(pair.value) >= CLOSE][:PAIRS]
    return [
        styled(
            f"  {pair.value:5.2f}  {one_line(short(pair.first))} and "
            f"{one_line(short(pair.second))} ",
            (pair.measure, "dim"),
        )
        for pair in close
    ]


def _drift(summary: Summary) -> list[Text]:
    by_distance = sorted(
        (column for column in summary.columns if column.drift and column.drift.drifted),
        key=lambda column: -column.drift.statistic if column.drift else 0.0,
    )
    lines = [
        styled(
            f"  {column.drift.statistic:5.2f}  {one_line(short(column.name))} ",
            (column.drift.test, "dim"),
        )
        for column in by_distance[:MAX_DRIFTED_SHOWN]
        if column.drift
    ]
    if summary.against and not lines:
        lines = [styled(f"  none against {summary.against}")]
    return lines
