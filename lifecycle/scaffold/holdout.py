"""Guesses of the cut in time: rows that arrive later, and newest periods for a good holdout."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from lifecycle.data.split import FEW_ROWS, SMALL_SHARE, split
from lifecycle.data.split_parts import (
    HOLDOUT,
    TRAIN,
    VALIDATION,
    Periods,
    Places,
    places,
    starts_of,
)
from lifecycle.project import MonitoringSpec, SplitSpec, TimeSpec
from lifecycle.records import counted
from lifecycle.scaffold.columns import Column
from lifecycle.scaffold.project_text import DEFAULTS
from lifecycle.scaffold.roles import Roles

CALENDAR = ("month", "week", "day")
"""The coarsest first: a period is what arrives, and is monitored, at a time."""
NEWEST = 0.3
"""Share of the rows in the newest periods where, of these, only held-out entities count."""
AROUND = 0.1
MOST = 0.5
MIN_PERIODS_LEFT = 2
"""Periods that stay for training, at least."""
SEEDS = 20
"""Seeds tried where rows are few or classes are rare."""
ARRIVING = 3
"""Periods that arrive later, at most: each is scored and monitored by itself."""
SHARE_ARRIVING, MOST_ARRIVING = 0.15, 0.2
"""Share of the rows that arrives later, about and at most."""
ROWS_ARRIVING = 50
"""Rows that arrive later, at least: of fewer nothing can be told."""


class Cut(NamedTuple):
    """A period, and how many of the newest are held out."""

    period: str
    periods: int
    """All there are."""
    periods_held: int
    since: str
    newest: float
    """Share of the rows that lies in the newest periods."""
    rows: int
    """In the holdout."""
    worth: tuple[float, ...]
    """The least is the best; all but the last two are 0 where the holdout is as large as wanted."""


class Arrival(NamedTuple):
    """Newest periods that the first training does not see."""

    period: str
    periods: int
    since: pd.Timestamp
    rows: int


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
    has_target = columns[target].values.notna().to_numpy(dtype=bool)
    total = int(has_target.sum())
    placed: Places | None = None
    if roles.entity:
        placed = places(columns[roles.entity].values[has_target], spec)
        if len(np.unique(placed)) < len((TRAIN, VALIDATION, HOLDOUT)):
            few = f"has {columns[roles.entity].distinct:,} values, too few to divide the rows by"
            _ignore(roles, roles.entity, few)
            roles.entity, placed = None, None
    if not roles.time:
        return {}
    name = roles.time["column"]
    times = columns[name].values[has_target].reset_index(drop=True)
    arrival, best, why_none = _with_arrival(name, times, placed, spec)
    if best is None:
        _ignore(roles, name, "is a time, but its days are too few to divide the rows by")
        roles.time = None
        return {}
    roles.time["period"] = best.period
    roles.notes.append(
        f"time: {name}, from {_date_text(times.min())} to {_date_text(times.max())}, "
        f"by {best.period}"
    )
    roles.notes.append(f"arrives_from: {_said_of_arrival(arrival, total, why_none)}")
    if arrival is not None:
        roles.time["arrives_from"] = arrival.since.date()
        total -= arrival.rows
    share = best.rows / total
    if placed is None:
        unit = "times" if best.period == "value" else f"{best.period}s"
        roles.notes.append(
            f"holdout: the newest {best.periods_held:,} of {best.periods:,} {unit}, from "
            f"{best.since} on, "
            f"which have {share:.0%} of the rows; change it with split.holdout"
        )
        return {}
    roles.notes.append(
        f"holdout: the newest {best.periods_held} of {best.periods:,} {best.period}s, from "
        f"{best.since} "
        f"on, have {best.newest:.0%} of the rows; {spec.holdout:.0%} of {roles.entity} are held "
        f"out there: {best.rows:,} rows ({share:.1%})"
    )
    return {"holdout_periods": best.periods_held}


def guess_seed(columns: Mapping[str, Column], roles: Roles, target: str) -> dict[str, Any]:
    """A seed by which every part has different targets, and the train part every class; it matters
    where rows are few or classes rare. Only where no time divides the rows.

    Returns:
        What the project says of the split besides its defaults: nothing where the default seed
        will do, or none does.
    """
    has_target = columns[target].values.notna().to_numpy(dtype=bool)
    labels, classes = pd.factorize(columns[target].values[has_target])
    least = len(classes) if roles.task in ("binary", "multiclass") else 2
    keys = pd.DataFrame(index=pd.RangeIndex(len(labels)))
    if roles.entity:
        keys[roles.entity] = columns[roles.entity].values[has_target].to_numpy()
    default = SplitSpec.model_validate(DEFAULTS["split"])
    for seed in range(default.seed, default.seed + SEEDS):
        parts = split(keys, default.model_copy(update={"seed": seed}), roles.entity)
        different = [len(np.unique(labels[mask])) for mask in parts.masks.values()]
        if different[0] >= least and min(different) > 1:
            if seed == default.seed:
                return {}
            roles.notes.append(f"split.seed: {seed}, by which no part lacks targets it needs")
            return {"seed": seed}
    return {}


def _said_of_arrival(arrival: Arrival | None, total: int, why_none: str) -> str:
    if arrival is None:
        later = "set time.arrives_from to let some rows arrive later, and be monitored"
        return f"none, since {why_none}; {later}"
    each, enough = arrival.rows // arrival.periods, MonitoringSpec().min_rows
    too_few = (
        f"; each has about {each:,} rows, and monitoring says nothing of fewer than {enough:,}: "
        "lower monitoring.min_rows to hear of them"
    )
    return (
        f"{arrival.since:%Y-%m-%d}, so the {arrival.rows:,} rows ({arrival.rows / total:.0%}) of "
        f"the newest {counted(arrival.periods, arrival.period)} arrive later, are scored and "
        "monitored; change it with time.arrives_from, or take it out to learn from all rows"
        + (too_few if each < enough else "")
    )


def _ignore(roles: Roles, name: str, reason: str) -> None:
    roles.notes = [note for note in roles.notes if not note.startswith(f"entity: {name},")]
    roles.ignore.append(name)
    roles.notes.append(f"ignore: {name} {reason}")


def _with_arrival(
    name: str, times: "pd.Series[Any]", placed: Places | None, spec: SplitSpec
) -> tuple[Arrival | None, Cut | None, str]:
    """What arrives later, where the rows before make a good holdout by the same periods; else the
    best cut of all rows, and why nothing arrives."""
    if not pd.api.types.is_datetime64_any_dtype(times.dtype):
        reason = f"{name} has whole numbers, which have no months or weeks"
        return None, _best_cut(name, times, placed, spec, ("value",)), reason
    reason = (
        f"the newest months, weeks and days have fewer than {ROWS_ARRIVING} rows, or more than "
        f"{MOST_ARRIVING:.0%} of all"
    )
    for arrival in _arrivals(name, times):
        before = (times < arrival.since).to_numpy()
        earlier = times[before].reset_index(drop=True)
        of_rest = None if placed is None else placed[before]
        best = _best_cut(name, earlier, of_rest, spec, (arrival.period,))
        if best is not None and best.rows >= FEW_ROWS and not any(best.worth[:-2]):
            return arrival, best, ""
        reason = "the rows before the newest periods are too few for a holdout that decides"
    return None, _best_cut(name, times, placed, spec, None), reason


def _arrivals(name: str, times: "pd.Series[Any]") -> Iterator[Arrival]:
    """The newest periods that may arrive later: by the coarsest that will do, then by how near they
    are to the share wanted."""
    for period in CALENDAR:
        periods = _periods(name, times, period)
        rows = _from_end(periods.sizes())[: min(ARRIVING, len(periods) - 1)]
        shares = rows / len(times)
        for at in np.argsort(np.abs(shares - SHARE_ARRIVING), kind="stable"):
            if rows[at] >= ROWS_ARRIVING and shares[at] <= MOST_ARRIVING:
                number = int(at) + 1
                since = periods.start(len(periods) - number)
                yield Arrival(period, number, pd.Timestamp(since), int(rows[at]))


def _best_cut(
    name: str,
    times: "pd.Series[Any]",
    placed: Places | None,
    spec: SplitSpec,
    of: Sequence[str] | None,
) -> Cut | None:
    """
    Args:
        of: the periods to choose from; by default those that fit.
    """
    if placed is not None:
        cuts = _of_entities(name, times, placed, of or CALENDAR)
    else:
        cuts = _of_rows(name, times, spec, of or ("day", "value"))
    return min(cuts, key=lambda cut: cut.worth, default=None)


def _of_entities(
    name: str, times: "pd.Series[Any]", placed: Places, of: Sequence[str]
) -> Iterator[Cut]:
    """Cuts that leave rows in each part, where held-out entities are the holdout."""
    for rank, period in enumerate(of):
        periods = _periods(name, times, period)
        newest = _from_end(periods.sizes()) / len(times)
        of_parts = [
            _from_end(periods.sizes(placed == part)) for part in (HOLDOUT, TRAIN, VALIDATION)
        ]
        holdout, trained, validated = of_parts
        for at in range(len(periods) - MIN_PERIODS_LEFT):
            later = trained[at] == trained[-1] or validated[at] == validated[-1]
            if newest[at] > MOST or not holdout[at] or later:
                continue
            off = abs(float(newest[at]) - NEWEST)
            few = bool(holdout[at] < SMALL_SHARE * len(times))
            worth = (few, off > AROUND, rank, off)
            yield _cut(periods, period, at + 1, float(newest[at]), int(holdout[at]), worth)


def _of_rows(
    name: str, times: "pd.Series[Any]", spec: SplitSpec, of: Sequence[str]
) -> Iterator[Cut]:
    """What the split makes of periods, or of the times themselves: its share decides how many."""
    for rank, period in enumerate(of):
        periods = _periods(name, times, period)
        holdout_periods = periods.newest(spec.holdout * len(times), len(periods))
        periods_left = len(periods) - holdout_periods
        if (
            periods_left < MIN_PERIODS_LEFT
            or periods.newest(spec.validation * len(times), periods_left) >= periods_left
        ):
            continue
        rows = int(periods.sizes()[-holdout_periods:].sum())
        share = rows / len(times)
        off = abs(share - spec.holdout)
        yield _cut(periods, period, holdout_periods, share, rows, (off > AROUND, rank, off))


def _date_text(time: Any) -> str:
    return f"{time:%Y-%m-%d}" if isinstance(time, pd.Timestamp) else str(time)


def _periods(name: str, times: "pd.Series[Any]", period: str) -> Periods:
    spec = TimeSpec.model_validate({"column": name, "period": period})
    return Periods(starts_of(times, spec), spec)


def _from_end(sizes: NDArray[np.int64]) -> NDArray[np.int64]:
    """Rows in the newest period, the two newest, and so on (periods,)."""
    return np.cumsum(sizes[::-1])


def _cut(
    periods: Periods,
    period: str,
    holdout_periods: int,
    newest: float,
    rows: int,
    worth: tuple[float, ...],
) -> Cut:
    since = periods.name(len(periods) - holdout_periods).partition("/")[0]  # a week has two ends
    return Cut(period, len(periods), holdout_periods, since, newest, rows, worth)
