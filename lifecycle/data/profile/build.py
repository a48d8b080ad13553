"""A profile from one pass over the rows, and one over those it is compared with."""

import pyarrow as pa

from lifecycle.data.profile.association import associations
from lifecycle.data.profile.columns import column_profile
from lifecycle.data.profile.coverage import coverage
from lifecycle.data.profile.drift import drift
from lifecycle.data.profile.findings import findings
from lifecycle.data.profile.gather import Gathered, gather
from lifecycle.data.profile.opened import Opened
from lifecycle.data.profile.record import ColumnProfile, Periods, Summary, Together
from lifecycle.data.profile.relation import Target, frame_of
from lifecycle.data.profile.sampled import Sampled, sampled

MOST_TOGETHER = 15


def build(opened: Opened, against: Opened | None = None) -> Summary:
    """Profile rows; they are read once, in bounded memory.

    Raises:
        LifecycleError: the rows cannot be read.
    """
    known = opened.known
    gathered = gather(opened.batches, known.time or None)
    table = gathered.sample()
    sample = sampled(table, known)
    columns = [
        column_profile(name, counts, gathered.types[name], gathered.rows, sample, known)
        for name, counts in gathered.columns.items()
    ]
    target = None
    shown = any(one.role == "target" and not one.hidden for one in columns)
    if known.target in gathered.columns and sample.rows:
        target = Target(sample, known)
        columns = [_related(one, target, shown) for one in columns]
    if against is not None:
        columns = _drifted(columns, sample, gathered.rows, opened, against)
    varied = [one.name for one in columns if one.kind != "text" and one.distinct > 1]
    varied = [name for name in varied if name != known.entity]
    summary = Summary(
        title=opened.title,
        place=opened.place,
        rows=gathered.rows,
        rejected=opened.rejected,
        sampled=sample.rows,
        duplicates=gathered.duplicates(),
        rows_with_missing=gathered.rows_with_missing,
        target=known.target if target else "",
        task=known.task if target else None,
        classes=target.classes if target and shown else (),
        base=target.base if target and shown else (),
        entity=known.entity if known.entity in gathered.columns else "",
        entities=_distinct(gathered, known.entity),
        against=against.place if against else "",
        columns=tuple(columns),
        pairs=associations(sample, varied),
        together=_together(gathered),
        suspects=_suspects(target, sample, columns) if target else {},
        periods=_periods(opened, gathered),
    )
    return summary.model_copy(update={"findings": findings(summary)})


def _related(column: ColumnProfile, target: Target, shown: bool) -> ColumnProfile:
    if column.role in ("target", "entity") or column.kind == "text" or column.distinct < 2:
        return column
    relation = target.relation(column.name, shown=shown and not column.hidden)
    return column.model_copy(update={"relation": relation})


def _drifted(
    columns: list[ColumnProfile], sample: Sampled, rows: int, opened: Opened, against: Opened
) -> list[ColumnProfile]:
    """Other persons are no drift, nor are other numbers where each row has its own."""
    before = gather(against.batches)
    then = sampled(before.sample(), opened.known)
    found = []
    for one in columns:
        moved = drift(one.name, sample, then, before, opened.known, shown=not one.hidden)
        differs = one.name in sample.whole and one.distinct == rows
        names = one.role == "entity" or differs
        found.append(one if names else one.model_copy(update={"drift": moved}))
    return found


def _suspects(target: Target, sample: Sampled, columns: list[ColumnProfile]) -> dict[str, str]:
    names = [
        one.name
        for one in columns
        if one.role not in ("target", "entity", "time") and one.kind in ("number", "category")
    ]
    return target.suspects(frame_of(sample, names))


def _together(gathered: Gathered) -> tuple[Together, ...]:
    """The pairs of columns whose missing rows are the same, the closest first."""
    counts, names = gathered.both_missing, list(gathered.columns)
    found = []
    for i, first in enumerate(names):
        for j in range(i + 1, len(names)):
            both = int(counts[i, j])
            if both:
                either = int(counts[i, i] + counts[j, j]) - both
                pair = Together(first=first, second=names[j], rows=both, share=both / either)
                found.append(pair)
    return tuple(sorted(found, key=lambda one: (-one.share, -one.rows))[:MOST_TOGETHER])


def _periods(opened: Opened, gathered: Gathered) -> Periods | None:
    known = opened.known
    if not known.time or known.time not in gathered.columns or gathered.periods is None:
        return None
    if known.hidden(known.time):
        return None
    days = not pa.types.is_integer(gathered.types[known.time])
    return coverage(known.time, gathered.periods, days=days, period=known.period)


def _distinct(gathered: Gathered, name: str) -> int:
    return gathered.columns[name].distinct()[0] if name in gathered.columns else 0
