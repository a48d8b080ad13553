"""How time should be cut so that the newest periods make a holdout that decides something."""

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from lifecycle.data.guess import Column
from lifecycle.data.holdout import SMALL_SHARE
from lifecycle.data.periods import Periods, starts_of
from lifecycle.data.place import HOLDOUT, TRAIN, VALIDATION, Places, places
from lifecycle.data.roles import Roles
from lifecycle.specs import SplitSpec, TimeSpec

CALENDAR = ("month", "week", "day")
"""The coarsest first: a period is what arrives, and is monitored, at a time."""
NEWEST = 0.3
"""Share of the rows in the newest periods where, of these, only held-out entities count."""
AROUND = 0.1
MOST = 0.5
LEFT = 2
"""Periods that stay for training, at least."""


class Cut(NamedTuple):
    """A period, and how many of the newest are held out."""

    period: str
    periods: int
    """All there are."""
    held: int
    since: str
    newest: float
    """Share of the rows that lies in the newest periods."""
    rows: int
    """In the holdout."""
    worth: tuple[float, ...]
    """The least is the best."""


def guess_holdout(
    columns: Mapping[str, Column], roles: Roles, target: str, spec: SplitSpec
) -> dict[str, Any]:
    """Settle the time's period, and see that entity and time do divide the rows.

    Args:
        roles: changed where they cannot divide: the column is ignored then.
        spec: the shares that entities, or rows, are divided by.

    Returns:
        What the project says of the split besides `spec`.
    """
    known = columns[target].values.notna().to_numpy(dtype=bool)
    total = int(known.sum())
    placed: Places | None = None
    if roles.entity:
        placed = places(columns[roles.entity].values[known], spec)
        if len(np.unique(placed)) < len((TRAIN, VALIDATION, HOLDOUT)):
            few = f"has {columns[roles.entity].distinct:,} values, too few to divide the rows by"
            _ignore(roles, roles.entity, few)
            roles.entity, placed = None, None
    if not roles.time:
        return {}
    name = roles.time["column"]
    times = columns[name].values[known].reset_index(drop=True)
    cuts = _of_entities(name, times, placed) if placed is not None else _of_rows(name, times, spec)
    best = min(cuts, key=lambda cut: cut.worth, default=None)
    if best is None:
        _ignore(roles, name, "is a time, but its days are too few to divide the rows by")
        roles.time = None
        return {}
    roles.time["period"] = best.period
    roles.said.append(
        f"time: {name}, from {times.min():%Y-%m-%d} to {times.max():%Y-%m-%d}, by {best.period}; "
        "set time.arrives_from to let the newest arrive later"
    )
    share = best.rows / total
    if placed is None:
        unit = "times" if best.period == "value" else f"{best.period}s"
        roles.said.append(
            f"holdout: the newest {best.held:,} of {best.periods:,} {unit}, from {best.since} on, "
            f"which have {share:.0%} of the rows; change it with split.holdout"
        )
        return {}
    roles.said.append(
        f"holdout: the newest {best.held} of {best.periods:,} {best.period}s, from {best.since} "
        f"on, have {best.newest:.0%} of the rows; {spec.holdout:.0%} of {roles.entity} are held "
        f"out there: {best.rows:,} rows ({share:.1%})"
    )
    return {"holdout_periods": best.held}


def _ignore(roles: Roles, name: str, why: str) -> None:
    roles.said = [said for said in roles.said if not said.startswith(f"entity: {name},")]
    roles.ignore.append(name)
    roles.said.append(f"ignore: {name} {why}")


def _of_entities(name: str, times: "pd.Series[Any]", placed: Places) -> Iterator[Cut]:
    """Cuts that leave rows in each part, where held-out entities are the holdout."""
    for rank, period in enumerate(CALENDAR):
        periods = _periods(name, times, period)
        newest = _from_end(periods.sizes()) / len(times)
        of_parts = [
            _from_end(periods.sizes(placed == part)) for part in (HOLDOUT, TRAIN, VALIDATION)
        ]
        held, trained, validated = of_parts
        for at in range(len(periods) - LEFT):
            later = trained[at] == trained[-1] or validated[at] == validated[-1]
            if newest[at] > MOST or not held[at] or later:
                continue
            off = abs(float(newest[at]) - NEWEST)
            few = bool(held[at] < SMALL_SHARE * len(times))
            worth = (few, off > AROUND, rank, off)
            yield _cut(periods, period, at + 1, float(newest[at]), int(held[at]), worth)


def _of_rows(name: str, times: "pd.Series[Any]", spec: SplitSpec) -> Iterator[Cut]:
    """What the split makes of days, and of the times themselves: its share decides how many."""
    for rank, period in enumerate(("day", "value")):
        periods = _periods(name, times, period)
        held = periods.newest(spec.holdout * len(times), len(periods))
        left = len(periods) - held
        if left < LEFT or periods.newest(spec.validation * len(times), left) >= left:
            continue
        rows = int(periods.sizes()[-held:].sum())
        share = rows / len(times)
        off = abs(share - spec.holdout)
        yield _cut(periods, period, held, share, rows, (off > AROUND, rank, off))


def _periods(name: str, times: "pd.Series[Any]", period: str) -> Periods:
    spec = TimeSpec.model_validate({"column": name, "period": period})
    return Periods(starts_of(times, spec), spec)


def _from_end(sizes: NDArray[np.int64]) -> NDArray[np.int64]:
    """Rows in the newest period, the two newest, and so on (periods,)."""
    return np.cumsum(sizes[::-1])


def _cut(
    periods: Periods, period: str, held: int, newest: float, rows: int, worth: tuple[float, ...]
) -> Cut:
    since = periods.name(len(periods) - held).partition("/")[0]  # a week has two ends
    return Cut(period, len(periods), held, since, newest, rows, worth)
