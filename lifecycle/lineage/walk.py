"""Lineage of one thing of a project, both ways, from what its making has recorded."""

import re

from lifecycle.errors import DataError, RegistryError
from lifecycle.lineage.datasets import add_datasets, tables
from lifecycle.lineage.graph import Graph, Lineage, Node
from lifecycle.lineage.models import add_logged, add_models, add_monitored, add_prediction
from lifecycle.project import Project
from lifecycle.settings import Settings

DIGITS = 6
"""Fewest digits of a digest that name something."""
REFERENCES = (
    "model:3, champion, train@5, predictions@2, the first digits of a digest, or a prediction id"
)


def lineage(project: Project, settings: Settings, ref: str) -> Lineage:
    """Return the lineage of `ref`: the nodes it was made from, and those made from it.

    Args:
        ref: `model:3`, `model:champion` or an alias alone; `table@version`, or a table alone for
            its newest version; the first 6 or more digits of the digest of a source, dataset,
            model or code; a prediction id, with its row (`<id>-0`) where the request had several.

    Raises:
        BackendError: a store cannot be reached.
        RegistryError: there is no such model version or alias.
        DataError: no node has that name, or several have it.
    """
    graph = load_graph(project, settings)
    return graph.around(project.name, find(graph, project, settings, ref))


def load_graph(project: Project, settings: Settings) -> Graph:
    """Everything that is recorded of a project, but for single predictions.

    Raises:
        BackendError: a store cannot be reached.
    """
    graph = Graph()
    add_datasets(graph, project, settings)
    add_models(graph, project, settings)
    add_logged(graph, project, settings)
    add_monitored(graph, project, settings)
    return graph


def find(graph: Graph, project: Project, settings: Settings, ref: str) -> str:
    """Id of the node that `ref` means; a prediction is taken up into the graph.

    Raises:
        BackendError, RegistryError, DataError: see `lineage`.
    """
    if ref in graph.nodes:
        return ref
    table, _, version = ref.partition("@")
    if table in tables(project, settings):
        return _version(graph, table, version)
    name = ref.removeprefix("model:")
    models = {node.id: node for node in graph.nodes.values() if node.kind == "model"}
    for node in models.values():
        if name in node.facts.get("alias", "").split(", "):
            return node.id
    if name != ref or name in ("champion", "challenger"):
        have = ", ".join(sorted(models, key=_number)) or "none yet"
        raise RegistryError(f"{project.name} has no model {name!r}; it has {have}")
    if nodes := _by_digest(graph, ref):
        return nodes
    if prediction := add_prediction(graph, project, settings, ref):
        return prediction
    raise DataError(f"{project.name} has nothing called {ref!r}; give {REFERENCES}")


def _version(graph: Graph, table: str, version: str) -> str:
    candidates = [id for id in graph.nodes if id.startswith(f"{table}@")]
    if not candidates:
        raise DataError(f"the table {table} has no versions yet; run a flow that makes one")
    if not version:
        return max(candidates, key=_number)
    raise DataError(f"{table} has no version {version!r}; it has {', '.join(candidates)}")


def _by_digest(graph: Graph, ref: str) -> str | None:
    bare = ref.removeprefix("source:").removeprefix("md5:").lower()
    if not re.fullmatch(rf"[0-9a-f]{{{DIGITS},}}", bare):
        return None
    nodes = [node for node in graph.nodes.values() if _is(node, bare)]
    if len(nodes) > 1:
        names = ", ".join(node.id for node in nodes)
        raise DataError(f"{ref}: several digests begin with it: {names}; name one of these")
    return nodes[0].id if nodes else None


def _is(node: Node, digits: str) -> bool:
    digests = (node.digest.removeprefix("md5:"), node.facts.get("identity", ""))
    return any(digest.startswith(digits) for digest in digests)


def _number(id: str) -> int:
    digits = re.search(r"\d+$", id)
    return int(digits.group()) if digits else -1
