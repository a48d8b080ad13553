"""Signs of broken data in the rows: there twice, or not yet there."""

import time

import numpy as np
import pandas as pd

from lifecycle.monitoring.locate import ALL, Floats, Mask, Place, Sides, order_of, time_text
from lifecycle.monitoring.scored import OpenWindow
from lifecycle.monitoring.symptoms import GAPS, MIN_DUPLICATES, Symptom
from lifecycle.records import Window

MIN_DUPLICATED = 0.01
"""Share of the rows that are there twice, at least."""
MIN_GAP_SHARE = 0.03
"""Share of the window's time that must be without rows."""


def row_symptoms(
    reference: OpenWindow, current: OpenWindow, sides: Sides, window: Window
) -> list[Symptom]:
    """Look for rows that are there twice, and for those that have not come.

    Args:
        reference: all rows of it; `sides` may have a choice of them.
        current: all rows of it.
    """
    signs = [duplicated_batch(reference, current, sides.rows[1]), late_feed(sides, window)]
    return [sign for sign in signs if sign is not None]


def duplicated_batch(reference: OpenWindow, current: OpenWindow, rows: int) -> Symptom | None:
    """Rows that are there twice, with entity and time.

    Args:
        rows: how many of the current rows, evenly chosen, the symptom says of whether they are.
    """
    bad = _duplicates(current)
    if bad is None or bad.sum() < MIN_DUPLICATES or bad.mean() <= MIN_DUPLICATED:
        return None
    before = _duplicates(reference)
    usual, share = 0.0 if before is None else float(before.mean()), float(bad.mean())
    limit = max(2 * usual, MIN_DUPLICATED)
    if share <= limit:
        return None
    order = order_of(current)
    repeats = np.flatnonzero(bad) if order is None else order[bad[order]]
    times = current.time
    since = time_text(times[repeats[0]]) if order is not None and times is not None else ""
    evidence = f"{bad.sum():,} rows of {len(bad):,} are there twice ({usual:.1%} in the reference)"
    chosen = bad if len(bad) == rows else bad[np.linspace(0, len(bad) - 1, rows).astype(np.intp)]
    place = Place(ALL, since, np.flatnonzero(chosen))
    return Symptom("duplicated batch", (), place, chosen, evidence, share, limit)


def _duplicates(window: OpenWindow) -> Mask | None:
    """Mark each row that is there before; None where rows have neither entity nor time."""
    if window.entity is None and window.time is None:
        return None
    answers = window.prediction.reshape(len(window.features), -1)
    frame = window.features.reset_index(drop=True).copy(deep=False)
    frame.columns = pd.RangeIndex(len(frame.columns))
    for values in (*answers.T, window.entity, window.time):
        if values is not None:
            frame[len(frame.columns)] = values
    return frame.duplicated().to_numpy()


def late_feed(sides: Sides, window: Window) -> Symptom | None:
    """No rows any more from some time on: in the whole window, or of a segment."""
    order, former = sides.order, order_of(sides.reference)
    if order is None or former is None:
        return None
    times, before = moments(sides.current), moments(sides.reference)
    if times is None or before is None:
        return None
    end = _end(window, times)
    length = max(end - float(times.min()), 1e-9)
    gap = _gap(times, before, end, length)
    if gap is not None:
        return _late(sides, ALL, times, np.ones(len(times), dtype=bool), gap, length)
    end = float(times.max())
    gaps = [
        (silence / length, segment, silence)
        for segment in sides.segments
        if (silence := _gap(times[segment.after], before[segment.before], end, length)) is not None
        and _is_surprising(segment.after, times, silence)
    ]
    if not gaps:
        return None
    _, segment, silence = max(gaps, key=lambda item: item[0])
    return _late(sides, segment.name, times, segment.after, silence, length)


def _gap(times: Floats, before: Floats, end: float, length: float) -> float | None:
    """Seconds without rows at the end, if they are more than the reference ever had."""
    silent = end - float(times.max())
    usual = max(float(np.diff(np.unique(side)).max(initial=0.0)) for side in (before, times))
    return silent if silent > max(GAPS * usual, MIN_GAP_SHARE * length) else None


def _is_surprising(inside: Mask, times: Floats, silent: float) -> bool:
    """Judge whether a segment would have had rows in the end: else a quiet one is only quiet."""
    later_share = float((times > times.max() - silent).mean())
    rate = inside.sum() / max(float((times <= times.max() - silent).sum()), 1.0)
    return bool(rate * later_share * len(times) >= 20)


def _late(
    sides: Sides, name: str, times: Floats, inside: Mask, silent: float, length: float
) -> Symptom:
    order = sides.order
    assert order is not None  # noqa: S101 - it was looked at
    rows = order[inside[order]]
    moments = sides.current.time
    since = time_text(moments[rows[-1]]) if moments is not None else ""
    evidence = f"no rows in the last {silent / length:.0%} of the window"
    share = silent / length
    return Symptom(
        "late feed", (), Place(name, since, rows), inside, evidence, share, MIN_GAP_SHARE
    )


def moments(window: OpenWindow) -> Floats | None:
    """Return the times of the rows in seconds, or numbers; None of other times."""
    times = pd.Series(window.time)
    if pd.api.types.is_datetime64_any_dtype(times.dtype):
        return times.astype("datetime64[us]").astype("int64").to_numpy() / 1e6
    return times.to_numpy(dtype=np.float64) if pd.api.types.is_numeric_dtype(times.dtype) else None


def _end(window: Window, times: Floats) -> float:
    """Time at which the window ends; that of its last row if it does not say, or is not over."""
    if not isinstance(window.last, str):
        return float(times.max())
    try:
        last = pd.Timestamp(window.last)
    except ValueError:
        return float(times.max())
    last = last.tz_convert(None) if last.tzinfo else last
    end = last.value / 1e9
    return max(float(times.max()), end) if end <= time.time() else float(times.max())
