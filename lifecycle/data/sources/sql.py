"""A table, view or query of a database: through ADBC where it has Arrow's way in, else SQLAlchemy.

PostgreSQL, Snowflake and BigQuery stream Arrow through ADBC; any other database with a SQLAlchemy
dialect answers through a cursor on its server, rows by rows.
"""

import base64
import importlib.util
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, closing
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import sqlalchemy as sa
from sqlalchemy.exc import NoSuchModuleError

from lifecycle.data.sources.base import BATCH, At, Part, SpooledBatches
from lifecycle.data.sources.columns import column_of, declared, plain, sliced
from lifecycle.data.sources.credentials import Credentials
from lifecycle.data.sources.notation import Notation
from lifecycle.errors import SourceError
from lifecycle.project import ColumnSpec, SourceSpec
from lifecycle.project.data import without_secrets
from lifecycle.runtime.identity import sha256

Statement = sa.Select[Any] | sa.TextClause
SNOWFLAKE = {
    "role": "adbc.snowflake.sql.role",
    "warehouse": "adbc.snowflake.sql.warehouse",
}
BIGQUERY = {
    "credentials_base64": "adbc.bigquery.sql.auth_credentials",
    "credentials_path": "adbc.bigquery.sql.auth_credentials",
    "location": "adbc.bigquery.sql.location",
}
"""Parameters of a URL of SQLAlchemy's dialect → options of the ADBC driver."""


class Sql:
    """The answer to one query; a `Source` of one part."""

    def __init__(self, spec: SourceSpec, folder: Path, key: Sequence[str] = ()) -> None:
        """Remember where the database is; no connection is made.

        Args:
            folder: where the path of an SQLite file starts.
            key: columns that identify a row; the rows come in their order. Without them the order
                is the database's, and so is whether equal rows have an equal digest.

        Raises:
            SourceError: the credentials are not there, or are no URL.
        """
        self._spec, self._folder, self._key = spec, folder, tuple(key)
        self._notation = Notation(spec)
        self._credentials = Credentials(spec)
        try:
            url = sa.make_url(self._credentials.value or spec.path)
        except sa.exc.ArgumentError:
            where = f"credentials: {spec.credentials} holds" if spec.credentials else "path: it is"
            form = f"dialect://{'user:password@' if spec.credentials else ''}host/database"
            raise SourceError(f"source.{where} no SQLAlchemy URL ({form})") from None
        if url.get_backend_name() == "sqlite" and url.database not in (None, "", ":memory:"):
            url = url.set(database=str(folder / Path(str(url.database)).expanduser()))
        self._url = url
        self.place = without_secrets(url.set(password=None, query={}).render_as_string())
        self._name = spec.table or "query"
        self._place = spec.query_key if spec.table else f"the answer to {spec.query_key}"
        self._spool: SpooledBatches | None = None

    def parts(self) -> tuple[Part, ...]:
        """One. Without a watermark the whole answer is set aside, for `batches` to read, and its
        content is the digest; with one, the count, the highest watermark and the rows within
        `lateness` of it are.
        """
        with self._credentials.guard(self.place):
            if self._spec.incremental and self._watermark:
                lateness = self._spec.incremental.lateness
                return (Part(self._name, self._newest(self._watermark, lateness)),)
            if self._spool is None:
                self._spool = SpooledBatches(self._answer(self.select()))
            return (Part(self._name, self._spool.digest),)

    def at(self, number: int) -> At:
        """Place of a row: its number alone."""
        return At(f"{self.place}, {self._spec.query_key}", "", number)

    def batches(
        self,
        columns: Mapping[str, ColumnSpec],
        only: Collection[str] | None = None,
        after: object | None = None,
        subset: Collection[str] | None = None,
    ) -> Iterator[pa.RecordBatch]:
        """The rows, in the order of the watermark and the key."""
        if only is not None and self._name not in only:
            return
        rows = 0
        with self._credentials.guard(self.place):
            is_full = after is None and self._spool
            for batch in is_full.batches() if is_full else self._answer(self.select(after)):
                rows += batch.num_rows
                yield declared(batch, columns, self._notation)
        if not rows and after is None:
            raise SourceError(f"{self.place}: {self._place} has no rows")

    def select(self, after: object | None = None) -> Statement:
        """SQL statement: the table or query, rows above the watermark, in order."""
        watermark = self._watermark
        ordering = dict.fromkeys((*([watermark] if watermark else []), *self._key))
        order: list[Any] = [sa.column(name) for name in ordering]
        if self._spec.query and after is None and not order:
            return sa.text(_escaped(self._spec.query))
        statement = sa.select(sa.text("*")).select_from(self._from())
        if after is not None and watermark:
            statement = statement.where(sa.column(watermark) > sa.literal(_python(after)))
        return statement.order_by(*order) if order else statement

    def _connecting(self) -> AbstractContextManager[None]:
        return self._credentials.guard(self.place, f". Correct {self._url_key}")

    def _asking(self) -> AbstractContextManager[None]:
        """What the database refuses is a matter of the table or query, and of what orders it."""
        keys = ["source.table" if self._spec.table else "source.query"]
        keys += ["source.incremental.column"] if self._watermark else []
        keys += ["contract.key"] if self._key else []
        return self._credentials.guard(self.place, f". Correct {' or '.join(keys)}")

    @property
    def _url_key(self) -> str:
        """Where the URL is."""
        name = self._spec.credentials
        return f"the URL in {name}, which source.credentials names" if name else "source.path"

    @property
    def _watermark(self) -> str | None:
        return self._spec.incremental.column if self._spec.incremental else None

    def _from(self) -> Any:
        if self._spec.query:
            query = _escaped(self._spec.query.strip().rstrip(";"))
            return sa.text(f"({query}) AS source")
        schema, _, table = str(self._spec.table).rpartition(".")
        return sa.table(table, schema=schema or None)

    def _newest(self, watermark: str, lateness: float) -> str:
        """What changes with the rows that a later run would look at."""
        highest: Any = sa.func.max(sa.column(watermark))
        statement = sa.select(sa.func.count(), highest).select_from(self._from())
        rows: list[Any] = [row for rows in self._rows(statement) for row in rows]
        ((count, newest),) = rows
        digest = [self.place, self._name, count, str(newest)]
        if newest is not None and lateness:
            digest.append(
                SpooledBatches(self._answer(self.select(_below(newest, lateness)))).digest
            )
        return sha256(digest)

    def _answer(self, statement: Statement) -> Iterator[pa.RecordBatch]:
        options = None if self._spec.options else adbc_options(self._url)
        driver = f"adbc_driver_{self._url.get_backend_name()}"
        if options and importlib.util.find_spec(driver):
            yield from self._arrow(statement, f"{driver}.dbapi", options)
            return
        for rows in self._rows(statement):
            names = list(rows[0]._fields)
            yield pa.RecordBatch.from_arrays(
                [column_of(values) for values in zip(*rows, strict=True)], names=names
            )

    def _arrow(
        self, statement: Statement, driver: str, options: Mapping[str, str]
    ) -> Iterator[pa.RecordBatch]:
        dbapi = importlib.import_module(driver)
        try:
            dialect_class: Any = self._url.set(
                drivername=self._url.get_backend_name()
            ).get_dialect()
        except NoSuchModuleError as error:
            raise ImportError(str(error)) from None
        # with named parameters, percent signs are not doubled
        dialect: sa.Dialect = dialect_class(paramstyle="named")
        text = str(statement.compile(dialect=dialect, compile_kwargs={"literal_binds": True}))
        with self._connecting():
            url = options.get("uri")  # PostgreSQL's driver wants it alone
            connection = dbapi.connect(url) if url else dbapi.connect(db_kwargs=dict(options))
        with connection, connection.cursor() as cursor:
            with self._asking():
                cursor.execute(text)
            for batch in cursor.fetch_record_batch():
                names = self._differ(batch.schema.names)
                flat = [plain(column) for column in batch.columns]
                yield from sliced(pa.RecordBatch.from_arrays(flat, names=names))

    def _rows(self, statement: Statement) -> Iterator[Sequence[sa.Row[Any]]]:
        file = self._url.database if self._url.get_backend_name() == "sqlite" else None
        if file and not Path(file).is_file():  # SQLite would make an empty one
            raise SourceError(f"{self.place}: no file {file}; correct {self._url_key}")
        try:
            engine = sa.create_engine(self._url, **self._spec.options)
        except NoSuchModuleError as error:
            raise ImportError(str(error)) from None
        try:
            with self._connecting():
                connection = engine.connect()
            with connection:
                streamed = connection.execution_options(stream_results=True, yield_per=BATCH)
                with self._asking():
                    answer = streamed.execute(statement)
                with closing(answer) as result:
                    self._differ(list(result.keys()))
                    yield from result.partitions()
        finally:
            engine.dispose()

    def _differ(self, names: list[str]) -> list[str]:
        repeated = ", ".join(repr(name) for name in dict.fromkeys(names) if names.count(name) > 1)
        if repeated:
            raise SourceError(
                f"{self.place}: column names must differ, but {self._place} has more than one "
                f"{repeated}; rename them in a query"
            )
        return names


def adbc_options(url: sa.URL) -> dict[str, str] | None:
    """Options with which a database's ADBC driver connects; None where only SQLAlchemy understands
    the URL.

    Args:
        url: as SQLAlchemy's dialect of the database wants it.
    """
    query = {name: str(value) for name, value in url.query.items()}
    match url.get_backend_name():
        case "postgresql":
            text = url.set(drivername="postgresql").render_as_string(hide_password=False)
            return {"uri": text}
        case "snowflake" if query.keys() <= SNOWFLAKE.keys() and not url.port:
            database, _, schema = (url.database or "").partition("/")
            options = {
                "username": url.username,
                "password": url.password,
                "adbc.snowflake.sql.account": url.host,
                "adbc.snowflake.sql.db": database,
                "adbc.snowflake.sql.schema": schema,
                "adbc.snowflake.sql.client_option.disable_telemetry": "true",
            } | {SNOWFLAKE[name]: value for name, value in query.items()}
        case "bigquery" if query.keys() <= BIGQUERY.keys():
            kind = "adbc.bigquery.sql.auth_type"
            options = {
                "adbc.bigquery.sql.project_id": url.host,
                "adbc.bigquery.sql.dataset_id": url.database,
            } | {BIGQUERY[name]: value for name, value in query.items()}
            if "credentials_path" in query:
                options[kind] = f"{kind}.json_credential_file"
            if encoded := query.get("credentials_base64"):
                options[kind] = f"{kind}.json_credential_string"
                options[BIGQUERY["credentials_base64"]] = base64.b64decode(encoded).decode()
        case _:
            return None
    return {name: str(value) for name, value in options.items() if value}


def _escaped(query: str) -> str:
    return query.replace(":", "\\:")  # SQLAlchemy would take :name for a parameter


def _python(value: object) -> Any:
    """A number or time as a Python type, whichever driver returned it."""
    if hasattr(value, "to_pydatetime"):
        return value.to_pydatetime()
    return value.item() if hasattr(value, "item") else value


def _below(newest: Any, lateness: float) -> Any:
    if isinstance(newest, str):  # SQLite keeps times as text
        newest = datetime.fromisoformat(newest)
    if isinstance(newest, date):
        return newest - timedelta(days=lateness)
    return type(newest)(newest - lateness)
