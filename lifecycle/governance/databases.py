"""Persons in databases, Prefect's and MLflow's: searched, taken out of what holds them, compacted.

Nothing is known of a schema: every column that can hold text is read, row by row.
"""

from collections.abc import Iterator, Mapping
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
MIXED = (sa.Integer, sa.Numeric, sa.Boolean, sa.Date, sa.DateTime, sa.Time, sa.Interval, sa.Uuid)
"""Types that hold no text; but in SQLite any column may."""


@contextmanager
def open_database(url: str) -> Iterator[Engine]:
    """An engine that is closed again.

    Raises:
        BackendError: the database cannot be reached, read or written; names it without password.
    """
    shown = "a URL of a database"
    try:
        place = sa.make_url(url)
        shown = place.render_as_string(hide_password=True)
        arguments = {"timeout": PATIENCE} if place.get_backend_name() == "sqlite" else {}
        engine = sa.create_engine(place, connect_args=arguments)
        try:
            yield engine
        finally:
            engine.dispose()
    except SQLAlchemyError as error:
        cause: BaseException = getattr(error, "orig", None) or error
        raise BackendError(f"{shown}: {first_line(cause)}") from None
    except ModuleNotFoundError as error:
        raise BackendError(f"{shown}: its driver is not installed ({error})") from None


def search_database(engine: Engine, subject: Subject) -> dict[str, int]:
    """`table.column` → rows that hold a person."""
    found: dict[str, int] = {}
    with engine.connect() as connection:
        for table, columns in _texts(engine).items():
            for _, values in _rows(connection, table, columns):
                for column, value in zip(columns, values, strict=True):
                    if _held(value, subject):
                        name = f"{table}.{column}"
                        found[name] = found.get(name, 0) + 1
    return found


def redact_database(engine: Engine, subject: Subject) -> dict[str, int]:
    """Take the persons out of every cell; a row that cannot do without is deleted.

    Returns:
        Table → rows changed.
    """
    changed: dict[str, int] = {}
    for _ in range(ROUNDS):
        before = sum(changed.values())
        for table, columns in _texts(engine).items():
            with engine.connect() as connection:
                theirs = [
                    (key, values)
                    for key, values in _rows(connection, table, columns)
                    if any(_held(value, subject) for value in values)
                ]
            for key, values in theirs:
                _redact_row(engine, table, columns, key, values, subject)
                changed[table] = changed.get(table, 0) + 1
        if sum(changed.values()) == before:
            break
    return changed


def compact(engine: Engine, tables: dict[str, int]) -> None:
    """Leave nothing in free pages: what was deleted stays in a database file until they are used.

    Args:
        tables: those that were changed; a SQLite file is compacted whole.
    """
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        if engine.dialect.name == "sqlite":
            connection.execute(sa.text("VACUUM"))
            connection.execute(sa.text("PRAGMA wal_checkpoint(TRUNCATE)")).fetchall()
        elif engine.dialect.name == "postgresql":
            for table in tables:
                connection.execute(sa.text(f"VACUUM FULL {_quoted(engine, table)}"))


def _texts(engine: Engine) -> dict[str, list[str]]:
    """Table → its columns that can hold text."""
    inspector = sa.inspect(engine)
    loose = engine.dialect.name == "sqlite"
    found = {}
    for table in inspector.get_table_names():
        columns = inspector.get_columns(table)
        names = [c["name"] for c in columns if loose or not isinstance(c["type"], MIXED)]
        if names:
            found[table] = names
    return found


def _rows(
    connection: Connection, table: str, columns: list[str]
) -> Iterator[tuple[object, tuple[object, ...]]]:
    """Each row's own address in the table, and its values as text or bytes."""
    engine = connection.engine
    address, cast = ("rowid", "") if engine.dialect.name == "sqlite" else ("ctid::text", "::text")
    asked = ", ".join(f"{_quoted(engine, name)}{cast}" for name in columns)
    query = sa.text(f"SELECT {address}, {asked} FROM {_quoted(engine, table)}")  # noqa: S608 - quoted
    streamed = connection.execution_options(yield_per=BATCH).execute(query)
    for row in streamed:
        yield row[0], tuple(row[1:])


def _held(value: object, subject: Subject) -> bool:
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
        if _held(value, subject)
    }
    types = {c["name"]: c["type"] for c in sa.inspect(engine).get_columns(table)}
    sqlite = engine.dialect.name == "sqlite"
    sets = ", ".join(
        f"{_quoted(engine, columns[int(name[1:])])} = "
        + (f":{name}" if sqlite else f"CAST(:{name} AS {_type(engine, types, columns, name)})")
        for name in new
    )
    where = "rowid = :key" if sqlite else "ctid = CAST(:key AS tid)"
    place = _quoted(engine, table)
    try:
        with engine.begin() as connection:
            update = f"UPDATE {place} SET {sets} WHERE {where}"  # noqa: S608 - names are quoted
            connection.execute(sa.text(update), {**new, "key": key})
    except IntegrityError:  # a key, or a value that has to be unique
        with engine.begin() as connection:
            delete = f"DELETE FROM {place} WHERE {where}"  # noqa: S608 - as above
            connection.execute(sa.text(delete), {"key": key})


def _type(engine: Engine, types: Mapping[str, object], columns: list[str], name: str) -> str:
    kind = types[columns[int(name[1:])]]
    assert isinstance(kind, sa.types.TypeEngine)  # noqa: S101 - what an inspector gives
    return str(kind.compile(dialect=engine.dialect))


def _redacted(value: object, subject: Subject) -> object:
    if isinstance(value, bytes):
        text = value.decode("utf-8", errors="surrogateescape")
        return subject.redact(text).encode("utf-8", errors="surrogateescape")
    return subject.redact(str(value))


def _quoted(engine: Engine, name: str) -> str:
    return engine.dialect.identifier_preparer.quote_identifier(name)
