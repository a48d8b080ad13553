"""An upgrade of an environment: tried on copies, then done by swapping them in, or not at all.

What is copied: the databases of MLflow and Prefect. What is only read: tables of the lake and
artifacts of MLflow. A version of a table, and a bundle, is never changed once it is written, and
each is verified by its digest when it is read, so that both interpreters read the same bytes.
"""

import fcntl
import sqlite3
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

from pydantic import ValidationError

from lifecycle.errors import BackendError, LifecycleError, SettingsError
from lifecycle.records import counted
from lifecycle.redaction import redact
from lifecycle.release.mlflow_store import relocate
from lifecycle.runtime.files import temporary_prefix, write_atomic
from lifecycle.runtime.servers import prefect_home
from lifecycle.runtime.warm_server import end_server, one_starter, running_server, unused
from lifecycle.settings import Settings
from lifecycle.upgrade.answers import ExchangedRecord, RegistryAnswers
from lifecycle.upgrade.databases import Database, Kind, SqliteDatabase, find_databases, revision_of
from lifecycle.upgrade.programs import Programs
from lifecycle.upgrade.report import Line, State, compare, listed

Tell = Callable[[str, str], None]
"""Takes what begins now: its subject and a text."""
STARTER_S = 60.0
"""Seconds to wait for a script that starts its Prefect server."""
LEAVING_S = 10.0
"""Seconds to wait for those who are about to close a database."""
POLL_S = 0.2
RECORD = "upgrade.json"


class UpgradeRecord(ExchangedRecord):
    """The last upgrade of an environment, in its `home`."""

    time: str
    backups: dict[Kind, str]
    """Names of the former databases."""
    finished: bool = False


class CopyPair(NamedTuple):
    """A database and its copy."""

    database: Database
    copy: Database


class UpgradeTrial(NamedTuple):
    """A rehearsal that went well: the migrated copies, and who looked at them."""

    pairs: list[CopyPair]
    former: Programs
    new: Programs
    before: RegistryAnswers


class Stop(Exception):
    """A step has failed; its line is in the report already."""


class Upgrade:
    """One upgrade from the running interpreter to another.

    Attributes:
        lines: the report so far.
    """

    def __init__(
        self, settings: Settings, projects: Sequence[Path], python: Path, tell: Tell
    ) -> None:
        self.lines: list[Line] = []
        self._settings, self._projects, self._python = settings, projects, python
        self._tell = tell
        now = datetime.now(UTC)
        self._time, self._stamp = f"{now:%Y-%m-%d %H:%M:%S} UTC", f"{now:%Y%m%d-%H%M%S}"

    def rehearse(self) -> bool:
        """Try everything on copies, while the environment may be in use.

        Returns:
            Whether all went well.

        Raises:
            LifecycleError: it cannot begin.
        """
        with self._locked_home():
            databases = self._databases()
            try:
                with self._trial(databases):
                    return True
            except Stop:
                return False

    def upgrade(self) -> bool:
        """Try everything on copies while nobody uses the databases, then swap the copies in.

        Returns:
            Whether the environment is upgraded; else it is as it was.

        Raises:
            LifecycleError: it cannot begin; or databases could not be put back, which `put_back`
                then does.
        """
        with self._locked_home():
            databases = self._databases()
            with self._idle(databases):
                marks = [database.mark() for database in databases]
                try:
                    with self._trial(databases) as trial:
                        self._replace(trial, marks)
                        return True
                except Stop:
                    return False

    def put_back(self) -> None:
        """Put the databases of before the last upgrade back; those of now are kept, too.

        Raises:
            LifecycleError: there is no upgrade to go back from, or the databases are in use.
        """
        with self._locked_home():
            record = self._record()
            if record is None:
                raise SettingsError(
                    f"no upgrade is recorded in {self._record_file}: there is nothing to go back to"
                )
            databases = find_databases(self._settings)
            with self._idle(databases):
                for database in databases:
                    self._put_back(database, record)
                self._record_file.unlink()

    def _put_back(self, database: Database, record: UpgradeRecord) -> None:
        backup = record.backups.get(database.kind, "")
        if not backup or not database.sibling(backup).exists():
            text = f"{database.place} was not replaced by the upgrade of {record.time}; left alone"
            self._add(database.kind, "ok" if backup and not record.finished else "warn", text)
            return
        later = database.backup(f"undone-{self._stamp}")
        database.swap(backup, later)
        text = f"{database.place} is that of before the upgrade of {record.time}; kept: {later}"
        self._add(database.kind, "ok", text)

    def _databases(self) -> list[Database]:
        """The databases of the environment.

        Raises:
            SettingsError: an upgrade was cut short, or there is none of MLflow.
        """
        record = self._record()
        if record is not None and not record.finished:
            raise SettingsError(
                f"the upgrade of {record.time} was cut short: `lifecycle upgrade --back` puts the "
                "former databases back"
            )
        return find_databases(self._settings)

    @contextmanager
    def _locked_home(self) -> Iterator[None]:
        """Keep another upgrade of this home away."""
        with (self._settings.folder() / ".upgrade.lock").open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise BackendError(
                    f"another upgrade of {self._settings.home} runs; wait for it"
                ) from None
            yield

    @contextmanager
    def _idle(self, databases: Sequence[Database]) -> Iterator[None]:
        """End a waiting Prefect server of scripts, and see that nobody has a database open.

        Raises:
            BackendError: somebody has.
        """
        home = prefect_home(self._settings)
        home.mkdir(parents=True, exist_ok=True)
        with ExitStack() as stack:
            try:
                stack.enter_context(one_starter(home, STARTER_S))
            except TimeoutError:
                raise BackendError(f"a script starts the Prefect server of {home}") from None
            if not stack.enter_context(unused(home)):
                raise BackendError(f"a script uses the Prefect server of {home}; wait for it")
            if (warm := running_server(home)) is not None:
                end_server(home, warm)
            _require_unused(databases)
            yield

    @contextmanager
    def _trial(self, databases: Sequence[Database]) -> Iterator[UpgradeTrial]:
        """Copies that were migrated and tried; removed in the end, unless they were swapped in.

        Raises:
            Stop: something is wrong; the report says what.
        """
        pairs: list[CopyPair] = []
        try:
            with TemporaryDirectory(prefix=temporary_prefix()) as name:
                folder = Path(name)
                former = Programs(Path(sys.executable), self._settings, folder / "former")
                new = Programs(self._python, self._settings, folder / "new")
                with self._step("copies", "copying the databases"):
                    for database in databases:
                        pairs.append(CopyPair(database, database.copy()))
                    self._relocate(pairs)
                places = ", ".join(database.place for database in databases)
                text = f"of {places}; lake ({redact(self._settings.lake)}) and artifacts: only read"
                self._add("copies", "ok", text)
                mlflow = next(pair.copy for pair in pairs if pair.copy.kind == "MLflow")
                with self._step("answers", f"asking every version by {former.python}"):
                    before = former.ask(mlflow)
                for pair in pairs:
                    self._migrate(pair.copy, new)
                with self._step("answers", f"asking every version by {new.python}"):
                    after = new.ask(mlflow)
                self.lines += compare(before, after, is_same=former.python == new.python)
                if any(line.state == "fail" for line in self.lines):
                    raise Stop
                self._serve(mlflow, new)
                yield UpgradeTrial(pairs, former, new, before)
        finally:
            for pair in pairs:
                pair.copy.remove()

    def _migrate(self, copy: Database, new: Programs) -> None:
        begin = time.monotonic()
        with self._step(copy.kind, f"migrating the copy by {new.python}"):
            before = revision_of(copy)
            new.migrate(copy)
            after = revision_of(copy)
        change = f"from {before} to {after}" if after != before else f"{after}, no change"
        seconds = time.monotonic() - begin
        self._add(copy.kind, "ok", f"copy migrated in {seconds:.0f} s: {change}")

    def _serve(self, mlflow: Database, new: Programs) -> None:
        with self._step("endpoint", f"serving the champion on loopback by {new.python}"):
            served = new.serve(mlflow, self._projects)
        for champion in served:
            if champion.version is None:
                text = f"{champion.name} has no champion, so that nothing was served"
                self._add("endpoint", "warn", text)
                continue
            rows = counted(champion.rows, "row")
            text = f"{champion.name} v{champion.version} answered {rows} over every protocol"
            self._add("endpoint", "ok", text)

    def _replace(self, trial: UpgradeTrial, marks: Sequence[str]) -> None:
        """Swap the copies in and look again; on any failure swap the former ones in.

        Args:
            marks: of the databases before they were copied.

        Raises:
            Stop: it failed, and everything is as it was.
        """
        with self._step("swap", "looking whether the databases are unused"):
            _require_unused([database for pair in trial.pairs for database in pair])
            for (database, _), mark in zip(trial.pairs, marks, strict=True):
                if database.mark() != mark:
                    raise BackendError(
                        f"{database.place} was written to meanwhile: end what does, and begin again"
                    )
        backups = {p.database.kind: p.database.backup(f"before-{self._stamp}") for p in trial.pairs}
        record, previous = UpgradeRecord(time=self._time, backups=backups), self._record()
        self._write(record)
        swapped: list[Database] = []
        try:
            with self._step("swap", "putting the copies in place"):
                for database, copy in trial.pairs:
                    database.swap(copy.name, backups[database.kind])
                    swapped.append(database)
            with self._step("check", f"looking at what is in place by {trial.new.python}"):
                _check_list(trial.new, swapped, trial.before)
        except BaseException:
            self._undo(swapped, backups, previous, trial)
            raise
        self._write(record.model_copy(update={"finished": True}))
        names = ", ".join(backups.values())
        self._add("swap", "ok", f"the migrated databases are in place; kept: {names}")

    def _undo(
        self,
        swapped: Sequence[Database],
        backups: Mapping[Kind, str],
        previous: UpgradeRecord | None,
        trial: UpgradeTrial,
    ) -> None:
        """Swap the former databases in, and look at them by the former interpreter."""
        begin = time.monotonic()
        _require_unused(swapped)  # the program that looked may be leaving
        for database in swapped:
            failed = database.backup(f"failed-{self._stamp}")
            database.swap(backups[database.kind], failed)
            database.sibling(failed).remove()
        if previous is None:
            self._record_file.unlink()
        else:
            self._write(previous)
        if not swapped:
            return
        seconds = time.monotonic() - begin
        with self._step("back", f"looking at the former databases by {trial.former.python}"):
            _check_list(trial.former, swapped, trial.before)
        self._add("back", "ok", f"the former databases were in place again after {seconds:.1f} s")

    def _relocate(self, pairs: Sequence[CopyPair]) -> None:
        """As a flow does when `home` was moved: the copy names artifacts where they are now."""
        for pair in pairs:
            if pair.copy.kind == "MLflow" and isinstance(pair.copy, SqliteDatabase):
                relocate(pair.copy.file, self._settings)

    @contextmanager
    def _step(self, subject: str, text: str) -> Iterator[None]:
        """Tell what begins; what goes wrong becomes a line of the report.

        Raises:
            Stop: it went wrong.
        """
        self._tell(subject, text)
        try:
            yield
        except (LifecycleError, ValidationError, sqlite3.Error, OSError) as error:
            self._add(subject, "fail", redact(" ".join(str(error).split())))
            raise Stop from None

    def _add(self, subject: str, state: State, text: str) -> None:
        self.lines.append(Line(subject, state, text))

    @property
    def _record_file(self) -> Path:
        return self._settings.home / RECORD

    def _record(self) -> UpgradeRecord | None:
        try:
            return UpgradeRecord.model_validate_json(self._record_file.read_bytes())
        except FileNotFoundError:
            return None
        except (OSError, ValidationError) as error:
            raise SettingsError(f"{self._record_file} cannot be read: {error}") from None

    def _write(self, record: UpgradeRecord) -> None:
        write_atomic(self._record_file, record.model_dump_json(indent=1), 0o600)


def _check_list(programs: Programs, databases: Sequence[Database], before: RegistryAnswers) -> None:
    """See that an interpreter lists the same versions, with the same aliases.

    Raises:
        BackendError: it does not.
    """
    mlflow = next((database for database in databases if database.kind == "MLflow"), None)
    if mlflow is not None and listed(programs.list_versions(mlflow)) != listed(before):
        raise BackendError(f"{programs.python} lists other versions in {mlflow.place} than before")


def _require_unused(databases: Sequence[Database]) -> None:
    """See that no other process has one of the databases open.

    Raises:
        BackendError: one has, and does not leave.
    """
    end = time.monotonic() + LEAVING_S
    for database in databases:
        while users := database.users():
            if time.monotonic() > end:
                raise BackendError(
                    f"{database.place} is in use by {', '.join(users)}: end servers, workers and "
                    "scripts of this environment first; the endpoint goes on without them"
                )
            time.sleep(POLL_S)
