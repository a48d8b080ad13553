"""The Delta table `prediction_log`: one row a predicted row, appended by many replicas at once.

Unlike a dataset version it grows in small commits, so it keeps no history: small files are put
together, and what was replaced is deleted after `KEPT`. How it is read is in `logged`.
"""

import logging
import sys
import time
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta

import pyarrow as pa
from deltalake import (
    ColumnProperties,
    CommitProperties,
    DeltaTable,
    PostCommitHookProperties,
    Transaction,
    WriterProperties,
    write_deltalake,
)
from deltalake.exceptions import CommitFailedError, DeltaError, TableNotFoundError

from lifecycle.data.coerce import storage_type
from lifecycle.data.lake import PLAIN, first_line
from lifecycle.errors import BackendError
from lifecycle.specs import ColumnSpec, ColumnType

logger = logging.getLogger(__name__)

TABLE = "prediction_log"
INPUT = "input_"
"""What the names of logged inputs begin with: an input may be called `id` or `time` as well."""
INTERNAL_KEY = "internal."
"""What the column `key` begins with in rows that no client asked for, such as the smoke test's."""
HASHED = "__hash"
"""What the name of an input ends with whose values are pseudonyms."""
ATTEMPTS = 10
TIDY_EVERY = 100
"""Commits between two tidyings; each is done by the writer whose commit's number it is."""
SWEEP_EVERY = 10
"""Tidyings between two deletions of replaced files."""
KEPT_HOURS = 1
"""How long replaced files and old commits stay for readers that began before."""
FILE_BYTES = 16 * 2**20
"""Files below this are put together."""
CONFIGURATION = {
    "delta.checkpointInterval": str(TIDY_EVERY),
    "delta.logRetentionDuration": f"interval {KEPT_HOURS} hours",
    "delta.deletedFileRetentionDuration": f"interval {KEPT_HOURS} hours",
    "delta.setTransactionRetentionDuration": "interval 7 days",
    "delta.dataSkippingStatsColumns": "time",
}
ARROW: dict[ColumnType, pa.DataType] = {
    "integer": pa.int64(),
    "number": pa.float64(),
    "boolean": pa.bool_(),
    "string": pa.string(),
    "category": pa.string(),
    "datetime": pa.timestamp("us"),
}
NAMES: dict[pa.DataType, str] = {kind: name for name, kind in ARROW.items() if name != "category"}
SCHEMA = pa.schema(
    {
        "id": pa.string(),
        "time": pa.timestamp("us", "UTC"),
        "date": pa.date32(),
        "model": pa.string(),
        "version": pa.int64(),
        "digest": pa.string(),
        "role": pa.string(),
        "status": pa.string(),
        "latency_ms": pa.float64(),
        "key": pa.string(),
        "entity": pa.string(),
        "prediction": pa.float64(),
        "predicted": pa.string(),
        "probabilities": pa.list_(pa.float64()),
    }
)
"""The columns every project has; `predicted` is null but for multiclass and a binary `decision`,
`probabilities` but for multiclass.

`time` is UTC, `date` its day, `latency_ms` the time in the replica; `id` is `<request>-<row>`.
"""


def input_fields(inputs: Mapping[str, ColumnSpec]) -> dict[str, pa.Field]:
    """Input → the field it is logged as; one declared `pii: drop` has none."""
    return {
        name: pa.field(
            f"{INPUT}{name}{HASHED if spec.pii == 'hash' else ''}",
            pa.string() if spec.pii == "hash" else ARROW[storage_type(spec)],
        )
        for name, spec in inputs.items()
        if spec.pii != "drop"
    }


class LogTable:
    """A handle on the log, for one thread; the table is made by the first append."""

    def __init__(self, uri: str) -> None:
        self.uri = uri
        self._table: DeltaTable | None = None

    def append(self, rows: pa.Table, writer: str, total: int) -> int:
        """Append rows in one commit, which many processes may do at the same time.

        Columns the table lacks are added to it; one that the table has with another type gets a
        column of its own beside it, named after its type: `input_age__string`.

        Args:
            writer: who appends; no two processes are one writer.
            total: rows this writer has appended, these among them; the commit carries it, so that
                whether it came through can be told even if its writer was killed.

        Returns:
            The number of the commit.

        Raises:
            BackendError: the table cannot be written; see `committed` for whether it was.
        """
        properties = CommitProperties(
            app_transactions=[Transaction(writer, total, int(time.time() * 1000))],
            max_commit_retries=50,
        )
        for attempt in range(ATTEMPTS):
            try:
                table = self._opened()
                aligned = _aligned(rows, pa.schema(table.schema().to_arrow()))
                write_deltalake(
                    table,
                    aligned,
                    mode="append",
                    schema_mode="merge",
                    commit_properties=properties,
                    post_commithook_properties=PostCommitHookProperties(),
                    writer_properties=_writer(aligned.schema),
                )
                return int(table.version())
            except CommitFailedError as error:  # another writer added a column, or came first
                self._table = None
                logger.info("%s: attempt %d: %s", self.uri, attempt + 1, error)
            except (DeltaError, pa.ArrowException, OSError) as error:
                self._table = None
                raise BackendError(f"{self.uri}: cannot append: {first_line(error)}") from None
        raise BackendError(f"{self.uri}: other processes keep changing this table")

    def committed(self, writer: str) -> int:
        """Rows that a writer has appended, living or not.

        Raises:
            BackendError: the table cannot be read.
        """
        try:
            return int(DeltaTable(self.uri).transaction_version(writer) or 0)
        except TableNotFoundError:
            return 0
        except (DeltaError, OSError) as error:
            raise BackendError(f"{self.uri}: cannot read: {first_line(error)}") from None

    def _opened(self) -> DeltaTable:
        if self._table is not None:
            self._table.update_incremental()
            return self._table
        try:
            self._table = DeltaTable(self.uri)
        except TableNotFoundError:
            self._table = DeltaTable.create(
                self.uri,
                schema=SCHEMA,
                mode="ignore",
                partition_by=["date"],
                configuration=CONFIGURATION,
            )
        return self._table


def tidy(uri: str, sweep: bool) -> None:
    """Put small files of today and yesterday together; with `sweep`, delete what was replaced.

    Files keep the order of their rows' times. Losing against another process is no harm.

    Raises:
        BackendError: the table cannot be read or written.
    """
    today = datetime.now(UTC).date()
    days = [str(today), str(today - timedelta(days=1))]
    try:
        table = DeltaTable(uri)
        table.optimize.compact(
            partition_filters=[("date", "in", days)],
            target_size=FILE_BYTES,
            max_concurrent_tasks=1,
            writer_properties=_writer(pa.schema(table.schema().to_arrow())),
        )
        if sweep:
            table.vacuum(retention_hours=KEPT_HOURS, dry_run=False)
    except CommitFailedError as error:
        logger.info("%s: not tidied: %s", uri, first_line(error))
    except (DeltaError, OSError) as error:
        raise BackendError(f"{uri}: cannot tidy: {first_line(error)}") from None


def _aligned(rows: pa.Table, there: pa.Schema) -> pa.Table:
    """The rows with the table's spelling, and types that differ in columns of their own."""
    known = {field.name.lower(): field for field in there}
    names = []
    for field in rows.schema:
        name = field.name
        while (other := known.get(name.lower())) is not None and other.type != field.type:
            name += f"__{NAMES.get(field.type, str(field.type))}"
        names.append(other.name if other is not None else name)
    return rows.rename_columns(names)


def _writer(schema: pa.Schema) -> WriterProperties:
    plain = [f.name for f in schema if pa.types.is_floating(f.type)] + ["id"]
    timed = ColumnProperties(dictionary_enabled=False, statistics_enabled="CHUNK")
    return WriterProperties(
        compression="LZ4_RAW", column_properties=dict.fromkeys(plain, PLAIN) | {"time": timed}
    )


if __name__ == "__main__":  # a process of its own, whose memory goes with it
    logging.basicConfig(level=logging.WARNING)
    tidy(sys.argv[1], sweep=sys.argv[2] == "sweep")
