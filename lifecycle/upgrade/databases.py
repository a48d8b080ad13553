"""Databases of an environment: found, copied, and swapped with a copy that was migrated.

A migration never runs on a database in use. It runs on a copy, which takes the former one's name
when everything was tried: for SQLite a link and a rename, for PostgreSQL two renames in one
transaction. The former one is kept under a name of its own, so that going back is the same step
and takes as long, whatever the size.
"""

import os
import secrets
import shutil
import sqlite3
import subprocess
from collections.abc import Iterator
from contextlib import AbstractContextManager, closing, contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

import sqlalchemy as sa
from sqlalchemy.exc import SQLAlchemyError

from lifecycle.environments import own_prefix
from lifecycle.errors import BackendError, SettingsError, first_line
from lifecycle.redaction import redact
from lifecycle.runtime.files import sweep_files
from lifecycle.runtime.identity import file_digest
from lifecycle.runtime.servers import DATABASE, prefect_home
from lifecycle.settings import SERVED, SQLITE, Settings, sqlite_file, sqlite_url

if TYPE_CHECKING:
    import psycopg

Kind = Literal["MLflow", "Prefect", "users"]
"""`users` is that of who may ask an MLflow server, by basic authentication, unless MLflow's own has
their tables, too."""
REVISIONS = {"users": "alembic_version_auth"}
"""Where it is not `alembic_version`: the table with the state of a database's tables."""
MARKS: dict[str, Kind] = {
    "registered_models": "MLflow",
    "flow_run": "Prefect",
    REVISIONS["users"]: "users",
}
"""A table that tells whose database it is."""
PATIENCE_S = 60
"""Seconds to wait for another writer of a SQLite file."""
MAINTENANCE = "postgres"
"""Database of a PostgreSQL server to which one connects to rename others."""
MAX_NAME = 63
"""Bytes of a name in PostgreSQL."""
DEBIAN = Path("/usr/lib/postgresql")


class Database(Protocol):
    """A database of MLflow, of its users or of Prefect, or a copy of one."""

    @property
    def kind(self) -> Kind:
        """The program that it belongs to."""

    @property
    def place(self) -> str:
        """Its place, for people: without a password."""

    @property
    def url(self) -> str:
        """SQLAlchemy URL with the driver that its own program uses; may hold a password."""

    @property
    def plain_url(self) -> str:
        """The same for a client that waits for each answer."""

    def users(self) -> list[str]:
        """Processes or connections that have it open, apart from this process."""

    def mark(self) -> str:
        """A text that every write to it changes.

        Raises:
            BackendError: it cannot be read.
        """

    def copy(self) -> "Database":
        """A copy next to it, of one moment, while others may write.

        Raises:
            BackendError: it cannot be made.
        """

    def remove(self) -> None:
        """Remove it, of copies and what failed; nothing happens if it is gone."""

    def backup(self, suffix: str) -> str:
        """A name for it once it is replaced."""

    def exists(self) -> bool:
        """Return whether it is there."""

    def sibling(self, name: str) -> "Database":
        """The database of another name next to it, such as a backup."""

    def swap(self, new: str, old: str) -> None:
        """Put another database in this one's place, which is called `old` from then on.

        Args:
            new: `name` of a copy, or a backup.

        Raises:
            BackendError: it cannot be done; everything is where it was.
        """

    @property
    def name(self) -> str:
        """Name by which `swap` takes it."""


@dataclass(frozen=True)
class SqliteDatabase:
    """A SQLite file."""

    kind: Kind
    file: Path

    @property
    def place(self) -> str:
        return str(self.file)

    @property
    def name(self) -> str:
        return str(self.file)

    @property
    def url(self) -> str:
        if self.kind != "Prefect":
            return self.plain_url
        return f"sqlite+aiosqlite:///{self.plain_url.partition(':///')[2]}"

    @property
    def plain_url(self) -> str:
        return sqlite_url(self.file)

    def users(self) -> list[str]:
        """Processes that have the file open; on Linux those that this user may look at."""
        place, processes = str(self.file.resolve()), set()
        for link in Path("/proc").glob("[0-9]*/fd/*"):
            with suppress(OSError):
                if os.readlink(link) == place:
                    processes.add(link.parts[2])
        return [f"process {number}" for number in sorted(processes - {str(os.getpid())})]

    def mark(self) -> str:
        try:
            _settle(self.file)
            return file_digest(self.file)
        except (sqlite3.Error, OSError) as error:
            raise BackendError(f"{self.file} cannot be read: {first_line(error)}") from None

    def copy(self) -> "SqliteDatabase":
        sweep_files(self.file.parent, f".{self.file.name}.")
        name = f".{self.file.name}.{os.getpid()}-{secrets.token_hex(4)}"
        copy = replace(self, file=self.file.with_name(name))
        try:
            with (
                closing(sqlite3.connect(self.file, timeout=PATIENCE_S)) as source,
                closing(sqlite3.connect(copy.file)) as target,
            ):
                source.backup(target)
            shutil.copymode(self.file, copy.file)
            owner = self.file.stat()
            with suppress(PermissionError):
                os.chown(copy.file, owner.st_uid, owner.st_gid)
        except (sqlite3.Error, OSError) as error:
            copy.remove()
            raise BackendError(f"{self.file} cannot be copied: {first_line(error)}") from None
        return copy

    def remove(self) -> None:
        for end in ("", "-journal", "-wal", "-shm"):
            Path(f"{self.file}{end}").unlink(missing_ok=True)

    def backup(self, suffix: str) -> str:
        return str(self.file.with_name(f"{self.file.name}.{suffix}"))

    def exists(self) -> bool:
        return self.file.is_file()

    def sibling(self, name: str) -> "SqliteDatabase":
        return replace(self, file=Path(name))

    def swap(self, new: str, old: str) -> None:
        try:
            _settle(Path(new))
            _settle(self.file)
            os.link(self.file, old)  # so that there is no moment without a database
            Path(new).replace(self.file)
            Path(new).unlink(missing_ok=True)  # of one file under both names, which stay
            _sync(self.file.parent)
        except (sqlite3.Error, OSError) as error:
            raise BackendError(f"{self.file} cannot be replaced: {first_line(error)}") from None


def _settle(file: Path) -> None:
    """Have all of a database in its one file, and on disk."""
    with closing(sqlite3.connect(file, timeout=PATIENCE_S)) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    _sync(file)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@dataclass(frozen=True)
class PostgresDatabase:
    """A database of a PostgreSQL server."""

    kind: Kind
    address: sa.URL

    @property
    def place(self) -> str:
        return f"{self.name} at {self.address.host or 'the local server'}"

    @property
    def name(self) -> str:
        return self.address.database or ""

    @property
    def url(self) -> str:
        if self.kind != "Prefect":
            return self.plain_url
        query = {("ssl" if key == "sslmode" else key): v for key, v in self.address.query.items()}
        return _text(self.address.set(drivername="postgresql+asyncpg", query=query))

    @property
    def plain_url(self) -> str:
        return _text(self.address.set(drivername="postgresql+psycopg"))

    def users(self) -> list[str]:
        """Connections to it, by program and machine."""
        statement = (
            "SELECT DISTINCT coalesce(nullif(application_name, ''), 'a client') || ' from ' "
            "|| coalesce(host(client_addr), 'this machine') FROM pg_stat_activity "
            "WHERE datname = %s AND backend_type = 'client backend' "
            "AND pid <> pg_backend_pid() ORDER BY 1"
        )
        with self._maintenance() as connection:
            return [row[0] for row in connection.execute(statement, (self.name,))]

    def mark(self) -> str:
        with self._connected(self.name) as connection:
            return str(connection.execute(WRITES).fetchone())

    def copy(self) -> "PostgresDatabase":
        copy = self.sibling(self._derived("upgrade"))
        copy.remove()  # of an upgrade that was killed
        try:
            if self.users():  # PostgreSQL copies no database that is in use
                self._make(copy.name)
                self._dump_into(copy)
            else:
                self._make(copy.name, template=self.name)
        except BaseException:
            copy.remove()
            raise
        return copy

    def remove(self) -> None:
        with self._maintenance() as connection:
            connection.execute(f"DROP DATABASE IF EXISTS {_quoted(self.name)}")

    def backup(self, suffix: str) -> str:
        return self._derived(suffix)

    def exists(self) -> bool:
        with self._maintenance() as connection:
            return _single(connection, "SELECT true FROM pg_database", (self.name,)) is not None

    def sibling(self, name: str) -> "PostgresDatabase":
        return replace(self, address=self.address.set(database=name))

    def swap(self, new: str, old: str) -> None:
        names = ((self.name, old), (new, self.name))
        with self._maintenance() as connection, connection.transaction():
            for before, after in names:
                rename = f"ALTER DATABASE {_quoted(before)} RENAME TO {_quoted(after)}"
                connection.execute(rename)

    def _derived(self, end: str) -> str:
        return f"{self.name[: MAX_NAME - 1 - len(end)]}_{end}"

    def _make(self, name: str, template: str = "") -> None:
        """Make a database like this one, whose rows it has if this one is its template.

        PostgreSQL itself copies neither who may connect nor the settings of a database.
        """
        own = (self.name,)
        with self._maintenance() as connection:
            owner = _single(connection, "SELECT pg_get_userbyid(datdba) FROM pg_database", own)
            place, source = _quoted(name), f" TEMPLATE {_quoted(template or 'template0')}"
            encoding = "" if template else f" ENCODING {_literal(self._encoding(connection))}"
            create = f"CREATE DATABASE {place} OWNER {_quoted(str(owner))}{source}{encoding}"
            connection.execute(create)
            if _single(connection, "SELECT datacl FROM pg_database", own) is not None:
                connection.execute(f"REVOKE ALL ON DATABASE {place} FROM PUBLIC")
            for right, role, grantable in connection.execute(RIGHTS, own).fetchall():
                option = " WITH GRANT OPTION" if grantable else ""
                to = _quoted(role) if role else "PUBLIC"
                connection.execute(f"GRANT {right} ON DATABASE {place} TO {to}{option}")
            for setting in connection.execute(CONFIGURATION, own).fetchall():
                key, _, value = setting[0].partition("=")
                change = f"ALTER DATABASE {place} SET {_quoted(key)} TO {_literal(value)}"
                connection.execute(change)

    def _encoding(self, connection: "psycopg.Connection[Any]") -> str:
        query = "SELECT pg_encoding_to_char(encoding) FROM pg_database"
        return str(_single(connection, query, (self.name,)))

    def _dump_into(self, copy: "PostgresDatabase") -> None:
        """Copy by the server's own programs, which take one moment of a database in use."""
        options = ["--no-owner", "--no-privileges"]
        password = str(self.address.password or "")
        variables = {**os.environ, **({"PGPASSWORD": password} if password else {})}
        dump = [_program("pg_dump"), "--format=custom", *options, self._libpq]
        restore = [_program("pg_restore"), "--exit-on-error", *options, "--dbname", copy._libpq]
        with subprocess.Popen(  # noqa: S603 - PostgreSQL's programs
            dump, env=variables, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        ) as source:
            target = subprocess.run(  # noqa: S603 - as above
                restore, env=variables, stdin=source.stdout, capture_output=True, check=False
            )
            _, problem = source.communicate()
        if source.returncode or target.returncode:
            text = (problem + target.stderr).decode(errors="replace").strip().splitlines()
            raise BackendError(f"{self.place} cannot be copied: {redact(' '.join(text[:2]))}")

    @property
    def _libpq(self) -> str:
        """Its URL as PostgreSQL's programs take it, without the password: others see arguments."""
        return _text(self.address.set(drivername="postgresql", password=None))

    def _maintenance(self) -> "AbstractContextManager[psycopg.Connection[Any]]":
        return self._connected(MAINTENANCE)

    @contextmanager
    def _connected(self, name: str) -> "Iterator[psycopg.Connection[Any]]":
        try:
            import psycopg
        except ModuleNotFoundError:
            raise BackendError(
                "psycopg is not installed: install lifecycle-flows[postgresql]"
            ) from None

        address = self.address.set(drivername="postgresql", database=name)
        try:
            with psycopg.connect(_text(address), autocommit=True) as connection:
                yield connection
        except psycopg.Error as error:
            reason = redact(first_line(error))
            raise BackendError(
                f"{self.place}: {reason}; the role needs CREATEDB and the database for its own"
            ) from None


WRITES = "SELECT sum(n_tup_ins + n_tup_upd + n_tup_del) FROM pg_stat_user_tables"
"""Of programs alone: what PostgreSQL notes of itself, as autovacuum does, is in other tables."""
RIGHTS = """
SELECT a.privilege_type, r.rolname, a.is_grantable
FROM pg_database d, aclexplode(d.datacl) a LEFT JOIN pg_roles r ON r.oid = a.grantee
WHERE d.datname = %s
"""
CONFIGURATION = """
SELECT unnest(s.setconfig) FROM pg_db_role_setting s JOIN pg_database d ON d.oid = s.setdatabase
WHERE d.datname = %s AND s.setrole = 0
"""


def find_databases(settings: Settings) -> list[Database]:
    """The databases of MLflow, Prefect and users that an environment names, in this order.

    Raises:
        BackendError: one cannot be read.
        SettingsError: there is none of MLflow, or there are two of one kind.
    """
    urls = settings.databases.get_secret_value().split() if settings.databases else []
    if not settings.tracking_uri.startswith(SERVED):
        urls.append(settings.tracking_uri)
    own = [os.environ[name] for name in DATABASE if os.environ.get(name)]
    file = prefect_home(settings) / "prefect.db"
    if not own and not os.environ.get("PREFECT_API_URL") and file.is_file():
        own.append(sqlite_url(file))
    databases: dict[str, Database] = {}
    for url in (*urls, *own):
        if (database := open_database(url)) is not None:
            databases[database.plain_url] = database
    kinds = [database.kind for database in databases.values()]
    for kind in set(kinds):
        if kinds.count(kind) > 1:
            raise SettingsError(
                f"LIFECYCLE_DATABASES names {kinds.count(kind)} databases of {kind}: name those of "
                f"{settings.env} alone, others are not its to change; in a shell that works in "
                f"several environments by {own_prefix(settings.env)}DATABASES"
            )
    if "MLflow" not in kinds:
        raise SettingsError(
            f"no database of MLflow is known for {settings.env}: LIFECYCLE_DATABASES names those "
            "behind its servers, and without a server nothing was registered yet"
        )
    return sorted(databases.values(), key=lambda database: database.kind)


def open_database(url: str) -> Database | None:
    """The database of a URL, if an upgrade migrates it; None for another or no file.

    Raises:
        BackendError: it cannot be read, or is of a kind that is not known here.
    """
    if url.replace("+aiosqlite", "").startswith(SQLITE):
        file = sqlite_file(url).resolve()  # what a link points to is what is replaced
        kind = _kind(sqlite_url(file)) if file.is_file() else None
        return SqliteDatabase(kind, file) if kind else None
    try:
        address = sa.make_url(url)
    except SQLAlchemyError:
        raise BackendError(f"{redact(url)} is not the URL of a database") from None
    if address.get_backend_name() != "postgresql":
        raise BackendError(
            f"{redact(url)}: only SQLite and PostgreSQL can be copied and put back by this; follow "
            "the programs' own instructions"
        )
    kind = _kind(_text(address.set(drivername="postgresql+psycopg")))
    return PostgresDatabase(kind, address) if kind else None


def revision_of(database: Database) -> str:
    """The state of its tables by its own count; empty if it does not say.

    Raises:
        BackendError: it cannot be read.
    """
    table = sa.table(REVISIONS.get(database.kind, "alembic_version"), sa.column("version_num"))
    with _reading(database.plain_url) as engine, engine.connect() as connection:
        if not sa.inspect(connection).has_table(table.name):
            return ""
        return ", ".join(sorted(connection.execute(sa.select(table.c.version_num)).scalars()))


def _kind(url: str) -> Kind | None:
    with _reading(url) as engine:
        tables = set(sa.inspect(engine).get_table_names())
    return next((kind for table, kind in MARKS.items() if table in tables), None)


@contextmanager
def _reading(url: str) -> Iterator[sa.Engine]:
    try:
        engine = sa.create_engine(url)
        try:
            yield engine
        finally:
            engine.dispose()
    except (SQLAlchemyError, ImportError) as error:
        raise BackendError(f"{redact(url)} cannot be read: {first_line(error)}") from None


def _text(address: sa.URL) -> str:
    return address.render_as_string(hide_password=False)


def _quoted(name: str) -> str:
    """A name in PostgreSQL."""
    doubled = name.replace('"', '""')
    return f'"{doubled}"'


def _literal(text: str) -> str:
    doubled = text.replace("'", "''")
    return f"'{doubled}'"


def _single(connection: "psycopg.Connection[Any]", query: str, values: tuple[str, ...]) -> object:
    row = connection.execute(f"{query} WHERE datname = %s", values).fetchone()
    return row[0] if row else None


def _program(name: str) -> str:
    newest = sorted(DEBIAN.glob(f"*/bin/{name}"), key=lambda file: float(file.parts[-3]))
    if program := (str(newest[-1]) if newest else shutil.which(name)):
        return program
    raise BackendError(
        f"{name} is not installed, which copies a database in use: `apt-get install "
        "postgresql-client` installs it, or end all that is connected first"
    )
