"""The registered versions: which rows, code and run made them, and what became of them."""

import json
from collections import defaultdict
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc

from lifecycle.audit import model_trail
from lifecycle.data.privacy import plain_text
from lifecycle.errors import DataError
from lifecycle.lake.logged_predictions import open_log
from lifecycle.lake.prediction_log import SCHEMA
from lifecycle.lake.read import open_rows, stored_schema
from lifecycle.lake.table import ROW
from lifecycle.lineage.datasets import version_of
from lifecycle.lineage.graph import NOTHING_TO_DO, SHORT, Graph, Node
from lifecycle.monitoring.results import REPORT_FILES
from lifecycle.project import Project
from lifecycle.records import Estimate, ModelVersion
from lifecycle.release.lifetime import MADE_PREFIX, ORIGIN
from lifecycle.release.mlflow_run import logged_estimates
from lifecycle.release.mlflow_store import backend_errors, connect
from lifecycle.release.registry import BUNDLE, IDENTITY, versions
from lifecycle.settings import Settings

if TYPE_CHECKING:
    from mlflow.entities import Run

HOLDOUT = "holdout"
"""Group of the metrics of a run on the holdout."""


def add_models(
    graph: Graph,
    project: Project,
    settings: Settings,
    registered: Mapping[ModelVersion, tuple[str, ...]] | None = None,
    runs: "Mapping[str, Run] | None" = None,
) -> None:
    """Every complete version with its parts, code, run and release.

    Args:
        registered: the versions with their aliases, where they were read already.
        runs: MLflow runs by their ids, where they were read already.

    Raises:
        BackendError: registry, tracking store or audit trail cannot be read.
    """
    if runs is None:
        runs = {run.info.run_id: run for run in model_runs(project, settings)}
    if registered is None:
        registered = versions(project.name, settings)
    for model, aliases in registered.items():
        node = _model(model, aliases, runs.get(model.run_id))
        graph.add(node)
        if run := runs.get(model.run_id):
            _add_making(graph, node, run)
    _add_releases(graph, project, settings)


def model_runs(project: Project, settings: Settings) -> Iterator["Run"]:
    """The MLflow runs of the project's models, with tags and dataset inputs, page by page.

    Raises:
        BackendError: the tracking store cannot be read.
    """
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


def newest_failure(project: Project, settings: Settings) -> "Run | None":
    """The training that failed or was killed last; None if all came to their end.

    Raises:
        BackendError: the tracking store cannot be read.
    """
    client = connect(settings)
    with backend_errors(settings):
        experiment = client.get_experiment_by_name(project.name)
        if experiment is None:
            return None
        ended = "attributes.status != 'FINISHED' and attributes.status != 'RUNNING'"
        query = f"{ended} and tags.`{IDENTITY}` LIKE '%'"  # trials have none
        order = ["attributes.end_time DESC"]
        runs = client.search_runs([experiment.experiment_id], query, max_results=1, order_by=order)
        return runs[0] if runs else None


def holdout_metrics(run: "Run") -> dict[str, Estimate]:
    """The metrics of a run on its holdout that have an interval."""
    return logged_estimates(run, HOLDOUT)


def _model(model: ModelVersion, aliases: tuple[str, ...], run: "Run | None") -> Node:
    facts = {"alias": ", ".join(aliases)} if aliases else {}
    facts |= {"identity": model.identity}
    if run:
        tags = run.data.tags
        facts |= {"promoted from": tags[ORIGIN]} if ORIGIN in tags else {}
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
        time=iso(run.info.end_time or run.info.start_time) if run else "",
        facts=facts,
    )


def _add_making(graph: Graph, model: Node, run: "Run") -> None:
    """Parts, code and run that made a model."""
    for source, context in inputs_of(run):
        graph.link(source, model.id, "measured" if context == "holdout" else "taught")
    tags = run.data.tags
    versions = {
        key.removeprefix(MADE_PREFIX): value
        for key, value in tags.items()
        if key.startswith(MADE_PREFIX)
    }
    code = tags.get(f"{IDENTITY}.code", "")
    if code:
        facts = {"lock": tags.get(f"{IDENTITY}.lock", ""), "commit": versions.get("commit", "")}
        facts |= {"package": versions.get("code", "")}
        node = Node(
            id=f"code:{code}",
            kind="code",
            name=f"code {code[:SHORT]}",
            digest=code,
            facts={key: value for key, value in facts.items() if value},
        )
        graph.link(graph.add(node).id, model.id, "is the code of")
    facts = {
        "flow run": versions.get("run", ""),
        "by": versions.get("who", ""),
        "MLflow run": run.info.run_id,
        "began": iso(run.info.start_time),
    }
    name = versions.get("run_name") or run.info.run_name
    node = Node(
        id=f"run:{run.info.run_id}",
        kind="run",
        name=f"run {name}",
        time=iso(run.info.end_time) if run.info.end_time else "",
        facts={key: value for key, value in facts.items() if value},
    )
    graph.link(graph.add(node).id, model.id, "made")


def inputs_of(run: "Run") -> Iterator[tuple[str, str]]:
    """`train@5` and its context, `training`, for each dataset input of a run."""
    for dataset_input in run.inputs.dataset_inputs if run.inputs else ():
        source: dict[str, Any] = json.loads(dataset_input.dataset.source)
        table = str(source.get("path", "")).rstrip("/").rpartition("/")[2]
        version = source.get("delta_table_version", 0)  # MLflow leaves 0 out
        yield f"{table}@{version}", str(dataset_input.dataset.name)


def _add_releases(graph: Graph, project: Project, settings: Settings) -> None:
    """One node a version that the audit trail tells of; its lines are the facts."""
    lines: dict[int, list[str]] = {}
    times: dict[int, str] = {}
    for change in model_trail.history(settings, project.name):
        if not change.version:  # it was offered by another environment, and has no version here
            continue
        label = f"{change.time[:19].replace('T', ' ')} {change.action} by {change.who}"
        lines.setdefault(change.version, []).append(label)
        if change.action in model_trail.CROWNING:
            times[change.version] = change.time
    for version, item in lines.items():
        crowned = version in times
        node = Node(
            id=f"release:{version}",
            kind="release",
            name=f"{'release' if crowned else 'trial'} of version {version}",
            time=times.get(version, ""),
            facts={f"{at + 1}": line for at, line in enumerate(item)},
        )
        graph.add(node)
        graph.link(f"model:{version}", node.id, "became" if crowned else "was tried in")


def iso(milliseconds: int | None) -> str:
    """A moment of MLflow's as UTC, ISO 8601; empty without one."""
    if milliseconds is None:
        return ""
    moment = datetime.fromtimestamp(milliseconds / 1000, UTC).replace(tzinfo=None)
    return f"{moment.isoformat(timespec='milliseconds')}Z"


# Monitoring runs: which scored windows were compared, and what they found.


def add_monitored(graph: Graph, project: Project, settings: Settings) -> None:
    """A node for each monitoring report in `home`, from the scored versions it compared."""
    scores = {node.digest: node.id for node in graph.nodes.values() if node.kind == "scores"}
    for file in sorted(settings.home.glob(f"reports/{project.name}/{REPORT_FILES}")):
        content = json.loads(file.read_text(encoding="utf-8"))
        verdict = NOTHING_TO_DO if content["passed"] else "retraining asked for"
        facts = {"report": str(file.with_suffix(".html")), "verdict": verdict}
        facts |= {"drifted": ", ".join(content["drifted"]) or "nothing"} | content["made"]
        node = Node(
            id=f"monitoring:{file.stem}",
            kind="monitoring",
            name=f"monitoring of {content['window']}",
            time=content["time"],
            facts=facts,
        )
        graph.add(node)
        for digest in (content["reference"], *content["windows"]):
            if digest in scores:
                label = (
                    "was the reference of" if digest == content["reference"] else "was checked in"
                )
                graph.link(scores[digest], node.id, label)


# Logged predictions: how many each version gave, one of them, and the rows it goes back to.

MAX_CHANGES_SHOWN = 20
"""Rows of an entity that are told one by one, of each part."""
MASKED = "…"
PREDICTION_COLUMNS = [
    "id",
    "time",
    "version",
    "digest",
    "role",
    "status",
    "entity",
    "prediction",
    "predicted",
]


def add_logged(graph: Graph, project: Project, settings: Settings) -> None:
    """Add the logged predictions of each version, with rows and times, in one pass over the log.

    Raises:
        BackendError: the log cannot be read.
    """
    rows: dict[int, int] = defaultdict(int)
    failed: dict[int, int] = defaultdict(int)
    times: dict[int, list[Any]] = defaultdict(list)
    for batch in open_log(settings, project.name, ["version", "status", "time"]):
        counted = batch.append_column("failed", pc.not_equal(batch["status"], "ok"))
        aggregates = [("time", "count"), ("time", "min"), ("time", "max"), ("failed", "sum")]
        for row in counted.group_by("version").aggregate(aggregates).to_pylist():
            version = row["version"]
            rows[version] += row["time_count"]
            failed[version] += row["failed_sum"] or 0
            bounds = [*times[version], row["time_min"], row["time_max"]]
            times[version] = [min(bounds), max(bounds)]
    for version, count in sorted(rows.items()):
        first, last = (time.isoformat(timespec="seconds") for time in times[version])
        facts = {"rows": f"{count:,}", "errors": f"{failed[version]:,}"}
        graph.add(
            Node(
                id=f"log:{version}",
                kind="log",
                name=f"{count:,} logged predictions",
                time=last,
                facts=facts | {"first": first, "last": last},
            )
        )
        graph.link(f"model:{version}", f"log:{version}", "answered")


def add_prediction(graph: Graph, project: Project, settings: Settings, name: str) -> str | None:
    """One logged prediction, the versions that gave it, and the rows of its entity; its node's id.

    Args:
        name: `<prediction id>-<row>`, or the prediction id alone where the request had one row.

    Raises:
        BackendError: the log or a dataset version cannot be read.
        DataError: the prediction id has several rows.
    """
    empty = pa.schema([SCHEMA.field(column) for column in PREDICTION_COLUMNS]).empty_table()
    field = pc.field("id")
    condition = (field == name) | pc.starts_with(field, f"{name}-")
    rows = pa.concat_tables(
        [empty, *open_log(settings, project.name, PREDICTION_COLUMNS, condition)]
    )
    lines = rows.sort_by([("id", "ascending"), ("time", "ascending")]).to_pylist()
    ids = list(dict.fromkeys(line["id"] for line in lines))
    if not ids:
        return None
    if len(ids) > 1 and name not in ids:
        raise DataError(
            f"{name}: this request had {len(ids)} rows; name one of them, such as {ids[0]} or "
            f"{ids[-1]}"
        )
    own_lines = [line for line in lines if line["id"] == (name if name in ids else ids[0])]
    row = next((line for line in own_lines if line["role"] != "shadow"), own_lines[0])
    value = row["predicted"] or row["prediction"]
    facts = {"role": row["role"], "status": row["status"], "prediction": value}
    facts |= {"entity": row["entity"], "bundle": (row["digest"] or "")[:SHORT]}
    node = Node(
        id=f"prediction:{row['id']}",
        kind="prediction",
        name=f"prediction {row['id']}",
        time=row["time"].isoformat(timespec="milliseconds"),
        facts={key: str(value) for key, value in facts.items() if value not in (None, "")},
    )
    graph.add(node)
    for line in own_lines:
        graph.link(f"model:{line['version']}", node.id, "answered")
    if project.entity and row["entity"]:
        _add_rows(graph, project, node, row["entity"])
    return node.id


def _add_rows(graph: Graph, project: Project, node: Node, entity: str) -> None:
    """The rows about the entity in the parts of the models that answered."""
    models = {source for source, target in graph.edges if target == node.id}
    parts = {source for source, target in graph.edges if target in models}
    for part in (graph.nodes[id] for id in parts if id in graph.nodes):
        if part.kind != "part":
            continue
        table = _rows_of(project, part, entity)
        if not table.num_rows:
            continue
        rows = Node(
            id=f"rows:{part.id}",
            kind="rows",
            name=f"rows of this {project.entity} in {part.name}",
            facts={"count": f"{table.num_rows:,}"} | _shown_rows(project, table),
        )
        graph.add(rows)
        graph.link(part.id, rows.id, "holds")
        graph.link(rows.id, node.id, "are of the entity of")


def _rows_of(project: Project, part: Node, entity: str) -> pa.Table:
    """Rows of a part about an entity, by their number; only matching ones are held in memory."""
    assert project.entity is not None  # noqa: S101 - asked by the caller
    ref = version_of(part)
    schema = stored_schema(ref)
    numbered = schema.append(pa.field(ROW, pa.int64(), nullable=False))
    if project.entity not in schema.names:
        return numbered.empty_table()
    stored = _as_stored(entity, schema.field(project.entity).type)
    if stored is None:
        return numbered.empty_table()
    matches = [
        batch.filter(pc.equal(batch.column(project.entity), stored))
        for batch in open_rows(ref, schema.names)
    ]
    return pa.Table.from_batches([batch for batch in matches if batch.num_rows], numbered)


def _as_stored(entity: str, kind: pa.DataType) -> pa.Scalar | None:
    """The log's text as a value of the column; None if it is no such value."""
    try:
        return pa.scalar(entity).cast(kind)
    except (pa.ArrowException, NotImplementedError):
        return None


def _shown_rows(project: Project, table: pa.Table) -> dict[str, str]:
    """`row 17` → its values; personal ones are masked."""
    columns = project.contract.columns
    hidden = {name for name, spec in columns.items() if spec.pii in ("hash", "drop")}
    facts = {}
    for row in table.slice(0, MAX_CHANGES_SHOWN).to_pylist():
        number = row.pop(ROW)
        values = (
            f"{name}={MASKED if name in hidden else plain_text(value)}"
            for name, value in row.items()
        )
        facts[f"row {number}"] = ", ".join(values)
    if table.num_rows > MAX_CHANGES_SHOWN:
        facts["more"] = f"{table.num_rows - MAX_CHANGES_SHOWN:,} rows"
    return facts
