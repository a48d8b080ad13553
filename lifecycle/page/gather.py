"""Reading of what is recorded of a project, environment by environment, for its page.

Every environment but the own one is read in a process of its own (`settings.variables_of`), since
MLflow, object storage and the lake keep credentials for a whole process. These run side by side:
on Linux they are forks of one process that has imported MLflow, and has none of their variables
but those that all have in common. An environment that cannot be read becomes a state that says
why: a page of the others is better than none.
"""

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lifecycle.errors import LifecycleError, first_line
from lifecycle.page.state import EnvironmentState, FailedTraining, Monitoring, VersionState
from lifecycle.project import Project
from lifecycle.project.loader import load_project
from lifecycle.records import ModelVersion
from lifecycle.redaction import redact
from lifecycle.release.mlflow_store import require_store
from lifecycle.runtime.files import write_atomic
from lifecycle.settings import SERVED, Settings, variables_of

if TYPE_CHECKING:
    from mlflow.entities import Run

    from lifecycle.lineage.graph import Graph, Lineage

ANSWER_S = 120.0
"""Seconds that another environment may take."""
PROBE_S = 2.0
NEWEST = 3
"""Nodes of one kind around the champion that its picture shows."""
BASELINE = "baseline/"
IMPORTED = (
    "mlflow.store.tracking.sqlalchemy_store",
    "lifecycle.lineage.models",
    "lifecycle.monitoring.alarms",
    "lifecycle.monitoring.retraining",
)
"""Modules that reading an environment imports, and that take seconds."""
LOG = ".log"
"""Ends the file with what a reader printed."""


def gather(project: Project, settings: Settings, others: Sequence[str]) -> list[EnvironmentState]:
    """The states of the own environment and of others, in this order.

    Args:
        others: names of environments; each is read with its own file and variables.

    Raises:
        LifecycleError: the own environment cannot be read.
    """
    with tempfile.TemporaryDirectory(prefix="lifecycle-page-") as name:
        folder = Path(name)
        readers = _start(project, {env: variables_of(env) for env in others}, folder)
        try:
            states = [read_state(project, settings)]
            deadline = time.monotonic() + ANSWER_S
            for reader in readers:
                with suppress(subprocess.TimeoutExpired):
                    reader.wait(max(deadline - time.monotonic(), 0.0))
            return states + [_result(env, folder) for env in others]
        finally:
            for reader in readers:
                _end(reader)


def read_state(project: Project, settings: Settings) -> EnvironmentState:
    """Read what an environment has of a project.

    Raises:
        BackendError: a store cannot be reached or read.
    """
    require_store(settings, PROBE_S)  # before MLflow is imported, which takes seconds
    from lifecycle.audit.model_trail import history
    from lifecycle.lineage.datasets import add_datasets
    from lifecycle.lineage.graph import Graph
    from lifecycle.lineage.models import add_models, add_monitored, model_runs
    from lifecycle.monitoring.history import read_windows
    from lifecycle.monitoring.retraining import read_attempts
    from lifecycle.release.registry import versions

    graph = Graph()
    runs = {run.info.run_id: run for run in model_runs(project, settings)}
    registered = versions(project.name, settings)
    add_datasets(graph, project, settings)
    add_models(graph, project, settings, registered, runs)
    add_monitored(graph, project, settings)
    reports = settings.home / "reports" / project.name
    server = settings.tracking_uri if settings.tracking_uri.startswith(SERVED) else ""
    return EnvironmentState(
        env=settings.env,
        promotes_from=settings.promotes_from,
        approval=settings.approval == "required",
        mlflow=redact(server).rstrip("/"),
        experiment=next((str(run.info.experiment_id) for run in runs.values()), ""),
        prefect=_prefect_pages(),
        endpoint=settings.serve_url,
        reports=str(reports),
        versions=tuple(
            _version(project, model, aliases, runs.get(model.run_id), reports)
            for model, aliases in registered.items()
        ),
        changes=tuple(history(settings, project.name)),
        windows=tuple(read_windows(settings, project.name)),
        acknowledged=_acknowledged(project, settings),
        attempts=tuple(read_attempts(settings, project.name)),
        failed_training=_failed_training(project, settings),
        monitorings=tuple(_monitorings(graph)),
        lineage=_champion_lineage(graph, project, registered),
    )


def _version(
    project: Project,
    model: ModelVersion,
    aliases: tuple[str, ...],
    run: "Run | None",
    reports: Path,
) -> VersionState:
    from lifecycle.lineage.models import holdout_metrics, inputs_of, iso
    from lifecycle.release.lifetime import MADE_PREFIX, ORIGIN

    facts: dict[str, Any] = {}
    if run is not None:
        tags, numbers, info = run.data.tags, run.data.metrics, run.info
        origin = {
            key.removeprefix(MADE_PREFIX): value
            for key, value in tags.items()
            if key.startswith(MADE_PREFIX)
        }
        facts = {
            "trained": iso(info.end_time or info.start_time),
            "seconds": (info.end_time - info.start_time) / 1000 if info.end_time else None,
            "who": origin.get("who", ""),
            "commit": origin.get("commit", ""),
            "flow_run": origin.get("run", ""),
            "flow_run_name": origin.get("run_name", ""),
            "origin": tags.get(ORIGIN, ""),
            "metrics": holdout_metrics(run),
            "baseline": numbers.get(f"{BASELINE}{project.metric}"),
            "parts": {context: part for part, context in inputs_of(run)},
        }
    folders = (reports / model.digest[:12], reports / f"{model.digest[:12]}-registered")
    pages = {
        file.stem.replace("_", " "): str(file)
        for folder in folders
        for file in sorted(folder.glob("*.html"))
    }
    return VersionState(
        version=model.version,
        digest=model.digest,
        identity=model.identity,
        aliases=aliases,
        run_id=model.run_id,
        pages=pages,
        **facts,
    )


def _acknowledged(project: Project, settings: Settings) -> dict[str, str]:
    """Id of each alarm whose cause somebody acknowledged → who, when and why."""
    from lifecycle.monitoring.alarms import acknowledgements, stored_alarms

    if not acknowledgements(project, settings):
        return {}
    alarms = stored_alarms(project, settings)
    return {alarm.id: alarm.acknowledged for alarm in alarms if alarm.acknowledged}


def _failed_training(project: Project, settings: Settings) -> FailedTraining | None:
    """The newest training that did not come to its end."""
    from lifecycle.lineage.models import iso, newest_failure
    from lifecycle.release.lifetime import FAILURE, MADE_PREFIX

    run = newest_failure(project, settings)
    if run is None:
        return None
    tags = run.data.tags
    return FailedTraining(
        time=iso(run.info.end_time or run.info.start_time),
        reason=tags.get(FAILURE) or f"its process was {str(run.info.status).lower()}",
        flow_run=tags.get(f"{MADE_PREFIX}run", ""),
    )


def _monitorings(graph: "Graph") -> Iterator[Monitoring]:
    nodes = [node for node in graph.nodes.values() if node.kind == "monitoring"]
    for node in sorted(nodes, key=lambda node: node.time):
        yield Monitoring(
            window=node.name.removeprefix("monitoring of "),
            time=node.time,
            verdict=node.facts["verdict"],
            drifted=node.facts["drifted"],
            who=node.facts.get("who", ""),
            flow_run=node.facts.get("run", ""),
            flow_run_name=node.facts.get("run_name", ""),
            page=node.facts["report"],
        )


def _champion_lineage(
    graph: "Graph", project: Project, registered: dict[ModelVersion, tuple[str, ...]]
) -> "Lineage | None":
    """All that the champion was made from, and the newest of each kind that it led to."""
    versions = [model.version for model, aliases in registered.items() if "champion" in aliases]
    if not versions or f"model:{versions[0]}" not in graph.nodes:
        return None
    lineage = graph.around(project.name, f"model:{versions[0]}")
    ids_by_kind: dict[str, list[str]] = {}
    for node in sorted(lineage.nodes, key=lambda node: node.time, reverse=True):
        ids_by_kind.setdefault(node.kind, []).append(node.id)
    ids = {id for of_kind in ids_by_kind.values() for id in of_kind[:NEWEST]} | {lineage.subject}
    return lineage.model_copy(
        update={
            "nodes": tuple(node for node in lineage.nodes if node.id in ids),
            "edges": tuple(e for e in lineage.edges if e.source in ids and e.target in ids),
        }
    )


def _prefect_pages() -> str:
    """Address of the Prefect server that this environment's flows are told of."""
    address = os.environ.get("PREFECT_UI_URL") or os.environ.get("PREFECT_API_URL", "")
    return redact(address).rstrip("/").removesuffix("/api")


# The processes of other environments.


def _start(
    project: Project, variables: Mapping[str, Mapping[str, str]], folder: Path
) -> list["subprocess.Popen[bytes]"]:
    """Start what reads other environments; each leaves a file with its name in the folder.

    Args:
        variables: environment → its variables, which only a pipe sees.
    """
    envs = list(variables)
    # the frameworks of macOS do not survive a fork
    groups = [envs] if sys.platform == "linux" and envs else [[env] for env in envs]
    readers = []
    for group in groups:
        own = [variables[env] for env in group]
        common = {
            name: value
            for name, value in own[0].items()
            if all(other.get(name) == value for other in own)
        }
        command = [sys.executable, "-P", "-m", __name__, str(project.file), str(folder)]
        with (folder / f"{group[0]}{LOG}").open("wb") as log:
            reader = subprocess.Popen(  # noqa: S603 - our own interpreter and arguments
                command,
                env=common,
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                start_new_session=True,  # so that it can be ended with its forks
            )
        assert reader.stdin is not None  # noqa: S101 - it is a pipe
        with suppress(BrokenPipeError), reader.stdin:
            reader.stdin.write(json.dumps({env: variables[env] for env in group}).encode())
        readers.append(reader)
    return readers


def _end(reader: "subprocess.Popen[bytes]") -> None:
    """End a reader and its forks, whatever they wait for."""
    if reader.poll() is None:
        os.killpg(reader.pid, signal.SIGKILL)
        reader.wait()


def _result(env: str, folder: Path) -> EnvironmentState:
    with suppress(OSError, ValueError):
        return EnvironmentState.model_validate_json((folder / env).read_bytes())
    with suppress(OSError):
        lines = (folder / f"{env}{LOG}").read_text(errors="replace").strip().splitlines()
        if lines:
            return EnvironmentState(env=env, problem=redact(lines[-1]))
    return EnvironmentState(
        env=env,
        problem=f"no answer within {ANSWER_S:g} s; `lifecycle page --only --env {env}` says more",
    )


def main(file: str, folder: str) -> None:
    """Write the states of the environments on standard input: name → variables."""
    variables: dict[str, dict[str, str]] = json.load(sys.stdin)
    if len(variables) == 1:
        [(env, own)] = variables.items()
        _write_state(env, own, file, Path(folder))
        return
    _import_all()
    children = [
        pid for env, own in variables.items() if (pid := _fork(env, own, file, Path(folder)))
    ]
    for pid in children:
        os.waitpid(pid, 0)


def _import_all() -> None:
    """Import once what each fork needs; nothing of it reads an environment's variables."""
    for name in IMPORTED:
        import_module(name)


def _fork(env: str, own: Mapping[str, str], file: str, folder: Path) -> int:
    """Read an environment in a fork; its process id."""
    pid = os.fork()
    if pid:
        return pid
    try:
        with (folder / f"{env}{LOG}").open("ab") as log:
            os.dup2(log.fileno(), 1)
            os.dup2(log.fileno(), 2)
        _write_state(env, own, file, folder)
    except BaseException as error:  # else the fork would go on as if it were the first process
        (folder / f"{env}{LOG}").write_text(f"{type(error).__name__}: {error}")
    finally:
        os._exit(0)


def _write_state(env: str, own: Mapping[str, str], file: str, folder: Path) -> None:
    """Read the state of an environment with its variables, and write it as JSON."""
    os.environ.clear()
    os.environ.update(own)
    try:
        settings = Settings.load()
        state = read_state(load_project(Path(file), settings.env), settings)
    except LifecycleError as error:
        state = EnvironmentState(env=env, problem=redact(first_line(error)))
    write_atomic(folder / env, state.model_dump_json())


if __name__ == "__main__":
    main(*sys.argv[1:])
