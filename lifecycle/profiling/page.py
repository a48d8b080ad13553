"""A profile as one HTML page: no network, no other file, no script."""

from pathlib import Path

from lifecycle.errors import DataError
from lifecycle.profiling import charts
from lifecycle.profiling.bars import headline, share, short, spelled
from lifecycle.profiling.record import Summary
from lifecycle.runtime.html import templates, write_page

IN_MATRIX = 24
IN_TABLE = 15
IN_RANKING = 15
CLOSE = 0.3
"""From here on a pair is worth a line."""
MOST_CARDS = 200
"""Columns with a picture; wider tables keep a line each."""


def page(summary: Summary) -> str:
    """The page; the same profile gives the same bytes."""
    environment = templates()
    environment.filters |= {
        "spell": spelled,
        "short": short,
        "share": share,
        "headline": headline,
    }
    by_strength = sorted(
        (one for one in summary.columns if one.relation),
        key=lambda one: -abs(one.relation.strength) if one.relation else 0.0,
    )
    return environment.get_template("profiling/profile.html.j2").render(
        p=summary,
        draw=charts,
        target=next((one for one in summary.columns if one.role == "target"), None),
        ranking=by_strength[:IN_RANKING],
        ranked=len(by_strength),
        names=_in_matrix(summary),
        values={(pair.first, pair.second): pair.value for pair in summary.pairs},
        pairs=[pair for pair in summary.pairs[:IN_TABLE] if abs(pair.value) >= CLOSE],
        drifted=sorted(
            (one for one in summary.columns if one.drift),
            key=lambda one: -one.drift.statistic if one.drift else 0.0,
        ),
        lacking=sorted(
            (one for one in summary.columns if one.missing), key=lambda one: -one.missing
        ),
        most_cards=MOST_CARDS,
        anchors={one.name: f"column-{at}" for at, one in enumerate(summary.columns)},
        missing_cells=_missing_cells(summary),
    )


def save_page(summary: Summary, path: Path) -> Path:
    """Write the page in one atomic step; the folder is made if needed.

    Raises:
        DataError: the place cannot be written.
    """
    try:
        return write_page(page(summary), path)
    except OSError as error:
        raise DataError(
            f"{path}: cannot write the page ({error.strerror}); name another place with --output"
        ) from None


def _in_matrix(summary: Summary) -> list[str]:
    """The columns of the closest pairs, in the order of the table."""
    chosen: dict[str, None] = {}
    for pair in summary.pairs:
        if len(chosen | {pair.first: None, pair.second: None}) <= IN_MATRIX:
            chosen |= {pair.first: None, pair.second: None}
    names = [one.name for one in summary.columns if one.name in chosen]
    return names if len(names) > 2 else []


def _missing_cells(summary: Summary) -> float:
    cells = summary.rows * len(summary.columns)
    return sum(one.missing for one in summary.columns) / cells if cells else 0.0
