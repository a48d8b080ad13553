"""Lineage as trees in a terminal: what a thing was made from, and what it led to."""

from collections.abc import Callable

from rich.text import Text
from rich.tree import Tree

from lifecycle.lineage.datasets import SHORT
from lifecycle.lineage.graph import Edge, Lineage, Node
from lifecycle.records import one_line
from lifecycle.runtime.console import styled

HIDDEN = ("uri", "run", "commit", "data", "project", "package")
"""Facts that only the JSON tells."""


def trees(found: Lineage) -> tuple[Tree, Tree]:
    """Both ways from the subject; what stands in several places has its facts at the first."""
    subject = found.node(found.subject)
    title = (one_line(subject.name), "bold")
    into = {node.id: [e for e in found.edges if e.target == node.id] for node in found.nodes}
    out_of = {node.id: [e for e in found.edges if e.source == node.id] for node in found.nodes}
    before, after = (Tree(styled(title, f" {what}")) for what in ("was made from", "led to"))
    for line in _facts(subject):
        before.add(line)
    _grow(before, subject, found, into.__getitem__, lambda edge: edge.source, set())
    _grow(after, subject, found, out_of.__getitem__, lambda edge: edge.target, set())
    for tree, nothing in ((before, "nothing that is known"), (after, "nothing yet")):
        if not tree.children:
            tree.add(styled((nothing, "dim")))
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
        name = (one_line(other.name), "bold")
        forward = other_end(edge) == edge.target
        label = [(f"{edge.what} ", "dim"), name] if forward else [name, (f" {edge.what} it", "dim")]
        branch = tree.add(styled(*label, *([(" (above)", "dim")] if again else [])))
        if again:
            continue
        for line in _facts(other):
            branch.add(line)
        _grow(branch, other, found, edges, other_end, told)


def _facts(node: Node) -> list[Text]:
    """Facts as dim lines."""
    facts = {key: value for key, value in node.facts.items() if key not in HIDDEN}
    first = {"digest": short(node.digest)} if node.digest else {}
    first |= {"made": f"{node.time[:19].replace('T', ' ')} UTC"} if node.time else {}
    return [
        styled((f"{key}:", "dim"), f" {one_line(short(value))}")
        for key, value in (first | facts).items()
    ]


def short(value: str) -> str:
    """A digest as its first digits; anything else as it is."""
    bare = value.removeprefix("md5:").removesuffix("-dirty")
    digest = len(bare) in (32, 40, 64) and all(sign in "0123456789abcdef" for sign in bare)
    return value.replace(bare, bare[:SHORT]) if digest else value
