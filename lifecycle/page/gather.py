"""Reading of what is recorded of a project in an environment, for its page."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lifecycle.page.state import EnvironmentState, FailedTraining, Monitoring, VersionState
from lifecycle.project import Project
from lifecycle.records import ModelVersion
from lifecycle.redaction import redact
from lifecycle.release.mlflow_store import require_store
from lifecycle.settings import SERVED, Settings

if TYPE_CHECKING:
    from mlflow.entities import Run

    from lifecycle.lineage.graph import Graph, Lineage

PROBE_S = 2.0
NEWEST = 3
"""Nodes of one kind around the champion that its picture shows."""
BASELINE = "baseline/"


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
