"""Lineage as trees in a terminal: what a thing was made from, and what it led to."""

from collections.abc import Callable

from rich.markup import escape
from rich.tree import Tree

from lifecycle.lineage.datasets import SHORT
from lifecycle.lineage.graph import Edge, Lineage, Node

HIDDEN = ("uri", "run", "commit", "data", "project", "package")
"""Facts that only the JSON tells."""


def trees(found: Lineage) -> tuple[Tree, Tree]:
    """Both ways from the subject; what stands in several places has its facts at the first."""
    subject = found.node(found.subject)
    title = f"[bold]{escape(subject.name)}[/]"
    into = {node.id: [e for e in found.edges if e.target == node.id] for node in found.nodes}
    out_of = {node.id: [e for e in found.edges if e.source == node.id] for node in found.nodes}
    before, after = Tree(f"{title} was made from"), Tree(f"{title} led to")
    for line in _facts(subject):
        before.add(line)
    _grow(before, subject, found, into.__getitem__, lambda edge: edge.source, set())
    _grow(after, subject, found, out_of.__getitem__, lambda edge: edge.target, set())
    for tree, nothing in ((before, "nothing that is known"), (after, "nothing yet")):
        if not tree.children:
            tree.add(f"[dim]{nothing}[/]")
    return before, after


def _grow(
    tree: Tree,
    node: Node,
    found: Lineage,
    edges: Callable[[str], list[Edge]],
    other_end: Callable[[Edge], str],
    told: set[str],
) -> None:
    for edge in edges(node.id):
        other = found.node(other_end(edge))
        again = other.id in told
        told.add(other.id)
        what = f"[dim]{edge.what}[/] "
        forward = other_end(edge) == edge.target
        name = f"[bold]{escape(other.name)}[/]"
        label = f"{what}{name}" if forward else f"{name} [dim]{edge.what} it[/]"
        branch = tree.add(f"{label} [dim](above)[/]" if again else label)
        if again:
            continue
        for line in _facts(other):
            branch.add(line)
        _grow(branch, other, found, edges, other_end, told)


def _facts(node: Node) -> list[str]:
    """Facts as dim lines."""
    facts = {key: value for key, value in node.facts.items() if key not in HIDDEN}
    first = {"digest": short(node.digest)} if node.digest else {}
    first |= {"made": f"{node.time[:19].replace('T', ' ')} UTC"} if node.time else {}
    return [f"[dim]{key}:[/] {escape(short(value))}" for key, value in (first | facts).items()]


def short(value: str) -> str:
    """A digest as its first digits; anything else as it is."""
    bare = value.removeprefix("md5:").removesuffix("-dirty")
    digest = len(bare) in (32, 40, 64) and all(sign in "0123456789abcdef" for sign in bare)
    return value.replace(bare, bare[:SHORT]) if digest else value
