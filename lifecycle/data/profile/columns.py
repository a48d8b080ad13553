"""One column's profile, from what was counted and what was sampled."""

from datetime import datetime

import numpy as np
import pyarrow as pa

from lifecycle.data.profile.bars import level_bars, number_bars, spell
from lifecycle.data.profile.gather import Counts
from lifecycle.data.profile.known import Known, promises
from lifecycle.data.profile.record import ColumnProfile
from lifecycle.data.profile.sampled import Floats, Sampled

FENCE = 3.0
"""Interquartile ranges (Tukey 1977: outer fences)."""


def column_profile(
    name: str, counts: Counts, kind: pa.DataType, rows: int, sample: Sampled, known: Known
) -> ColumnProfile:
    """Everything about one column by itself; a hidden one keeps counts alone.

    Args:
        kind: the type its values came in.
        rows: of the whole table.
    """
    spec, sort = known.specs.get(name), sample.kinds[name]
    hidden = known.hidden(name) or sort == "text"
    distinct, exact = counts.distinct()
    made = ColumnProfile(
        name=name,
        kind=sort,
        type=spec.type if spec else _type(kind),
        role=known.role(name),
        unit=spec.unit if spec else "",
        description=spec.description if spec else "",
        promises=promises(spec) if spec else (),
        pii=" ".join(filter(None, (spec.pii, spec.pii_class))) if spec and spec.pii else "",
        hidden=hidden,
        missing=counts.missing,
        missing_share=counts.missing / rows if rows else 0.0,
        infinite=counts.infinite,
        misfits=known.misfits.get(name, 0),
        distinct=min(distinct, rows),
        distinct_exact=exact,
    )
    if hidden:
        return made
    if sort == "category":
        bars, others = level_bars(sample.levels[name])
        return made.model_copy(update={"bars": bars, "others": others})
    values, time = sample.numbers[name], sort == "time"
    return made.model_copy(
        update={
            "minimum": _end(counts.minimum),
            "maximum": _end(counts.maximum),
            "mean": None if time else _finite(counts.moments.mean()),
            "deviation": None if time else _finite(counts.moments.deviation()),
            "bars": number_bars(values, name in sample.whole, time),
            **_quartiles(values, time),
        }
    )


def _quartiles(values: Floats, time: bool) -> dict[str, object]:
    known = values[~np.isnan(values)]
    if not len(known):
        return {}
    low, middle, high = np.quantile(known, [0.25, 0.5, 0.75])
    if time:
        return {"quartiles": tuple(spell(value, True) for value in (low, middle, high))}
    fence = FENCE * (high - low)
    far = (known < low - fence) | (known > high + fence)
    return {
        "quartiles": (float(low), float(middle), float(high)),
        # where half the values are one value, whatever is not would be an outlier
        "outliers": float(far.mean()) if fence else None,
    }


def _end(value: object) -> float | str | None:
    if isinstance(value, datetime):
        return value.isoformat(sep=" ").removesuffix(" 00:00:00")
    return float(value) if isinstance(value, int | float) else None


def _finite(value: float | None) -> float | None:
    return value if value is not None and np.isfinite(value) else None


def _type(kind: pa.DataType) -> str:
    return "empty" if pa.types.is_null(kind) else str(kind).removeprefix("large_")
