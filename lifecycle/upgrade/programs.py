"""Programs of an interpreter in an upgrade: they work on copies, in a `home` that is deleted."""

import os
import secrets
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from lifecycle.data.privacy import FILE as PII_KEY_FILE
from lifecycle.environments import own_variables
from lifecycle.errors import BackendError, SettingsError
from lifecycle.redaction import redact
from lifecycle.runtime.files import write_atomic
from lifecycle.runtime.process import TELEMETRY, die_with_parent
from lifecycle.runtime.servers import DATABASE, HOST, answers, free_port, mlflow_users, server
from lifecycle.settings import SERVED, Settings
from lifecycle.upgrade.answers import RegistryAnswers, ServedChampion, ServedChampions
from lifecycle.upgrade.databases import Database

WITH_URL = (
    "import os, runpy, sys; sys.argv.append(os.environ['UPGRADE_URL']); "
    "runpy.run_module(sys.argv.pop(1), run_name='__main__', alter_sys=True)"
)
"""A module with a URL that nobody else sees: arguments of a process are public."""
UPGRADE_MLFLOW = ("-c", WITH_URL, "mlflow", "db", "upgrade")
UPGRADE_USERS = ("-c", WITH_URL, "mlflow.server.auth", "db", "upgrade", "--url")
UPGRADE_PREFECT = ("-m", "prefect", "--no-prompt", "server", "database", "upgrade", "-y")
ANSWERS, ENDPOINT = "lifecycle.upgrade.answers", "tasks.upgrade"
"""Programs that an interpreter must have."""
DESTINATION = "MLFLOW_ARTIFACTS_DESTINATION"
USER = "rehearsal"
CHECK_S = 45.0
"""Seconds that a look at databases in place may take: the former ones are back within a minute."""


class Programs:
    """Programs of one interpreter.

    Nothing that they leave is in use: their `home` is a folder that is deleted, the key of personal
    data in it a copy. Of the environment they read the lake, artifacts, and what its file and
    variables say.
    """

    def __init__(self, python: Path, settings: Settings, folder: Path) -> None:
        self.python = python
        self._settings, self._folder = settings, folder
        self._home = folder / "home"
        self._home.mkdir(parents=True, mode=0o700)
        key = settings.home / PII_KEY_FILE
        if key.is_file():  # features are looked up by what it hashes
            shutil.copy2(key, self._home / PII_KEY_FILE)

    def migrate(self, copy: Database) -> None:
        """Bring the tables of a copy to the state that this interpreter's packages need.

        Raises:
            BackendError: it failed.
        """
        if copy.kind == "Prefect":
            self._run(UPGRADE_PREFECT, {name: copy.url for name in DATABASE})
        else:
            command = UPGRADE_MLFLOW if copy.kind == "MLflow" else UPGRADE_USERS
            self._run(command, {"UPGRADE_URL": copy.url})

    def ask(self, mlflow: Database) -> RegistryAnswers:
        """The answers of every registered version.

        Raises:
            BackendError: the program, or its MLflow server, failed.
            SettingsError: the place of artifacts is not known.
        """
        with self._mlflow(mlflow) as variables:
            return RegistryAnswers.model_validate_json(self._result(ANSWERS, (), variables))

    def list_versions(self, mlflow: Database) -> RegistryAnswers:
        """The registered versions, not asked, whichever way the database is reached.

        Raises:
            BackendError: the program failed.
        """
        variables = {"LIFECYCLE_MLFLOW_TRACKING_URI": mlflow.plain_url}
        content = self._result(ANSWERS, ("--list",), variables, CHECK_S)
        return RegistryAnswers.model_validate_json(content)

    def serve(self, mlflow: Database, projects: Sequence[Path]) -> tuple[ServedChampion, ...]:
        """Serve the champion of each project file on loopback, and ask it.

        Raises:
            BackendError, SettingsError: see `ask`.
        """
        files = [str(project.absolute()) for project in projects]
        with self._mlflow(mlflow) as variables:
            content = self._result(ENDPOINT, files, variables)
        return ServedChampions.model_validate_json(content).champions

    @contextmanager
    def _mlflow(self, copy: Database) -> Iterator[dict[str, str]]:
        """Variables by which programs reach MLflow: a copy, or a server over it.

        Where the environment has a server, only a server resolves the places of artifacts.
        """
        settings = self._settings
        if not settings.tracking_uri.startswith(SERVED):
            yield {"LIFECYCLE_MLFLOW_TRACKING_URI": copy.plain_url}
            return
        variable = own_variables(settings.env).get(DESTINATION) or os.environ.get(DESTINATION)
        if not (destination := variable or settings.mlflow_artifact_root):
            raise SettingsError(
                f"{DESTINATION} is not set: name the place where the MLflow server of "
                f"{settings.env} keeps artifacts, as that server's --artifacts-destination does"
            )
        password, configuration = secrets.token_urlsafe(24), self._folder / "auth.ini"
        users = f"sqlite:///{self._folder / 'users.db'}"
        write_atomic(configuration, mlflow_users(users, USER, password), 0o600)
        (self._folder / "users.db").unlink(missing_ok=True)  # of a former start's password
        url = f"http://{HOST}:{free_port()}"
        command = [str(self.python), "-P", "-m", "mlflow", "server", "--app-name", "basic-auth"]
        command += ["--host", HOST, "--port", url.rpartition(":")[2], "--workers", "1"]
        command += ["--serve-artifacts", "--artifacts-destination", destination]
        variables = {
            "MLFLOW_BACKEND_STORE_URI": copy.plain_url,
            "MLFLOW_AUTH_CONFIG_PATH": str(configuration),
            "MLFLOW_FLASK_SERVER_SECRET_KEY": secrets.token_hex(32),
            "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
        }
        log = self._folder / "mlflow.log"
        with server(command, variables, log, self._environment({})) as process:
            if not answers(process, f"{url}/health"):
                raise BackendError(f"{self.python}: no MLflow server starts: {_last_line(log)}")
            yield {
                "LIFECYCLE_MLFLOW_TRACKING_URI": url,
                "MLFLOW_TRACKING_USERNAME": USER,
                "MLFLOW_TRACKING_PASSWORD": password,
            }

    def _result(
        self,
        program: str,
        arguments: Sequence[str],
        variables: Mapping[str, str],
        timeout: float | None = None,
    ) -> bytes:
        """What a program writes to the file that it is given."""
        file = self._folder / "result.json"
        file.unlink(missing_ok=True)
        self._run(("-m", program, str(file), *arguments), variables, timeout)
        try:
            return file.read_bytes()
        except OSError:
            raise BackendError(f"{self.python}: {program} wrote no result") from None

    def _run(
        self,
        arguments: Sequence[str],
        variables: Mapping[str, str],
        timeout: float | None = None,
    ) -> None:
        """Run a program, and wait for it.

        Args:
            timeout: seconds that it may take.

        Raises:
            BackendError: it failed, or takes longer; says what it printed last.
        """
        log = self._folder / "program.log"
        with log.open("wb") as output:
            try:
                process = subprocess.run(  # noqa: S603 - the interpreter that the user names
                    [str(self.python), "-P", *arguments],
                    env=self._environment(variables),
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=output,
                    check=False,
                    timeout=timeout,
                    preexec_fn=die_with_parent if sys.platform == "linux" else None,
                )
            except OSError as error:
                raise BackendError(f"{self.python} cannot be run: {error.strerror}") from None
            except subprocess.TimeoutExpired:
                raise BackendError(f"{self.python} gave no answer in {timeout:g} s") from None
        if process.returncode:
            reason = _last_line(log)
            raise BackendError(f"{self.python} ended with {process.returncode}: {reason}")

    def _environment(self, variables: Mapping[str, str]) -> dict[str, str]:
        """Variables of a program: this process's, with other places."""
        omitted = ("PYTHONPATH", "PYTHONHOME", "PREFECT_API_URL")
        inherited = {name: text for name, text in os.environ.items() if name not in omitted}
        own = {
            "LIFECYCLE_ENV": self._settings.env,
            "LIFECYCLE_HOME": str(self._home),
            "LIFECYCLE_LAKE_URI": self._settings.lake,
            "LIFECYCLE_RAY_ADDRESS": "local",
            "LIFECYCLE_RAY_STORAGE": "",
            "LIFECYCLE_SERVE_HOST": HOST,
            "LIFECYCLE_SERVE_PORT": str(free_port()),
            "LIFECYCLE_SERVE_KEYS": str(self._home / "serve-keys.json"),
            "LIFECYCLE_OPENLINEAGE": "",
            "LIFECYCLE_TRACES": "",
            "LIFECYCLE_KEEP_WARM": "0",
            "PREFECT_HOME": str(self._home / "prefect"),
        }
        return {**inherited, **TELEMETRY, **own, **variables}


def _last_line(log: Path) -> str:
    lines = [line for line in log.read_text(errors="replace").splitlines() if line.strip()]
    return redact(lines[-1].strip()) if lines else "it printed nothing"
