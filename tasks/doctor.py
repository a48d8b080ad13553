"""`lifecycle doctor`: what an environment needs, asked one by one, a line each with its cure."""

import argparse
import os
import secrets
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from email.utils import parsedate_to_datetime
from importlib.metadata import version
from typing import Literal, NamedTuple

import httpx
import pyarrow as pa
import pyarrow.fs
from prefect.client.base import ServerType
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.filters import (
    FlowRunFilter,
    FlowRunFilterState,
    FlowRunFilterStateName,
    WorkPoolFilter,
    WorkPoolFilterName,
)
from prefect.client.schemas.objects import WorkerStatus
from prefect.exceptions import ObjectNotFound
from prefect.settings import PREFECT_API_URL, PREFECT_CLIENT_MAX_RETRIES, temporary_settings

from lifecycle.environments import DEV, environment_file, environment_help
from lifecycle.errors import BackendError, LifecycleError, PortInUseError, SettingsError, first_line
from lifecycle.lake.manifest import place_of
from lifecycle.lake.table import create_table
from lifecycle.redaction import redact, weak_secrets
from lifecycle.release.mlflow_store import backend_errors, connect, require_store
from lifecycle.runtime.cluster import connect_ray, require_ray
from lifecycle.runtime.console import open_console, styled, write_error
from lifecycle.runtime.nodes import CLOCK_S, ask_nodes, differences, own_facts
from lifecycle.runtime.process import prepare_process
from lifecycle.serving.auth import KeyStore
from lifecycle.serving.proxy import check_port
from lifecycle.settings import Settings
from tasks.services import PROBE_S, require_prefect

State = Literal["ok", "warn", "fail"]
STYLES: dict[State, str] = {"ok": "green", "warn": "bold yellow", "fail": "bold red"}
DISK_FAIL, DISK_WARN = 1 << 30, 5 << 30
"""Bytes that `home` needs free to do anything, and for a training with its reports."""
BACKLOG = timedelta(minutes=5)
"""Lateness from which too few workers are there."""
LIMIT = 200
"""Flow runs that one question to Prefect returns at most."""
NO_CHECKS = "the gate treats checks that did not run as `gate.require_checks` says"


class Finding(NamedTuple):
    """One line: what is there; or what is wrong, and the cure."""

    subject: str
    state: State
    text: str


def examine(settings: Settings) -> Iterator[Finding]:
    """Ask everything an environment needs; a finding as soon as it is known.

    Nothing stays behind: the one table that is written, to see whether the lake keeps commits
    apart, is removed.
    """
    checks: dict[str, Callable[[Settings], Iterator[Finding]]] = {
        "settings": _settings,
        "home": _home,
        "secrets": _secrets,
        "Prefect": _prefect,
        "MLflow": _mlflow,
        "databases": _databases,
        "lake": _lake,
        "endpoint": _endpoint,
        "gauges": _gauges,
        "checks": _checks,
        "Ray": _ray,
    }
    for subject, check in checks.items():
        try:
            yield from check(settings)
        except LifecycleError as error:
            yield Finding(subject, "fail", str(error).replace("\n", " "))


def _settings(settings: Settings) -> Iterator[Finding]:
    file = environment_file(settings.env)
    place = f"{file}, and LIFECYCLE_* variables" if file else "the embedded defaults"
    yield Finding("settings", "ok", f"{settings.env}, from {place}")


def _home(settings: Settings) -> Iterator[Finding]:
    folder = settings.folder()
    probe = folder / f".doctor-{secrets.token_hex(4)}"
    try:
        probe.write_bytes(b"")
        probe.unlink()
    except OSError as error:
        raise SettingsError(
            f"LIFECYCLE_HOME: {folder} cannot be written ({error.strerror}); name a folder that can"
        ) from None
    free = shutil.disk_usage(folder).free
    text = f"{folder}, {free / (1 << 30):.1f} GiB free"
    if free < DISK_WARN:
        state: State = "fail" if free < DISK_FAIL else "warn"
        yield Finding("home", state, f"{text}; make room, or name another LIFECYCLE_HOME")
    else:
        yield Finding("home", "ok", text)


def _secrets(settings: Settings) -> Iterator[Finding]:
    if settings.pii_key is None and settings.env != DEV:
        text = (
            "LIFECYCLE_PII_KEY is not set: each machine hashes personal data with a key of its "
            "own; set one key for all of them"
        )
        yield Finding("secrets", "warn" if settings.local_ray else "fail", text)
    elif settings.pii_key is not None:
        yield Finding("secrets", "ok", "a key for hashes of personal data")
    if settings.env != DEV and (weak := weak_secrets()):
        text = (
            f"{', '.join(weak)}: short, or an ordinary word, which can be guessed and cannot be "
            "kept out of logs; `openssl rand -hex 24` makes a secret"
        )
        yield Finding("secrets", "fail", text)
    if settings.needs_keys:
        count = sum(not key.revoked for key in KeyStore(settings.keys_file).list())
        if count:
            yield Finding("secrets", "ok", f"{count} API key(s) in {settings.keys_file}")
        else:
            text = (
                f"no API key in {settings.keys_file}, so nobody can ask the endpoint; "
                f"`lifecycle keys add NAME --env {settings.env}` makes one"
            )
            yield Finding("secrets", "warn", text)


def _prefect(settings: Settings) -> Iterator[Finding]:
    url = PREFECT_API_URL.value()
    if not url:
        if settings.env != DEV:
            raise SettingsError(
                "PREFECT_API_URL is not set: name the Prefect server that schedules "
                f"{settings.env} (a script without one starts its own)"
            )
        yield Finding("Prefect", "ok", "no server is named: a script starts its own")
        return
    require_prefect()
    with (
        temporary_settings({PREFECT_CLIENT_MAX_RETRIES: 0}),
        get_client(sync_client=True, httpx_settings={"timeout": PROBE_S}) as client,
    ):
        yield _prefect_version(client, url)
        yield _work_pool(client, settings)
        yield _backlog(client, settings)


def _prefect_version(client: SyncPrefectClient, url: str) -> Finding:
    own = version("prefect")
    if client.server_type == ServerType.CLOUD:
        return Finding("Prefect", "ok", f"{redact(url)}, Prefect Cloud; here {own}")
    response = client.request("GET", "/admin/version")
    server_version = str(response.json())
    text = f"{redact(url)}, {server_version}"
    if server_version.split(".")[:2] != own.split(".")[:2]:
        return Finding("Prefect", "warn", f"{text}, here {own}; install one version on both")
    return _with_clock(Finding("Prefect", "ok", text), response.headers.get("date"))


def _work_pool(client: SyncPrefectClient, settings: Settings) -> Finding:
    name = f"lifecycle-{settings.env}"
    start = f"`prefect worker start --pool {name}` starts one"
    try:
        pool = client.read_work_pool(name)
    except ObjectNotFound:
        state: State = "warn" if settings.env == DEV else "fail"
        make = f"`prefect work-pool create {name} --type process` makes it, {start}"
        return Finding("worker", state, f"there is no work pool {name}; {make}")
    workers = client.read_workers_for_work_pool(name)
    online = [worker.name for worker in workers if worker.status == WorkerStatus.ONLINE]
    if pool.is_paused:
        text = f"the work pool {name} is paused; `prefect work-pool resume {name}` ends that"
        return Finding("worker", "fail", text)
    if not online:
        return Finding("worker", "fail", f"no worker is online in the work pool {name}; {start}")
    return Finding("worker", "ok", f"{len(online)} online in the work pool {name}")


def _backlog(client: SyncPrefectClient, settings: Settings) -> Finding:
    pool = f"lifecycle-{settings.env}"
    runs = client.read_flow_runs(
        flow_run_filter=FlowRunFilter(
            state=FlowRunFilterState(name=FlowRunFilterStateName(any_=["Late", "AwaitingRetry"]))
        ),
        work_pool_filter=WorkPoolFilter(name=WorkPoolFilterName(any_=[pool])),
        limit=LIMIT,
    )
    if not runs:
        return Finding("backlog", "ok", "no run is late")
    waits = [run.estimated_start_time_delta or timedelta() for run in runs]
    longest = max(waits)
    minutes = longest / timedelta(minutes=1)
    text = f"{len(runs)} run(s) are late, the first by {minutes:.0f} min"
    if longest < BACKLOG:
        return Finding("backlog", "ok", text)
    return Finding("backlog", "warn", f"{text}; start more workers, or cancel what is not needed")


def _mlflow(settings: Settings) -> Iterator[Finding]:
    require_store(settings, PROBE_S)
    uri = settings.tracking_uri
    with backend_errors(settings):
        connect(settings).search_registered_models(max_results=1)
    own = version("mlflow")
    if not uri.startswith(("http://", "https://")):
        if settings.env != DEV and uri.startswith("sqlite"):
            text = f"{redact(uri)}, for one machine; name a server (LIFECYCLE_MLFLOW_TRACKING_URI)"
            yield Finding("MLflow", "warn", text)
        else:
            yield Finding("MLflow", "ok", f"{redact(uri)}, {own}")
        return
    login = (os.environ.get("MLFLOW_TRACKING_USERNAME"), os.environ.get("MLFLOW_TRACKING_PASSWORD"))
    response = httpx.get(
        f"{uri.rstrip('/')}/version",
        timeout=PROBE_S,
        trust_env=False,
        auth=httpx.BasicAuth(*map(str, login)) if all(login) else None,
    )
    server_version = response.text.strip() if response.is_success else "of unknown version"
    text = f"{redact(uri)}, {server_version}"
    if response.is_success and server_version != own:
        yield Finding("MLflow", "warn", f"{text}, here {own}; install one version on both")
        return
    yield _with_clock(Finding("MLflow", "ok", text), response.headers.get("date"))


def _with_clock(finding: Finding, date: str | None) -> Finding:
    """The finding, or what is wrong between the server's clock and this machine's.

    Args:
        date: header of the server's answer, in whole seconds.
    """
    apart = abs(parsedate_to_datetime(date).timestamp() - time.time()) if date else 0.0
    if apart <= CLOCK_S:
        return finding
    text = f"{finding.text}; its clock differs by {apart:.0f} s: set both by NTP"
    return finding._replace(state="fail", text=text)


def _databases(settings: Settings) -> Iterator[Finding]:
    from sqlalchemy import create_engine, text
    from sqlalchemy.exc import SQLAlchemyError

    for url in settings.databases.get_secret_value().split() if settings.databases else ():
        try:
            engine = create_engine(url)
            with engine.connect() as connection:
                connection.execute(text("SELECT 1"))
            engine.dispose()
        except (SQLAlchemyError, ImportError, ValueError) as error:
            raise BackendError(
                f"LIFECYCLE_DATABASES: {redact(url)} does not answer ({first_line(error)}); start "
                "that server, or correct the URL"
            ) from None
        yield Finding("database", "ok", redact(url))


def _lake(settings: Settings) -> Iterator[Finding]:
    from deltalake import DeltaTable, write_deltalake
    from deltalake.exceptions import DeltaError

    uri = f"{settings.lake.rstrip('/')}/_doctor-{secrets.token_hex(4)}"
    rows = pa.table({"row": [1]})
    system, prefix = place_of(uri)
    try:
        create_table(uri, rows.schema)
        # both know version 0 only: without conditional writes the second would replace the first
        writers = [DeltaTable(uri), DeltaTable(uri)]
        for writer in writers:
            write_deltalake(writer, rows, mode="append")
        count = DeltaTable(uri).to_pyarrow_table().num_rows
    except (DeltaError, OSError) as error:
        raise BackendError(
            f"the lake {redact(settings.lake)} cannot be written ({first_line(error)}); correct "
            "LIFECYCLE_LAKE_URI, or the credentials of that bucket (AWS_ACCESS_KEY_ID, …)"
        ) from None
    finally:
        _remove(system, prefix)
    if count != len(writers):
        text = (
            f"{redact(settings.lake)} does not keep commits apart: of {len(writers)} writers one "
            "was lost; use a bucket with conditional writes (If-None-Match)"
        )
        yield Finding("lake", "fail", text)
    else:
        text = f"{redact(settings.lake)}, written and read; commits of two writers were kept apart"
        yield Finding("lake", "ok", text)


def _remove(system: pyarrow.fs.FileSystem, prefix: str) -> None:
    """Remove the table that was tried."""
    if isinstance(system, pyarrow.fs.LocalFileSystem):
        shutil.rmtree(prefix, ignore_errors=True)
        return
    infos = system.get_file_info(pyarrow.fs.FileSelector(prefix, recursive=True))
    for info in infos:
        if info.type == pyarrow.fs.FileType.File:
            system.delete_file(info.path)


def _endpoint(settings: Settings) -> Iterator[Finding]:
    url = settings.serve_url
    try:
        answer = httpx.get(f"{url}/-/healthz", timeout=PROBE_S, trust_env=False, verify=False)  # noqa: S501 - asked whether it is there, not trusted
    except httpx.TransportError:
        if settings.remote_ray:  # the port is the head's
            text = f"nothing answers at {url} yet; a release starts it"
            yield Finding("endpoint", "ok", text)
            return
        try:
            check_port(settings.serve_host, settings.serve_port)
        except PortInUseError as error:
            yield Finding("endpoint", "fail", str(error))
        else:
            text = f"nothing answers at {url} yet, and the port is free; a release starts it"
            yield Finding("endpoint", "ok", text)
        return
    if answer.is_success:
        yield Finding("endpoint", "ok", f"{url} answers")
    else:
        text = f"what answers at {url} is not well ({answer.status_code}); see the Ray Serve logs"
        yield Finding("endpoint", "fail", text)


def _gauges(settings: Settings) -> Iterator[Finding]:
    """Where flows leave what monitoring and retraining found for Prometheus."""
    url = settings.pushgateway
    if not url:
        if settings.remote_ray:  # the endpoint looks into the homes of the cluster
            text = (
                "what monitoring and retraining find here never reaches Prometheus: flows leave it "
                f"in {settings.home}, which the endpoint does not see; name a Prometheus "
                "Pushgateway (LIFECYCLE_PUSHGATEWAY)"
            )
            yield Finding("gauges", "warn", text)
        return
    try:
        answer = httpx.get(f"{url.rstrip('/')}/-/ready", timeout=PROBE_S)
        problem = "" if answer.is_success else f"says {answer.status_code}"
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        problem = f"does not answer ({first_line(error)})"
    if problem:
        text = (
            f"the Pushgateway {redact(url)} {problem}; start it, or correct LIFECYCLE_PUSHGATEWAY, "
            "its user and password, too"
        )
        yield Finding("gauges", "fail", text)
    else:
        yield Finding("gauges", "ok", f"flows push to {redact(url)}")


def _checks(settings: Settings) -> Iterator[Finding]:
    python = settings.checks_interpreter
    ask = "import importlib.metadata as m; print(m.version('deepchecks'))"
    try:
        answer = subprocess.run(  # noqa: S603 - the interpreter that the settings name
            [str(python), "-c", ask], capture_output=True, text=True, timeout=PROBE_S, check=True
        )
    except (OSError, subprocess.SubprocessError):
        text = f"{python} does not run deepchecks, and {NO_CHECKS}; `make install` makes it"
        yield Finding("checks", "warn", text)
    else:
        yield Finding("checks", "ok", f"deepchecks {answer.stdout.strip()}, by {python}")


def _ray(settings: Settings) -> Iterator[Finding]:
    if settings.local_ray:
        yield Finding("Ray", "ok", "local: a script starts its own")
        return
    require_ray(settings.ray_address, PROBE_S)
    with connect_ray(settings):
        own = own_facts()
        for node in ask_nodes():
            if text := differences(node, own):
                cure = "install the same lock, Python and code on every node, and set clocks by NTP"
                yield Finding("Ray", "fail", f"the node {node.address} {text}; {cure}")
            else:
                text = f"node {node.address}: Python, packages, code and clock as here"
                yield Finding("Ray", "ok", text)


def main(arguments: list[str] | None = None) -> int:
    """Print the findings; 1 where something is wrong."""
    prepare_process()
    parser = argparse.ArgumentParser(prog="lifecycle doctor", description=__doc__)
    parser.add_argument("--env", help=environment_help())
    options = parser.parse_args(arguments)
    try:
        settings = Settings.load(options.env)
    except LifecycleError as error:
        write_error(str(error))
        return 2
    console = open_console()
    worst: dict[State, int] = dict.fromkeys(STYLES, 0)
    for finding in examine(settings):
        worst[finding.state] += 1
        mark = (f"{finding.state:<5}", STYLES[finding.state])
        console.print(styled(mark, (f"{finding.subject:<10}", "bold"), finding.text))
    if worst["fail"]:
        console.print(styled((f"{settings.env} cannot work yet: {worst['fail']} to mend", "bold")))
        return 1
    hints = f", {worst['warn']} to look at" if worst["warn"] else ""
    console.print(styled((f"{settings.env} has what it needs{hints}", "bold")))
    return 0


if __name__ == "__main__":
    sys.exit(main())
