"""Files read all over a cluster by Ray Data, and brought back in their order.

Reading is what takes long of files that are compressed, are text, or lie on a network; so that is
what the nodes do, a file a task. What needs all rows in their order (the contract's keys, digest,
commit) stays in one process, which sees the same batches as if it had read the files by itself.
"""

import pickle
from collections.abc import Collection, Iterator, Mapping
from typing import Any

import pyarrow as pa

from lifecycle.data.sources.base import At, Part, Source
from lifecycle.data.sources.files import Files
from lifecycle.errors import LifecycleError, RayError, ray_reason
from lifecycle.project import ColumnSpec
from lifecycle.runtime.cluster import connect_ray, ray_data
from lifecycle.runtime.traces import below
from lifecycle.settings import Settings

BLOCK = 16 << 20
"""Bytes of a block, which is made whole before anybody sees it."""
FIELDS = {"name": pa.string(), "rows": pa.large_binary(), "error": pa.large_binary()}
"""What a task gives back: a batch as Arrow's own bytes, as the types of a column may differ from
batch to batch; or an error of ours, which Ray would wrap in its own and print."""


def spread(source: Source, settings: Settings) -> Source:
    """The source, read by the nodes of a cluster if there is one and they reach its files.

    Files of this machine count as reached where the lake is a folder, too: nodes then have to share
    a file system anyway. A flow that is not on a node reads its files itself: their rows would only
    pass through the head.
    """
    if settings.local_ray or settings.remote_ray or not isinstance(source, Files):
        return source
    reached = source.remote or "://" not in settings.lake
    return Spread(source, settings) if reached else source


class Spread:
    """A `Source` whose files the nodes of a cluster read, which is joined meanwhile."""

    def __init__(self, files: Files, settings: Settings) -> None:
        self._files, self._settings = files, settings
        self.place = files.place

    def parts(self) -> tuple[Part, ...]:
        """One a file."""
        return self._files.parts()

    def shared(self, only: Collection[str] | None = None) -> bool:
        """Return whether there is more than one file, so that the cluster can share the work.

        Raises:
            SourceError: there are no files.
            BackendError: the server does not answer.
        """
        return len(self._files.names(only)) > 1

    def at(self, number: int) -> At:
        """Return the place of a row: its file, and its number in that file."""
        return self._files.at(number)

    def batches(
        self,
        columns: Mapping[str, ColumnSpec],
        only: Collection[str] | None = None,
        after: object | None = None,
        subset: Collection[str] | None = None,
    ) -> Iterator[pa.RecordBatch]:
        """The files' rows, one file after the other."""
        if not self.shared(only):
            yield from self._files.batches(columns, only, after, subset)
            return
        names = self._files.names(only)
        with connect_ray(self._settings):
            pieces = _read_all(self._files, names, columns, subset)
            yield from self._files.joined(pieces, columns, is_complete=only is None)


def _read_all(
    files: Files,
    names: list[str],
    columns: Mapping[str, ColumnSpec],
    subset: Collection[str] | None,
) -> Iterator[tuple[str, pa.RecordBatch]]:
    data = ray_data()
    names_rows = data.from_items([{"name": name} for name in names], override_num_blocks=len(names))
    names_rows.context.target_max_block_size = BLOCK
    read = names_rows.map_batches(
        below(_read, "read a file"),
        batch_size=1,
        batch_format="pyarrow",
        fn_kwargs={"files": files, "columns": dict(columns), "subset": subset},
    )
    for block in _blocks(read, files.place):
        for name, rows, error in zip(*(block[field] for field in FIELDS), strict=True):
            if error.is_valid:
                raise pickle.loads(error.as_py())  # noqa: S301 - our own task made it
            with pa.ipc.open_stream(rows.as_buffer()) as stream:
                for batch in stream:
                    yield name.as_py(), batch


def _blocks(read: Any, place: str) -> Iterator[pa.Table]:
    from ray.exceptions import RayError as AnyRayError

    try:
        yield from read.iter_batches(batch_size=None, batch_format="pyarrow")
    except AnyRayError as error:
        raise RayError(
            f"{place}: the cluster stopped reading it ({ray_reason(error)}); run again"
        ) from None


def _read(
    table: pa.Table,
    files: Files,
    columns: Mapping[str, ColumnSpec],
    subset: Collection[str] | None,
) -> Iterator[pa.Table]:
    """Runs on a node."""
    for name in table["name"].to_pylist():
        try:
            for batch in files.read(name, columns, subset):
                sink = pa.BufferOutputStream()
                with pa.ipc.new_stream(sink, batch.schema) as stream:
                    stream.write_batch(batch)
                yield _row(name, rows=sink.getvalue().to_pybytes())
        except LifecycleError as error:
            yield _row(name, error=pickle.dumps(error))


def _row(name: str, rows: bytes | None = None, error: bytes | None = None) -> pa.Table:
    values = (name, rows, error)
    columns = zip(values, FIELDS.values(), strict=True)
    return pa.table([pa.array([value], kind) for value, kind in columns], names=list(FIELDS))
