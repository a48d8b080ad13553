"""A source that is a function of the user: it returns a frame, a table or an iterator of them."""

from collections.abc import Collection, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa

from lifecycle.data.sources.base import At, Part, SpooledBatches
from lifecycle.data.sources.columns import declared, plain, sliced
from lifecycle.data.sources.notation import Notation
from lifecycle.errors import SourceError
from lifecycle.project import ColumnSpec, Project, SourceSpec
from lifecycle.runtime.plugins import load_plug, plug_file, where


class Function:
    """`source.function`, called once; a `Source` of one part."""

    def __init__(self, project: Project, spec: SourceSpec) -> None:
        """Find the function.

        Raises:
            FeatureError: there is no such module or function.
        """
        self.place = str(spec.function)
        self._notation = Notation(spec)
        self._name = self.place
        self._file: Path = plug_file(project, self.place, "source.function")[0]
        self._function = load_plug(project, self.place, "source.function")
        self._spool: SpooledBatches | None = None

    def parts(self) -> tuple[Part, ...]:
        """One; what the function returns is set aside, for `batches` to read."""
        if self._spool is None:
            self._spool = SpooledBatches(self._called())
        return (Part(self._name, self._spool.digest),)

    def at(self, number: int) -> At:
        """Return the place of a row: the function and the row's number."""
        return At(f"source.function {self.place}", "", number)

    def batches(
        self,
        columns: Mapping[str, ColumnSpec],
        only: Collection[str] | None = None,
        after: object | None = None,
        subset: Collection[str] | None = None,
    ) -> Iterator[pa.RecordBatch]:
        """Batches that the function returns."""
        if only is not None and self._name not in only:
            return
        rows = 0
        for batch in self._spool.batches() if self._spool else self._called():
            rows += batch.num_rows
            yield declared(batch, columns, self._notation)
        if not rows:
            raise SourceError(f"{self.place}: it returned no rows; see source.function")

    def _called(self) -> Iterator[pa.RecordBatch]:
        try:
            result = self._function()
            for piece in _pieces(result):
                yield from _plain(piece, self.place)
        except SourceError:
            raise
        except Exception as error:
            raise SourceError(f"source.function: {where(error, self._file)}") from None


def _pieces(result: Any) -> Iterable[Any]:
    if isinstance(result, pd.DataFrame) or hasattr(result, "__arrow_c_stream__"):
        return [result]
    if isinstance(result, pa.RecordBatch):
        return [result]
    if isinstance(result, Iterable) and not isinstance(result, str | bytes | Mapping):
        return result
    raise TypeError(f"it returned {type(result).__name__}, not a frame, a table or an iterator")


def _plain(piece: Any, place: str) -> Iterator[pa.RecordBatch]:
    names = [str(name) for name in getattr(piece, "columns", ())]
    if isinstance(piece, pd.DataFrame):
        _differ(names, place)
        batches = pa.Table.from_pandas(piece, preserve_index=False).to_batches()
    elif isinstance(piece, pa.RecordBatch):
        batches = [piece]
    elif hasattr(piece, "__arrow_c_stream__"):
        batches = pa.RecordBatchReader.from_stream(piece)
    else:
        raise TypeError(f"it yielded {type(piece).__name__}, not a frame or a table")
    for batch in batches:
        names = batch.schema.names
        _differ(names, place)
        flat = pa.RecordBatch.from_arrays([plain(column) for column in batch.columns], names=names)
        yield from sliced(flat)


def _differ(names: list[str], place: str) -> None:
    repeated = ", ".join(repr(name) for name in dict.fromkeys(names) if names.count(name) > 1)
    if repeated:
        raise SourceError(
            f"{place}: column names must differ, but there is more than one {repeated}"
        )
