"""Logged predictions: how many each version gave, one of them, and the rows it goes back to."""

from collections import defaultdict
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from deltalake import DeltaTable
from deltalake.exceptions import DeltaError

from lifecycle.data.privacy import plain_text
from lifecycle.errors import BackendError, DataError
from lifecycle.lake import ROW, first_line
from lifecycle.lake.logged_predictions import open_log
from lifecycle.lake.prediction_log import SCHEMA
from lifecycle.lineage.datasets import SHORT
from lifecycle.lineage.graph import Graph, Node
from lifecycle.project import Project
from lifecycle.settings import Settings

SHOWN = 20
"""Rows of an entity that are told one by one, of each part."""
MASKED = "…"
ONE = ["id", "time", "version", "digest", "role", "status", "entity", "prediction", "predicted"]


def add_logged(graph: Graph, project: Project, settings: Settings) -> None:
    """For each version that answered, how many rows, from when to when; one pass over the log.

    Raises:
        BackendError: the log cannot be read.
    """
    rows: dict[int, int] = defaultdict(int)
    failed: dict[int, int] = defaultdict(int)
    times: dict[int, list[Any]] = defaultdict(list)
    for batch in open_log(settings, project.name, ["version", "status", "time"]):
        counted = batch.append_column("failed", pc.not_equal(batch["status"], "ok"))
        wanted = [("time", "count"), ("time", "min"), ("time", "max"), ("failed", "sum")]
        for one in counted.group_by("version").aggregate(wanted).to_pylist():
            version = one["version"]
            rows[version] += one["time_count"]
            failed[version] += one["failed_sum"] or 0
            known = [*times[version], one["time_min"], one["time_max"]]
            times[version] = [min(known), max(known)]
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
    nothing = pa.schema([SCHEMA.field(column) for column in ONE]).empty_table()
    field = pc.field("id")
    asked = (field == name) | pc.starts_with(field, f"{name}-")
    found = pa.concat_tables([nothing, *open_log(settings, project.name, ONE, asked)])
    lines = found.sort_by([("id", "ascending"), ("time", "ascending")]).to_pylist()
    ids = list(dict.fromkeys(line["id"] for line in lines))
    if not ids:
        return None
    if len(ids) > 1 and name not in ids:
        raise DataError(
            f"{name}: this request had {len(ids)} rows; name one, such as {ids[0]} or {ids[-1]}"
        )
    mine = [line for line in lines if line["id"] == (name if name in ids else ids[0])]
    told = next((line for line in mine if line["role"] != "shadow"), mine[0])
    said = told["predicted"] or told["prediction"]
    facts = {"role": told["role"], "status": told["status"], "prediction": said}
    facts |= {"entity": told["entity"], "bundle": (told["digest"] or "")[:SHORT]}
    node = Node(
        id=f"prediction:{told['id']}",
        kind="prediction",
        name=f"prediction {told['id']}",
        time=told["time"].isoformat(timespec="milliseconds"),
        facts={key: str(value) for key, value in facts.items() if value not in (None, "")},
    )
    graph.add(node)
    for line in mine:
        graph.link(f"model:{line['version']}", node.id, "answered")
    if project.entity and told["entity"]:
        _add_rows(graph, project, node, told["entity"])
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
            facts={"count": f"{table.num_rows:,}"} | _told(project, table),
        )
        graph.add(rows)
        graph.link(part.id, rows.id, "holds")
        graph.link(rows.id, node.id, "are of the entity of")


def _rows_of(project: Project, part: Node, entity: str) -> pa.Table:
    """Rows of a part about an entity, by their number; only matching ones are held in memory."""
    assert project.entity is not None  # noqa: S101 - asked by the caller
    uri, version = part.facts["uri"], int(part.id.rpartition("@")[2])
    try:
        rows = DeltaTable(uri, version=version).to_pyarrow_dataset()
        if project.entity not in rows.schema.names:
            return rows.schema.empty_table()
        column = rows.schema.field(project.entity)
        wanted = _as_stored(entity, column.type)
        if wanted is None:
            return rows.schema.empty_table()
        return rows.to_table(filter=pc.field(project.entity) == wanted).sort_by(ROW)
    except (DeltaError, pa.ArrowException, OSError) as error:
        raise BackendError(
            f"{uri}: version {version} cannot be read: {first_line(error)}"
        ) from None


def _as_stored(entity: str, kind: pa.DataType) -> pa.Scalar | None:
    """The log's text as a value of the column; None if it is no such value."""
    try:
        return pa.scalar(entity).cast(kind)
    except (pa.ArrowException, NotImplementedError):
        return None


def _told(project: Project, table: pa.Table) -> dict[str, str]:
    """`row 17` → its values; personal ones are masked."""
    columns = project.contract.columns
    hidden = {name for name, spec in columns.items() if spec.pii in ("hash", "drop")}
    facts = {}
    for row in table.slice(0, SHOWN).to_pylist():
        number = row.pop(ROW)
        values = (
            f"{name}={MASKED if name in hidden else plain_text(value)}"
            for name, value in row.items()
        )
        facts[f"row {number}"] = ", ".join(values)
    if table.num_rows > SHOWN:
        facts["more"] = f"{table.num_rows - SHOWN:,} rows"
    return facts
