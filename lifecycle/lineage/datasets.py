"""The versions of a project's tables, as their commits tell of themselves."""

from lifecycle.data.lake import history, table_uri
from lifecycle.data.split import PARTS
from lifecycle.lineage.graph import Graph, Kind, Node
from lifecycle.project import Project
from lifecycle.settings import Settings

INGESTED = ("accepted", "current", "rejected")
SCORES = "predictions"
TABLES = (*INGESTED, *PARTS, SCORES)
SHORT = 12
"""Digits of a digest that a person is shown."""
FACTS = ("window", "rule", "contract", "incremental", "code", "commit", "run", "run_name", "who")
"""Of a commit's note; the rest is told by edges and other nodes, or too long to read."""


def add_datasets(graph: Graph, project: Project, settings: Settings) -> None:
    """Sources, dataset versions, their parts and scored tables; edges to what they came from.

    Older versions without some of the notes have fewer facts and edges.

    Raises:
        BackendError: the lake cannot be read.
    """
    for table in TABLES:
        uri = table_uri(settings, project.name, table)
        for version in history(uri).to_dict("records"):
            note: dict[str, str] = version["note"]
            node = Node(
                id=f"{table}@{version['version']}",
                kind=_kind(table),
                name=f"{table} version {version['version']}",
                digest=version["digest"],
                time=f"{version['time'].isoformat(timespec='milliseconds')}Z",
                facts={"rows": f"{version['rows']:,}", "uri": uri}
                | {key: note[key] for key in FACTS if key in note},
            )
            graph.add(node)
            if table in INGESTED:
                _link_source(graph, node, note)
                _link_former(graph, node)
            elif table in PARTS:
                for parent in _with_digest(graph, "dataset", note.get("dataset")):
                    graph.link(parent.id, node.id, "was split into")
            else:
                _link_scored(graph, node, note)


def _kind(table: str) -> Kind:
    if table in INGESTED:
        return "dataset"
    return "part" if table in PARTS else "scores"


def _link_source(graph: Graph, node: Node, note: dict[str, str]) -> None:
    digest = note.get("source")
    if not digest:
        return
    place = note.get("source_place", "")
    source = graph.add(
        Node(
            id=f"source:{digest}",
            kind="source",
            name=place.rstrip("/").rpartition("/")[2] or f"source {digest[:SHORT]}",
            digest=digest,
            facts={"place": place} if place else {},
        )
    )
    what = "broke the contract in" if node.id.startswith("rejected") else "was ingested as"
    graph.link(source.id, node.id, what)


def _link_former(graph: Graph, node: Node) -> None:
    """An incremental version holds the rows of the one before it that took in the same window."""
    table, _, version = node.id.rpartition("@")
    alike = ("window", "incremental")
    if "incremental" not in node.facts:
        return
    for number in range(int(version) - 1, -1, -1):
        former = graph.nodes.get(f"{table}@{number}")
        if former and all(former.facts.get(key) == node.facts.get(key) for key in alike):
            graph.link(former.id, node.id, "grew into")
            return


def _link_scored(graph: Graph, node: Node, note: dict[str, str]) -> None:
    """From the rows and the model; the model's own node comes with the registry."""
    rows = note.get("table")
    if rows in graph.nodes:
        graph.link(rows, node.id, "was scored as")
    version = note.get("model", "").rpartition("/")[2]
    if version.isdigit():
        graph.link(f"model:{version}", node.id, "predicted")


def _with_digest(graph: Graph, kind: Kind, digest: str | None) -> list[Node]:
    return [node for node in graph.nodes.values() if node.kind == kind and node.digest == digest]
