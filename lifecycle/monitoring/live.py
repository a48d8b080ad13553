"""Windows over the prediction log: what the endpoint answered, as scored windows.

A window of the log becomes a version of the table `live` (what the model saw) and one of
`live_predictions` (what it answered), once. From there on it is monitored by the same code as a
window that was scored. The log is read some files at a time, and of a window with more than
`MAX_ROWS` rows an even sample is kept, so that memory has a bound.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from lifecycle.features.encode import probability_columns
from lifecycle.lake.logged_predictions import FIRST, client_rows, open_log
from lifecycle.lake.prediction_log import input_fields
from lifecycle.lake.table import Noted, find_version, note_of, noted_versions, table_uri
from lifecycle.lake.write import VersionWriter, write_batches
from lifecycle.monitoring.grades import dataset_of
from lifecycle.monitoring.results import LIVE, LIVE_PREDICTIONS, MetricRow
from lifecycle.monitoring.scored import MAX_ROWS, PREDICTION_ID, sampled
from lifecycle.project import Project, duration
from lifecycle.records import ModelVersion, Scored, Window
from lifecycle.runtime.identity import sha256
from lifecycle.runtime.run import provenance
from lifecycle.settings import Settings

MAX_DUE = 48
"""Windows that one look cuts, the newest: what is older was never asked for."""
ROW_NUMBER = "row"
MICROSECONDS = 1_000_000
MINUTE, DAY = 60 * MICROSECONDS, 86_400 * MICROSECONDS
LATENCY_BINS = np.geomspace(0.001, 1_000_000, 2_001)
"""Ends of the bins that latencies are counted in, in milliseconds: each is 1 % wide."""
OPERATIONS_COLUMNS = ["id", "time", "version", "role", "status", "latency_ms", "key"]


@dataclass(frozen=True)
class Stretch:
    """Part of the log that one window is: `since <= time < until`, in microseconds since 1970."""

    since: int
    until: int
    window: Window


class LiveWindow(NamedTuple):
    """A window of the log, and where in it the window ends."""

    scored: Scored
    stretch: Stretch


def due_stretches(
    project: Project, settings: Settings, model: ModelVersion, now: float
) -> list[Stretch]:
    """Stretches of the log that are over and were not cut yet, oldest first.

    Windows of time lie on a grid that begins at midnight of 1 January 1970, UTC. Windows of rows
    begin where the last one of the model ended.

    Args:
        now: Unix seconds.

    Raises:
        BackendError: the log cannot be read, or is damaged.
    """
    spec = project.monitoring.live_window
    if spec is None:
        return []
    delay = duration(project.monitoring.live_delay)
    settled = int((now - delay.total_seconds()) * MICROSECONDS)
    newest = next(iter(live_windows(project, settings, model, 1)), None)
    cursor = newest.stretch.until if newest else 0
    if spec.minutes:
        step = spec.minutes * MINUTE
        end = settled // step
        first = max(-(-cursor // step), end - MAX_DUE)
        return [_timed(number * step, step) for number in range(first, end)]
    times = _times(project, settings, model, cursor, settled)
    ends = times[spec.rows - 1 :: spec.rows]
    stretches: list[Stretch] = []
    for end in ends.tolist():  # rows of one moment are of one request, and stay together
        if end < cursor:
            continue
        first = int(times[np.searchsorted(times, cursor)])
        window = Window(first=_moment(first), last=_moment(end))
        stretches.append(Stretch(cursor, end + 1, window))
        cursor = end + 1
    return stretches[-MAX_DUE:]


def _timed(since: int, step: int) -> Stretch:
    days = step % DAY == 0
    last = since + step - (DAY if days else MINUTE)
    ends = [_moment(at)[: 10 if days else 16] + ("" if days else "Z") for at in (since, last)]
    return Stretch(since, since + step, Window(first=ends[0], last=ends[1]))


def _moment(microseconds: int) -> str:
    seconds, fraction = divmod(microseconds, MICROSECONDS)
    time = datetime.fromtimestamp(seconds, UTC).replace(microsecond=fraction, tzinfo=None)
    return f"{time.isoformat(timespec='microseconds')}Z"


def _times(
    project: Project, settings: Settings, model: ModelVersion, since: int, until: int
) -> NDArray[np.int64]:
    """Times of what the model answered (n,), ordered."""
    parts = _answers(project, settings, model, ["time"], since, until)
    numbers = [rows["time"].cast(pa.int64()).to_numpy() for rows in parts]
    return np.sort(np.concatenate([np.empty(0, np.int64), *numbers]))


def _answers(
    project: Project,
    settings: Settings,
    model: ModelVersion,
    columns: list[str],
    since: int,
    until: int,
) -> Iterator[pa.Table]:
    """Yield what a champion answered to clients, the rows of some files at a time."""
    condition = (
        (pc.field("version") == model.version)
        & (pc.field("role") == "champion")
        & (pc.field("status") == "ok")
    )
    bounds = (since / MICROSECONDS, until / MICROSECONDS)
    for rows in open_log(settings, project.name, [*columns, "key"], condition, *bounds):
        yield client_rows(rows).select(columns)


def cut(
    project: Project, settings: Settings, model: ModelVersion, stretch: Stretch
) -> LiveWindow | None:
    """Make a stretch of the log a scored window; the same stretch is cut once. None without rows.

    Raises:
        BackendError: the log or a table cannot be read or written.
    """
    bounds = {"since": str(stretch.since), "until": str(stretch.until)}
    digest = sha256({"model": model.uri, "digest": model.digest, **bounds})
    uri = table_uri(settings, project.name, LIVE_PREDICTIONS)
    if former := find_version(uri, digest):
        return _scored_window(Noted(former, note_of(uri, former.version)), project, settings, model)
    parts = _answers(project, settings, model, ["time"], stretch.since, stretch.until)
    count = sum(len(part) for part in parts)
    if not count:
        return None
    share = MAX_ROWS / count
    columns = ["id", *_logged(project), *_numbers(project)]
    answers: list[pa.Table] = []
    with VersionWriter(_schema(project), table_uri(settings, project.name, LIVE)) as writer:
        for part in _answers(project, settings, model, columns, stretch.since, stretch.until):
            rows = _sample(part, share)
            for batch in _inputs(rows, project).to_batches():
                writer.write(batch)
            answers.append(_predictions(rows, project, model))
        dataset = writer.commit({"window": str(stretch.window)} | bounds | provenance())
    note = {
        "window": str(stretch.window),
        "model": model.uri,
        "table": f"{LIVE}@{dataset.version}",
        "rows": str(count),
    }
    table = pa.concat_tables(answers)
    table = table.add_column(0, ROW_NUMBER, pa.array(np.arange(len(table), dtype=np.int64)))
    predictions = write_batches(
        table.schema,
        iter(table.to_batches()),
        uri,
        note=note | bounds | provenance(),
        digest=digest,
    )
    return _scored_window(Noted(predictions, note | bounds), project, settings, model)


def live_windows(
    project: Project, settings: Settings, model: ModelVersion, count: int
) -> list[LiveWindow]:
    """The newest windows of the log that a model answered, oldest first.

    Raises:
        BackendError: the lake cannot be read.
    """
    windows: list[LiveWindow] = []
    for noted in noted_versions(table_uri(settings, project.name, LIVE_PREDICTIONS)):
        if len(windows) == count:
            break
        if noted.note.get("model") == model.uri and (
            window := _scored_window(noted, project, settings, model)
        ):
            windows.append(window)
    return sorted(windows, key=lambda window: window.stretch.since)


def _scored_window(
    noted: Noted, project: Project, settings: Settings, model: ModelVersion
) -> LiveWindow | None:
    """The window that a version of `live_predictions` is; None if its rows are gone."""
    note = noted.note
    dataset = dataset_of(project, settings, note["table"])
    if dataset is None:
        return None
    window = Window.model_construct(first=note["window"], last=note["window"])
    return LiveWindow(
        Scored(
            dataset=dataset,
            predictions=noted.version,
            model=model,
            window=window,
            engine="process",
        ),
        Stretch(int(note["since"]), int(note["until"]), window),
    )


def _logged(project: Project) -> dict[str, str]:
    """Column of the log → column of a window."""
    columns = project.columns
    fields = input_fields({name: columns[name] for name in project.input_columns})
    logged = {field.name: name for name, field in fields.items()}
    if project.entity and project.entity not in logged.values():
        logged["entity"] = project.entity
    return logged


def _schema(project: Project) -> pa.Schema:
    columns = project.columns
    fields = input_fields({name: columns[name] for name in project.input_columns})
    types = {field.name: field.type for field in fields.values()} | {"entity": pa.string()}
    return pa.schema(
        [
            pa.field(PREDICTION_ID, pa.string(), nullable=False),
            *(pa.field(name, types[logged]) for logged, name in _logged(project).items()),
        ]
    )


def _numbers(project: Project) -> list[str]:
    return ["probabilities"] if project.classes else ["prediction"]


def _inputs(rows: pa.Table, project: Project) -> pa.Table:
    schema = _schema(project)
    columns = [rows[name] for name in ("id", *_logged(project))]
    return pa.table(
        [column.cast(field.type) for column, field in zip(columns, schema, strict=True)],
        schema=schema,
    )


def _predictions(rows: pa.Table, project: Project, model: ModelVersion) -> pa.Table:
    """Answers, as the table `predictions` has them, without row numbers."""
    if project.classes:
        names = probability_columns(project.classes)
        flat = rows["probabilities"].combine_chunks().flatten().to_numpy(zero_copy_only=False)
        answers = dict(zip(names, flat.reshape(len(rows), len(names)).T, strict=True))
    else:
        answers = {"prediction": rows["prediction"].to_numpy()}
    values = {name: pa.array(column) for name, column in answers.items()}
    if project.entity:  # by which an erasure finds rows here, as it does in the window itself
        logged = {name: column for column, name in _logged(project).items()}
        values[project.entity] = rows[logged[project.entity]].combine_chunks()
    values["model_version"] = pa.array(np.full(len(rows), model.version, dtype=np.int64))
    return pa.table(values, schema=pa.schema([(n, v.type) for n, v in values.items()]))


def _sample(rows: pa.Table, share: float) -> pa.Table:
    """An even share of rows, the same of the same rows: chosen by their ids."""
    if share >= 1 or not len(rows):
        return rows
    return rows.filter(pa.array(sampled(rows["id"], share)))


# Operations of the endpoint beside it, and how far a window's labels have come.


def operations(project: Project, settings: Settings, stretch: Stretch) -> list[MetricRow]:
    """Volume, errors, fallbacks and latency of all requests of clients in a stretch of the log.

    A fallback is a request that the champion answered because the candidate failed.

    Raises:
        BackendError: the log cannot be read, or is damaged.
    """
    counts = dict.fromkeys(("requests", "rows", "errors", "fallbacks"), 0)
    latencies = np.zeros(len(LATENCY_BINS) + 1, dtype=np.int64)
    bounds = (stretch.since / MICROSECONDS, stretch.until / MICROSECONDS)
    for part in open_log(settings, project.name, OPERATIONS_COLUMNS, None, *bounds):
        rows = client_rows(part)
        rows = rows.filter(pc.not_equal(rows["role"], "shadow"))
        failed = pc.not_equal(rows["status"], "ok")
        fell_back = pc.and_(failed, pc.equal(rows["role"], "candidate"))
        first = pc.ends_with(rows["id"], FIRST)
        own = rows.filter(pc.and_(first, pc.invert(fell_back)))
        counts["requests"] += len(own)
        counts["rows"] += pc.sum(pc.invert(fell_back)).as_py() or 0
        counts["errors"] += pc.sum(pc.not_equal(own["status"], "ok")).as_py() or 0
        counts["fallbacks"] += pc.sum(pc.and_(first, fell_back)).as_py() or 0
        bins = np.searchsorted(LATENCY_BINS, own["latency_ms"].to_numpy())
        latencies += np.bincount(bins, minlength=len(latencies))
    requests = counts["requests"]
    values: dict[str, float | None] = {
        "requests": requests,
        "rows": counts["rows"],
        "error_share": counts["errors"] / requests if requests else None,
        "fallback_share": counts["fallbacks"] / requests if requests else None,
        "latency_p50_ms": _quantile(latencies, 0.5),
        "latency_p99_ms": _quantile(latencies, 0.99),
    }
    return [
        MetricRow(comparison="none", column="endpoint", metric=name, value=value, rows=requests)
        for name, value in values.items()
    ]


def label_rows(truth: NDArray[np.float64], target: str) -> list[MetricRow]:
    """Count the labels of a window, and take their mean: by these a change of them is seen.

    Args:
        truth: (rows,): NaN where no label has arrived.
    """
    labels = truth[~np.isnan(truth)]
    values = {
        "labels": float(len(labels)),
        "label_mean": float(labels.mean()) if len(labels) else None,
    }
    return [
        MetricRow(comparison="none", column=target, metric=name, value=value, rows=len(truth))
        for name, value in values.items()
    ]


def _quantile(counts: NDArray[np.int64], share: float) -> float | None:
    """The end of the bin that a quantile lies in; None of nothing."""
    total = counts.sum()
    if not total:
        return None
    at = int(np.searchsorted(counts.cumsum(), share * total))
    return float(LATENCY_BINS[min(at, len(LATENCY_BINS) - 1)])
