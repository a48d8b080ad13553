"""Lineage as OpenLineage events: START and COMPLETE of each run that made something.

The specification: https://openlineage.io/docs/spec/object-model. The jobs are `<project>.ingest`,
`.view`, `.join`, `.split`, `.train`, `.release` and `.score`. A run's id follows from what it made,
so that telling it again tells of the same run; its parent is the flow run it was part of.
"""

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal
from uuid import UUID, uuid5

from lifecycle.lineage import facets
from lifecycle.lineage.facets import PRODUCER
from lifecycle.lineage.graph import Graph, Kind, Node
from lifecycle.project import Project
from lifecycle.runtime.run import Run
from lifecycle.settings import Settings

if TYPE_CHECKING:
    from openlineage.client.event_v2 import RunEvent

OURS = UUID("6f1b4a52-3c1e-5d0a-9f64-0d6d6a1b2f3e")
"""Of the ids that follow from what a run made."""
JOBS: dict[Kind, str] = {
    "view": "view",
    "joined": "join",
    "model": "train",
    "scores": "score",
    "release": "release",
}
State = Literal["COMPLETE", "FAIL", "ABORT"]


def events_of(
    graph: Graph, made: Collection[str], project: Project, settings: Settings
) -> "list[RunEvent]":
    """The events of every run that made one of some nodes, in the order of their times.

    Args:
        graph: all that is known, since a run's inputs are told with it.
        made: ids of nodes.

    Raises:
        BackendError: a dataset version cannot be read.
    """
    making = _Making(graph, made, project, settings)
    events = [event for run in making.runs() for event in run]
    return sorted(events, key=lambda event: event.eventTime)


def flow_events(
    project: Project, settings: Settings, job: str, run: Run, times: tuple[str, str], state: State
) -> "list[RunEvent]":
    """START and end of a flow run, which is the parent of what it made.

    Args:
        job: the flow's name.
        times: when it began and ended, ISO 8601.
    """
    from openlineage.client import event_v2 as ol

    about = facets.of_run("", "", "", {"name": run.name, "who": run.who})
    same: dict[str, Any] = {
        "run": ol.Run(run.id, about),
        "job": ol.Job(namespace_of(settings), f"{project.name}.flow.{job}", facets.of_job({})),
        "producer": PRODUCER,
    }
    states = (ol.RunState.START, ol.RunState(state))
    return [
        ol.RunEvent(eventType=one, eventTime=time, **same)
        for one, time in zip(states, times, strict=True)
    ]


def namespace_of(settings: Settings) -> str:
    """Where this project's jobs are: one namespace an environment."""
    return f"lifecycle-{settings.env}"


@dataclass
class _Making:
    """The runs behind some nodes of a graph."""

    graph: Graph
    made: Collection[str]
    project: Project
    settings: Settings

    def runs(self) -> "Iterator[list[RunEvent]]":
        for node in self.graph.nodes.values():
            used = self._used(node)
            if node.kind in ("dataset", "joined"):
                parts = [n for n in self._made_of(node) if n.kind == "part" and n.id in self.made]
                if parts:
                    yield self._run("split", [node], parts)
            if node.id not in self.made or node.id.startswith("rejected@"):
                continue
            if node.kind == "dataset":
                rejected = [n for n in self.graph.nodes.values() if _rejected_with(node, n)]
                yield self._run("ingest", used, [node, *rejected])
            elif job := JOBS.get(node.kind):
                yield self._run(job, used, [node])

    def _used(self, node: Node) -> list[Node]:
        return self._there(
            edge.source for edge in self.graph.edges.values() if edge.target == node.id
        )

    def _made_of(self, node: Node) -> list[Node]:
        return self._there(
            edge.target for edge in self.graph.edges.values() if edge.source == node.id
        )

    def _there(self, ids: Iterable[str]) -> list[Node]:
        return [self.graph.nodes[id] for id in ids if id in self.graph.nodes]

    def _run(self, job: str, used: Sequence[Node], made: Sequence[Node]) -> "list[RunEvent]":
        """START and COMPLETE; both tell inputs and outputs, which consumers may merge."""
        from openlineage.client import event_v2 as ol

        first, known = made[0], _making(used, made[0])
        flow = known.get("run_name", "").removesuffix(f"-{self.project.name}").replace("-", "_")
        same: dict[str, Any] = {
            "run": ol.Run(
                str(uuid5(OURS, f"{self.project.name}/{job}/{first.id}/{first.digest}")),
                facets.of_run(
                    known.get("run", ""),
                    namespace_of(self.settings),
                    f"{self.project.name}.flow.{flow}",
                    {key: known.get(key, "") for key in ("who", "lock", "identity")},
                ),
            ),
            "job": ol.Job(
                namespace_of(self.settings), f"{self.project.name}.{job}", facets.of_job(known)
            ),
            "inputs": [self._input(n) for n in used if n.kind not in ("code", "run")],
            "outputs": [self._output(n) for n in made],
            "producer": PRODUCER,
        }
        times = (known.get("began") or first.time, first.time)
        states = (ol.RunState.START, ol.RunState.COMPLETE)
        return [
            ol.RunEvent(eventType=state, eventTime=time, **same)
            for state, time in zip(states, times, strict=True)
        ]

    def _input(self, node: Node) -> Any:
        from openlineage.client.event_v2 import InputDataset

        return InputDataset(
            *self._named(node),
            facets=facets.of_dataset(node, self.project),
            inputFacets=facets.of_input(node, self.project),
        )

    def _output(self, node: Node) -> Any:
        from openlineage.client.event_v2 import OutputDataset

        return OutputDataset(
            *self._named(node),
            facets=facets.of_dataset(node, self.project),
            outputFacets=facets.of_output(node),
        )

    def _named(self, node: Node) -> tuple[str, str]:
        """Namespace and name: sources and tables by place, models by their registry."""
        if node.kind in ("model", "release"):
            alias = "@champion" if node.kind == "release" else ""
            return "mlflow", f"models:/{self.project.name}{alias}"
        place = node.facts.get("uri") or node.facts.get("place")
        return facets.place_of(place) if place else ("unknown", node.id)


def _making(used: Sequence[Node], made: Node) -> dict[str, str]:
    """Code and run of what was made: in its own facts, or for a model in nodes of their own."""
    facts = dict(made.facts)
    for node in used:
        if node.kind == "code":
            facts |= node.facts | {"code": node.digest}
        if node.kind == "run":
            names = {"flow run": "run", "by": "who", "began": "began"}
            facts |= {names[key]: value for key, value in node.facts.items() if key in names}
            facts["run_name"] = node.name.removeprefix("run ")
    return facts


def _rejected_with(node: Node, other: Node) -> bool:
    """Whether these rows were rejected when a version was ingested."""
    keys = ("window", "run")
    same = all(node.facts.get(key) == other.facts.get(key) for key in keys)
    return same and other.id.startswith("rejected@")
