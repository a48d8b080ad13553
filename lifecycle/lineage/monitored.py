"""Monitoring runs: which scored windows were compared, and what they found."""

import json

from lifecycle.lineage.graph import Graph, Node
from lifecycle.monitoring.monitor import FOUND
from lifecycle.project import Project
from lifecycle.settings import Settings


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
