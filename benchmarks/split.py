"""The split of 1,000,000 rows in memory beside the same work in plain pandas and NumPy.

Both start from a frame in memory and end with three frames: whole entities by chance, or whole
days with the newest last.
"""

import time
from collections.abc import Callable, Iterator

import numpy as np
import pandas as pd

from benchmarks import large
from benchmarks.result import Result, ratio
from lifecycle.data.split import split
from lifecycle.project import SplitSpec, TimeSpec

ENTITIES, DAYS = 300_000, 730
HOLDOUT, VALIDATION = large.SHARES
SPEC = SplitSpec(holdout=HOLDOUT, validation=VALIDATION)

Frames = tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]


def ours_by_entity(frame: pd.DataFrame) -> Frames:
    parts = split(frame, SPEC, "who")
    return frame[parts.train], frame[parts.validation], frame[parts.holdout]


def bare_by_entity(frame: pd.DataFrame) -> Frames:
    entities = np.random.default_rng(17).permutation(frame["who"].unique())
    holdout_count = round(HOLDOUT * len(entities))
    holdout = frame["who"].isin(entities[:holdout_count])
    validation = frame["who"].isin(
        entities[holdout_count : holdout_count + round(VALIDATION * len(entities))]
    )
    return frame[~holdout & ~validation], frame[validation], frame[holdout]


def ours_by_time(frame: pd.DataFrame) -> Frames:
    parts = split(frame, SPEC, time=TimeSpec(column="moment", period="day"))
    return frame[parts.train], frame[parts.validation], frame[parts.holdout]


def bare_by_time(frame: pd.DataFrame) -> Frames:
    days = frame["moment"].dt.normalize()
    share = days.value_counts(normalize=True).sort_index(ascending=False).cumsum()
    held_from = share.index[share >= HOLDOUT][0]
    checked_from = share.index[share >= HOLDOUT + VALIDATION][0]
    holdout = days >= held_from
    validation = ~holdout & (days >= checked_from)
    return frame[~holdout & ~validation], frame[validation], frame[holdout]


def measure(rounds: int) -> Iterator[Result]:
    """Interleaved rounds of ours and the twin."""
    frame = large.frame()
    rng = np.random.default_rng(17)
    minutes = np.sort(rng.integers(0, DAYS * 1_440, len(frame)))
    frame["who"] = rng.integers(0, ENTITIES, len(frame))
    frame["moment"] = pd.Timestamp("2024-01-01") + pd.to_timedelta(minutes, unit="min")
    detail = f"s; {len(frame):,} rows into three frames"
    for name, own_part, twin in (
        ("split by entity", ours_by_entity, bare_by_entity),
        ("split by time", ours_by_time, bare_by_time),
    ):
        _same_sizes(own_part(frame), twin(frame))  # and both are warm from here on
        pairs = [(_seconds(own_part, frame), _seconds(twin, frame)) for _ in range(rounds)]
        own, bare = zip(*pairs, strict=True)
        yield ratio(name, own, bare, 1.2, detail)


def _seconds(divide: Callable[[pd.DataFrame], Frames], frame: pd.DataFrame) -> float:
    started = time.perf_counter()
    divide(frame)
    return time.perf_counter() - started


def _same_sizes(own: Frames, bare: Frames) -> None:
    """See that both did the same work: shares by a hash and by a permutation differ a little."""
    rows = sum(map(len, bare))
    if sum(map(len, own)) != rows:
        raise RuntimeError("the two splits do not hold the same rows")
    for own_part, bare_part in zip(own, bare, strict=True):
        if abs(len(own_part) - len(bare_part)) > 0.01 * rows:
            raise RuntimeError(
                f"parts of {len(own_part):,} and {len(bare_part):,} rows: not the same"
            )
