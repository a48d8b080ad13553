"""Lineage as OpenLineage events: START and COMPLETE of each run that made something.

The specification: https://openlineage.io/docs/spec/object-model. The jobs are `<project>.ingest`,
`.view`, `.join`, `.split`, `.train`, `.release` and `.score`. A run's id follows from what it made,
so that telling it again tells of the same run; its parent is the flow run it was part of.
"""

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import urlsplit
from uuid import UUID, uuid5

import pyarrow as pa
from deltalake import DeltaTable
from deltalake.exceptions import DeltaError

from lifecycle.errors import BackendError, first_line
from lifecycle.lake.read import part_of, stored_schema
from lifecycle.lake.table import ROW
from lifecycle.lineage.datasets import version_of
from lifecycle.lineage.graph import Graph, Kind, Node
from lifecycle.project import ColumnSpec, Project
from lifecycle.runtime.run import Run
from lifecycle.settings import Settings

if TYPE_CHECKING:
    from openlineage.client.event_v2 import RunEvent
    from openlineage.client.facet_v2 import (
        DatasetFacet,
        InputDatasetFacet,
        JobFacet,
        OutputDatasetFacet,
        RunFacet,
    )


# What OpenLineage events say besides names: schema, version, contract, code, parent run.

PRODUCER = "urn:lifecycle-flows"
TABLES_KEPT = ("accepted", "current", "train", "validation", "holdout")
"""Tables whose rows keep the contract."""


def of_dataset(node: Node, project: Project) -> "dict[str, DatasetFacet]":
    """Version, digest and, of a table, its schema.

    Raises:
        BackendError: the table's version cannot be read.
    """
    from openlineage.client import facet_v2 as ol

    facets: dict[str, DatasetFacet] = {}
    if version := _version(node):
        facets["version"] = ol.dataset_version_dataset.DatasetVersionDatasetFacet(
            version, producer=PRODUCER
        )
    if node.digest:
        tag = ol.tags_dataset.TagsDatasetFacetFields("digest", node.digest, "lifecycle-flows")
        facets["tags"] = ol.tags_dataset.TagsDatasetFacet([tag], producer=PRODUCER)
    if "uri" in node.facts:
        columns = project.contract.columns
        schema = stored_schema(version_of(node))
        fields = [
            ol.schema_dataset.SchemaDatasetFacetFields(
                field.name, str(field.type), _described(columns.get(field.name))
            )
            for field in schema
        ]
        facets["schema"] = ol.schema_dataset.SchemaDatasetFacet(fields, producer=PRODUCER)
    return facets


def of_input(node: Node, project: Project) -> "dict[str, InputDatasetFacet]":
    """Build the facets of an input: its contract, and its numbers of rows, bytes and files."""
    if "uri" not in node.facts:
        return {}
    from openlineage.client import facet_v2 as ol

    sizes = _sizes(node)
    metrics = ol.data_quality_metrics_input_dataset
    facets: dict[str, InputDatasetFacet] = {
        "dataQualityMetrics": metrics.DataQualityMetricsInputDatasetFacet(
            columnMetrics={
                name: metrics.ColumnMetrics(nullCount=count)
                for name, count in sizes["missing"].items()
            },
            rowCount=sizes["rows"],
            bytes=sizes["bytes"],
            fileCount=sizes["files"],
            producer=PRODUCER,
        )
    }
    if node.id.partition("@")[0] in TABLES_KEPT:
        assertions = ol.data_quality_assertions_dataset
        facets["dataQualityAssertions"] = assertions.DataQualityAssertionsDatasetFacet(
            [
                assertions.Assertion(promise, True, column, "error")
                for column, promise in _promises(project)
            ],
            producer=PRODUCER,
        )
    return facets


def of_output(node: Node) -> "dict[str, OutputDatasetFacet]":
    """Build the facets of an output: its numbers of rows, bytes and files."""
    if "uri" not in node.facts:
        return {}
    from openlineage.client import facet_v2 as ol

    sizes = _sizes(node)
    return {
        "outputStatistics": ol.output_statistics_output_dataset.OutputStatisticsOutputDatasetFacet(
            rowCount=sizes["rows"],
            size=sizes["bytes"],
            fileCount=sizes["files"],
            producer=PRODUCER,
        )
    }


def of_job(code: dict[str, str]) -> "dict[str, JobFacet]":
    """The code that ran, by its digest, and the Git commit it was checked out at, if it was."""
    from openlineage.client import facet_v2 as ol

    facets: dict[str, JobFacet] = {
        "jobType": ol.job_type_job.JobTypeJobFacet("BATCH", "LIFECYCLE", "TASK", producer=PRODUCER)
    }
    if digest := code.get("code"):
        facets["sourceCodeLocation"] = ol.source_code_location_job.SourceCodeLocationJobFacet(
            type="git" if "commit" in code else "sha256",
            url=f"urn:sha256:{digest}",
            version=code.get("commit", digest),
            producer=PRODUCER,
        )
    return facets


def of_run(
    parent: str, namespace: str, parent_job: str, about: dict[str, str]
) -> "dict[str, RunFacet]":
    """The flow run it was part of, and as tags what else identifies it: lock, identity, who.

    Args:
        parent: id of the flow run; without a valid one there is no parent.
    """
    from openlineage.client import facet_v2 as ol

    facets: dict[str, RunFacet] = {}
    tags = [
        ol.tags_run.TagsRunFacetFields(key, value, "lifecycle-flows")
        for key, value in about.items()
        if value
    ]
    if tags:
        facets["tags"] = ol.tags_run.TagsRunFacet(tags, producer=PRODUCER)
    if _is_uuid(parent):
        of = ol.parent_run
        facets["parent"] = of.ParentRunFacet(
            of.Run(parent), of.Job(namespace, parent_job), producer=PRODUCER
        )
    return facets


def place_of(uri: str) -> tuple[str, str]:
    """Namespace and name of a dataset as OpenLineage wants them: `s3://bucket` and the key.

    https://openlineage.io/docs/spec/naming
    """
    parts = urlsplit(uri)
    if "://" not in uri or parts.scheme == "file":
        return "file", str(Path(parts.path if parts.scheme == "file" else uri).absolute())
    return f"{parts.scheme}://{parts.hostname or ''}", parts.path.strip("/") or "/"


def _version(node: Node) -> str:
    if node.kind in ("model", "release"):
        return node.id.rpartition(":")[2]
    table, _, version = node.id.rpartition("@")
    return version if table else node.digest


def _table(node: Node) -> DeltaTable:
    uri, version = node.facts["uri"], int(node.id.rpartition("@")[2])
    try:
        return DeltaTable(uri, version=version)
    except (DeltaError, OSError) as error:
        raise BackendError(
            f"{uri}: version {version} cannot be read: {first_line(error)}"
        ) from None


def _sizes(node: Node) -> dict[str, Any]:
    """Rows, bytes, files and missing values of a version, from its log: no row is read."""
    files = pa.table(_table(node).get_add_actions(flatten=True)).to_pydict()
    facets: dict[str, Any] = {
        "rows": sum(files.get("num_records") or []),
        "bytes": sum(files["size_bytes"]),
        "files": len(files["path"]),
    }
    counts = {name: values for name, values in files.items() if name.startswith("null_count.")}
    facets["missing"] = {
        name.removeprefix("null_count."): sum(values)
        for name, values in counts.items()
        if not name.endswith(f".{ROW}") and None not in values
    }
    if part_of(version_of(node)):  # the rows' own values are in the files of another table
        facets["missing"] = {}
    return facets


def _described(spec: ColumnSpec | None) -> str | None:
    if spec is None:
        return None
    unit = f"in {spec.unit}" if spec.unit else ""
    return ", ".join(filter(None, (spec.description, unit))) or None


def _promises(project: Project) -> list[tuple[str | None, str]]:
    """Column and promise, of all that a row must keep to be accepted."""
    assertions: list[tuple[str | None, str]] = []
    for name, spec in project.contract.columns.items():
        assertions += [] if spec.nullable else [(name, "not_null")]
        if spec.severity != "error":
            continue
        assertions += [(name, "unique")] if spec.unique else []
        bounds = {"minimum": spec.minimum, "maximum": spec.maximum, "pattern": spec.pattern}
        assertions += [
            (name, f"{key} {value}") for key, value in bounds.items() if value is not None
        ]
        assertions += [(name, "accepted_values")] if spec.categories else []
    rules = [rule for rule in project.contract.rules if rule.severity == "error"]
    if project.contract.key:
        assertions.append((None, f"unique {', '.join(project.contract.key)}"))
    return [*assertions, *((None, rule.expression) for rule in rules)]


def _is_uuid(text: str) -> bool:
    try:
        UUID(text)
    except ValueError:
        return False
    return True


NAMESPACE = UUID("6f1b4a52-3c1e-5d0a-9f64-0d6d6a1b2f3e")
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
    graph: Graph, node_ids: Collection[str], project: Project, settings: Settings
) -> "list[RunEvent]":
    """The events of every run that made one of some nodes, in the order of their times.

    Args:
        graph: all that is known, since a run's inputs are told with it.
        node_ids: ids of nodes.

    Raises:
        BackendError: a dataset version cannot be read.
    """
    making = _Making(graph, node_ids, project, settings)
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

    about = of_run("", "", "", {"name": run.name, "who": run.who})
    same: dict[str, Any] = {
        "run": ol.Run(run.id, about),
        "job": ol.Job(namespace_of(settings), f"{project.name}.flow.{job}", of_job({})),
        "producer": PRODUCER,
    }
    states = (ol.RunState.START, ol.RunState(state))
    return [
        ol.RunEvent(eventType=state, eventTime=time, **same)
        for state, time in zip(states, times, strict=True)
    ]


def namespace_of(settings: Settings) -> str:
    """Return the namespace of the jobs: one per environment."""
    return f"lifecycle-{settings.env}"


@dataclass
class _Making:
    """The runs behind some nodes of a graph."""

    graph: Graph
    outputs: Collection[str]
    project: Project
    settings: Settings

    def runs(self) -> "Iterator[list[RunEvent]]":
        for node in self.graph.nodes.values():
            used = self._used(node)
            if node.kind in ("dataset", "joined"):
                parts = [
                    n for n in self._made_of(node) if n.kind == "part" and n.id in self.outputs
                ]
                if parts:
                    yield self._run("split", [node], parts)
            if node.id not in self.outputs or node.id.startswith("rejected@"):
                continue
            if node.kind == "dataset":
                rejected = [n for n in self.graph.nodes.values() if _rejected_with(node, n)]
                yield self._run("ingest", used, [node, *rejected])
            elif job := JOBS.get(node.kind):
                yield self._run(job, used, [node])

    def _used(self, node: Node) -> list[Node]:
        return self._present(
            edge.source for edge in self.graph.edges.values() if edge.target == node.id
        )

    def _made_of(self, node: Node) -> list[Node]:
        return self._present(
            edge.target for edge in self.graph.edges.values() if edge.source == node.id
        )

    def _present(self, ids: Iterable[str]) -> list[Node]:
        return [self.graph.nodes[id] for id in ids if id in self.graph.nodes]

    def _run(self, job: str, used: Sequence[Node], outputs: Sequence[Node]) -> "list[RunEvent]":
        """START and COMPLETE; both tell inputs and outputs, which consumers may merge."""
        from openlineage.client import event_v2 as ol

        first, facts = outputs[0], _making(used, outputs[0])
        flow = facts.get("run_name", "").removesuffix(f"-{self.project.name}").replace("-", "_")
        same: dict[str, Any] = {
            "run": ol.Run(
                str(uuid5(NAMESPACE, f"{self.project.name}/{job}/{first.id}/{first.digest}")),
                of_run(
                    facts.get("run", ""),
                    namespace_of(self.settings),
                    f"{self.project.name}.flow.{flow}",
                    {key: facts.get(key, "") for key in ("who", "lock", "identity")},
                ),
            ),
            "job": ol.Job(namespace_of(self.settings), f"{self.project.name}.{job}", of_job(facts)),
            "inputs": [self._input(n) for n in used if n.kind not in ("code", "run")],
            "outputs": [self._output(n) for n in outputs],
            "producer": PRODUCER,
        }
        times = (facts.get("began") or first.time, first.time)
        states = (ol.RunState.START, ol.RunState.COMPLETE)
        return [
            ol.RunEvent(eventType=state, eventTime=time, **same)
            for state, time in zip(states, times, strict=True)
        ]

    def _input(self, node: Node) -> Any:
        from openlineage.client.event_v2 import InputDataset

        return InputDataset(
            *self._name_of(node),
            facets=of_dataset(node, self.project),
            inputFacets=of_input(node, self.project),
        )

    def _output(self, node: Node) -> Any:
        from openlineage.client.event_v2 import OutputDataset

        return OutputDataset(
            *self._name_of(node),
            facets=of_dataset(node, self.project),
            outputFacets=of_output(node),
        )

    def _name_of(self, node: Node) -> tuple[str, str]:
        """Namespace and name: sources and tables by place, models by their registry."""
        if node.kind in ("model", "release"):
            alias = "@champion" if node.kind == "release" else ""
            return "mlflow", f"models:/{self.project.name}{alias}"
        place = node.facts.get("uri") or node.facts.get("place")
        return place_of(place) if place else ("unknown", node.id)


def _making(used: Sequence[Node], output: Node) -> dict[str, str]:
    """Code and run of what was made: in its own facts, or for a model in nodes of their own."""
    facts = dict(output.facts)
    for node in used:
        if node.kind == "code":
            facts |= node.facts | {"code": node.digest}
        if node.kind == "run":
            names = {"flow run": "run", "by": "who", "began": "began"}
            facts |= {names[key]: value for key, value in node.facts.items() if key in names}
            facts["run_name"] = node.name.removeprefix("run ")
    return facts


def _rejected_with(node: Node, other: Node) -> bool:
    """Return whether rows were rejected by the ingestion that made a version."""
    keys = ("window", "run")
    same = all(node.facts.get(key) == other.facts.get(key) for key in keys)
    return same and other.id.startswith("rejected@")
