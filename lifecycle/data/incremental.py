"""Incremental ingestion: what was taken in before, what is new, and both as one version.

What was taken is in the note of the version's own commit, so the two cannot come apart. New rows
wait in an unnamed file until all are checked; then the former version's rows are streamed past
them: a row whose key came again is replaced, all others stay, new ones follow.
"""

import json
import logging
import tempfile
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, Self

import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray

from lifecycle.data.contract.unique import keys_of
from lifecycle.data.sources import Source
from lifecycle.errors import SourceError
from lifecycle.lake.column_types import coerce, to_frame
from lifecycle.lake.read import open_version
from lifecycle.lake.table import Noted, noted_version
from lifecycle.project import IncrementalSpec, Project
from lifecycle.records import Window

logger = logging.getLogger(__name__)

INCREMENTAL, STATE_KEY = "incremental", "taken"
"""In a commit's note."""
Write = Callable[[pa.RecordBatch], None]
Mask = NDArray[np.bool_]


def increment_of(project: Project, source: Source, uri: str, window: Window) -> "Increment | None":
    """How this run takes in what is new; None if the source does not ask for it.

    Raises:
        SourceError: a file that was taken in has changed, and rows have no key to replace them by.
        BackendError: the lake cannot be read.
    """
    spec = project.source.incremental
    if spec is None:
        return None
    kind = {"window": str(window), "project": project.name, INCREMENTAL: _kind(spec)}
    return Increment(project, spec, source, noted_version(uri, kind))


class Increment:
    """One run of an incremental ingestion.

    Two of n new keys that are hashed to the same 64 bits would replace one another: n**2 / 2**65,
    1 in 90,000 at 20 million; keys of one whole-number column are exact.
    """

    def __init__(
        self, project: Project, spec: IncrementalSpec, source: Source, former: Noted | None
    ) -> None:
        self.former = former
        self._spec = spec
        self._key = list(project.contract.key)
        self._column = project.contract.columns[spec.column] if spec.column else None
        state: dict[str, Any] = json.loads(former.note[STATE_KEY]) if former else {}
        self._high: Any = state.get("high")
        self._parts_read: dict[str, str] = state.get("parts", {})
        self.parts: list[str] | None = None
        """Names of the source's parts to read; None for all."""
        if spec.by == "files":
            self.parts = self._new_parts(source)
        self.after = self._after()
        """Rows up to this watermark need not be read; None for all."""
        self._file: Any = None
        self._stream: pa.ipc.RecordBatchStreamWriter | None = None
        self._keys: list[NDArray[Any]] = []
        self._rows: list[NDArray[Any]] = []
        self._staged = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._file is not None:
            self._file.close()

    def later(self, batch: pa.RecordBatch) -> Mask | None:
        """Which rows of a raw batch are behind the watermark; None if all are wanted.

        A row without a watermark is wanted: the contract says what becomes of it.
        """
        if self._column is None or self._spec.column is None:
            return None
        table = pa.table({"mark": batch.column(self._spec.column)})
        raw = to_frame(table, lambda _, column: column.null_count > 0)["mark"]
        marks = coerce(raw, self._column.value_type).values
        newest = self._until_now(marks.max())
        if newest == newest and newest is not None:  # not if all are missing
            high = int(newest) if self._column.type == "integer" else newest.isoformat()
            self._high = high if self._high is None else max(self._high, high)
        if self.after is None:
            return None
        later = (marks > self.after) | marks.isna()
        wanted: Mask = later.to_numpy(dtype=bool, na_value=True)
        return wanted

    def stage(self, batch: pa.RecordBatch) -> None:
        """Keep accepted rows until all are checked."""
        if self._stream is None:
            # has no name: gone with the process, however that ends
            self._file = tempfile.TemporaryFile()  # noqa: SIM115 - kept until all rows are checked
            self._stream = pa.ipc.new_stream(self._file, batch.schema)
        self._stream.write_batch(batch)
        self._staged += batch.num_rows
        if self._key:
            self._keys.append(keys_of([batch.column(name) for name in self._key]))
            self._rows.append(keys_of(batch.columns, exact=False))

    def merge(self, schema: pa.Schema, write: Write) -> int:
        """Write the former rows that stay, then the new ones; how many are new or changed.

        A former version with other columns is left alone: the contract has changed.
        """
        keys = np.concatenate(self._keys) if self._keys else np.empty(0, dtype=np.int64)
        rows = np.concatenate(self._rows) if self._rows else keys
        wanted = np.ones(self._staged, dtype=bool)
        order = np.argsort(keys, kind="stable")
        if len(keys):  # of a key that comes twice, the last row counts
            last = np.append(keys[order][1:] != keys[order][:-1], True)
            wanted[:] = False
            wanted[order[last]] = True
            order = order[last]
        if self.former is not None:
            for batch in open_version(self.former.version):
                if batch.schema.names != schema.names:
                    raise SourceError(
                        "source.incremental: the columns are not those of the version before "
                        f"({', '.join(sorted(set(batch.schema.names) ^ set(schema.names)))}): give "
                        "the project another name, or take the source in without `incremental` once"
                    )
                batch = pa.RecordBatch.from_arrays(batch.columns, schema=schema)
                write(self._staying(batch, keys, rows, order, wanted))
        self._replay(schema, wanted, write)
        return int(wanted.sum())

    def note(self) -> dict[str, str]:
        """Note for the commit: everything ingested so far."""
        state = {"parts": self._parts_read, "high": self._high}
        return {INCREMENTAL: _kind(self._spec), STATE_KEY: json.dumps(state)}

    def _staying(
        self,
        batch: pa.RecordBatch,
        keys: NDArray[Any],
        rows: NDArray[Any],
        order: NDArray[np.int64],
        wanted: Mask,
    ) -> pa.RecordBatch:
        """The former rows that are not replaced; new rows that are the same as they are not."""
        if not len(order):
            return batch
        mine = keys_of([batch.column(name) for name in self._key])
        at = np.minimum(np.searchsorted(keys[order], mine), len(order) - 1)
        again = keys[order][at] == mine
        if not again.any():
            return batch
        same = again & (rows[order][at] == keys_of(batch.columns, exact=False))
        wanted[order[at[same]]] = False
        return batch.filter(pa.array(~again | same))

    def _replay(self, schema: pa.Schema, wanted: Mask, write: Write) -> None:
        if self._stream is None:
            return
        self._stream.close()
        self._file.seek(0)
        start = 0
        for batch in pa.ipc.open_stream(self._file):
            some = wanted[start : start + batch.num_rows]
            start += batch.num_rows
            rows = batch if some.all() else batch.filter(pa.array(some))
            write(pa.RecordBatch.from_arrays(rows.columns, schema=schema))

    def _new_parts(self, source: Source) -> list[str]:
        stamps = set(self._parts_read.values())
        parts = source.parts()
        new = [part for part in parts if part.digest not in stamps]
        changed = [part.name for part in new if part.name in self._parts_read]
        if changed and not self._key:
            raise SourceError(
                f"{source.place}: {', '.join(changed[:3])} changed since it was taken in; name the "
                "columns that identify a row under contract.key, so that its rows can be replaced"
            )
        self._parts_read = self._parts_read | {part.name: part.digest for part in new}
        return [part.name for part in new]

    def _until_now(self, newest: Any) -> Any:
        """The highest watermark, but a time that has not come yet: what comes until then is later.

        Raises:
            SourceError: there is one, and without a key its row would come again with every run.
        """
        now = pd.Timestamp(datetime.now(UTC).replace(tzinfo=None))
        zones = pd.Timedelta(days=1)  # clocks of somewhere else are ahead
        if self._column is None or self._column.type == "integer" or not newest > now + zones:
            return newest
        message = (
            f"source.incremental.column: {self._spec.column} has {newest:%Y-%m-%d}, a time to come"
        )
        if not self._key:
            raise SourceError(
                f"{message}; correct that row, or name the columns that identify a row under "
                "contract.key, so that it can be read again without coming twice"
            )
        logger.warning(
            "%s: the watermark stays at now, and its row is read again each time", message
        )
        return now

    def _after(self) -> Any:
        if self._column is None or self._high is None:
            return None
        if self._column.type == "integer":
            return int(self._high - self._spec.lateness)
        return pd.Timestamp(self._high) - pd.Timedelta(days=self._spec.lateness)


def _kind(spec: IncrementalSpec) -> str:
    """What was taken in by one column's watermark says nothing on another's."""
    return f"{spec.by} {spec.column}" if spec.column else spec.by
