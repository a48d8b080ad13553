"""A real PostgreSQL server of the tests' own, in a temporary folder, on the loopback."""

import os
import pwd
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

from tests.support.ports import free_port

BINARIES = "/usr/lib/postgresql"
START_SECONDS = 60
USER = "lifecycle"
PASSWORD = "pg-Secret-9"  # noqa: S105 - of a server that lives as long as the tests


@dataclass(frozen=True)
class Postgres:
    """Where the server is; each test makes a database of its own with `database`."""

    port: int
    user: str = USER
    password: str = PASSWORD

    def url(self, database: str = "postgres", driver: str = "psycopg") -> str:
        """A SQLAlchemy URL; `driver=""` gives `postgresql://`, as libpq has it."""
        scheme = f"postgresql+{driver}" if driver else "postgresql"
        return f"{scheme}://{self.user}:{self.password}@127.0.0.1:{self.port}/{database}"

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
def running_postgres() -> Iterator[Postgres]:
    """Start a server, and stop it at the end; root starts it as user `postgres`, as it must."""
    binaries = _binaries()
    owner = "postgres" if os.geteuid() == 0 else None
    folder = Path(tempfile.mkdtemp(prefix="lifecycle-pg-"))
    try:
        if owner:
            account = pwd.getpwnam(owner)
            os.chown(folder, account.pw_uid, account.pw_gid)
        secret = folder / "password"
        secret.write_text(PASSWORD)
        secret.chmod(0o644)  # the folder itself is its owner's alone
        data = folder / "data"
        make = [f"{binaries}/initdb", "-D", str(data), "-U", USER, f"--pwfile={secret}"]
        make += ["--auth=scram-sha-256", "--encoding=UTF8", "--locale=C", "--no-sync"]
        made = subprocess.run(make, user=owner, cwd=folder, capture_output=True, text=True)
        if made.returncode:
            pytest.fail(f"initdb: {made.stderr}")
        port = free_port()
        options = {"listen_addresses": "127.0.0.1", "port": port, "fsync": "off"}
        options |= {"unix_socket_directories": "", "max_connections": 50}
        command = [f"{binaries}/postgres", "-D", str(data)]
        command += [part for key, value in options.items() for part in ("-c", f"{key}={value}")]
        with (folder / "log").open("wb") as log:
            server = subprocess.Popen(command, user=owner, cwd=folder, stdout=log, stderr=log)
            try:
                _wait(server, port, folder / "log")
                yield Postgres(port)
            finally:
                server.send_signal(2)  # SIGINT: end without waiting for clients
                try:
                    server.wait(30)
                except subprocess.TimeoutExpired:
                    server.kill()
                    server.wait()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _binaries() -> Path:
    found = sorted(Path(BINARIES).glob("*/bin/initdb"))
    found += [Path(known) for known in (shutil.which("initdb"),) if known and not found]
    if not found:
        pytest.fail(
            f"no PostgreSQL server under {BINARIES}: install Debian's package with "
            "`apt-get install -y postgresql`"
        )
    return found[-1].parent


def _wait(server: "subprocess.Popen[bytes]", port: int, log: Path) -> None:
    place = f"host=127.0.0.1 port={port} user={USER} password={PASSWORD} dbname=postgres"
    end = time.monotonic() + START_SECONDS
    while server.poll() is None and time.monotonic() < end:
        try:
            psycopg.connect(place).close()
        except psycopg.OperationalError:
            time.sleep(0.1)
        else:
            return
    pytest.fail(f"PostgreSQL did not start: {log.read_text(errors='replace')[-2000:]}")
