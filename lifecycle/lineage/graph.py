"""Lineage graph: typed nodes, and edges from each input to its outputs."""

from collections import defaultdict
from collections.abc import Callable, Iterable
from typing import Literal

from pydantic import Field

from lifecycle.records import Record

Kind = Literal[
    "source",
    "dataset",
    "view",
    "joined",
    "part",
    "code",
    "run",
    "model",
    "release",
    "scores",
    "log",
    "rows",
    "prediction",
    "monitoring",
]
"""`dataset`: accepted, current or rejected rows; `view`: the features of a feature view; `joined`:
rows of a dataset with their features of every view; `part`: train, validation or holdout; `scores`:
a version of the table of batch predictions; `log`: all logged answers of a model version; `rows`:
those of a part that are about a prediction's entity."""

SHORT = 12
"""Digits of a digest that a person is shown."""
NOTHING_TO_DO = "nothing to do"
"""Verdict of a monitoring that asks for nothing."""


class Node(Record):
    """One thing that was made or used."""

    id: str
    """Unique in a project, such as `train@5` or `model:3`."""
    kind: Kind
    name: str
    digest: str = ""
    """What identifies its content, where something does."""
    time: str = ""
    """When it was made: UTC, ISO 8601."""
    facts: dict[str, str] = Field(default_factory=dict)
    """What else is known of it."""


class Edge(Record):
    """`source` went into `target`."""

    source: str
    target: str
    what: str
    """How, as a verb: source `verb` target."""


class Lineage(Record):
    """Ancestors and descendants of one node."""

    project: str
    subject: str
    """Id of the node that was asked for."""
    nodes: tuple[Node, ...]
    edges: tuple[Edge, ...]

    def node(self, id: str) -> Node:
        return next(node for node in self.nodes if node.id == id)


class Graph:
    """All that is known of a project, gathered piece by piece."""

    def __init__(self) -> None:
        self.nodes: dict[str, Node] = {}
        self.edges: dict[tuple[str, str], Edge] = {}

    def add(self, node: Node) -> Node:
        """Take up a node; one that is there already stays as it is."""
        return self.nodes.setdefault(node.id, node)

    def link(self, source: str, target: str, label: str) -> None:
        """Take up an edge; both nodes must be, or come to be, there."""
        self.edges.setdefault((source, target), Edge(source=source, target=target, what=label))

    def around(self, project: str, subject: str) -> Lineage:
        """All that `subject` was made from, and all that was made from it; oldest ends first."""
        into: dict[str, list[str]] = defaultdict(list)
        out_of: dict[str, list[str]] = defaultdict(list)
        for source, target in self.edges:
            if source in self.nodes and target in self.nodes:
                into[target].append(source)
                out_of[source].append(target)
        before, after = (_reached(subject, ways.__getitem__) for ways in (into, out_of))
        ids = {*before, *after}
        return Lineage(
            project=project,
            subject=subject,
            nodes=tuple(node for node in self.nodes.values() if node.id in ids),
            edges=tuple(
                edge
                for (source, target), edge in self.edges.items()
                if (source in before and target in before) or (source in after and target in after)
            ),
        )


def _reached(start: str, ways: Callable[[str], Iterable[str]]) -> set[str]:
    reached, waiting = {start}, [start]
    while waiting:
        for other in ways(waiting.pop()):
            if other not in reached:
                reached.add(other)
                waiting.append(other)
    return reached
