"""Rows a stretch of time, and the stretches without any."""

from collections import Counter

import numpy as np
import pandas as pd

from lifecycle.data.profile.record import Bar, Periods

MOST = 120
"""Bars that can be told apart."""
CALENDAR = {"day": "D", "week": "W", "month": "M", "quarter": "Q", "year": "Y"}


def coverage(column: str, counts: Counter[int], *, days: bool, period: str) -> Periods | None:
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
    whole = pd.Series(list(counts.values()), index=index)
    names = list(CALENDAR)
    for name in names[names.index(period) if period in names else 0 :]:
        at = pd.DatetimeIndex(whole.index).to_period(CALENDAR[name])
        span = pd.period_range(at.min(), at.max(), freq=CALENDAR[name])
        if len(span) <= MOST:
            break
    if len(span) > MOST:  # centuries: only the years that have rows, the newest
        span = at.unique().sort_values()[-MOST:]
    full = whole.groupby(at).sum().reindex(span, fill_value=0)
    bars = (Bar(label=_label(at, name), rows=int(rows)) for at, rows in full.items())
    return Periods(column=column, period=name, bars=tuple(bars))


def _numbers(column: str, counts: Counter[int]) -> Periods:
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
    return Periods(column=column, period="value" if width == 1 else f"{width:,}", bars=tuple(bars))


def _label(period: object, name: str) -> str:
    text = str(period)
    return f"week of {text.partition('/')[0]}" if name == "week" else text
