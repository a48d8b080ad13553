"""The Delta table `labels`: what came true, when it was true, and when it was known.

The ledger only grows: a correction is a further row that was known later. So what was known at any
moment can be read again, to the digit (a bitemporal table: Snodgrass, *Developing Time-Oriented
Database Applications in SQL*, 1999). Its content is a set: the order in which rows arrive, and how
often, changes neither what is read nor the digest.
"""

import secrets
from datetime import UTC, datetime

import pyarrow as pa
import pyarrow.compute as pc
from deltalake import DeltaTable
from deltalake.exceptions import DeltaError, TableNotFoundError

from lifecycle.errors import BackendError, first_line
from lifecycle.lake.content import digest_of
from lifecycle.lake.inventory import BEGIN_ANEW, inventory
from lifecycle.lake.prediction_log import TIDY_EVERY, LogTable, rows_of, tidy
from lifecycle.lake.table import table_uri
from lifecycle.settings import Settings

TABLE = "labels"
MOMENT = pa.timestamp("us", "UTC")
SCHEMA = pa.schema(
    {
        "id": pa.string(),
        "entity": pa.string(),
        "time": MOMENT,
        "known_at": MOMENT,
        "value": pa.string(),
        "number": pa.float64(),
    }
)
"""A label is about the prediction `id`; without one, about the row of `entity` and `time`.

`time` is when it was true, `known_at` when it was known. A target that is text has its label in
`value`, any other in `number`.
"""
KEY = ["id", "entity", "time"]
ORDER = [(name, "ascending") for name in SCHEMA.names]


class Ledger:
    """A handle on a project's labels, for one thread; the table is made by the first append."""

    def __init__(self, settings: Settings, project_name: str) -> None:
        self.uri = table_uri(settings, project_name, TABLE)
        self._table = LogTable(self.uri, SCHEMA)
        self._writer = f"labels-{secrets.token_hex(8)}"
        self._written = 0

    def append(self, rows: pa.Table) -> bool:
        """Append labels in one commit, which many processes may do at the same time.

        Args:
            rows: of `SCHEMA`; without any, nothing is committed.

        Returns:
            Whether the table's small files are to be put together: `tidy` does.

        Raises:
            BackendError: the table cannot be written. Whether the rows are in it is not known
                then; appending them once more does no harm.
        """
        if not rows.num_rows:
            return False
        self._written += rows.num_rows
        return self._table.append(rows.cast(SCHEMA), self._writer, self._written) % TIDY_EVERY == 0

    def tidy(self) -> None:
        """Put small files together, and delete those that were replaced.

        Raises:
            BackendError: the table cannot be read or written.
        """
        tidy(self.uri, sweep=True)

    def rows(self, as_of: datetime | None = None) -> pa.Table:
        """Labels in no order; one that was delivered twice may be there twice.

        Args:
            as_of: only those that were known then.

        Raises:
            BackendError: the table cannot be read, or is damaged.
        """
        try:
            files = inventory(self.uri, DeltaTable(self.uri))
        except TableNotFoundError:
            return SCHEMA.empty_table()
        except (DeltaError, OSError) as error:
            raise BackendError(
                f"{self.uri}: cannot read: {first_line(error)}; if damage is the cause, "
                f"{BEGIN_ANEW}"
            ) from None
        parts = [rows_of(self.uri, file).select(SCHEMA.names).cast(SCHEMA) for file in files]
        table = pa.concat_tables(parts) if parts else SCHEMA.empty_table()
        if as_of is None:
            return table
        return table.filter(pc.less_equal(table["known_at"], pa.scalar(moment(as_of), MOMENT)))


def content(rows: pa.Table) -> pa.Table:
    """The labels as a set: each once, in an order that depends on nothing else."""
    return rows.group_by(SCHEMA.names).aggregate([]).select(SCHEMA.names).sort_by(ORDER)


def content_digest(rows: pa.Table) -> str:
    """SHA-256 over `content`: equal for ledgers that know the same."""
    return digest_of(content(rows).combine_chunks())


def moment(time: datetime) -> datetime:
    """A time with its zone; one without is in UTC."""
    return time.replace(tzinfo=UTC) if time.tzinfo is None else time.astimezone(UTC)
