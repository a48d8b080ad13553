"""Values and columns in a few words, alike on the page and in the terminal."""

from lifecycle.data.profile.bars import short, spell
from lifecycle.data.profile.record import ColumnProfile


def share(value: float) -> str:
    """A share as a percentage that is 0 or 100 only where that is exact."""
    if value in (0, 1):
        return f"{value:.0%}"
    if value < 0.001:
        return "< 0.1%"
    return "> 99.9%" if value > 0.999 else f"{value:.1%}"


def spelled(value: float | str | None) -> str:
    """A value in few digits; a dash where there is none."""
    if value is None:
        return "–"
    return value if isinstance(value, str) else spell(value)


def headline(column: ColumnProfile) -> str:
    """Least, middle and most of a column in one line; its most frequent levels; nothing hidden."""
    if column.hidden:
        return "text, not shown" if column.kind == "text" and not column.pii else "not shown"
    if column.kind == "category":
        total = sum(bar.rows for bar in column.bars) + column.others
        parts = [f"{short(bar.label)} {share(bar.rows / total)}" for bar in column.bars[:3]]
        return ", ".join(parts) + (" …" if len(column.bars) > 3 else "")
    if column.quartiles is None:
        return "no values"
    ends = (column.minimum, column.quartiles[1], column.maximum)
    return " · ".join(map(spelled, ends)) + (f" {column.unit}" if column.unit else "")
