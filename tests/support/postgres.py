"""A real PostgreSQL server of the tests' own, in a temporary folder."""

import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psycopg
import pytest

from deployments.postgresql import postgresql
from lifecycle.runtime.servers import free_port

START_SECONDS = 60
USER = "lifecycle"
PASSWORD = "pg-Secret-9"  # noqa: S105 - of a server that lives as long as the tests


@dataclass(frozen=True)
class Postgres:
    """Where the server is; each test makes a database of its own with `database`."""

    port: int
    address: str = "127.0.0.1"
    user: str = USER
    password: str = PASSWORD

    def url(self, database: str = "postgres", driver: str = "psycopg") -> str:
        """A SQLAlchemy URL; `driver=""` gives `postgresql://`, as libpq has it."""
        scheme = f"postgresql+{driver}" if driver else "postgresql"
        return f"{scheme}://{self.user}:{self.password}@{self.address}:{self.port}/{database}"

    @contextmanager
    def database(self, name: str) -> Iterator[str]:
        """An empty database; its URL."""
        self._run(f'CREATE DATABASE "{name}"')
        try:
            yield self.url(name)
        finally:
            self._run(f'DROP DATABASE "{name}" WITH (FORCE)')

    def _run(self, statement: str) -> None:
        with psycopg.connect(self.url(driver=""), autocommit=True) as connection:
            connection.execute(statement)


@contextmanager
def running_postgres(address: str = "127.0.0.1") -> Iterator[Postgres]:
    """Start a server, and stop it at the end; root starts it as user `postgres`, as it must.

    Args:
        address: of a network of the tests' own, for clients on other hosts of it.
    """
    folder = Path(tempfile.mkdtemp(prefix="lifecycle-pg-"))
    folder.chmod(0o755)  # its own user passes through
    try:
        port = free_port()
        command = [*postgresql(folder / "server", port, USER, PASSWORD), "-c", "fsync=off"]
        command += ["-c", f"listen_addresses={address}"]
        with (folder / "server" / "data" / "pg_hba.conf").open("a") as clients:
            clients.write("host all all samenet scram-sha-256\n")
        with (folder / "log").open("wb") as log:
            server = subprocess.Popen(command, cwd=folder, stdout=log, stderr=log)
            try:
                made = Postgres(port, address)
                _wait(server, made, folder / "log")
                yield made
            finally:
                server.send_signal(2)  # SIGINT: end without waiting for clients
                try:
                    server.wait(30)
                except subprocess.TimeoutExpired:
                    server.kill()
                    server.wait()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _wait(server: "subprocess.Popen[bytes]", made: Postgres, log: Path) -> None:
    end = time.monotonic() + START_SECONDS
    while server.poll() is None and time.monotonic() < end:
        try:
            psycopg.connect(made.url(driver="")).close()
        except psycopg.OperationalError:
            time.sleep(0.1)
        else:
            return
    pytest.fail(f"PostgreSQL did not start: {log.read_text(errors='replace')[-2000:]}")
