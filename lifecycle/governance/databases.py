"""Persons in databases: SQLite files in `home` are redacted, databases of servers only searched.

Nothing is known of a schema: every column that can hold text is read, row by row. A server's rows
are not ours to change: other programs write them meanwhile, and only its own commands keep it
consistent. The search reports where they are and which command removes them.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Engine
from sqlalchemy.exc import IntegrityError, SQLAlchemyError

from lifecycle.errors import BackendError, first_line
from lifecycle.governance.subject import Subject

PATIENCE = 60
"""Seconds to wait for a server that writes to the same SQLite file."""
BATCH = 1000
ROUNDS = 3
"""A row that a server changed meanwhile is found in the next."""
DELETED_RUN = "delete the run, then remove it for good: mlflow runs delete --run-id ID; mlflow gc"
MLFLOW_TABLES = {
    "tags": "mlflow.MlflowClient().delete_tag(run_id, key)",
    "experiment_tags": "mlflow.MlflowClient().delete_experiment_tag(experiment_id, key)",
    "model_version_tags": "mlflow.MlflowClient().delete_model_version_tag(name, version, key)",
    "params": DELETED_RUN,
    "metrics": DELETED_RUN,
    "runs": DELETED_RUN,
    "model_versions": "mlflow.MlflowClient().update_model_version(name, version, description)",
}
"""What removes a text from a table of MLflow."""
PREFECT_RUNS = ("flow_run", "task_run", "log")
"""Beginnings of tables of Prefect whose rows go with a flow run."""
MIXED = (sa.Integer, sa.Numeric, sa.Boolean, sa.Date, sa.DateTime, sa.Time, sa.Interval, sa.Uuid)
"""Types that hold no text; but in SQLite any column may."""


@contextmanager
def open_database(url: str) -> Iterator[Engine]:
    """An engine that is closed again.

    Raises:
        BackendError: the database cannot be reached, read or written; names it without password.
    """
    label = "a URL of a database"
    try:
        place = sa.make_url(url)
        label = place.render_as_string(hide_password=True)
        arguments = {"timeout": PATIENCE} if place.get_backend_name() == "sqlite" else {}
        engine = sa.create_engine(place, connect_args=arguments)
        try:
            yield engine
        finally:
            engine.dispose()
    except SQLAlchemyError as error:
        cause: BaseException = getattr(error, "orig", None) or error
        raise BackendError(f"{label}: {first_line(cause)}") from None
    except ModuleNotFoundError as error:
        raise BackendError(f"{label}: its driver is not installed ({error})") from None


def search_database(engine: Engine, subject: Subject) -> dict[str, int]:
    """`table.column` → rows that hold a person."""
    counts: dict[str, int] = {}
    with engine.connect() as connection:
        for table, columns in _texts(engine).items():
            for _, values in _rows(connection, table, columns):
                for column, value in zip(columns, values, strict=True):
                    if _holds(value, subject):
                        name = f"{table}.{column}"
                        counts[name] = counts.get(name, 0) + 1
    return counts


def redact_file(engine: Engine, subject: Subject) -> dict[str, int]:
    """Take the persons out of every cell of a SQLite file in `home`; a row that cannot do without
    is deleted. Then compact it: what was deleted stays in free pages until they are used.

    Returns:
        Table → rows changed.
    """
    changed: dict[str, int] = {}
    for _ in range(ROUNDS):
        before = sum(changed.values())
        for table, columns in _texts(engine).items():
            with engine.connect() as connection:
                rows = [
                    (key, values)
                    for key, values in _rows(connection, table, columns)
                    if any(_holds(value, subject) for value in values)
                ]
            for key, values in rows:
                _redact_row(engine, table, columns, key, values, subject)
                changed[table] = changed.get(table, 0) + 1
        if sum(changed.values()) == before:
            break
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(sa.text("VACUUM"))
        connection.execute(sa.text("PRAGMA wal_checkpoint(TRUNCATE)")).fetchall()
    return changed


def way_out(column: str) -> str:
    """Return advice on removing rows with the product to which the database belongs.

    Args:
        column: `table.column`, as in the result of the search.
    """
    table = column.partition(".")[0]
    if table in MLFLOW_TABLES:
        return MLFLOW_TABLES[table]
    if table.startswith(PREFECT_RUNS):
        return "delete these runs: prefect flow-run delete ID"
    return "remove them with the program whose database it is"


def _texts(engine: Engine) -> dict[str, list[str]]:
    """Table → its columns that can hold text."""
    inspector = sa.inspect(engine)
    loose = engine.dialect.name == "sqlite"
    texts = {}
    for table in inspector.get_table_names():
        columns = inspector.get_columns(table)
        names = [c["name"] for c in columns if loose or not isinstance(c["type"], MIXED)]
        if names:
            texts[table] = names
    return texts


def _rows(
    connection: Connection, table: str, columns: list[str]
) -> Iterator[tuple[object, tuple[object, ...]]]:
    """Each row's own address in the table, and its values as text or bytes."""
    engine = connection.engine
    address, cast = ("rowid", "") if engine.dialect.name == "sqlite" else ("ctid::text", "::text")
    columns_sql = ", ".join(f"{_quoted(engine, name)}{cast}" for name in columns)
    query = sa.text(f"SELECT {address}, {columns_sql} FROM {_quoted(engine, table)}")  # noqa: S608 - quoted
    streamed = connection.execution_options(yield_per=BATCH).execute(query)
    for row in streamed:
        yield row[0], tuple(row[1:])


def _holds(value: object, subject: Subject) -> bool:
    if isinstance(value, bytes):
        return subject.holds(value)
    return value is not None and subject.holds(str(value).encode(errors="surrogateescape"))


def _redact_row(
    engine: Engine,
    table: str,
    columns: list[str],
    key: object,
    values: tuple[object, ...],
    subject: Subject,
) -> None:
    new = {
        f"v{at}": _redacted(value, subject)
        for at, value in enumerate(values)
        if _holds(value, subject)
    }
    place = _quoted(engine, table)
    cells = ", ".join(f"{_quoted(engine, columns[int(name[1:])])} = :{name}" for name in new)
    try:
        with engine.begin() as connection:
            update = f"UPDATE {place} SET {cells} WHERE rowid = :key"  # noqa: S608 - quoted
            connection.execute(sa.text(update), {**new, "key": key})
    except IntegrityError:  # a key, or a value that has to be unique
        with engine.begin() as connection:
            delete = f"DELETE FROM {place} WHERE rowid = :key"  # noqa: S608 - as above
            connection.execute(sa.text(delete), {"key": key})


def _redacted(value: object, subject: Subject) -> object:
    if isinstance(value, bytes):
        text = value.decode("utf-8", errors="surrogateescape")
        return subject.redact(text).encode("utf-8", errors="surrogateescape")
    return subject.redact(str(value))


def _quoted(engine: Engine, name: str) -> str:
    return engine.dialect.identifier_preparer.quote_identifier(name)
