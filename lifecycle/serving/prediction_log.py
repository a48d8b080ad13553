"""Prediction log of a replica: gathers answers and commits them without making requests wait."""

import logging
import subprocess
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import chain
from time import time_ns
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from lifecycle.data.privacy import pii_key, plain_text, pseudonym
from lifecycle.lake.column_types import coerce, narrow
from lifecycle.lake.prediction_log import (
    ARROW,
    SCHEMA,
    SWEEP_EVERY,
    TABLE,
    TIDY_EVERY,
    LogTable,
    input_fields,
    start_tidying,
)
from lifecycle.lake.table import table_uri
from lifecycle.project import ColumnSpec, Project
from lifecycle.serving.metrics import ANSWERED_METRIC, DROPPED, LOGGED, Meters
from lifecycle.serving.protocols import plain
from lifecycle.serving.records import Column, PredictionRequest
from lifecycle.serving.traffic import RoutedAnswer
from lifecycle.settings import Settings

logger = logging.getLogger(__name__)

# Parsing of the records of many requests at once, from their original JSON.
#
# Arrow reads them beside the interpreter: requests are answered meanwhile, and none of the objects
# they were made of has to be kept for the log.

ROW_BYTES = 4096
"""A body that has more of them a row is not kept as it came: it may be mostly blanks."""


def light(request: PredictionRequest) -> PredictionRequest:
    """Reduce a request to what the log needs, so that the queue takes little memory."""
    if not request.body:
        return request
    if len(request.body) > request.rows * ROW_BYTES:
        return request._replace(body=b"")
    return PredictionRequest(request.rows, body=request.body)


def read_bodies(
    requests: Sequence[PredictionRequest], inputs: Mapping[str, ColumnSpec]
) -> dict[str, pa.Array] | None:
    """The columns of requests that have kept their bodies; None if JSON and contract disagree.

    A moment in time is text still. What is not there is null.
    """
    from pyarrow import json  # the first second of the log, not the replica's start

    rows = pa.struct([(name, _type(spec)) for name, spec in inputs.items()])
    lines = pa.py_buffer(b"\n".join(request.body.replace(b"\n", b" ") for request in requests))
    try:
        table = json.read_json(
            pa.BufferReader(lines),
            read_options=json.ReadOptions(use_threads=False, block_size=lines.size + 1),
            parse_options=json.ParseOptions(
                explicit_schema=pa.schema([("records", pa.list_(rows))]),
                unexpected_field_behavior="ignore",
            ),
        )
    except pa.ArrowException:
        return None
    records = pa.concat_arrays(table.column("records").chunks).flatten()
    if len(records) != sum(request.rows for request in requests):
        return None
    return dict(zip(inputs, records.flatten(), strict=True))


def _type(spec: ColumnSpec) -> pa.DataType:
    kind = spec.value_type
    return pa.string() if kind == "datetime" else ARROW[kind]


# Answers as rows of the prediction log: many requests at once, column by column.


class Entry(NamedTuple):
    """One request and what one version said; `add` makes a plain tuple, in half the time."""

    id: str
    nanoseconds: int
    """Unix time."""
    version: int
    outcome: RoutedAnswer
    key: str
    """Name of the API key."""
    entities: Column | None
    """(rows,): whom each row is about, where the request says it."""
    request: PredictionRequest


_Read = Callable[
    [Sequence[PredictionRequest], Mapping[str, ColumnSpec]], Mapping[str, Column | pa.Array]
]
"""Requests of one sort → the values of each input."""


class LogRows:
    """Makes rows of the log for one project.

    Args:
        key: of the hashes of personal data.
    """

    def __init__(self, project: Project, key: bytes) -> None:
        columns = project.columns
        inputs = {name: columns[name] for name in project.input_columns}
        self._inputs = [(name, inputs[name], field) for name, field in input_fields(inputs).items()]
        self._about = columns[project.entity].pii if project.entity else "drop"
        self._model, self._classes = project.name, bool(project.classes)
        self._key = key
        self.schema = pa.schema([*SCHEMA, *(field for _, _, field in self._inputs)])

    def table(self, entries: Sequence[Entry]) -> pa.Table:
        """One row a predicted row, in no order.

        Between columns the interpreter is let go, so that a request never waits for all of this.
        """
        sorts: dict[_Read, list[Entry]] = {}
        for entry in entries:
            sorts.setdefault(_reader(entry.request), []).append(entry)
        inputs = {name: spec for name, spec, _ in self._inputs}
        parts = []
        for read, batch in sorts.items():
            columns = self._own(batch) | self._inputs_of(
                read([entry.request for entry in batch], inputs)
            )
            parts.append(pa.table(columns, schema=self.schema))
        return pa.concat_tables(parts) if parts else self.schema.empty_table()

    def _own(self, entries: Sequence[Entry]) -> dict[str, pa.Array]:
        """The columns every project has."""
        ids, times, versions, outcomes, keys, entities, requests = zip(*entries, strict=True)
        rows = np.fromiter(
            (request.rows for request in requests), dtype=np.int64, count=len(requests)
        )
        stamps = pa.array(_repeat(np.array(times) // 1000, rows)).cast(SCHEMA.field("time").type)
        answers = [outcome.answer for outcome in outcomes]
        time.sleep(0)
        return {
            "id": [
                f"{name}-{i}" for name, n in zip(ids, rows.tolist(), strict=True) for i in range(n)
            ],
            "time": stamps,
            "date": stamps.cast(pa.date32()),
            "model": pa.repeat(self._model, len(stamps)),
            "version": _repeat(np.array(versions), rows),
            "digest": _repeat([a.model.digest if a else None for a in answers], rows),
            "role": _repeat([outcome.role for outcome in outcomes], rows),
            "status": _repeat(["ok" if answer else "error" for answer in answers], rows),
            "latency_ms": _repeat(np.array([outcome.seconds for outcome in outcomes]) * 1000, rows),
            "key": _repeat(keys, rows),
            "entity": self._entity(entities, rows),
            **self._answers(answers, rows),
        }

    def _entity(self, entities: Sequence[Column | None], rows: NDArray[np.int64]) -> pa.Array:
        if self._about == "drop":
            return pa.nulls(int(rows.sum()), pa.string())
        pairs = zip(entities, rows.tolist(), strict=True)
        values = list(chain.from_iterable([None] * n if e is None else e for e, n in pairs))
        if self._about == "hash":
            return pa.array(pseudonym(values, self._key), pa.string())
        return pa.array([plain_text(value) for value in values], pa.string())

    def _answers(self, answers: Sequence[Any], rows: NDArray[np.int64]) -> dict[str, pa.Array]:
        """`prediction` and, for classes, the chosen one and the probability of each."""
        decided = any(a is not None and a.labels for a in answers)
        nulls = pa.nulls(int(rows.sum()))
        wide = (
            max((a.predictions.shape[1] for a in answers if a), default=1) if self._classes else 0
        )
        numbers = np.concatenate(
            [
                a.predictions if a else np.full((n, wide) if wide else n, np.nan)
                for a, n in zip(answers, rows.tolist(), strict=True)
            ]
        )
        if not self._classes:
            values = pa.array(numbers, from_pandas=True)
            predicted = self._predicted(answers, rows) if decided else nulls
            return {"prediction": values, "predicted": predicted, "probabilities": nulls}
        failed = np.isnan(numbers[:, 0])
        each = pa.FixedSizeListArray.from_arrays(pa.array(numbers.ravel()), wide)
        lists = each.cast(pa.list_(pa.float64()))
        none = pa.scalar(None, lists.type)
        return {
            "prediction": pa.array(numbers.max(axis=1), from_pandas=True),
            "predicted": self._predicted(answers, rows),
            "probabilities": pc.if_else(pa.array(failed), none, lists),
        }

    @staticmethod
    def _predicted(answers: Sequence[Any], rows: NDArray[np.int64]) -> list[str | None]:
        """The class of each row as text; None where there is none."""
        chosen = [
            map(str, a.chosen) if a and len(a.chosen) else [None] * n
            for a, n in zip(answers, rows.tolist(), strict=True)
        ]
        return list(chain.from_iterable(chosen))

    def _inputs_of(self, columns: Mapping[str, Column | pa.Array]) -> dict[str, pa.Array]:
        """The inputs, typed as the contract says; personal data as their hash."""
        arrays = {}
        for name, spec, field in self._inputs:
            values = _typed(columns[name], spec)
            if spec.pii == "hash":
                values = pa.array(pseudonym(values.to_pylist(), self._key), pa.string())
            arrays[field.name] = values
        return arrays


def _reader(request: PredictionRequest) -> "_Read":
    if request.records is not None:
        return _from_records
    return _from_bodies if request.body else _from_columns


def _from_bodies(
    requests: Sequence[PredictionRequest], inputs: Mapping[str, ColumnSpec]
) -> Mapping[str, Column | pa.Array]:
    columns = read_bodies(requests, inputs)
    if columns is not None:
        return columns
    return _from_records(
        [plain.read(request.body, request.rows, fields=()) for request in requests], inputs
    )


def _from_records(requests: Sequence[PredictionRequest], names: Iterable[str]) -> dict[str, Column]:
    records = list(chain.from_iterable(request.records or () for request in requests))
    return {name: [record.get(name) for record in records] for name in names}


def _from_columns(requests: Sequence[PredictionRequest], names: Iterable[str]) -> dict[str, Column]:
    return {
        name: _joined([request.columns or {} for request in requests], requests, name)
        for name in names
    }


def _joined(
    several: Sequence[Mapping[str, Column]], requests: Sequence[PredictionRequest], name: str
) -> Column:
    parts = [
        columns.get(name, [None] * request.rows)
        for columns, request in zip(several, requests, strict=True)
    ]
    if isinstance(parts[0], np.ndarray):
        joined: NDArray[Any] = np.concatenate(parts)
        if joined.dtype.kind in "fiub":
            return joined
    return list(chain.from_iterable(p.tolist() if isinstance(p, np.ndarray) else p for p in parts))


def _typed(values: Column | pa.Array, spec: ColumnSpec) -> pa.Array:
    kind = spec.value_type
    if isinstance(values, pa.Array):
        if values.type == ARROW[kind]:
            return values
        values = values.to_pylist()
    time.sleep(0)
    try:
        return pa.array(values, ARROW[kind], from_pandas=True)
    except (pa.ArrowException, TypeError, ValueError, OverflowError):
        series = pd.Series(list(values), dtype=object)
        return pa.array(_read_as(series, spec), ARROW[kind], from_pandas=True)


def _read_as(series: pd.Series, spec: ColumnSpec) -> pd.Series:
    """Values as the contract would read them; those it would refuse are missing."""
    nullable = spec.model_copy(update={"nullable": True})
    return narrow(coerce(series, spec.value_type).values, nullable)


def _repeat(values: Sequence[Any] | NDArray[Any], rows: NDArray[np.int64]) -> Any:
    """A value a request as a value a row."""
    if len(rows) == rows.sum():
        return values
    if isinstance(values, np.ndarray):
        return np.repeat(values, rows)
    return pa.array(values, pa.string()).take(pa.array(np.repeat(np.arange(len(rows)), rows)))


Raw = tuple[str, int, int, RoutedAnswer, str, Column | None, PredictionRequest]
"""An `Entry` as a plain tuple."""

MAX_ROWS = 50_000
"""Rows that wait to be written, at most; beyond them new ones are dropped and counted."""
MAX_BYTES = 64 * 2**20
"""Their memory as Arrow, at most."""
STEP_SECONDS = 0.25
"""How often what has gathered becomes Arrow: little at a time, for the sake of requests."""
FLUSH_STEPS = 4
"""Steps between two appends: one second."""
SWEEP_STEPS = 20
"""Steps between two looks for replicas that are gone."""
WARN_SECONDS = 60.0
CLOSE_SECONDS = 10.0
"""How long `close` waits for the last append."""


class PredictionLog:
    """The log of one replica; `add` belongs to one thread, the event loop's.

    Raises:
        SettingsError: the key of personal data cannot be read or made.
    """

    def __init__(self, settings: Settings, project: Project, meters: Meters) -> None:
        self._meters = meters
        self._writer = meters.counts.token
        self._cells = meters.counts.cells
        self._answer_count = meters.counts.cell(ANSWERED_METRIC)
        self._written = meters.counts.cell(LOGGED)
        self._full = meters.counts.cell(DROPPED, reason="full")
        self._memory = meters.counts.cell(DROPPED, reason="memory")
        self._unreadable = meters.counts.cell(DROPPED, reason="unreadable")
        self._rows = LogRows(project, pii_key(settings))
        self._table = LogTable(table_uri(settings, project.name, TABLE))
        self._entries: deque[Raw] = deque()
        self._append = self._entries.append
        self._queued_rows = 0
        """Rows ever accepted; `add` alone writes it."""
        self._is_gone = 0
        """Rows logged or given up since; the thread alone writes it."""
        self._waiting: list[pa.Table] = []
        self._unsure = False
        """Whether the last append failed, so that it may have come through all the same."""
        self._warned = -WARN_SECONDS
        self._tidying: subprocess.Popen[bytes] | None = None
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="prediction-log", daemon=True)
        self._thread.start()

    def add(
        self,
        name: str,
        version: int,
        outcome: RoutedAnswer,
        key: str,
        entities: Column | None,
        request: PredictionRequest,
    ) -> None:
        """Queue an answer for the log, where it is within about a second. Never waits or raises.

        Args:
            name: the prediction id; row i is `<name>-<i>`.
            key: name of the API key that asked.
            entities: (rows,), where the request says them.
        """
        rows = request.rows
        self._cells[self._answer_count] += rows
        if self._queued_rows - self._is_gone + rows > MAX_ROWS:
            self._cells[self._full] += rows
            return
        self._queued_rows += rows
        self._append((name, time_ns(), version, outcome, key, entities, light(request)))

    def close(self) -> None:
        """Append the queued rows and stop. Waits only briefly for a lake that does not answer."""
        self._stop.set()
        self._thread.join(CLOSE_SECONDS)

    def _run(self) -> None:
        step = 0
        while not self._stop.wait(STEP_SECONDS):
            self._gather()
            if step % SWEEP_STEPS == 0:
                self._sweep()
            step += 1
            if step % FLUSH_STEPS == 0:
                self._flush()
        self._gather()
        self._flush()

    def _gather(self) -> None:
        """Make Arrow of what has come, where little memory holds many rows."""
        entries = [Entry(*self._entries.popleft()) for _ in range(len(self._entries))]
        if not entries:
            return
        try:
            table = self._rows.table(entries)
        except Exception:  # one odd request must not cost the others
            table = self._one_by_one(entries)
        waiting_bytes = sum(table.nbytes for table in self._waiting)
        if waiting_bytes + table.nbytes > MAX_BYTES:
            self._give_up(table.num_rows, self._memory)
        elif table.num_rows:
            self._waiting.append(table)

    def _one_by_one(self, entries: list[Entry]) -> pa.Table:
        tables = [self._rows.schema.empty_table()]
        for entry in entries:
            try:
                tables.append(self._rows.table([entry]))
            except Exception:
                logger.exception("prediction %s cannot be logged", entry.id)
                self._give_up(entry.request.rows, self._unreadable)
        return pa.concat_tables(tables)

    def _give_up(self, rows: int, reason: int) -> None:
        self._cells[reason] += rows
        self._is_gone += rows

    def _flush(self) -> None:
        """Append all that waits in one commit; if that fails it goes on waiting."""
        if not self._waiting:
            return
        rows = pa.concat_tables(self._waiting)
        total = int(self._cells[self._written])
        try:
            if self._unsure:
                committed = max(total, self._table.committed(self._writer))
                rows, total = rows.slice(committed - total), self._set_written(committed)
            if rows.num_rows:
                commit = self._table.append(rows, self._writer, total + rows.num_rows)
                self._set_written(total + rows.num_rows)
                self._tidy(commit)
            self._waiting, self._unsure = [], False
        except Exception as error:  # whatever a lake can do: answering goes on
            self._waiting, self._unsure = [rows], True
            self._warn(error)

    def _set_written(self, total: int) -> int:
        """Record that the table has `total` rows of this replica."""
        self._is_gone += total - int(self._cells[self._written])
        self._cells[self._written] = total
        return total

    def _sweep(self) -> None:
        try:
            self._meters.sweep(self._table.committed)
        except Exception as error:  # as above
            self._warn(error)

    def _warn(self, error: Exception) -> None:
        if time.monotonic() - self._warned < WARN_SECONDS:
            return
        self._warned = time.monotonic()
        waiting = self._queued_rows - self._is_gone
        logger.warning("predictions are not logged, %d rows wait: %s", waiting, error)

    def _tidy(self, commit: int) -> None:
        """Start the table's maintenance as a process of low priority, to spare the requests."""
        if commit % TIDY_EVERY or (self._tidying is not None and self._tidying.poll() is None):
            return
        self._tidying = start_tidying(self._table.uri, commit % (TIDY_EVERY * SWEEP_EVERY) == 0)
