"""Incremental ingestion: what was taken in before, what is new, and both as one version.

What was taken is in the note of the version's own commit, so the two cannot come apart. New rows
wait in an unnamed file until all are checked; then the former version's keys are streamed past
them. The files without a row whose key came again are the new version's, too; the others are
written anew without those rows, and the new ones follow.
"""

import json
import logging
import tempfile
from collections.abc import Iterator
from datetime import UTC, datetime
from functools import partial
from typing import Any, NamedTuple, Self

import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray

from lifecycle.data.contract.unique import keys_of
from lifecycle.data.sources import Source
from lifecycle.errors import BackendError, SourceError
from lifecycle.lake.column_types import coerce, to_frame
from lifecycle.lake.manifest import (
    DAMAGED,
    MAX_CHANGES,
    VersionFile,
    builds_on,
    commit_name,
    read_manifest,
)
from lifecycle.lake.read import open_file, open_version, stored_schema
from lifecycle.lake.table import Noted, note_of, noted_version
from lifecycle.lake.write import VersionWriter
from lifecycle.project import IncrementalSpec, Project
from lifecycle.records import DatasetVersion, Window

logger = logging.getLogger(__name__)

INCREMENTAL, STATE_KEY = "incremental", "taken"
"""In a commit's note."""
SINCE = "since"
"""In what was taken: version and digest of the commit whose note has the other parts."""
Mask = NDArray[np.bool_]


def increment_of(project: Project, source: Source, uri: str, window: Window) -> "Increment | None":
    """Return how this run takes in what is new; None if the source does not ask for it.

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
        self._since: tuple[int, str] | None = state.get(SINCE)
        """Version and digest of the commit whose note has the parts that came before, if any."""
        self._parts_before: dict[str, str] = {}
        self._parts_since: dict[str, str] = state.get("parts", {})
        if former and self._since is None:
            self._since = (former.version.version, former.version.digest)
            self._parts_before, self._parts_since = self._parts_since, {}
        elif former and self._since is not None:
            self._parts_before = _parts_of(former.version.uri, *self._since)
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
        """Mask of the rows of a raw batch that are behind the watermark; None if all are wanted.

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
        selection: Mask = later.to_numpy(dtype=bool, na_value=True)
        return selection

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

    def merge(self, schema: pa.Schema, writer: VersionWriter) -> int:
        """Write the rows that are new or changed, and the former files that lose some.

        Args:
            schema: columns of the rows.
            writer: of the version that follows the former one.

        Returns:
            How many rows are new or changed.

        Raises:
            SourceError: the former version has other columns: the contract has changed.
            BackendError: the lake cannot be read or written.
        """
        keys = np.concatenate(self._keys) if self._keys else np.empty(0, dtype=np.int64)
        rows = np.concatenate(self._rows) if self._rows else keys
        selection = np.ones(self._staged, dtype=bool)
        order = np.argsort(keys, kind="stable")
        if len(keys):  # of a key that comes twice, the last row counts
            last = np.append(keys[order][1:] != keys[order][:-1], True)
            selection[:] = False
            selection[order[last]] = True
            order = order[last]
        if self.former is not None and self._staged:
            self._merge_former(writer, schema, _NewRows(keys, rows, order, selection))
        self._replay(schema, selection, writer)
        return int(selection.sum())

    def note(self) -> dict[str, str]:
        """Note for the commit: what was ingested so far, on top of an earlier commit's note while
        that is little; so notes grow with the parts, not with their square."""
        parts, before = self._parts_since, self._parts_before
        state: dict[str, Any] = {"high": self._high}
        if len(before) > MAX_CHANGES and builds_on(len(parts), len(before)):
            state |= {"parts": parts, SINCE: self._since}
        else:
            state |= {"parts": before | parts}
        return {INCREMENTAL: _kind(self._spec), STATE_KEY: json.dumps(state)}

    def _merge_former(self, writer: VersionWriter, schema: pa.Schema, new: "_NewRows") -> None:
        """Find the former rows whose keys came again, and write their files anew without them."""
        assert self.former is not None  # noqa: S101 - asked by the caller
        version, files = self.former.version, writer.former_files
        if files is None:  # written before commits listed their files: as new rows, all of them
            for batch in open_version(version):
                _check_columns(batch.schema.names, schema)
                rows = pa.RecordBatch.from_arrays(batch.columns, schema=schema)
                writer.write(rows.filter(pa.array(~new.replaces(rows, self._key))))
            return
        _check_columns(stored_schema(version).names, schema)
        for file in files if self._key else ():
            removed = []
            for batch, numbers in open_file(version, file, self._key):
                repeated = new.holds(batch, self._key)
                if repeated.any():
                    removed.append(numbers[repeated])
            if not removed:
                continue
            candidates = np.concatenate(removed)
            holds = partial(np.isin, test_elements=candidates)
            changed = [
                numbers[new.replaces(batch, self._key)]
                for batch, numbers in open_file(version, file, schema.names, holds)
            ]
            numbers = np.concatenate(changed)
            if len(numbers):
                writer.replace(file, _others(version, file, schema, numbers), numbers)

    def _replay(self, schema: pa.Schema, selection: Mask, writer: VersionWriter) -> None:
        if self._stream is None:
            return
        self._stream.close()
        self._file.seek(0)
        start = 0
        for batch in pa.ipc.open_stream(self._file):
            mask = selection[start : start + batch.num_rows]
            start += batch.num_rows
            rows = batch if mask.all() else batch.filter(pa.array(mask))
            writer.write(pa.RecordBatch.from_arrays(rows.columns, schema=schema))

    def _new_parts(self, source: Source) -> list[str]:
        parts_read = self._parts_before | self._parts_since
        stamps = set(parts_read.values())
        parts = source.parts()
        new = [part for part in parts if part.digest not in stamps]
        changed = [part.name for part in new if part.name in parts_read]
        if changed and not self._key:
            raise SourceError(
                f"{source.place}: {', '.join(changed[:3])} changed since it was taken in; name the "
                "columns that identify a row under contract.key, so that its rows can be replaced"
            )
        self._parts_since = self._parts_since | {part.name: part.digest for part in new}
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


class _NewRows(NamedTuple):
    """The new rows, by their keys."""

    keys: NDArray[Any]
    """(rows,)."""
    rows: NDArray[Any]
    """(rows,): hashes of whole rows."""
    order: NDArray[np.int64]
    """(keys,): the row of each key that counts, in the order of the keys."""
    selection: Mask
    """(rows,): which rows are written."""

    def holds(self, batch: pa.RecordBatch, key: list[str]) -> Mask:
        """Mask of the former rows that have a key that came again (rows,)."""
        return self._find(batch, key)[1]

    def replaces(self, batch: pa.RecordBatch, key: list[str]) -> Mask:
        """Mask of the former rows that are replaced (rows,); new ones equal to them are not
        written."""
        if not len(self.order):
            return np.zeros(batch.num_rows, dtype=bool)
        at, repeated = self._find(batch, key)
        same = repeated & (self.rows[self.order][at] == keys_of(batch.columns, exact=False))
        self.selection[self.order[at[same]]] = False
        replaced: Mask = repeated & ~same
        return replaced

    def _find(self, batch: pa.RecordBatch, key: list[str]) -> tuple[NDArray[np.int64], Mask]:
        ordered = self.keys[self.order]
        former = keys_of([batch.column(name) for name in key])
        at = np.minimum(np.searchsorted(ordered, former), len(ordered) - 1)
        return at, ordered[at] == former


def _others(
    version: DatasetVersion, file: VersionFile, schema: pa.Schema, removed: NDArray[np.int64]
) -> Iterator[tuple[pa.RecordBatch, NDArray[np.int64]]]:
    """A file's rows but some, with their numbers."""
    for batch, numbers in open_file(version, file, schema.names):
        stays = ~np.isin(numbers, removed)
        rows = pa.RecordBatch.from_arrays(batch.columns, schema=schema)
        yield rows.filter(pa.array(stays)), numbers[stays]


def _check_columns(names: list[str], schema: pa.Schema) -> None:
    if names != schema.names:
        raise SourceError(
            "source.incremental: the columns are not those of the version before "
            f"({', '.join(sorted(set(names) ^ set(schema.names)))}): give the project another "
            "name, or take the source in without `incremental` once"
        )


def _parts_of(uri: str, version: int, digest: str) -> dict[str, str]:
    """Name → digest of the parts that a version's note has; its rows may have expired.

    Raises:
        BackendError: the commit is not there, is damaged, or is of another version.
    """
    ref = DatasetVersion(uri=uri, version=version, digest=digest, rows=0)
    read_manifest(ref, expired=True)  # which holds the note against its seal, if it has one
    note = note_of(uri, version)
    if STATE_KEY not in note:
        raise BackendError(f"{uri}/{commit_name(version)}: later versions need its note; {DAMAGED}")
    parts: dict[str, str] = json.loads(note[STATE_KEY])["parts"]
    return parts


def _kind(spec: IncrementalSpec) -> str:
    """What was taken in by one column's watermark says nothing on another's."""
    return f"{spec.by} {spec.column}" if spec.column else spec.by
