"""What OpenLineage events say besides names: schema, version, contract, code, parent run."""

from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit
from uuid import UUID

import pyarrow as pa
from deltalake import DeltaTable
from deltalake.exceptions import DeltaError

from lifecycle.errors import BackendError
from lifecycle.lake import ROW
from lifecycle.lineage.graph import Node
from lifecycle.project import ColumnSpec, Project

if TYPE_CHECKING:
    from openlineage.client.facet_v2 import (
        DatasetFacet,
        InputDatasetFacet,
        JobFacet,
        OutputDatasetFacet,
        RunFacet,
    )

PRODUCER = "urn:lifecycle-flows"
KEPT = ("accepted", "current", "train", "validation", "holdout")
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
        schema = pa.schema(_table(node).schema().to_arrow())
        fields = [
            ol.schema_dataset.SchemaDatasetFacetFields(
                field.name, str(field.type), _described(columns.get(field.name))
            )
            for field in schema
            if field.name != ROW
        ]
        facets["schema"] = ol.schema_dataset.SchemaDatasetFacet(fields, producer=PRODUCER)
    return facets


def of_input(node: Node, project: Project) -> "dict[str, InputDatasetFacet]":
    """What the contract promises of the rows that went in, and how many there were."""
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
    if node.id.partition("@")[0] in KEPT:
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
    """How much was written."""
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
        line = str(error).strip().split("\n", 1)[0]
        raise BackendError(f"{uri}: version {version} cannot be read: {line}") from None


def _sizes(node: Node) -> dict[str, Any]:
    """Rows, bytes, files and missing values of a version, from its log: no row is read."""
    files = pa.table(_table(node).get_add_actions(flatten=True)).to_pydict()
    found: dict[str, Any] = {
        "rows": sum(files.get("num_records") or []),
        "bytes": sum(files["size_bytes"]),
        "files": len(files["path"]),
    }
    counts = {name: values for name, values in files.items() if name.startswith("null_count.")}
    found["missing"] = {
        name.removeprefix("null_count."): sum(values)
        for name, values in counts.items()
        if not name.endswith(f".{ROW}") and None not in values
    }
    return found


def _described(spec: ColumnSpec | None) -> str | None:
    if spec is None:
        return None
    unit = f"in {spec.unit}" if spec.unit else ""
    return ", ".join(filter(None, (spec.description, unit))) or None


def _promises(project: Project) -> list[tuple[str | None, str]]:
    """Column and promise, of all that a row must keep to be accepted."""
    found: list[tuple[str | None, str]] = []
    for name, spec in project.contract.columns.items():
        found += [] if spec.nullable else [(name, "not_null")]
        if spec.severity != "error":
            continue
        found += [(name, "unique")] if spec.unique else []
        bounds = {"minimum": spec.minimum, "maximum": spec.maximum, "pattern": spec.pattern}
        found += [(name, f"{key} {value}") for key, value in bounds.items() if value is not None]
        found += [(name, "accepted_values")] if spec.categories else []
    rules = [rule for rule in project.contract.rules if rule.severity == "error"]
    if project.contract.key:
        found.append((None, f"unique {', '.join(project.contract.key)}"))
    return [*found, *((None, rule.expression) for rule in rules)]


def _is_uuid(text: str) -> bool:
    try:
        UUID(text)
    except ValueError:
        return False
    return True
