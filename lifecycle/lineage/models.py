"""The registered versions: which rows, code and run made them, and what became of them."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from lifecycle.audit import model_trail
from lifecycle.lineage.datasets import SHORT
from lifecycle.lineage.graph import Graph, Node
from lifecycle.monitoring.monitor import FOUND
from lifecycle.project import Project
from lifecycle.records import ModelVersion
from lifecycle.release.lifetime import MADE
from lifecycle.release.mlflow_store import backend_errors, connect
from lifecycle.release.registry import BUNDLE, IDENTITY, versions
from lifecycle.settings import Settings

if TYPE_CHECKING:
    from mlflow.entities import Run


def add_models(graph: Graph, project: Project, settings: Settings) -> None:
    """Every complete version with its parts, code, run and release.

    Raises:
        BackendError: registry, tracking store or audit trail cannot be read.
    """
    runs = {run.info.run_id: run for run in _runs(project, settings)}
    for model, aliases in versions(project.name, settings).items():
        node = _model(model, aliases, runs.get(model.run_id))
        graph.add(node)
        if run := runs.get(model.run_id):
            _add_making(graph, node, run)
    _add_releases(graph, project, settings)


def _runs(project: Project, settings: Settings) -> Iterator["Run"]:
    """The MLflow runs of the project's models, with tags and dataset inputs, page by page."""
    client = connect(settings)
    with backend_errors(settings):
        experiment = client.get_experiment_by_name(project.name)
        token: str | None = None
        while experiment is not None:
            query = f"tags.`{BUNDLE}` LIKE '%'"  # trials have none
            page = client.search_runs([experiment.experiment_id], query, page_token=token)
            yield from page
            token = page.token
            if not token:
                return


def _model(model: ModelVersion, aliases: tuple[str, ...], run: "Run | None") -> Node:
    facts = {"alias": ", ".join(aliases)} if aliases else {}
    facts |= {"identity": model.identity}
    if run:
        tags = run.data.tags
        facts |= {
            key: tags[f"{IDENTITY}.{key}"]
            for key in ("data", "project", "seed")
            if f"{IDENTITY}.{key}" in tags
        }
    return Node(
        id=f"model:{model.version}",
        kind="model",
        name=f"model {model.name} version {model.version}",
        digest=model.digest,
        time=_iso(run.info.end_time or run.info.start_time) if run else "",
        facts=facts,
    )


def _add_making(graph: Graph, model: Node, run: "Run") -> None:
    """Parts, code and run that made a model."""
    for source, context in _inputs(run):
        graph.link(source, model.id, "measured" if context == "holdout" else "taught")
    tags = run.data.tags
    made = {key.removeprefix(MADE): value for key, value in tags.items() if key.startswith(MADE)}
    code = tags.get(f"{IDENTITY}.code", "")
    if code:
        facts = {"lock": tags.get(f"{IDENTITY}.lock", ""), "commit": made.get("commit", "")}
        facts |= {"package": made.get("code", "")}
        node = Node(
            id=f"code:{code}",
            kind="code",
            name=f"code {code[:SHORT]}",
            digest=code,
            facts={key: value for key, value in facts.items() if value},
        )
        graph.link(graph.add(node).id, model.id, "is the code of")
    facts = {
        "flow run": made.get("run", ""),
        "by": made.get("who", ""),
        "MLflow run": run.info.run_id,
        "began": _iso(run.info.start_time),
    }
    name = made.get("run_name") or run.info.run_name
    node = Node(
        id=f"run:{run.info.run_id}",
        kind="run",
        name=f"run {name}",
        time=_iso(run.info.end_time) if run.info.end_time else "",
        facts={key: value for key, value in facts.items() if value},
    )
    graph.link(graph.add(node).id, model.id, "made")


def _inputs(run: "Run") -> Iterator[tuple[str, str]]:
    """`train@5` and its context, `training`, for each dataset input of a run."""
    for found in run.inputs.dataset_inputs if run.inputs else ():
        source: dict[str, Any] = json.loads(found.dataset.source)
        table = str(source.get("path", "")).rstrip("/").rpartition("/")[2]
        version = source.get("delta_table_version", 0)  # MLflow leaves 0 out
        yield f"{table}@{version}", str(found.dataset.name)


def _add_releases(graph: Graph, project: Project, settings: Settings) -> None:
    """One node a version that the audit trail tells of; its lines are the facts."""
    lines: dict[int, list[str]] = {}
    times: dict[int, str] = {}
    for change in model_trail.history(settings, project.name):
        said = f"{change.time[:19].replace('T', ' ')} {change.action} by {change.who}"
        lines.setdefault(change.version, []).append(said)
        if change.action in model_trail.CROWNING:
            times[change.version] = change.time
    for version, told in lines.items():
        crowned = version in times
        node = Node(
            id=f"release:{version}",
            kind="release",
            name=f"{'release' if crowned else 'trial'} of version {version}",
            time=times.get(version, ""),
            facts={f"{at + 1}": line for at, line in enumerate(told)},
        )
        graph.add(node)
        graph.link(f"model:{version}", node.id, "became" if crowned else "was tried in")


def _iso(milliseconds: int | None) -> str:
    if milliseconds is None:
        return ""
    moment = datetime.fromtimestamp(milliseconds / 1000, UTC).replace(tzinfo=None)
    return f"{moment.isoformat(timespec='milliseconds')}Z"


# Monitoring runs: which scored windows were compared, and what they found.


def add_monitored(graph: Graph, project: Project, settings: Settings) -> None:
    """A node for each monitoring report in `home`, from the scored versions it compared."""
    scores = {node.digest: node.id for node in graph.nodes.values() if node.kind == "scores"}
    for file in sorted(settings.home.glob(f"reports/{project.name}/{FOUND}")):
        found = json.loads(file.read_text(encoding="utf-8"))
        verdict = "nothing to do" if found["passed"] else "retraining asked for"
        facts = {"report": str(file.with_suffix(".html")), "verdict": verdict}
        facts |= {"drifted": ", ".join(found["drifted"]) or "nothing"} | found["made"]
        node = Node(
            id=f"monitoring:{file.stem}",
            kind="monitoring",
            name=f"monitoring of {found['window']}",
            time=found["time"],
            facts=facts,
        )
        graph.add(node)
        for digest in (found["reference"], *found["windows"]):
            if digest in scores:
                what = "was the reference of" if digest == found["reference"] else "was checked in"
                graph.link(scores[digest], node.id, what)
