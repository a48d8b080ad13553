"""The Delta table `prediction_log`: one row a predicted row, appended by many replicas at once.

Unlike a dataset version it grows in small commits, so it keeps no history: small files are put
together, and what was replaced is deleted after `KEPT_HOURS`. Its files are ours and not those of
Delta's writer, so that damage to them shows (`lake.inventory`). `lake.logged_predictions` reads it.
"""

import logging
import os
import random
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta

import pyarrow as pa
import pyarrow.compute as pc
from deltalake import DeltaTable, Schema, Transaction
from deltalake.exceptions import CommitFailedError, DeltaError, TableNotFoundError
from deltalake.transaction import AddAction
from pyarrow.parquet import ParquetFile

from lifecycle.errors import BackendError, first_line
from lifecycle.lake.inventory import (
    DataFile,
    change_files,
    inventory,
    open_file,
    write_file,
)
from lifecycle.lake.manifest import place_of
from lifecycle.lake.table import create_table
from lifecycle.project import ColumnSpec, ColumnType

logger = logging.getLogger(__name__)

TABLE = "prediction_log"
DAY = "date"
"""The column that the table is partitioned by."""
INPUT = "input_"
"""What the names of logged inputs begin with: an input may be called `id` or `time` as well."""
INTERNAL_KEY = "internal."
"""What the column `key` begins with in rows that no client asked for, such as the smoke test's."""
HASHED = "__hash"
"""What the name of an input ends with whose values are pseudonyms."""
ATTEMPTS = 50
"""Replicas append once a second each; a commit has to come between two of them."""
MAX_PAUSE_S = 0.05
"""Between two attempts to commit, at most."""
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
            pa.string() if spec.pii == "hash" else ARROW[spec.value_type],
        )
        for name, spec in inputs.items()
        if spec.pii != "drop"
    }


class LogTable:
    """A handle on the log, for one thread; the table is made by the first append.

    Args:
        schema: of a new table. Without the column `date` it is not partitioned.
    """

    def __init__(self, uri: str, schema: pa.Schema = SCHEMA) -> None:
        self.uri = uri
        self._schema = schema
        self._place = place_of(uri)
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
        transaction = Transaction(writer, total, int(time.time() * 1000))
        written: tuple[pa.Schema, list[AddAction]] | None = None
        for attempt in range(ATTEMPTS):
            try:
                table = self._open_table()
                aligned = self._with_columns(table, rows)
                if written is None or written[0] != aligned.schema:
                    written = aligned.schema, self._write(aligned)
                change_files(table, (), written[1], [transaction])
                return int(table.version()) + 1
            except CommitFailedError as error:  # another writer added a column, or came first
                logger.info("%s: attempt %d: %s", self.uri, attempt + 1, error)
                time.sleep(random.uniform(0, MAX_PAUSE_S))  # noqa: S311 - nothing secret
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

    def _with_columns(self, table: DeltaTable, rows: pa.Table) -> pa.Table:
        """The rows as the table spells its columns; those that it lacks are added to it."""
        exists = pa.schema(table.schema().to_arrow())
        aligned = _aligned(rows, exists)
        lacking = [field for field in aligned.schema if field.name not in exists.names]
        if lacking:
            table.alter.add_columns(Schema.from_arrow(pa.schema(lacking)).fields)
        return aligned

    def _write(self, rows: pa.Table) -> list[AddAction]:
        """Write a file for each day."""
        return [write_file(self._place, folder, part) for folder, part in _by_day(rows)]

    def _open_table(self) -> DeltaTable:
        if self._table is not None:
            self._table.update_incremental()
            return self._table
        try:
            self._table = DeltaTable(self.uri)
        except TableNotFoundError:
            self._table = create_table(
                self.uri,
                self._schema,
                partition_by=DAY if DAY in self._schema.names else None,
                configuration=CONFIGURATION,
            )
        return self._table


def tidy(uri: str, sweep: bool) -> None:
    """Put small files of today and yesterday, or of a table without days, together; with `sweep`,
    delete what was replaced.

    Rows are put in the order of their times. A damaged file is left as it is. Losing against
    another process is no harm.

    Raises:
        BackendError: the table cannot be read or written, or its log is damaged.
    """
    today = datetime.now(UTC).date()
    folders = {"", *(f"{DAY}={day}" for day in (today, today - timedelta(days=1)))}
    try:
        table = DeltaTable(uri)
        files = [file for file in inventory(uri, table) if file.folder in folders]
        for chunk in _groups(files):
            _put_together(uri, table, chunk)
        if sweep:
            table.vacuum(retention_hours=KEPT_HOURS, dry_run=False, full=True)
    except CommitFailedError as error:
        logger.info("%s: not tidied: %s", uri, first_line(error))
    except (DeltaError, OSError) as error:
        raise BackendError(f"{uri}: cannot tidy: {first_line(error)}") from None


def start_tidying(uri: str, sweep: bool) -> "subprocess.Popen[bytes]":
    """Start `tidy` as a process of low priority, to spare the requests of a replica."""
    process = subprocess.Popen(  # noqa: S603 - our own module
        [sys.executable, "-m", "lifecycle.lake.prediction_log", uri, "sweep" if sweep else "keep"],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
    )
    os.setpriority(os.PRIO_PROCESS, process.pid, 19)
    return process


def replace_files(
    uri: str, table: DeltaTable, removed: Sequence[str], added: Sequence[AddAction]
) -> bool:
    """Put files in the place of others, however many append meanwhile.

    Returns:
        Whether it was done; it is not if another process has taken one of the others out.

    Raises:
        BackendError: others keep writing the table, or its log is damaged.
        DeltaError: the table cannot be written.
    """
    for _ in range(ATTEMPTS):
        try:
            change_files(table, removed, added)
        except CommitFailedError:
            table.update_incremental()
            if not {*removed} <= {file.path for file in inventory(uri, table)}:
                return False
            time.sleep(random.uniform(0, MAX_PAUSE_S))  # noqa: S311 - nothing secret
        else:
            table.update_incremental()
            return True
    raise BackendError(f"{uri}: other processes keep writing this table; run again")


def rows_of(uri: str, file: DataFile) -> pa.Table:
    """The rows of a file, without the day.

    Raises:
        BackendError: it is damaged or cannot be read.
    """
    with open_file(uri, file) as source:
        try:
            rows = ParquetFile(source).read()
            return rows.cast(pa.schema(Schema.from_arrow(rows.schema).to_arrow()))
        except (pa.ArrowException, OSError) as error:
            raise BackendError(f"{uri}/{file.path}: cannot be read: {first_line(error)}") from None


def _groups(files: Sequence[DataFile]) -> Iterator[list[DataFile]]:
    """Small files of one day, in the order of their rows' times, that make a large one together."""
    small = [file for file in files if file.size < FILE_BYTES]
    group: list[DataFile] = []
    for file in sorted(small, key=lambda file: (file.folder, file.span or (0, 0))):
        other_day = group and group[0].folder != file.folder
        if other_day or sum(file.size for file in group) + file.size > FILE_BYTES:
            yield group
            group = []
        group.append(file)
    yield group


def _put_together(uri: str, table: DeltaTable, files: Sequence[DataFile]) -> None:
    parts: dict[str, pa.Table] = {}
    for file in files if len(files) > 1 else ():
        try:
            parts[file.path] = rows_of(uri, file)
        except BackendError as error:
            logger.warning("%s", error)
    if len(parts) > 1:
        rows = pa.concat_tables(parts.values(), promote_options="default").sort_by("time")
        merged = write_file(place_of(uri), files[0].folder, rows)
        replace_files(uri, table, list(parts), [merged])


def _by_day(rows: pa.Table) -> Iterator[tuple[str, pa.Table]]:
    """The rows of each day, and the partition that they belong in; without days, all rows."""
    if DAY not in rows.column_names:
        yield "", rows
        return
    for day in pc.unique(rows[DAY]):
        yield f"{DAY}={day}", rows.filter(pc.equal(rows[DAY], day)).drop_columns([DAY])


def _aligned(rows: pa.Table, exists: pa.Schema) -> pa.Table:
    """The rows with the table's spelling, and types that differ in columns of their own."""
    fields = {field.name.lower(): field for field in exists}
    names = []
    for field in rows.schema:
        name = field.name
        while (other := fields.get(name.lower())) is not None and other.type != field.type:
            name += f"__{NAMES.get(field.type, str(field.type))}"
        names.append(other.name if other is not None else name)
    return rows.rename_columns(names)


if __name__ == "__main__":  # a process of its own, whose memory goes with it
    logging.basicConfig(level=logging.WARNING)
    try:
        tidy(sys.argv[1], sweep=sys.argv[2] == "sweep")
    except BackendError as error:
        sys.exit(str(error))
