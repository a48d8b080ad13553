"""Commands about servers: the endpoint and its keys, a further Ray node, MLflow and Prefect."""

import os
import shlex
import signal
import subprocess
import sys
import threading
from contextlib import AbstractContextManager, ExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from lifecycle.cli.main import VERBS, example_text
from lifecycle.cli.page import serving_page
from lifecycle.cli.project import EnvOption, ProjectPath
from lifecycle.errors import BackendError, RegistryError, SettingsError
from lifecycle.ingress import launcher
from lifecycle.project.loader import PROJECT_FILE, load_project
from lifecycle.redaction import redact
from lifecycle.runtime.cluster import ENVIRONMENT, LOOPBACK, require_ray
from lifecycle.runtime.console import open_console, write_error
from lifecycle.runtime.fork_server import end_fork_servers, fork_servers
from lifecycle.runtime.process import TELEMETRY
from lifecycle.runtime.ray_internals import start_node_on_loopback
from lifecycle.runtime.servers import (
    Process,
    answers,
    auth_file,
    auth_string,
    free_port,
    prefect_home,
    server,
    server_environment,
)
from lifecycle.runtime.warm_server import end_server, running_server, runs_until, unused
from lifecycle.serving.auth import KeyStore
from lifecycle.settings import SERVED, Settings

HOST = "127.0.0.1"
USAGE = 2
"""Exit code of a process of ours that a setting keeps from its work."""
MLFLOW_PORT, PREFECT_PORT, PAGE_PORT = 5000, 4200, 8010
"""Where they are looked for; with another process there, a free port is taken and told."""
MlflowPort = Annotated[int, typer.Option(envvar="MLFLOW_PORT", help="Port of MLflow's pages.")]
PrefectPort = Annotated[int, typer.Option(envvar="PREFECT_PORT", help="Port of Prefect's pages.")]
PagePort = Annotated[int, typer.Option(envvar="PAGE_PORT", help="Port of the project's page.")]

keys = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    help="API keys of the endpoint.",
    epilog=example_text(VERBS["keys"].example),
)
Name = Annotated[str, typer.Argument(help="Who uses the key; shown in lists and logs.")]


@keys.command(epilog=example_text(VERBS["keys"].example))
def add(
    name: Name,
    rate: Annotated[
        float | None, typer.Option(help="Requests per second; without it there is no limit.")
    ] = None,
    project: Annotated[
        list[str] | None, typer.Option(help="Only this project; may be repeated.")
    ] = None,
    env: EnvOption = None,
) -> None:
    """Make a key and show it, once; only its hash is kept."""
    settings = Settings.load(env)
    if settings.serve_keys is None:
        settings.folder()
    key = KeyStore(settings.keys_file).add(name, rate, project or ())
    limit = f", {rate:g} requests per second" if rate else ""
    where = ", ".join(project) if project else "all projects"
    write_error(f"Key {name!r} for {where}{limit}; it is shown only now:")
    typer.echo(key)
    if not settings.needs_keys:
        write_error(
            f"{settings.env} requires no keys; set LIFECYCLE_SERVE_ACCESS=keys to require them"
        )


@keys.command("list", epilog=example_text("lifecycle keys list --env prod"))
def list_keys(env: EnvOption = None) -> None:
    """Show the names of all keys and what they may do."""
    settings = Settings.load(env)
    keys = KeyStore(settings.keys_file).list()
    if not keys:
        typer.echo(f"no keys in {settings.keys_file}; `lifecycle keys add NAME` makes one")
        return
    table = Table("name", "created (UTC)", "requests/s", "projects", "state")
    for key in keys:
        table.add_row(
            key.name,
            f"{key.created:%Y-%m-%d %H:%M:%S}",
            f"{key.rate:g}" if key.rate else "no limit",
            ", ".join(key.projects) or "all",
            "revoked" if key.revoked else "in use",
        )
    open_console().print(table)


@keys.command(epilog=example_text("lifecycle keys revoke shop"))
def revoke(name: Name, env: EnvOption = None) -> None:
    """Revoke a key; takes effect within 2 seconds, without a redeployment."""
    KeyStore(Settings.load(env).keys_file).revoke(name)
    write_error(f"Key {name!r} is revoked")


def front_env(
    env: EnvOption = None,
    one_machine: Annotated[
        bool, typer.Option(help="Every port of Ray on loopback: all nodes are on this machine.")
    ] = False,
) -> None:
    """Print what a cluster's nodes need in their environment before `ray start`."""
    settings = Settings.load(env)
    # short, for the sockets in it, and of one endpoint alone; the front refuses it if another user
    # was there first
    folder = Path(f"/tmp/lc-front-{os.getuid()}-{settings.serve_port}")  # noqa: S108
    variables = (
        TELEMETRY | launcher.environment() | launcher.listener(settings) | launcher.files(folder)
    )
    if one_machine:
        variables |= LOOPBACK
    typer.echo(f"mkdir -p -m 700 {folder}")
    for name, value in variables.items():
        typer.echo(f"export {name}={shlex.quote(value)}")


# `lifecycle ray-node`: one more Ray node on this machine, in a cluster that keeps to loopback.


def ray_node(
    address: Annotated[str, typer.Argument(help="Address of the head node: host:port.")],
    cpus: Annotated[int, typer.Option(min=0, help="CPUs of the node.")] = 1,
    block: Annotated[bool, typer.Option(help="Stay in the foreground; Ctrl-C ends it.")] = False,
    metrics_port: Annotated[
        int | None, typer.Option(help="Port that Prometheus scrapes; by default a free one.")
    ] = None,
) -> None:
    """Add a node on this machine to a Ray head that was started with `front-env --one-machine`.

    `ray start --address` refuses to join with all ports on loopback.
    """
    host, port = require_ray(address)
    os.environ.update(LOOPBACK)
    for name, value in ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    main = start_node_on_loopback()
    arguments = ["start", f"--address={host}:{port}", "--node-ip-address", HOST]
    arguments += ["--num-cpus", str(cpus), *(["--block"] if block else [])]
    if metrics_port is not None:
        arguments += ["--metrics-export-port", str(metrics_port)]
    sys.argv = ["ray", *arguments]
    main()


# `lifecycle doctor`.


def doctor(env: EnvOption = None) -> None:
    """Ask for everything an environment needs: a line each, with the cure of what is wrong."""
    # Prefect is asked, too, which nothing here imports. The process goes on as that of the flows'
    command = [sys.executable, "-P", "-m", "tasks.doctor", *(["--env", env] if env else [])]
    os.execv(sys.executable, command)  # noqa: S606


# `lifecycle serve`.


def serve(project: ProjectPath = PROJECT_FILE, env: EnvOption = None) -> None:
    """Serve the champion in the foreground, until Ctrl-C."""
    from lifecycle.lake.read import open_frames, read_head
    from lifecycle.release.artifacts import bundle_path, record_of
    from lifecycle.release.hooks import as_trained
    from lifecycle.release.registry import by_alias, erased_rows_of
    from lifecycle.runtime.cluster import connect_ray  # Ray and MLflow take a while
    from lifecycle.serving.deployment import deploy, undeploy
    from lifecycle.serving.online_features import as_requests
    from lifecycle.serving.predictor import engine_for
    from lifecycle.serving.proxy import check_port
    from lifecycle.serving.records import curl_command
    from lifecycle.training.bundle import load_bundle

    settings = Settings.load(env)
    loaded = load_project(project, settings.env)
    champion = by_alias(loaded.name, "champion", settings)
    if champion is None:
        raise RegistryError(
            f"{loaded.name} has no champion yet: run `lifecycle run end_to_end {project}`"
        )
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    console = open_console()
    if erased := erased_rows_of(champion, settings):
        console.print(
            f"{champion.name} v{champion.version} learned from {erased:,} rows that were erased "
            "since: train and release anew"
        )
    if settings.local_ray:  # a joined one may serve already, and knows its own port
        check_port(settings.serve_host, settings.serve_port)
    console.print(f"Starting Ray Serve with {champion.name} v{champion.version} …")
    holdout = record_of(champion, settings).split.holdout
    row, bundle = read_head(holdout, 1), bundle_path(champion, settings)
    loaded = as_trained(loaded, champion, settings)
    with connect_ray(settings):
        rows = open_frames(holdout, loaded.input_columns)
        engine = engine_for(bundle, champion, loaded, rows)
        url = deploy(bundle, champion, loaded, settings, engine)
        console.print(f"{champion.name} v{champion.version} answers. Ctrl-C stops it. Try:")
        if settings.needs_keys:
            console.print(
                f"It asks for a key of {settings.keys_file}: add -H 'X-API-Key: …' to these; "
                "`lifecycle keys add NAME` makes one."
            )
        console.print(f"curl -s {url}/model", soft_wrap=True)
        requests = as_requests(row, load_bundle(bundle, champion.digest).schema, loaded)
        console.print(curl_command(url, requests), soft_wrap=True)
        stop.wait()
        undeploy(loaded.name)


# `lifecycle ui`: MLflow, a Prefect server and a project's page on loopback, until Ctrl-C.


def ui(
    project: Annotated[
        Path | None,
        typer.Argument(metavar="[PROJECT]", help="Project file, whose page is shown, too."),
    ] = None,
    env: EnvOption = None,
    mlflow_port: MlflowPort = MLFLOW_PORT,
    prefect_port: PrefectPort = PREFECT_PORT,
    page_port: PagePort = PAGE_PORT,
) -> None:
    """Show MLflow, Prefect and a project's page in a browser, on loopback, until Ctrl-C."""
    settings = Settings.load(env)
    loaded = load_project(project, settings.env) if project else None
    console = open_console()
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    home = prefect_home(settings)
    auth = auth_string(home)
    with ExitStack() as servers:
        processes = []
        mlflow = ""
        if settings.tracking_uri.startswith(SERVED):
            console.print(f"MLflow   {redact(settings.tracking_uri)}")
        else:
            mlflow = f"http://{HOST}:{free_port(mlflow_port)}"
            processes.append(servers.enter_context(_mlflow(mlflow, settings)))
        prefect = f"http://{HOST}:{free_port(prefect_port)}"
        processes.append(servers.enter_context(_prefect(prefect, home, auth)))
        if len(processes) > 1:
            _require(processes[0], f"{mlflow}/health", settings.home / "mlflow-ui.log", stop)
            console.print(f"MLflow   {mlflow}")
        _require(processes[-1], f"{prefect}/api/health", home / "server.log", stop)
        if loaded is not None and not stop.is_set():
            port = free_port(page_port)
            if servers.enter_context(serving_page(loaded, settings, port, (mlflow, prefect))):
                console.print(f"Page     http://{HOST}:{port}    of {loaded.name}, as of now")
        if not stop.is_set():
            file = shlex.quote(str(auth_file(home)))
            console.print(
                f"Prefect  {prefect}    its page asks for the text in {auth_file(home)}\n"
                "Ctrl-C stops all. For flows and Prefect's commands in another shell:\n"
                f"  export PREFECT_API_URL={prefect}/api DO_NOT_TRACK=1\n"
                f'  export PREFECT_API_AUTH_STRING="$(cat {file})"'
            )
        while not stop.wait(1.0):
            if any(process.poll() is not None for process in processes):
                raise BackendError(
                    f"a server has ended unexpectedly; {settings.home / 'mlflow-ui.log'} and "
                    f"{home / 'server.log'} say why"
                )


def _require(process: Process, url: str, log: Path, stop: threading.Event) -> None:
    """See that a server answers, unless nobody waits for it any more.

    Raises:
        BackendError: it ends instead, or is too late.
    """
    if not answers(process, url, stop) and not stop.is_set():
        _require_prefect_settings()
        raise BackendError(f"no server answers at {url}; {log} says why")


def _require_prefect_settings() -> None:
    """See whether the cause is a variable of Prefect's, which `tasks` checks when it is imported.

    Raises:
        SettingsError: it is; says which.
    """
    command = [sys.executable, "-c", "import tasks"]
    process = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 - ours
    if process.returncode == USAGE:
        raise SettingsError(process.stderr.strip())


def _mlflow(url: str, settings: Settings) -> AbstractContextManager[Process]:
    from lifecycle.release.mlflow_store import connect  # MLflow takes a while

    connect(settings)  # makes or follows the database
    command = [sys.executable, "-m", "mlflow", "ui", "--host", HOST]
    command += ["--port", url.rpartition(":")[2]]
    variables = TELEMETRY | {
        "MLFLOW_BACKEND_STORE_URI": settings.tracking_uri,  # not where every user sees it
        "MLFLOW_DEFAULT_ARTIFACT_ROOT": settings.artifact_root or "",
    }
    return server(command, variables, settings.home / "mlflow-ui.log")


def _prefect(url: str, home: Path, auth: str) -> AbstractContextManager[Process]:
    command = [sys.executable, "-m", "prefect", "--no-prompt", "server", "start"]
    command += ["--host", HOST, "--port", url.rpartition(":")[2]]
    return server(command, server_environment(home, url, auth), home / "server.log")


# `lifecycle status` and `lifecycle down`: what a script left running for the next one.

Force = Annotated[bool, typer.Option(help="End it even if a script uses it.")]


def status(env: EnvOption = None) -> None:
    """Show what runs for this home when no script does: where, since when, until when."""
    settings = Settings.load(env)
    home = prefect_home(settings)
    server, forks = running_server(home), fork_servers(home)
    for fork in forks:
        open_console().print(
            f"Scripts  start from process {fork.process}, which has imported what they need"
        )
    if server is None:
        if not forks:
            open_console().print(f"Nothing runs for {settings.home} (LIFECYCLE_HOME).")
        return
    with unused(home) as is_unused:
        until = f"until {_clock(runs_until(home, server))} unless it is used"
        stays = until if is_unused else f"in use, and {server.minutes:g} minutes after that"
    open_console().print(
        f"Prefect  {server.url}    its page asks for the text in {auth_file(home)}\n"
        f"         process {server.process}, since {_clock(server.started)}, {stays}\n"
        "`lifecycle down` ends it."
    )


def down(env: EnvOption = None, force: Force = False) -> None:
    """End what a script left running for the next one; runs and models stay."""
    home = prefect_home(Settings.load(env))
    server, ended = running_server(home), end_fork_servers(home)
    if ended:
        open_console().print("The next script imports what it needs for itself.")
    if server is None:
        if not ended:
            open_console().print("Nothing runs.")
        return
    with unused(home) as is_unused:
        if not (is_unused or force):
            raise BackendError(
                f"a script uses the Prefect server at {server.url}: wait for it, or use --force"
            )
        end_server(home, server)
    open_console().print(f"Ended the Prefect server at {server.url}.")


def _clock(moment: datetime) -> str:
    """Hours and minutes of this machine's clock, with the day where it is another."""
    local, today = moment.astimezone(), datetime.now(UTC).astimezone().date()
    return f"{local:%H:%M}" if local.date() == today else f"{local:%Y-%m-%d %H:%M}"
