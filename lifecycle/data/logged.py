"""Reading the prediction log: rows as a frame, and what each version did in a stretch of time."""

import math
from collections.abc import Sequence
from datetime import UTC, datetime

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from deltalake import DeltaTable
from deltalake.exceptions import DeltaError, TableNotFoundError

from lifecycle.data.arrow import to_frame
from lifecycle.data.lake import first_line, is_nullable, table_uri
from lifecycle.data.prediction_log import INTERNAL_KEY, SCHEMA, TABLE
from lifecycle.errors import BackendError, DataError
from lifecycle.project import Project
from lifecycle.records import Observed
from lifecycle.settings import Settings

SHOWN = 10_000
"""Predictions that `observe` hands over of each version, at most."""
KEY = "key"
FIRST = "-0"
"""What the id of a request's first row ends with: one a request."""
OBSERVED = ["id", "time", "version", "role", "status", "latency_ms", "prediction", "predicted"]


def read_log(
    settings: Settings,
    project_name: str,
    since: float,
    until: float | None = None,
    columns: Sequence[str] | None = None,
    version: int | None = None,
) -> pd.DataFrame:
    """Logged rows of `since <= time < until` (Unix seconds), ordered by time and id.

    Inputs are `input_<name>`; whole numbers are pandas' `Int64`, times of the contract as in a
    dataset version. A log that is not there yet has no rows. Rows of the smoke test are left out.

    Args:
        columns: which ones; by default all.
        version: of this model version only.

    Raises:
        BackendError: the log cannot be read.
        DataError: the log has no such column.
    """
    wanted = None if columns is None else list(dict.fromkeys([*columns, "id", "time"]))
    table = _read(settings, project_name, since, until, wanted, version)
    ordered = table.sort_by([("time", "ascending"), ("id", "ascending")])
    return to_frame(ordered.select(columns) if columns is not None else ordered, is_nullable)


def observe(
    settings: Settings, project: Project, since: float, until: float | None = None
) -> dict[tuple[int, str], Observed]:
    """(version, role) → what it did in `since <= time < until`, Unix seconds.

    Raises:
        BackendError: the log cannot be read.
    """
    table = _read(settings, project.name, since, until, OBSERVED, None)
    first = pc.ends_with(table["id"], FIRST)
    found = {}
    for pair in table.group_by(["version", "role"]).aggregate([]).to_pylist():
        mine = pc.and_(
            pc.equal(table["version"], pair["version"]), pc.equal(table["role"], pair["role"])
        )
        requests = table.filter(pc.and_(mine, first))
        found[pair["version"], pair["role"]] = _observed(
            pair["version"], requests, table.filter(mine), project
        )
    return found


def _observed(version: int, requests: pa.Table, rows: pa.Table, project: Project) -> Observed:
    """Of rows ordered by time an even choice is handed over: the same rows give the same choice."""
    seconds = requests["latency_ms"].to_numpy() / 1000
    p50, p99 = np.percentile(seconds, (50, 99)).tolist() if len(seconds) else (0.0, 0.0)
    answers = rows.filter(pc.equal(rows["status"], "ok")).sort_by(
        [("time", "ascending"), ("id", "ascending")]
    )
    step = max(1, math.ceil(answers.num_rows / SHOWN))
    answers = answers.take(np.arange(0, answers.num_rows, step))
    if project.classes:
        by_text = {str(value): value for value in project.classes}
        said = [by_text.get(text, text) for text in answers["predicted"].to_pylist()]
    else:
        said = answers["prediction"].to_pylist()
    return Observed(
        version=version,
        requests=requests.num_rows,
        errors=pc.sum(pc.not_equal(requests["status"], "ok")).as_py() or 0,
        p50_seconds=p50,
        p99_seconds=p99,
        predictions=tuple(said),
        ids=tuple(answers["id"].to_pylist()),
    )


def _read(
    settings: Settings,
    project_name: str,
    since: float,
    until: float | None,
    columns: list[str] | None,
    version: int | None,
) -> pa.Table:
    """Only files whose day and times can hold such rows are opened."""
    uri = table_uri(settings, project_name, TABLE)
    try:
        data = DeltaTable(uri).to_pyarrow_dataset()
    except TableNotFoundError:
        return SCHEMA.empty_table().select(columns or SCHEMA.names)
    except (DeltaError, OSError) as error:
        raise BackendError(f"{uri}: cannot read: {first_line(error)}") from None
    if unknown := [name for name in columns or () if name not in data.schema.names]:
        raise DataError(
            f"{uri} has no column {', '.join(unknown)}; it has {', '.join(data.schema.names)}"
        )
    asked = _from(since)
    if until is not None:
        asked &= _before(until)
    if version is not None:
        asked &= pc.field("version") == version
    wanted = None if columns is None else list(dict.fromkeys([*columns, KEY]))
    try:
        table = data.to_table(columns=wanted, filter=asked)
    except (pa.ArrowException, OSError) as error:
        raise BackendError(f"{uri}: cannot read: {first_line(error)}") from None
    # not in the filter above: Delta's log has no statistics of keys
    ours = pc.starts_with(table[KEY].fill_null(""), INTERNAL_KEY)
    table = table.filter(pc.invert(ours))
    return table if columns is None else table.select(columns)


def _from(seconds: float) -> pc.Expression:
    time = _time(seconds)
    return (pc.field("date") >= pa.scalar(time.date())) & (pc.field("time") >= _scalar(time))


def _before(seconds: float) -> pc.Expression:
    time = _time(seconds)
    return (pc.field("date") <= pa.scalar(time.date())) & (pc.field("time") < _scalar(time))


def _time(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)


def _scalar(time: datetime) -> pa.Scalar:
    return pa.scalar(time, pa.timestamp("us", "UTC"))
