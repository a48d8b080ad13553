"""Answers as rows of the prediction log: many requests at once, column by column."""

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import chain
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from lifecycle.data.privacy import plain_text, pseudonym
from lifecycle.lake.column_types import coerce, narrow, storage_type
from lifecycle.lake.prediction_log import ARROW, SCHEMA, input_fields
from lifecycle.project import ColumnSpec, Project
from lifecycle.serving import log_bodies, plain
from lifecycle.serving.lanes import Said
from lifecycle.serving.wire import Asked, Column


class Entry(NamedTuple):
    """One request and what one version said; `add` makes a plain tuple, in half the time."""

    id: str
    nanoseconds: int
    """Unix time."""
    version: int
    said: Said
    key: str
    """Name of the API key."""
    entities: Column | None
    """(rows,): whom each row is about, where the request says it."""
    asked: Asked


_Read = Callable[[Sequence[Asked], Mapping[str, ColumnSpec]], Mapping[str, Column | pa.Array]]
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
            sorts.setdefault(_reader(entry.asked), []).append(entry)
        inputs = {name: spec for name, spec, _ in self._inputs}
        parts = []
        for read, some in sorts.items():
            made = self._own(some) | self._given(read([entry.asked for entry in some], inputs))
            parts.append(pa.table(made, schema=self.schema))
        return pa.concat_tables(parts) if parts else self.schema.empty_table()

    def _own(self, entries: Sequence[Entry]) -> dict[str, pa.Array]:
        """The columns every project has."""
        ids, times, versions, said, keys, entities, asked = zip(*entries, strict=True)
        rows = np.fromiter((one.rows for one in asked), dtype=np.int64, count=len(asked))
        stamps = pa.array(_repeat(np.array(times) // 1000, rows)).cast(SCHEMA.field("time").type)
        answers = [one.answer for one in said]
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
            "role": _repeat([one.role for one in said], rows),
            "status": _repeat(["ok" if answer else "error" for answer in answers], rows),
            "latency_ms": _repeat(np.array([one.seconds for one in said]) * 1000, rows),
            "key": _repeat(keys, rows),
            "entity": self._entity(entities, rows),
            **self._answers(answers, rows),
        }

    def _entity(self, entities: Sequence[Column | None], rows: NDArray[np.int64]) -> pa.Array:
        if self._about == "drop":
            return pa.nulls(int(rows.sum()), pa.string())
        said = zip(entities, rows.tolist(), strict=True)
        values = list(chain.from_iterable([None] * n if e is None else e for e, n in said))
        if self._about == "hash":
            return pa.array(pseudonym(values, self._key), pa.string())
        return pa.array([plain_text(value) for value in values], pa.string())

    def _answers(self, answers: Sequence[Any], rows: NDArray[np.int64]) -> dict[str, pa.Array]:
        """`prediction` and, for classes, the chosen one and the probability of each."""
        decided = any(a is not None and a.labels for a in answers)
        nothing = pa.nulls(int(rows.sum()))
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
            predicted = self._predicted(answers, rows) if decided else nothing
            return {"prediction": values, "predicted": predicted, "probabilities": nothing}
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

    def _given(self, columns: Mapping[str, Column | pa.Array]) -> dict[str, pa.Array]:
        """The inputs, typed as the contract says; personal data as their hash."""
        made = {}
        for name, spec, field in self._inputs:
            values = _typed(columns[name], spec)
            if spec.pii == "hash":
                values = pa.array(pseudonym(values.to_pylist(), self._key), pa.string())
            made[field.name] = values
        return made


def _reader(asked: Asked) -> "_Read":
    if asked.records is not None:
        return _from_records
    return _from_bodies if asked.body else _from_columns


def _from_bodies(
    asked: Sequence[Asked], inputs: Mapping[str, ColumnSpec]
) -> Mapping[str, Column | pa.Array]:
    found = log_bodies.read(asked, inputs)
    if found is not None:
        return found
    return _from_records([plain.read(one.body, one.rows, known=()) for one in asked], inputs)


def _from_records(asked: Sequence[Asked], names: Iterable[str]) -> dict[str, Column]:
    records = list(chain.from_iterable(one.records or () for one in asked))
    return {name: [record.get(name) for record in records] for name in names}


def _from_columns(asked: Sequence[Asked], names: Iterable[str]) -> dict[str, Column]:
    return {name: _joined([one.columns or {} for one in asked], asked, name) for name in names}


def _joined(several: Sequence[Mapping[str, Column]], asked: Sequence[Asked], name: str) -> Column:
    parts = [
        columns.get(name, [None] * one.rows) for columns, one in zip(several, asked, strict=True)
    ]
    if isinstance(parts[0], np.ndarray):
        joined: NDArray[Any] = np.concatenate(parts)
        if joined.dtype.kind in "fiub":
            return joined
    return list(chain.from_iterable(p.tolist() if isinstance(p, np.ndarray) else p for p in parts))


def _typed(values: Column | pa.Array, spec: ColumnSpec) -> pa.Array:
    kind = storage_type(spec)
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
    return narrow(coerce(series, storage_type(spec)).values, nullable)


def _repeat(values: Sequence[Any] | NDArray[Any], rows: NDArray[np.int64]) -> Any:
    """A value a request as a value a row."""
    if len(rows) == rows.sum():
        return values
    if isinstance(values, np.ndarray):
        return np.repeat(values, rows)
    return pa.array(values, pa.string()).take(pa.array(np.repeat(np.arange(len(rows)), rows)))
