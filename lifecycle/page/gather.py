"""Reading of what is recorded of a project, environment by environment, for its page.

Every environment but the own one is read in a process of its own (`settings.variables_of`), since
MLflow, object storage and the lake keep credentials for a whole process. These run side by side.
One that cannot be read becomes a state that says why: a page of the others is better than none.
"""

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lifecycle.errors import LifecycleError, first_line
from lifecycle.page.state import EnvironmentState, Monitoring, VersionState
from lifecycle.project import Project
from lifecycle.project.loader import load_project
from lifecycle.records import ModelVersion
from lifecycle.redaction import redact
from lifecycle.release.mlflow_store import require_store
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


def gather(project: Project, settings: Settings, others: Sequence[str]) -> list[EnvironmentState]:
    """The states of the own environment and of others, in this order.

    Args:
        others: names of environments; each is read with its own file and variables.

    Raises:
        LifecycleError: the own environment cannot be read.
    """
    with tempfile.TemporaryDirectory(prefix="lifecycle-page-") as folder:
        readers = [(env, _start(project, env, Path(folder))) for env in others]
        try:
            states = [read_state(project, settings)]
            return states + [_result(env, reader, Path(folder)) for env, reader in readers]
        finally:
            for _, reader in readers:
                if reader.poll() is None:
                    reader.kill()
                    reader.wait()


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
        monitorings=tuple(_monitorings(graph)),
        attempts=tuple(read_attempts(settings, project.name)),
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


# The process of another environment.


def _start(project: Project, env: str, folder: Path) -> "subprocess.Popen[bytes]":
    command = [sys.executable, "-P", "-m", __name__, str(project.file), str(folder / env)]
    with (folder / f"{env}.log").open("wb") as log:
        return subprocess.Popen(  # noqa: S603 - our own interpreter and arguments
            command, env=variables_of(env), stdin=subprocess.DEVNULL, stdout=log, stderr=log
        )


def _result(env: str, reader: "subprocess.Popen[bytes]", folder: Path) -> EnvironmentState:
    with suppress(subprocess.TimeoutExpired):
        reader.wait(ANSWER_S)
        with suppress(OSError, ValueError):
            return EnvironmentState.model_validate_json((folder / env).read_bytes())
        lines = (folder / f"{env}.log").read_text(errors="replace").strip().splitlines()
        return EnvironmentState(env=env, problem=redact(lines[-1] if lines else "no answer"))
    return EnvironmentState(env=env, problem=f"no answer in {ANSWER_S:g} s")


def main(file: str, answer: str) -> None:
    """Write the state of this process's environment into a file."""
    env = os.environ["LIFECYCLE_ENV"]
    try:
        settings = Settings.load()
        state = read_state(load_project(Path(file), settings.env), settings)
    except LifecycleError as error:
        state = EnvironmentState(env=env, problem=redact(first_line(error)))
    Path(answer).write_text(state.model_dump_json(), encoding="utf-8")


if __name__ == "__main__":
    main(*sys.argv[1:])
