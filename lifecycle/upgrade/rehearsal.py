"""An upgrade of an environment: tried on copies, then done by swapping them in, or not at all.

What is copied: the databases of MLflow and Prefect. What is only read: tables of the lake and
artifacts of MLflow. A version of a table, and a bundle, is never changed once it is written, and
each is verified by its digest when it is read, so that both interpreters read the same bytes.
Programs of the rehearsal have a `home` of their own, which is deleted.
"""

import fcntl
import os
import secrets
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Literal, NamedTuple

from pydantic import ValidationError

from lifecycle.data.privacy import FILE as PII_KEY_FILE
from lifecycle.errors import BackendError, LifecycleError, SettingsError
from lifecycle.records import counted
from lifecycle.redaction import redact
from lifecycle.release.mlflow_store import relocate
from lifecycle.runtime.files import temporary_prefix, write_atomic
from lifecycle.runtime.process import TELEMETRY, die_with_parent
from lifecycle.runtime.servers import (
    DATABASE,
    HOST,
    answers,
    free_port,
    mlflow_users,
    prefect_home,
    server,
)
from lifecycle.runtime.warm_server import end_server, one_starter, running_server, unused
from lifecycle.settings import SERVED, Settings
from lifecycle.upgrade.answers import Answers, ServedChampions, Tolerant, VersionAnswers
from lifecycle.upgrade.databases import (
    Database,
    Kind,
    SqliteDatabase,
    find_databases,
    revision_of,
)

State = Literal["ok", "warn", "fail"]
Tell = Callable[[str, str], None]
"""Takes what begins now: its subject and a text."""
NAMED = ("python", "lifecycle-flows", "mlflow", "prefect", "ray", "xgboost")
"""Packages whose versions a report names."""
MAX_SHOWN = 5
"""Versions of models that a line names."""
STARTER_S = 60.0
"""Seconds to wait for a script that starts its Prefect server."""
UPGRADE_MLFLOW = (
    "import os, runpy, sys; sys.argv = ['mlflow', 'db', 'upgrade', os.environ['UPGRADE_URL']]; "
    "runpy.run_module('mlflow', run_name='__main__', alter_sys=True)"
)
"""`mlflow db upgrade` with a URL that nobody else sees: arguments of a process are public."""
ANSWERS, ENDPOINT = "lifecycle.upgrade.answers", "tasks.upgrade"
"""Programs that an interpreter must have."""
RECORD = "upgrade.json"


class Line(NamedTuple):
    """One line of a report."""

    subject: str
    state: State
    text: str


class UpgradeRecord(Tolerant):
    """The last upgrade of an environment, in its `home`."""

    time: str
    python: str
    """The former interpreter."""
    backups: dict[Kind, str]
    """Names of the former databases."""
    finished: bool = False


class Pair(NamedTuple):
    """A database and its copy."""

    database: Database
    copy: Database


class Stop(Exception):  # noqa: N818 - no error: its line is in the report already
    """A step has failed."""


class Upgrade:
    """One upgrade from the running interpreter to another.

    Attributes:
        lines: the report so far.
    """

    def __init__(
        self, settings: Settings, projects: Sequence[Path], python: Path, tell: Tell
    ) -> None:
        self.lines: list[Line] = []
        self._settings, self._projects, self._tell = settings, projects, tell
        self._former, self._new = Path(sys.executable), python
        self._stamp = f"{datetime.now(UTC):%Y%m%d-%H%M%S}"

    def rehearse(self) -> bool:
        """Try everything on copies, with the environment in use; whether all of it went well.

        Raises:
            LifecycleError: it cannot begin.
        """
        databases = self._begin()
        with self._alone():
            try:
                with self._tried(databases):
                    return True
            except Stop:
                return False

    def upgrade(self) -> bool:
        """Try everything on copies while nobody uses the databases, then swap the copies in.

        Returns:
            Whether the environment is upgraded; else it is as it was.

        Raises:
            LifecycleError: it cannot begin.
        """
        databases = self._begin()
        with self._alone(), self._unused(databases):
            try:
                with self._tried(databases) as (pairs, former):
                    self._replace(pairs, former)
                    return True
            except Stop:
                return False

    def put_back(self) -> bool:
        """Put the databases of before the last upgrade back; those of now are kept, too.

        Raises:
            LifecycleError: there is no upgrade to go back from, or the databases are in use.
        """
        record = self._record()
        if record is None:
            raise SettingsError(
                f"no upgrade is recorded in {self._record_file}, so there is nothing to go back to"
            )
        databases = find_databases(self._settings)
        with self._alone(), self._unused(databases):
            for database in databases:
                backup = record.backups.get(database.kind)
                if backup and database.named(backup).exists():
                    later = database.backup(f"{self._stamp}-undone")
                    database.swap(backup, later)
                    text = f"{database.place} is that of before {record.time}; kept: {later}"
                    self._add(database.kind, "ok", text)
                else:
                    self._add(database.kind, "warn", f"{database.place} has no backup; left alone")
            self._record_file.unlink()
        return True

    def _begin(self) -> list[Database]:
        """The databases.

        Raises:
            SettingsError: an upgrade was cut short, or there are none.
        """
        record = self._record()
        if record is not None and not record.finished:
            raise SettingsError(
                f"the upgrade of {record.time} was cut short: `lifecycle upgrade --back` puts the "
                "former databases back"
            )
        return find_databases(self._settings)

    @contextmanager
    def _alone(self) -> Iterator[None]:
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
    def _unused(self, databases: Sequence[Database]) -> Iterator[None]:
        """End a waiting Prefect server, and see that nobody has a database open.

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
    def _tried(self, databases: Sequence[Database]) -> Iterator[tuple[list[Pair], Answers]]:
        """Copies that were migrated and tried, and the answers of before; removed in the end.

        Raises:
            Stop: something was found.
        """
        pairs: list[Pair] = []
        try:
            with TemporaryDirectory(prefix=temporary_prefix()) as name:
                self._home = Path(name)
                self._prepare_home()
                with self._step("copies", "copying the databases"):
                    pairs += [Pair(database, database.copy()) for database in databases]
                    self._relocate(pairs)
                names = ", ".join(database.place for database in databases)
                lake = redact(self._settings.lake)
                text = f"of {names}; lake ({lake}) and artifacts are only read"
                self._add("copies", "ok", text)
                former, new = self._former, self._new
                with self._step("answers", f"asking every version by {former}"):
                    before = self._ask(former, pairs)
                for pair in pairs:
                    self._migrate(pair.copy)
                with self._step("answers", f"asking every version by {new}"):
                    after = self._ask(new, pairs)
                    lines = compare(before, after, former == new)
                self.lines += lines
                if any(line.state == "fail" for line in lines):
                    raise Stop
                self._serve(pairs)
                yield pairs, before
        finally:
            for pair in pairs:
                pair.copy.remove()

    def _replace(self, pairs: Sequence[Pair], former: Answers) -> None:
        """Swap the copies in and look again; on any failure swap the former ones in.

        Raises:
            Stop: it failed, and everything is as it was.
        """
        with self._step("swap", "looking whether the databases are unused"):
            _require_unused([pair.database for pair in pairs])
        backups = {p.database.kind: p.database.backup(self._stamp) for p in pairs}
        record = UpgradeRecord(
            time=f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC", python=sys.executable, backups=backups
        )
        previous = self._record()
        self._write(record)
        swapped: list[Pair] = []
        try:
            with self._step("swap", "putting the copies in place"):
                for pair in pairs:
                    pair.database.swap(pair.copy.name, backups[pair.database.kind])
                    swapped.append(pair)
            with self._step("again", f"looking at the databases in place by {self._new}"):
                after = self._ask(self._new, [Pair(p.database, p.database) for p in pairs], "list")
                if listed(after) != listed(former):
                    raise BackendError("the registry in place lists other versions than before")
        except BaseException:
            self._undo(swapped, backups, previous, former)
            raise
        self._write(record.model_copy(update={"finished": True}))
        kept = ", ".join(backups.values())
        self._add("swap", "ok", f"the migrated databases are in place; kept: {kept}")

    def _undo(
        self,
        swapped: Sequence[Pair],
        backups: Mapping[Kind, str],
        previous: UpgradeRecord | None,
        former: Answers,
    ) -> None:
        begin = time.monotonic()
        for pair in swapped:
            failed = pair.database.backup(f"{self._stamp}-failed")
            pair.database.swap(backups[pair.database.kind], failed)
            pair.database.named(failed).remove()
        if previous is None:
            self._record_file.unlink()
        else:
            self._write(previous)
        seconds = time.monotonic() - begin
        in_place = [Pair(p.database, p.database) for p in swapped]
        if not in_place:
            return
        with self._step("back", f"looking at the former databases by {self._former}"):
            if listed(self._ask(self._former, in_place, "list")) != listed(former):
                raise BackendError("the registry put back lists other versions than before")
        self._add("back", "ok", f"the former databases were back in place after {seconds:.1f} s")

    def _migrate(self, copy: Database) -> None:
        begin, before = time.monotonic(), revision_of(copy)
        variables = {name: copy.url for name in DATABASE} if copy.kind == "Prefect" else {}
        prefect = ["-m", "prefect", "--no-prompt", "server", "database", "upgrade", "-y"]
        arguments = prefect if copy.kind == "Prefect" else ["-c", UPGRADE_MLFLOW]
        with self._step(copy.kind, f"migrating the copy by {self._new}"):
            self._run(self._new, arguments, variables | {"UPGRADE_URL": copy.url})
        after = revision_of(copy)
        change = f"from {before} to {after}" if after != before else f"{after}, no change"
        text = f"migrated on the copy in {time.monotonic() - begin:.0f} s: {change}"
        self._add(copy.kind, "ok", text)

    def _ask(self, python: Path, pairs: Sequence[Pair], what: str = "all") -> Answers:
        """The answers of an interpreter over the copy of MLflow's database.

        Args:
            what: `list` only lists the versions, whichever way the database is reached.
        """
        file = self._home / "answers.json"
        file.unlink(missing_ok=True)
        copy = next(pair.copy for pair in pairs if pair.copy.kind == "MLflow")
        plain = {"LIFECYCLE_MLFLOW_TRACKING_URI": copy.plain_url}
        if what == "list":
            self._run(python, ["-m", ANSWERS, str(file), "--list"], plain)
        else:
            with self._mlflow(python, copy) as variables:
                self._run(python, ["-m", ANSWERS, str(file)], variables)
        return Answers.model_validate_json(file.read_bytes())

    def _serve(self, pairs: Sequence[Pair]) -> None:
        begin, file = time.monotonic(), self._home / "served.json"
        copy = next(pair.copy for pair in pairs if pair.copy.kind == "MLflow")
        projects = [str(project.absolute()) for project in self._projects]
        with (
            self._step("endpoint", f"serving the champion on loopback by {self._new}"),
            self._mlflow(self._new, copy) as variables,
        ):
            self._run(self._new, ["-m", ENDPOINT, str(file), *projects], variables)
            served = ServedChampions.model_validate_json(file.read_bytes()).champions
        seconds = time.monotonic() - begin
        for champion in served:
            text = f"{champion.name} has no champion, so that nothing was served"
            if champion.version is not None:
                rows = counted(champion.rows, "row")
                text = (
                    f"{champion.name} v{champion.version} answered {rows} over every protocol, "
                    f"after {seconds:.0f} s"
                )
            self._add("endpoint", "warn" if champion.version is None else "ok", text)

    @contextmanager
    def _mlflow(self, python: Path, copy: Database) -> Iterator[dict[str, str]]:
        """Variables by which programs reach MLflow: a copy, or a server of an interpreter over it.

        Where the environment has a server, only a server resolves the places of artifacts.
        """
        settings = self._settings
        if not settings.tracking_uri.startswith(SERVED):
            yield {"LIFECYCLE_MLFLOW_TRACKING_URI": copy.plain_url}
            return
        named = os.environ.get("MLFLOW_ARTIFACTS_DESTINATION")
        if not (destination := named or settings.mlflow_artifact_root):
            raise SettingsError(
                "MLFLOW_ARTIFACTS_DESTINATION is not set: name the place where the MLflow server "
                "keeps artifacts, as that server's --artifacts-destination does"
            )
        user, password = "rehearsal", secrets.token_urlsafe(24)
        url, configuration = f"http://{HOST}:{free_port()}", self._home / "auth.ini"
        users = self._home / f"users-{secrets.token_hex(4)}.db"
        write_atomic(configuration, mlflow_users(f"sqlite:///{users}", user, password), 0o600)
        command = [str(python), "-P", "-m", "mlflow", "server", "--app-name", "basic-auth"]
        command += ["--host", HOST, "--port", url.rpartition(":")[2], "--workers", "1"]
        command += ["--serve-artifacts", "--artifacts-destination", destination]
        variables = {
            "MLFLOW_BACKEND_STORE_URI": copy.plain_url,
            "MLFLOW_AUTH_CONFIG_PATH": str(configuration),
            "MLFLOW_FLASK_SERVER_SECRET_KEY": secrets.token_hex(32),
            "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
        }
        log = self._home / "mlflow.log"
        with server(command, TELEMETRY | variables, log, self._environment({})) as process:
            if not answers(process, f"{url}/health"):
                raise BackendError(f"its MLflow server does not start: {_last_line(log)}")
            yield {
                "LIFECYCLE_MLFLOW_TRACKING_URI": url,
                "MLFLOW_TRACKING_USERNAME": user,
                "MLFLOW_TRACKING_PASSWORD": password,
            }

    def _run(self, python: Path, arguments: Sequence[str], variables: Mapping[str, str]) -> None:
        """Run a program of an interpreter, and wait for it.

        Raises:
            BackendError: it failed; says what it printed last.
        """
        log = self._home / "program.log"
        with log.open("wb") as output:
            try:
                process = subprocess.run(  # noqa: S603 - the interpreter that the user names
                    [str(python), "-P", *arguments],
                    env=self._environment(variables),
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=output,
                    check=False,
                    preexec_fn=die_with_parent if sys.platform == "linux" else None,  # noqa: PLW1509
                )
            except OSError as error:
                raise BackendError(f"{python} cannot be run: {error.strerror}") from None
        if process.returncode:
            raise BackendError(f"{python} ended with {process.returncode}: {_last_line(log)}")

    def _environment(self, variables: Mapping[str, str]) -> dict[str, str]:
        """Variables of a program: this process's, but nothing that it leaves is in use."""
        inherited = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "PYTHONHOME")}
        inherited.pop("PREFECT_API_URL", None)
        home = self._home / "home"
        own = {
            "LIFECYCLE_ENV": self._settings.env,
            "LIFECYCLE_HOME": str(home),
            "LIFECYCLE_LAKE_URI": self._settings.lake,
            "LIFECYCLE_RAY_ADDRESS": "local",
            "LIFECYCLE_RAY_STORAGE": "",
            "LIFECYCLE_SERVE_HOST": HOST,
            "LIFECYCLE_SERVE_PORT": str(free_port()),
            "LIFECYCLE_SERVE_KEYS": str(home / "serve-keys.json"),
            "LIFECYCLE_OPENLINEAGE": "",
            "LIFECYCLE_TRACES": "",
            "LIFECYCLE_KEEP_WARM": "0",
            "PREFECT_HOME": str(home / "prefect"),
        }
        return {**inherited, **TELEMETRY, **own, **variables}

    def _prepare_home(self) -> None:
        """Give the programs a `home` with the key of personal data, which features look up by."""
        (self._home / "home").mkdir(mode=0o700)
        key = self._settings.home / PII_KEY_FILE
        if key.is_file():
            shutil.copy2(key, self._home / "home" / PII_KEY_FILE)

    def _relocate(self, pairs: Sequence[Pair]) -> None:
        """As a flow does when `home` was moved: the copy names artifacts where they are now."""
        for pair in pairs:
            if pair.copy.kind == "MLflow" and isinstance(pair.copy, SqliteDatabase):
                relocate(pair.copy.file, self._settings)

    @contextmanager
    def _step(self, subject: str, text: str) -> Iterator[None]:
        """Tell what begins; what goes wrong becomes the report's line.

        Raises:
            Stop: it went wrong.
        """
        self._tell(subject, text)
        try:
            yield
        except (LifecycleError, ValidationError, OSError) as error:
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


def compare(before: Answers, after: Answers, is_same: bool = False) -> list[Line]:
    """What differs between the answers of two interpreters.

    Args:
        is_same: whether they are one interpreter, which says little.
    """
    lines = [_packages(before, after, is_same)]
    if listed(before) != listed(after):
        text = "the registry lists other versions, bundles or aliases after the migration"
        return [*lines, Line("answers", "fail", text)]
    both = list(zip(before.versions, after.versions, strict=True))
    broken = [new for old, new in both if new.error and not old.error]
    differing = [new for old, new in both if not (old.error or new.error) and not _same(old, new)]
    silent = [old for old, new in both if old.error and new.error]
    equal = len(both) - len(broken) - len(differing) - len(silent)
    if broken:
        text = f"{_titles(broken)} cannot answer: {broken[0].error}"
        lines.append(Line("answers", "fail", text))
    if differing:
        text = f"{_titles(differing)}: other answers, byte for byte, than before"
        lines.append(Line("answers", "fail", text))
    if silent:
        text = f"{_titles(silent)} could not be asked before either: {silent[0].error}"
        lines.append(Line("answers", "warn", text))
    if equal:
        rows = sum(new.rows for old, new in both if not new.error and _same(old, new))
        total = f"{counted(equal, 'version')}, {counted(rows, 'row')} of their holdouts"
        lines.append(Line("answers", "ok", f"{total}: every answer is equal, byte for byte"))
    if not both:
        lines.append(Line("answers", "warn", "no version is registered, so nothing was asked"))
    return lines


def listed(answers: Answers) -> list[tuple[object, ...]]:
    """The versions without their answers."""
    return [(v.name, v.version, v.digest, v.aliases) for v in answers.versions]


def _same(old: VersionAnswers, new: VersionAnswers) -> bool:
    return (old.rows, old.answers) == (new.rows, new.answers)


def _titles(entries: Sequence[VersionAnswers]) -> str:
    shown = ", ".join(entry.title for entry in entries[:MAX_SHOWN])
    left = len(entries) - MAX_SHOWN
    return f"{shown} and {left} more" if left > 0 else shown


def _packages(before: Answers, after: Answers, is_same: bool) -> Line:
    if is_same:
        text = (
            "one interpreter is compared with itself; --python names the new one, such as "
            ".venv/bin/python of the new checkout"
        )
        return Line("packages", "warn", text)
    old, new = before.packages, after.packages
    names = {name for name in {*old, *new} if old.get(name) != new.get(name)}
    shown = [f"{n} {old.get(n, 'none')} → {new.get(n, 'none')}" for n in NAMED if n in names]
    if others := len(names) - len(shown):
        shown.append(f"{counted(others, 'other package')} differ")
    return Line("packages", "ok", ", ".join(shown) or "the same versions")


def _require_unused(databases: Sequence[Database]) -> None:
    for database in databases:
        if users := database.users():
            raise BackendError(
                f"{database.place} is in use by {', '.join(users)}: end servers, workers and "
                "scripts of this environment first; the endpoint goes on without them"
            )


def _last_line(log: Path) -> str:
    lines = [line for line in log.read_text(errors="replace").splitlines() if line.strip()]
    return redact(lines[-1].strip()) if lines else "it printed nothing"
