"""A Delta table: one version of it, the newest by default."""

from collections.abc import Collection, Iterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.dataset as ds
from deltalake import DeltaTable
from deltalake.exceptions import TableNotFoundError

from lifecycle.data.sources.base import At, Part
from lifecycle.data.sources.columns import declared, sliced
from lifecycle.data.sources.content import read_parquet
from lifecycle.data.sources.credentials import Credentials
from lifecycle.data.sources.notation import Notation
from lifecycle.errors import SourceError
from lifecycle.project import ColumnSpec, SourceSpec
from lifecycle.project.data import without_secrets
from lifecycle.runtime.identity import sha256


class Delta:
    """A version of a Delta table, the one there is at the first look; a `Source` of one part."""

    def __init__(self, spec: SourceSpec, folder: Path) -> None:
        """Remember where the table is; nothing is opened.

        Args:
            folder: where relative paths start.

        Raises:
            SourceError: the credentials are not there.
        """
        self._spec = spec
        self._notation = Notation(spec)
        self._credentials = Credentials(spec)
        remote = "://" in spec.path
        self._uri = spec.path if remote else str(folder / Path(spec.path).expanduser())
        self.place = without_secrets(self._uri)
        self._table: DeltaTable | None = None

    def parts(self) -> tuple[Part, ...]:
        """One: a version never changes, and its number is never given again."""
        table = self._open_table()
        digest = sha256([str(table.metadata().id), table.version()])
        return (Part(self._name(table), digest),)

    def at(self, number: int) -> At:
        """Return the place of a row: the table and the row's number."""
        return At(self.place, "", number)

    def batches(
        self,
        columns: Mapping[str, ColumnSpec],
        only: Collection[str] | None = None,
        after: object | None = None,
        subset: Collection[str] | None = None,
    ) -> Iterator[pa.RecordBatch]:
        """The version's rows."""
        table = self._open_table()
        if only is not None and self._name(table) not in only:
            return
        rows = 0
        with self._credentials.guard(self.place):
            for batch in self._scan(table, after, subset):
                rows += batch.num_rows
                yield from sliced(declared(batch, columns, self._notation))
        if not rows and after is None:
            raise SourceError(f"{self.place}: version {table.version()} has no rows")

    def _scan(
        self, table: DeltaTable, after: object | None, subset: Collection[str] | None
    ) -> Iterator[pa.RecordBatch]:
        """File by file: the scanner of a dataset would hold whole row groups of several."""
        dataset = table.to_pyarrow_dataset()
        later, schema = self._later(dataset.schema, after), dataset.schema
        if later is None and (
            fields := [field for field in schema if field.name in (subset or ())]
        ):
            schema = pa.schema(fields)
        for fragment in dataset.get_fragments(later):
            fixed = ds.get_partition_keys(fragment.partition_expression)
            with fragment.filesystem.open_input_file(fragment.path) as file:
                for batch in read_parquet(file, schema.names):
                    table_batch = _of_table(batch, schema, fixed)
                    yield table_batch if later is None else table_batch.filter(later)

    def _later(self, schema: pa.Schema, after: object | None) -> ds.Expression | None:
        incremental = self._spec.incremental
        if after is None or incremental is None or incremental.column is None:
            return None
        if incremental.column not in schema.names:
            raise SourceError(
                f"source.incremental.column: {self.place} has no column {incremental.column!r}"
            )
        kind = schema.field(incremental.column).type
        limit: Any = after
        if pa.types.is_timestamp(kind) and isinstance(after, datetime):
            limit = pa.scalar(after, pa.timestamp("us")).cast(kind)
        return ds.field(incremental.column) > limit

    def _open_table(self) -> DeltaTable:
        if self._table is None:
            options = {str(k): str(v) for k, v in self._spec.options.items()}
            options |= {str(k): str(v) for k, v in self._credentials.options().items()}
            version = self._spec.version
            hint = "" if version is None else f". See that source.version {version} is there"
            with self._credentials.guard(self.place, hint):
                try:
                    self._table = DeltaTable(
                        self._uri, version=version, storage_options=options or None
                    )
                except TableNotFoundError:
                    raise SourceError(
                        f"source.path: no Delta table at {self.place}; correct source.path"
                    ) from None
        return self._table

    def _name(self, table: DeltaTable) -> str:
        return f"{self.place.rstrip('/').rpartition('/')[2]}@{table.version()}"


def _of_table(
    batch: pa.RecordBatch, schema: pa.Schema, fixed: Mapping[str, object]
) -> pa.RecordBatch:
    """A file's rows with all columns of the table: those of its partition, and younger ones."""
    columns = [
        batch[field.name].cast(field.type)
        if field.name in batch.schema.names
        else pa.repeat(pa.scalar(fixed.get(field.name), field.type), batch.num_rows)
        for field in schema
    ]
    return pa.RecordBatch.from_arrays(columns, schema=schema)
