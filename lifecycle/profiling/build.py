"""A profile from one pass over the rows, and one over those it is compared with."""

from collections import Counter
from datetime import datetime

import numpy as np
import pandas as pd
import pyarrow as pa

from lifecycle.features.encode import Floats
from lifecycle.profiling.bars import level_bars, number_bars, spell
from lifecycle.profiling.compare import DISTANCES, compare_categories, compare_numbers
from lifecycle.profiling.diff import MAX_LEVELS_SHOWN, MISSING
from lifecycle.profiling.findings import findings
from lifecycle.profiling.gather import ColumnCounts, Gathered, gather
from lifecycle.profiling.inputs import ProfileInput, Sample, sampled
from lifecycle.profiling.record import Bar, ColumnProfile, Coverage, Drift, MissingTogether, Summary
from lifecycle.profiling.relations import Target, associations, frame_of
from lifecycle.profiling.schema import ProfileSchema, contract_terms

# Drift of the columns from another version: distances of samples, beyond chance.

CHANCE = 0.001
"""How rarely equal distributions may be called drifted."""


def column_drift(
    name: str,
    now: Sample,
    then: Sample,
    before: Gathered,
    schema: ProfileSchema,
    *,
    show_values: bool,
) -> Drift | None:
    """One column against the other version; None if that has none of its kind, or no rows.

    Drifted is what exceeds both the project's threshold (`monitoring.drift`) and chance.

    Args:
        before: what was counted of the other version.
        show_values: whether the column's values may be shown.
    """
    counts = before.columns.get(name)
    if not now.rows or not then.rows or counts is None or now.kinds[name] == "text":
        return None
    share = counts.missing / before.rows
    if name in now.numbers and name in then.numbers:
        statistic, chance = compare_numbers(then.numbers[name], now.numbers[name], CHANCE)
        mean = counts.moments.mean() if show_values and now.kinds[name] == "number" else None
        return Drift(
            statistic=statistic,
            test=DISTANCES["kolmogorov_smirnov"].title,
            drifted=statistic > max(schema.numeric_threshold, chance),
            missing_then=share,
            mean_then=mean if mean is not None and np.isfinite(mean) else None,
        )
    if name not in now.levels or name not in then.levels:
        return None
    shares = pd.DataFrame({"then": _shares(then, name), "now": _shares(now, name)}).fillna(0.0)
    sides = shares["then"].to_numpy(), shares["now"].to_numpy()
    statistic, chance = compare_categories(*sides, (then.rows, now.rows), CHANCE)
    appeared, vanished = (
        tuple(map(str, shares.index[shares[side] == 0][:MAX_LEVELS_SHOWN]))
        for side in ("then", "now")
    )
    return Drift(
        statistic=min(1.0, statistic),
        test=DISTANCES["cramers_v"].title,
        drifted=statistic > max(schema.categorical_threshold, chance),
        missing_then=share,
        new_levels=appeared if show_values else (),
        gone_levels=vanished if show_values else (),
    )


def _shares(sample: Sample, name: str) -> "pd.Series[float]":
    """Share of each level, missing as a level of its own."""
    levels = sample.levels[name]
    missing = sample.rows - int(levels.counts.sum())
    counts = np.append(levels.counts, missing) / sample.rows
    shares = pd.Series(counts, index=[*levels.names, MISSING])
    return shares[shares > 0].groupby(level=0, sort=False).sum()


# Rows per stretch of time, and the stretches without rows.

MOST = 120
"""Bars that can be told apart."""
CALENDAR = {"day": "D", "week": "W", "month": "M", "quarter": "Q", "year": "Y"}


def coverage(column: str, counts: Counter[int], *, days: bool, period: str) -> Coverage | None:
    """Rows a period from the first to the last, empty ones with 0; None without a row.

    Args:
        counts: rows a whole number, or a day since 1970.
        days: whether they are days.
        period: the project's; taken if that makes 120 periods at most, else the next longer one.
    """
    if not counts:
        return None
    if not days:
        return _numbers(column, counts)
    index = pd.to_datetime(np.array(list(counts), dtype="datetime64[D]"))
    rows_by_period = pd.Series(list(counts.values()), index=index)
    names = list(CALENDAR)
    for name in names[names.index(period) if period in names else 0 :]:
        at = pd.DatetimeIndex(rows_by_period.index).to_period(CALENDAR[name])
        span = pd.period_range(at.min(), at.max(), freq=CALENDAR[name])
        if len(span) <= MOST:
            break
    if len(span) > MOST:  # centuries: only the years that have rows, the newest
        span = at.unique().sort_values()[-MOST:]
    full = rows_by_period.groupby(at).sum().reindex(span, fill_value=0)
    bars = (Bar(label=_label(at, name), rows=int(rows)) for at, rows in full.items())
    return Coverage(column=column, period=name, bars=tuple(bars))


def _numbers(column: str, counts: Counter[int]) -> Coverage:
    first, last = min(counts), max(counts)
    width = -(-(last - first + 1) // MOST)
    rows: Counter[int] = Counter()
    for value, count in counts.items():
        rows[(value - first) // width] += count
    bars = []
    for at in range((last - first) // width + 1):
        start = first + at * width
        label = str(start) if width == 1 else f"{start} to {min(start + width - 1, last)}"
        bars.append(Bar(label=label, rows=rows[at]))
    return Coverage(column=column, period="value" if width == 1 else f"{width:,}", bars=tuple(bars))


def _label(period: object, name: str) -> str:
    text = str(period)
    return f"week of {text.partition('/')[0]}" if name == "week" else text


# Profile of one column, from counts and the sample.

FENCE = 3.0
"""Interquartile ranges (Tukey 1977: outer fences)."""


def column_profile(
    name: str,
    counts: ColumnCounts,
    kind: pa.DataType,
    rows: int,
    sample: Sample,
    schema: ProfileSchema,
) -> ColumnProfile:
    """Everything about one column by itself; a hidden one keeps counts alone.

    Args:
        kind: the type its values came in.
        rows: of the whole table.
    """
    spec, sort = schema.specs.get(name), sample.kinds[name]
    hidden = schema.hidden(name) or sort == "text"
    distinct, exact = counts.distinct()
    profile = ColumnProfile(
        name=name,
        kind=sort,
        type=spec.type if spec else _type(kind),
        role=schema.role(name),
        unit=spec.unit if spec else "",
        description=spec.description if spec else "",
        promises=contract_terms(spec) if spec else (),
        pii=" ".join(filter(None, (spec.pii, spec.pii_class))) if spec and spec.pii else "",
        hidden=hidden,
        missing=counts.missing,
        missing_share=counts.missing / rows if rows else 0.0,
        infinite=counts.infinite,
        misfits=schema.misfits.get(name, 0),
        distinct=min(distinct, rows),
        distinct_exact=exact,
    )
    if hidden:
        return profile
    if sort == "category":
        bars, others = level_bars(sample.levels[name])
        return profile.model_copy(update={"bars": bars, "others": others})
    values, time = sample.numbers[name], sort == "time"
    return profile.model_copy(
        update={
            "minimum": _end(counts.minimum),
            "maximum": _end(counts.maximum),
            "mean": None if time else _finite(counts.moments.mean()),
            "deviation": None if time else _finite(counts.moments.deviation()),
            "bars": number_bars(values, name in sample.integers, time),
            **_quartiles(values, time),
        }
    )


def _quartiles(values: Floats, time: bool) -> dict[str, object]:
    present = values[~np.isnan(values)]
    if not len(present):
        return {}
    low, middle, high = np.quantile(present, [0.25, 0.5, 0.75])
    if time:
        return {"quartiles": tuple(spell(value, True) for value in (low, middle, high))}
    fence = FENCE * (high - low)
    outliers = (present < low - fence) | (present > high + fence)
    return {
        "quartiles": (float(low), float(middle), float(high)),
        # where half the values are one value, whatever is not would be an outlier
        "outliers": float(outliers.mean()) if fence else None,
    }


def _end(value: object) -> float | str | None:
    if isinstance(value, datetime):
        return value.isoformat(sep=" ").removesuffix(" 00:00:00")
    return float(value) if isinstance(value, int | float) else None


def _finite(value: float | None) -> float | None:
    return value if value is not None and np.isfinite(value) else None


def _type(kind: pa.DataType) -> str:
    return "empty" if pa.types.is_null(kind) else str(kind).removeprefix("large_")


MOST_TOGETHER = 15


def build(profile_input: ProfileInput, against: ProfileInput | None = None) -> Summary:
    """Profile rows; they are read once, in bounded memory.

    Raises:
        LifecycleError: the rows cannot be read.
    """
    schema = profile_input.schema
    gathered = gather(profile_input.batches, schema.time or None)
    table = gathered.sample()
    sample = sampled(table, schema)
    columns = [
        column_profile(name, counts, gathered.types[name], gathered.rows, sample, schema)
        for name, counts in gathered.columns.items()
    ]
    target = None
    show_values = any(column.role == "target" and not column.hidden for column in columns)
    if schema.target in gathered.columns and sample.rows:
        target = Target(sample, schema)
        columns = [_related(column, target, show_values) for column in columns]
    if against is not None:
        columns = _drifted(columns, sample, gathered.rows, profile_input, against)
    varied = [column.name for column in columns if column.kind != "text" and column.distinct > 1]
    varied = [name for name in varied if name != schema.entity]
    summary = Summary(
        title=profile_input.title,
        place=profile_input.place,
        rows=gathered.rows,
        rejected=profile_input.rejected,
        sampled=sample.rows,
        duplicates=gathered.duplicates(),
        rows_with_missing=gathered.rows_with_missing,
        target=schema.target if target else "",
        task=schema.task if target else None,
        classes=target.classes if target and show_values else (),
        base=target.base if target and show_values else (),
        entity=schema.entity if schema.entity in gathered.columns else "",
        entities=_distinct(gathered, schema.entity),
        against=against.place if against else "",
        columns=tuple(columns),
        pairs=associations(sample, varied),
        together=_together(gathered),
        suspects=_suspects(target, sample, columns) if target else {},
        periods=_periods(profile_input, gathered),
    )
    return summary.model_copy(update={"findings": findings(summary)})


def _related(column: ColumnProfile, target: Target, show_values: bool) -> ColumnProfile:
    if column.role in ("target", "entity") or column.kind == "text" or column.distinct < 2:
        return column
    relation = target.relation(column.name, show_values=show_values and not column.hidden)
    return column.model_copy(update={"relation": relation})


def _drifted(
    columns: list[ColumnProfile],
    sample: Sample,
    rows: int,
    profile_input: ProfileInput,
    against: ProfileInput,
) -> list[ColumnProfile]:
    """Other persons are no drift, nor are other numbers where each row has its own."""
    before = gather(against.batches)
    then = sampled(before.sample(), profile_input.schema)
    columns_found = []
    for column in columns:
        moved = column_drift(
            column.name, sample, then, before, profile_input.schema, show_values=not column.hidden
        )
        differs = column.name in sample.integers and column.distinct == rows
        names = column.role == "entity" or differs
        columns_found.append(column if names else column.model_copy(update={"drift": moved}))
    return columns_found


def _suspects(target: Target, sample: Sample, columns: list[ColumnProfile]) -> dict[str, str]:
    names = [
        column.name
        for column in columns
        if column.role not in ("target", "entity", "time") and column.kind in ("number", "category")
    ]
    return target.suspects(frame_of(sample, names))


def _together(gathered: Gathered) -> tuple[MissingTogether, ...]:
    """The pairs of columns whose missing rows are the same, the closest first."""
    counts, names = gathered.both_missing, list(gathered.columns)
    groups = []
    for i, first in enumerate(names):
        for j in range(i + 1, len(names)):
            count = int(counts[i, j])
            if count:
                either = int(counts[i, i] + counts[j, j]) - count
                pair = MissingTogether(
                    first=first, second=names[j], rows=count, share=count / either
                )
                groups.append(pair)
    return tuple(sorted(groups, key=lambda group: (-group.share, -group.rows))[:MOST_TOGETHER])


def _periods(profile_input: ProfileInput, gathered: Gathered) -> Coverage | None:
    schema = profile_input.schema
    if not schema.time or schema.time not in gathered.columns or gathered.periods is None:
        return None
    if schema.hidden(schema.time):
        return None
    days = not pa.types.is_integer(gathered.types[schema.time])
    return coverage(schema.time, gathered.periods, days=days, period=schema.period)


def _distinct(gathered: Gathered, name: str) -> int:
    return gathered.columns[name].distinct()[0] if name in gathered.columns else 0
