"""Windows of time: what the first training sees, and the periods that arrive later.

A window's ends are whole numbers for an integer time column, and ISO 8601 text for a datetime
column, where an end without a time of day means the whole day.
"""

from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray

from lifecycle.data.contract import latest_time, stage_terms
from lifecycle.data.sources import Source
from lifecycle.errors import ProjectError
from lifecycle.lake.column_types import coerce, to_frame
from lifecycle.project import Project, TimeSpec, TimeValue
from lifecycle.records import Window

CALENDAR = {"day": "D", "week": "W", "month": "M"}


def first_window(project: Project) -> Window:
    """Return the window of the first training: rows before `time.arrives_from`, or all rows.

    Raises:
        ProjectError: `arrives_from` does not fit the time column's type.
    """
    if project.time is None or project.time.arrives_from is None:
        return Window()
    start = project.time.arrives_from
    if _is_integer(project):
        return Window(last=_integer(start) - 1)
    first = _moment(start)
    last = first - pd.Timedelta(microseconds=1)
    return Window(last=_text(last.normalize() if first == first.normalize() else last))


def periods(project: Project, frame: pd.DataFrame) -> list[Window]:
    """The arriving periods a raw frame holds rows of, oldest first; none without `arrives_from`.

    The newest reads the rows, too, that lie in no period.

    Raises:
        ProjectError: `arrives_from` does not fit the time column's type.
    """
    if project.time is None or project.time.arrives_from is None:
        return []
    return _windows(_arrived(_times(frame, project), project), project)


def select(frame: pd.DataFrame, project: Project, window: Window) -> pd.DataFrame:
    """The rows of a window, with their index in the source.

    A row whose time is missing, no time or in the future lies in no window. Those with an open
    start, and the newest period that arrived, read it nevertheless, and the contract puts it into
    quarantine: no row of the source is lost.
    """
    if project.time is None or (window.first is None and window.last is None):
        return frame
    times = _times(frame, project)
    unplaced = _unplaced(times, project)
    inside = ~unplaced
    if window.first is not None:
        first = _integer(window.first) if _is_integer(project) else _moment(window.first)
        inside &= (times >= first).fillna(False).astype(bool)
    if window.last is not None:
        last = _integer(window.last) if _is_integer(project) else _moment(window.last, end=True)
        inside &= (times <= last).fillna(False).astype(bool)
    if window.first is None or window.unplaced:
        inside |= unplaced
    return frame if inside.all() else frame[inside]


def unplaced_rows(batch: pa.RecordBatch, project: Project) -> int:
    """Number of rows of a raw batch that lie in no window."""
    if project.time is None:
        return 0
    times = _times(_frame(batch, project.time.column), project)
    return int(_unplaced(times, project).sum())


def inside(batch: pa.RecordBatch, project: Project, window: Window) -> NDArray[np.bool_] | None:
    """Return a mask of the rows of a raw batch in a window (rows,); None if all are in it."""
    if project.time is None or (window.first is None and window.last is None):
        return None
    frame = _frame(batch, project.time.column)
    rows = select(frame, project, window)
    if len(rows) == len(frame):
        return None
    mask = np.zeros(len(frame), dtype=bool)
    mask[rows.index.to_numpy()] = True
    return mask


def arriving(project: Project, source: Source) -> list[Window]:
    """Find the periods of a source, as `periods` does. Batches are read one at a time, and where
    that can be, no column but the time.

    Raises:
        ContractError: the source has no such column.
        SourceError: it cannot be read.
    """
    if project.time is None or project.time.arrives_from is None:
        return []
    name, terms = project.time.column, stage_terms(project, "current")
    times: set[Any] = set()
    read = 0
    for batch in source.batches(terms.contract.columns, subset=(name,)):
        if name not in batch.schema.names:
            batch = terms.complete(batch, source.at(read + 1).place)
        read += batch.num_rows
        times.update(_arrived(_times(_frame(batch, name), project), project).tolist())
    kind = np.dtype("int64" if _is_integer(project) else "datetime64[us]")
    return _windows(pd.Series(sorted(times), dtype=kind), project)


def period_of(times: "pd.Series[Any]", spec: TimeSpec) -> "pd.Series[Any]":
    """The period each time lies in: its value, or a calendar period that sorts by time."""
    return times if spec.period == "value" else times.dt.to_period(CALENDAR[spec.period])


def _arrived(times: "pd.Series[Any]", project: Project) -> "pd.Series[Any]":
    """The distinct times that can be a row's, from `arrives_from` on; of calendar periods the days.

    Raises:
        ProjectError: `arrives_from` does not fit the time column's type.
    """
    assert project.time  # noqa: S101 - every caller has looked
    assert project.time.arrives_from is not None  # noqa: S101 - every caller has looked
    start = project.time.arrives_from
    first = _integer(start) if _is_integer(project) else _moment(start)
    arrived = times[~_unplaced(times, project)]
    arrived = arrived[arrived >= first]
    if project.time.period != "value" and not _is_integer(project):
        arrived = arrived.dt.normalize()
    return arrived.drop_duplicates()


def _windows(times: "pd.Series[Any]", project: Project) -> list[Window]:
    """A window per period that distinct times lie in, oldest first; the newest has the unplaced."""
    assert project.time  # noqa: S101 - every caller has looked
    assert project.time.arrives_from is not None  # noqa: S101 - every caller has looked
    if times.empty:
        return []
    if _is_integer(project):
        windows = [Window(first=int(v), last=int(v)) for v in sorted(times)]
    elif project.time.period == "value":
        windows = [Window(first=_text(v), last=_text(v)) for v in sorted(times)]
    else:
        start = _moment(project.time.arrives_from)
        windows = [
            Window(
                first=_text(max(period.start_time, start)),
                last=_text(period.end_time.normalize()),
            )
            for period in sorted(period_of(times, project.time).unique())
        ]
    return [*windows[:-1], windows[-1].model_copy(update={"unplaced": True})]


def _unplaced(times: "pd.Series[Any]", project: Project) -> "pd.Series[bool]":
    """Return a mask of the times that are missing or too late (rows,)."""
    missing = times.isna()
    latest = latest_time(project)
    return missing if latest is None else missing | (times > latest)


def _times(frame: pd.DataFrame, project: Project) -> "pd.Series[Any]":
    assert project.time  # noqa: S101 - every caller has looked
    name = project.time.column
    return coerce(frame[name], project.contract.columns[name].type).values


def _frame(batch: pa.RecordBatch, name: str) -> pd.DataFrame:
    table = pa.table({name: batch.column(name)})
    return to_frame(table, lambda _, column: column.null_count > 0)


def _is_integer(project: Project) -> bool:
    assert project.time  # noqa: S101 - every caller has looked
    return project.contract.columns[project.time.column].type == "integer"


def _integer(value: TimeValue) -> int:
    try:
        return int(str(value))
    except ValueError:
        raise ProjectError(
            f"time: {value!r} is not a whole number, but the time column's values are"
        ) from None


def _moment(value: TimeValue, end: bool = False) -> pd.Timestamp:
    """A time from an end of a window; with `end`, the last microsecond of a whole day."""
    text = str(value)
    try:
        moment = pd.Timestamp(text)
    except ValueError:
        raise ProjectError(f"time: {text!r} is not an ISO 8601 date or time") from None
    if moment.tzinfo is not None:
        moment = moment.tz_convert("UTC").tz_localize(None)
    whole_day = len(text) <= len("2012-01-31")
    return moment + pd.Timedelta(days=1, microseconds=-1) if end and whole_day else moment


def _text(moment: pd.Timestamp) -> str:
    return str(moment.date()) if moment == moment.normalize() else moment.isoformat()
