"""`make stack`: what staging and production need, from real parts, on loopback, until Ctrl-C.

PostgreSQL behind a Prefect server and an MLflow server per environment, an S3 server for artifacts
and Delta tables, a Ray cluster of several nodes per environment, a worker each, and Prometheus.
All of it lies in one folder, which is an operator's: environment files, `secrets.env`, logs. The
S3 server keeps its buckets in memory, so databases and state begin empty each time, too.
"""

import argparse
import fcntl
import os
import secrets
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from threading import Event

import httpx
from dotenv import dotenv_values

from deployments.postgresql import postgresql
from deployments.scrape_config import Targets, scrape_config
from lifecycle.errors import BackendError, LifecycleError
from lifecycle.ingress import launcher
from lifecycle.runtime.cluster import ENVIRONMENT, LOOPBACK, require_ray
from lifecycle.runtime.console import open_console, styled, write_error
from lifecycle.runtime.files import write_atomic
from lifecycle.runtime.process import TELEMETRY, prepare_process
from lifecycle.runtime.servers import HOST, LATE_EVENTS, Process, free_port, mlflow_users, server
from lifecycle.serving.auth import KeyStore

ENVIRONMENTS = ("staging", "prod")
PROJECT = "health_visits"
"""Prometheus asks its endpoint; the name of another project is for the operator to write."""
ADMIN = "stack-admin"
REGION = "us-east-1"
START_S = 180.0
Start = Callable[[], Iterator[None]]
"""Starts a server, yields, and when it goes on waits until that server answers."""
RAY_ATTEMPTS = 3
"""Ray gives its own processes 30 s to start, which a busy machine may miss."""
POLL_S = 0.2
STARTED = "Ray runtime started"
S3 = """
import sys, threading
from moto.server import ThreadedMotoServer
ThreadedMotoServer(ip_address="127.0.0.1", port=int(sys.argv[1]), verbose=False).start()
threading.Event().wait()
"""


class Stack:
    """The servers, each ended with the block.

    Attributes:
        folder: of the operator: environment files, secrets, and `servers/` with logs and data.
        processes: name of each server → its process.
        environment: variables of an operator's commands.
        python: interpreter beside which programs are; another one may take its place at any time,
            for what is started from then on.
    """

    def __init__(
        self,
        folder: Path,
        nodes: int = 2,
        tell: Callable[[str, Process], None] | None = None,
        python: Path = Path(sys.executable),
    ) -> None:
        """Name the folder and the count of Ray's nodes beside each head.

        Args:
            tell: is called for each server that answers.
        """
        self.folder, self.python = folder.absolute(), python
        self._tell = tell
        self.processes: dict[str, Process] = {}
        self.places: dict[str, str] = {}
        self.ports: dict[str, int] = {}
        self.environment: dict[str, str] = {}
        self._nodes = nodes
        self._starts: dict[str, Start] = {}
        self._servers = self.folder / "servers"
        self._stack = ExitStack()
        self._ray_variables: dict[str, dict[str, str]] = {}

    def __enter__(self) -> "Stack":
        """Start all of it.

        Raises:
            BackendError: a server does not start, or another stack runs in this folder.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        lock = self._stack.enter_context((self.folder / ".lock").open("w"))
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise BackendError(
                f"another stack runs in {self.folder}; end it, or name another --folder"
            ) from None
        try:
            self._start()
        except BaseException:
            self._stack.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def log(self, name: str) -> Path:
        """The file with what a server prints."""
        return self._servers / f"{name}.log"

    def variables(self, env: str) -> dict[str, str]:
        """What the file of an environment says."""
        return {
            "LIFECYCLE_WORKSPACE": str(self.folder),
            "LIFECYCLE_PROJECT": "project.yaml",
            "LIFECYCLE_HOME": str(self.folder / "state" / env),
            "LIFECYCLE_LAKE_URI": f"s3://lake-{env}/tables",
            "LIFECYCLE_MLFLOW_TRACKING_URI": self.places[f"mlflow-{env}"],
            "LIFECYCLE_RAY_ADDRESS": f"{HOST}:{self.ports[f'ray-{env}']}",
            "LIFECYCLE_SERVE_PORT": str(self.ports[f"serve-{env}"]),
        }

    def command(self, *words: str) -> str:
        """Run a command of the operator's in his folder; what it prints.

        Raises:
            BackendError: it failed; says what it printed.
        """
        answer = subprocess.run(  # noqa: S603 - programs of our own environment
            [self._program(words[0]), *words[1:]],
            cwd=self.folder,
            env=_plain_environment() | self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        if answer.returncode:
            raise BackendError(f"{' '.join(words[:3])}: {answer.stdout.strip()[-2000:]}")
        return answer.stdout

    def restart(self, *names: str) -> None:
        """Start servers again that have ended, side by side, where they were."""
        self._begin({name: self._starts[name] for name in names})

    def _start(self) -> None:
        for former in (self._servers, self.folder / "state"):
            shutil.rmtree(former, ignore_errors=True)
        self._servers.mkdir(parents=True)
        self._servers.chmod(0o755)  # PostgreSQL's own user passes through to its folder
        self.environment = self._secrets()
        self._begin({"postgresql": self._postgresql, "s3": self._s3})
        self._create_databases()
        others: dict[str, Start] = {"prefect": self._prefect}
        for env in ENVIRONMENTS:
            self.ports[f"serve-{env}"] = free_port()
            others[f"mlflow-{env}"] = partial(self._mlflow, env)
            others[f"ray-{env}"] = partial(self._ray, env)
        self._begin(others)
        for env in ENVIRONMENTS:
            self._write_environment(env)
        last: dict[str, Start] = {"prometheus": self._prometheus}
        for env in ENVIRONMENTS:
            last[f"worker-{env}"] = partial(self._worker, env)
            for number in range(1, self._nodes + 1):
                last[f"ray-{env}-{number}"] = partial(self._ray_node, env, number)
        self._begin(last)

    def _begin(self, starts: Mapping[str, Start]) -> None:
        """Start servers side by side, then wait for each."""
        self._starts |= starts
        begun = [start() for start in starts.values()]
        for steps in begun:
            next(steps, None)
        for name, steps in zip(starts, begun, strict=True):
            for _ in steps:
                pass
            if self._tell and name in self.processes:
                self._tell(name, self.processes[name])

    def _secrets(self) -> dict[str, str]:
        """What the operator's commands, workers and Ray need, made once and kept for its owner."""
        file = self.folder / "secrets.env"
        if file.exists():
            former = dotenv_values(file, interpolate=False)
            return {name: text for name, text in former.items() if text is not None}
        token = secrets.token_urlsafe
        values = {
            "PREFECT_API_AUTH_STRING": f"{ADMIN}:{token(24)}",
            "MLFLOW_TRACKING_USERNAME": ADMIN,
            "MLFLOW_TRACKING_PASSWORD": token(24),
            "PGPASSWORD": token(24),
            "AWS_ACCESS_KEY_ID": ADMIN,
            "AWS_SECRET_ACCESS_KEY": token(24),
            "AWS_DEFAULT_REGION": REGION,
            "AWS_ALLOW_HTTP": "true",
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN": secrets.token_hex(32),
            "LIFECYCLE_PII_KEY": token(32),
        }
        self._write_secrets(values)
        return values

    def _write_secrets(self, values: Mapping[str, str]) -> None:
        text = "".join(f"{name}={shlex.quote(value)}\n" for name, value in values.items())
        write_atomic(self.folder / "secrets.env", text, 0o600)

    def _program(self, name: str) -> str:
        beside = self.python.with_name(name)
        return str(beside) if beside.exists() else name

    def _run(self, name: str, command: Sequence[str], **variables: str) -> Process:
        """Start a server: nothing of the caller's own servers is in its environment."""
        begin = server(command, variables, self.log(name), environment=_plain_environment())
        self.log(name).unlink(missing_ok=True)  # a former start's lines would count as this one's
        process = self._stack.enter_context(begin)
        self.processes[name] = process
        return process

    def _wait(self, name: str, ready: Callable[[], bool]) -> None:
        """Wait for a server that was started.

        Raises:
            BackendError: it ended, or takes too long; shows the end of its log.
        """
        end = time.monotonic() + START_S
        process = self.processes[name]
        while process.poll() is None and time.monotonic() < end:
            if ready():
                return
            time.sleep(POLL_S)
        raise BackendError(
            f"{name} did not start; its log {self.log(name)} ends:\n{self.tail(name)}"
        )

    def tail(self, name: str) -> str:
        """The end of what a server printed."""
        return self.log(name).read_text(errors="replace")[-2000:]

    def _port(self, name: str) -> int:
        return self.ports.setdefault(name, free_port())

    def _postgresql(self) -> Iterator[None]:
        folder, port = self._servers / "postgresql", self._port("postgresql")
        password = self.environment["PGPASSWORD"]
        command = postgresql(folder, port, ADMIN, password)
        self._run("postgresql", command)
        yield
        self.places["postgresql"] = f"{HOST}:{port}"
        self._wait("postgresql", lambda: _connects(self._database("postgres")))

    def _database(self, name: str, driver: str = "") -> str:
        password, port = self.environment["PGPASSWORD"], self.ports["postgresql"]
        return f"postgresql{driver}://{ADMIN}:{password}@{HOST}:{port}/{name}"

    def _create_databases(self) -> None:
        import psycopg

        names = ["prefect", *(f"mlflow_{env}" for env in ENVIRONMENTS)]
        with psycopg.connect(self._database("postgres"), autocommit=True) as connection:
            for name in (*names, *(f"mlflow_{env}_users" for env in ENVIRONMENTS)):
                connection.execute(f'CREATE DATABASE "{name}"')
        for env in ENVIRONMENTS:
            names = ["prefect", f"mlflow_{env}", f"mlflow_{env}_users"]
            urls = [self._database(name, "+psycopg") for name in names]
            self.environment[f"LIFECYCLE_{env.upper()}__DATABASES"] = " ".join(urls)

    def _s3(self) -> Iterator[None]:
        import boto3

        port = self._port("s3")
        url = f"http://{HOST}:{port}"
        self._run("s3", [sys.executable, "-c", S3, str(port)])
        yield
        self._wait("s3", lambda: _answers(f"{url}/moto-api/"))
        self.places["s3"] = self.environment["AWS_ENDPOINT_URL"] = url
        client = boto3.client(
            "s3",
            endpoint_url=url,
            region_name=REGION,
            aws_access_key_id=self.environment["AWS_ACCESS_KEY_ID"],
            aws_secret_access_key=self.environment["AWS_SECRET_ACCESS_KEY"],
        )
        for env in ENVIRONMENTS:
            for bucket in (f"lake-{env}", f"models-{env}"):
                client.create_bucket(Bucket=bucket)

    def _prefect(self) -> Iterator[None]:
        port = self._port("prefect")
        url = f"http://{HOST}:{port}"
        auth = self.environment["PREFECT_API_AUTH_STRING"]
        leases = "prefect.server.concurrency.lease_storage.filesystem"
        self._run(
            "prefect",
            [self._program("prefect"), "server", "start", "--host", HOST, "--port", str(port)],
            PREFECT_HOME=str(self._servers / "prefect"),
            PREFECT_API_DATABASE_CONNECTION_URL=self._database("prefect", "+asyncpg"),
            PREFECT_SERVER_API_AUTH_STRING=auth,
            PREFECT_SERVER_CORS_ALLOWED_ORIGINS=url,
            PREFECT_SERVER_UI_API_URL="/api",  # else its page asks port 4200
            PREFECT_SERVER_CONCURRENCY_LEASE_STORAGE=leases,
            **LATE_EVENTS,
            **TELEMETRY,
        )
        yield
        self._wait("prefect", lambda: _answers(f"{url}/api/health"))
        self.places["prefect"] = url
        self.environment |= {"PREFECT_API_URL": f"{url}/api", "DO_NOT_TRACK": "1"}
        self.environment["PREFECT_HOME"] = str(self.folder / "state" / "prefect")

    def _mlflow(self, env: str) -> Iterator[None]:
        name = f"mlflow-{env}"
        port = self._port(name)
        folder = self._servers / name
        folder.mkdir(exist_ok=True)
        users = mlflow_users(
            self._database(f"mlflow_{env}_users", "+psycopg"),
            ADMIN,
            self.environment["MLFLOW_TRACKING_PASSWORD"],
        )
        write_atomic(folder / "auth.ini", users, 0o600)
        command = [self._program("mlflow"), "server", "--app-name", "basic-auth", "--host", HOST]
        command += ["--port", str(port), "--workers", "1", "--serve-artifacts"]
        command += ["--backend-store-uri", self._database(f"mlflow_{env}", "+psycopg")]
        command += ["--artifacts-destination", _artifacts(env)]
        self._run(
            name,
            command,
            MLFLOW_AUTH_CONFIG_PATH=str(folder / "auth.ini"),
            MLFLOW_FLASK_SERVER_SECRET_KEY=secrets.token_hex(32),
            MLFLOW_SERVER_ENABLE_JOB_EXECUTION="false",
            **TELEMETRY,
            **self._of("AWS"),
        )
        self.places[name] = f"http://{HOST}:{port}"
        yield
        self._wait(name, lambda: _answers(f"{self.places[name]}/health"))

    def _of(self, *prefixes: str) -> dict[str, str]:
        return {name: text for name, text in self.environment.items() if name.startswith(prefixes)}

    def _ray_names(self, env: str) -> list[str]:
        """Names of the head and the nodes."""
        return [f"ray-{env}", *(f"ray-{env}-{number}" for number in range(1, self._nodes + 1))]

    def _ray(self, env: str) -> Iterator[None]:
        """A head without CPUs, so that work is on the nodes, which may be killed."""
        name, port = f"ray-{env}", self._port(f"ray-{env}")
        # sockets lie in it, and their paths are limited to 107 characters
        short = Path(tempfile.mkdtemp(prefix="lc-", dir="/tmp"))
        self._stack.callback(shutil.rmtree, short, ignore_errors=True)
        (short / "f").mkdir(mode=0o700)
        self.places[f"{name}-folder"] = str(short / "r")
        variables = launcher.environment() | launcher.isolation(short / "f", free_port()) | LOOPBACK
        variables |= ENVIRONMENT | TELEMETRY | self._of("RAY", "AWS", "LIFECYCLE_PII")
        variables["RAY_SERVE_HAPROXY_BINARY_PATH"] = self._program(launcher.PROGRAM)
        self._ray_variables[env] = variables
        head = [self._program("ray"), "start", "--head"]
        head += ["--node-ip-address", HOST, "--port", str(port)]
        head += ["--num-cpus", "0" if self._nodes else "2", "--temp-dir", str(short / "r")]
        head += ["--metrics-export-port", str(self._port(f"{name}-metrics"))]
        head += ["--include-dashboard", "false", "--disable-usage-stats", "--block"]
        self._run(name, head, **variables)
        yield
        self._wait_for_ray(name, head, variables)
        require_ray(f"{HOST}:{port}")
        self.places[name] = f"{HOST}:{port}"

    def _ray_node(self, env: str, number: int) -> Iterator[None]:
        name, variables = f"ray-{env}-{number}", self._ray_variables[env]
        node = [self._program("lifecycle"), "ray-node", self.places[f"ray-{env}"]]
        node += ["--cpus", "2", "--metrics-port", str(self._port(f"{name}-metrics")), "--block"]
        self._run(name, node, **variables)
        yield
        self._wait_for_ray(name, node, variables)

    def _wait_for_ray(self, name: str, command: list[str], variables: dict[str, str]) -> None:
        for attempt in range(1, RAY_ATTEMPTS + 1):
            try:
                self._wait(name, lambda: STARTED in self.tail(name))
            except BackendError:
                if attempt == RAY_ATTEMPTS:
                    raise
                self._run(name, command, **variables)
            else:
                return

    def _write_environment(self, env: str) -> None:
        # for who promotes from it: what this environment's own processes have by their usual names
        self.environment |= {
            f"LIFECYCLE_{env.upper()}__{name}": text
            for name, text in self._of("AWS_", "MLFLOW_TRACKING_").items()
        } | {f"LIFECYCLE_{env.upper()}__MLFLOW_ARTIFACTS_DESTINATION": _artifacts(env)}
        self._write_secrets(self.environment)
        folder = self.folder / "deployments"
        folder.mkdir(exist_ok=True)
        file = folder / f"{env}.env"
        values = dict(dotenv_values(file)) if file.exists() else {}  # an operator adds to it
        text = "".join(
            f"{name}={value}\n" for name, value in {**values, **self.variables(env)}.items()
        )
        write_atomic(file, text)

    def _worker(self, env: str) -> Iterator[None]:
        worker = [self._program("prefect"), "worker", "start", "--type", "process"]
        worker += ["--pool", f"lifecycle-{env}"]
        self._run(f"worker-{env}", worker, **self.environment, PREFECT_WORKER_QUERY_SECONDS="2")
        yield
        self._wait(f"worker-{env}", lambda: "Worker" in self.tail(f"worker-{env}"))

    def _prometheus(self) -> Iterator[None]:
        program = shutil.which("prometheus")
        if program is None:
            return
        port = self._port("prometheus")
        folder = self._servers / "prometheus"
        folder.mkdir(exist_ok=True)
        targets = {}
        for env in ENVIRONMENTS:
            store = KeyStore(self.folder / "state" / env / "serve-keys.json")
            if not (folder / f"{env}.key").exists():
                write_atomic(folder / f"{env}.key", store.add("prometheus"), 0o600)
            ports = [self._port(f"{name}-metrics") for name in self._ray_names(env)]
            targets[env] = Targets(
                f"{HOST}:{self.ports[f'serve-{env}']}",
                folder / f"{env}.key",
                [f"{HOST}:{port}" for port in ports],
            )
        (folder / "prometheus.yml").write_text(scrape_config(targets, "5s"))
        command = [program, f"--config.file={folder}/prometheus.yml"]
        command += [f"--storage.tsdb.path={folder}/data", f"--web.listen-address={HOST}:{port}"]
        self._run("prometheus", command)
        self.places["prometheus"] = f"http://{HOST}:{port}"
        yield
        self._wait("prometheus", lambda: _answers(f"{self.places['prometheus']}/-/ready"))


def _artifacts(env: str) -> str:
    """Where the MLflow server of an environment keeps artifacts."""
    return f"s3://models-{env}/mlflow"


def _plain_environment() -> dict[str, str]:
    """This process's environment without what names other servers."""
    return {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("LIFECYCLE_", "PREFECT_", "MLFLOW_", "RAY_", "AWS_", "PG"))
    }


def _answers(url: str) -> bool:
    try:
        return httpx.get(url, trust_env=False, timeout=5).status_code < 500
    except httpx.HTTPError:
        return False


def _connects(url: str) -> bool:
    import psycopg

    try:
        psycopg.connect(url).close()
    except psycopg.OperationalError:
        return False
    return True


def main() -> int:
    """Start all of it, say where it is, and end it at Ctrl-C."""
    prepare_process()
    parser = argparse.ArgumentParser(prog="make stack", description=__doc__)
    parser.add_argument("--folder", type=Path, default=Path(".stack"))
    parser.add_argument("--nodes", type=int, default=2, help="Ray nodes beside each head")
    options = parser.parse_args()
    stop = Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    console = open_console()

    def tell(name: str, process: Process) -> None:
        place = stack.places.get(name, "")
        console.print(styled((f"{name:<20}", "bold"), f"pid {process.pid:<8} {place}"))

    stack = Stack(options.folder, nodes=options.nodes, tell=tell)
    try:
        with stack:
            console.print(f"\nIn another terminal:\n  source {sys.prefix}/bin/activate")
            console.print(f"  cd {stack.folder}\n  set -a; . ./secrets.env; set +a")
            console.print("  lifecycle doctor --env staging\n\nCtrl-C ends it.")
            while not stop.wait(1):
                for name, process in stack.processes.items():
                    if process.poll() is not None:
                        raise BackendError(f"{name} has ended; see {stack.log(name)}")
    except LifecycleError as error:
        write_error(str(error))
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
