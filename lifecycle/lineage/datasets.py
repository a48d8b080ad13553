"""The versions of a project's tables, as their commits tell of themselves."""

import json

from lifecycle.data.split import PARTS
from lifecycle.features.join import TABLE as JOINED
from lifecycle.features.store import VIEW
from lifecycle.lake.table import history, table_uri
from lifecycle.lineage.graph import SHORT, Graph, Kind, Node
from lifecycle.monitoring.results import LIVE, LIVE_PREDICTIONS
from lifecycle.project import Project
from lifecycle.records import DatasetVersion
from lifecycle.settings import Settings

INGESTED = ("accepted", "current", "rejected")
SCORES = "predictions"
FACTS = (
    "window",
    "rule",
    "contract",
    "incremental",
    "code",
    "commit",
    "run",
    "run_name",
    "who",
    "how",
)
"""Of a commit's note; the rest is told by edges and other nodes, or too long to read."""


def tables(project: Project, settings: Settings) -> dict[str, Kind]:
    """Every table of a project, what its versions are, in the order they are made.

    Views that the project file has no longer are there if rows were joined with them.

    Raises:
        BackendError: the lake cannot be read.
    """
    views = dict.fromkeys(project.feature_views)
    for note in history(table_uri(settings, project.name, JOINED))["note"]:
        views |= dict.fromkeys(json.loads(note["views"]))
    return {
        **dict.fromkeys(INGESTED, "dataset"),
        **dict.fromkeys((f"{VIEW}{name}" for name in views), "view"),
        JOINED: "joined",
        **dict.fromkeys(PARTS, "part"),
        SCORES: "scores",
        LIVE: "dataset",
        LIVE_PREDICTIONS: "scores",
    }


def add_datasets(graph: Graph, project: Project, settings: Settings) -> None:
    """Sources, versions of datasets, views, joined rows and parts, scored tables; edges to what
    they came from.

    Older versions without some of the notes have fewer facts and edges.

    Raises:
        BackendError: the lake cannot be read.
    """
    for table, kind in tables(project, settings).items():
        uri = table_uri(settings, project.name, table)
        for version in history(uri).to_dict("records"):
            note: dict[str, str] = version["note"]
            node = Node(
                id=f"{table}@{version['version']}",
                kind=kind,
                name=f"{table} version {version['version']}",
                digest=version["digest"],
                time=f"{version['time'].isoformat(timespec='milliseconds')}Z",
                facts={"rows": f"{version['rows']:,}", "uri": uri}
                | {key: note[key] for key in FACTS if key in note},
            )
            graph.add(node)
            if kind == "dataset":
                _link_source(graph, node, note)
                _link_former(graph, node)
            elif kind == "view":
                _link_source(graph, node, note)
            elif kind == "joined":
                _link_joined(graph, node, note)
            elif kind == "part":
                for parent in _with_digest(graph, note.get("dataset")):
                    graph.link(parent.id, node.id, "was split into")
            else:
                _link_scored(graph, node, note)


def version_of(node: Node) -> DatasetVersion:
    """The version of a table that a node stands for."""
    return DatasetVersion(
        uri=node.facts["uri"],
        version=int(node.id.rpartition("@")[2]),
        digest=node.digest,
        rows=int(node.facts["rows"].replace(",", "")),
    )


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
    label = "was computed into" if node.kind == "view" else "was ingested as"
    if node.id.startswith("rejected"):
        label = "broke the contract in"
    graph.link(source.id, node.id, label)


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


def _link_joined(graph: Graph, node: Node, note: dict[str, str]) -> None:
    graph.link(note["table"], node.id, "was joined with views in")
    for name, (version, _) in json.loads(note["views"]).items():
        graph.link(f"{VIEW}{name}@{version}", node.id, "gave features to")


def _link_scored(graph: Graph, node: Node, note: dict[str, str]) -> None:
    """Link a scored table to its rows and model; the model's node comes from the registry."""
    rows = note.get("table")
    if rows in graph.nodes:
        graph.link(rows, node.id, "was scored as")
    version = note.get("model", "").rpartition("/")[2]
    if version.isdigit():
        graph.link(f"model:{version}", node.id, "predicted")


def _with_digest(graph: Graph, digest: str | None) -> list[Node]:
    kinds = ("dataset", "joined")
    return [node for node in graph.nodes.values() if node.kind in kinds and node.digest == digest]
