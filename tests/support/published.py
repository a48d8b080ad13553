"""JSON schemas of OpenLineage's events and facets, as openlineage-python publishes them.

Its classes are generated from the published specification (`spec/OpenLineage.json` 2-0-2 and
`spec/facets/*.json`); what is required, of which type and which enumeration is read off them. The
facet of an event is held against the class that its own `_schemaURL` names. `REQUIRED` is what the
specification itself says, for a test to hold the classes against.
"""

import enum
import pkgutil
import types
import typing
from importlib import import_module
from typing import Any

import attr
import jsonschema
from openlineage.client import generated
from openlineage.client.event_v2 import RunEvent
from openlineage.client.facet_v2 import BaseFacet

SPECIFICATION = "https://openlineage.io/spec/"
FORMATS = {
    "runId": "uuid",
    "eventTime": "date-time",
    "lastUpdated": "date-time",
    "producer": "uri",
    "schemaURL": "uri",
    "url": "uri",
    "_producer": "uri",
    "_schemaURL": "uri",
}
FILLED = ("producer", "schemaURL", "_producer", "_schemaURL")
"""Required, but the classes fill them in."""
EVENT_TYPES = ("START", "RUNNING", "COMPLETE", "ABORT", "FAIL", "OTHER")
REQUIRED = {
    "2-0-2/OpenLineage.json": {
        "RunEvent": "eventTime producer schemaURL run job",
        "Run": "runId",
        "Job": "namespace name",
        "InputDataset": "namespace name",
        "OutputDataset": "namespace name",
        "RunFacet": "_producer _schemaURL",
        "JobFacet": "_producer _schemaURL",
        "DatasetFacet": "_producer _schemaURL",
        "InputDatasetFacet": "_producer _schemaURL",
        "OutputDatasetFacet": "_producer _schemaURL",
    },
    "facets/1-0-1/DatasetVersionDatasetFacet.json": {
        "DatasetVersionDatasetFacet": "_producer _schemaURL datasetVersion"
    },
    "facets/1-2-0/SchemaDatasetFacet.json": {
        "SchemaDatasetFacet": "_producer _schemaURL",
        "SchemaDatasetFacetFields": "name",
    },
    "facets/1-0-0/TagsDatasetFacet.json": {
        "TagsDatasetFacet": "_producer _schemaURL",
        "TagsDatasetFacetFields": "key value",
    },
    "facets/1-0-3/DataQualityMetricsInputDatasetFacet.json": {
        "DataQualityMetricsInputDatasetFacet": "_producer _schemaURL columnMetrics",
        "ColumnMetrics": "",
    },
    "facets/1-1-0/DataQualityAssertionsDatasetFacet.json": {
        "DataQualityAssertionsDatasetFacet": "_producer _schemaURL assertions",
        "Assertion": "assertion success",
    },
    "facets/1-0-2/OutputStatisticsOutputDatasetFacet.json": {
        "OutputStatisticsOutputDatasetFacet": "_producer _schemaURL"
    },
    "facets/2-0-4/JobTypeJobFacet.json": {
        "JobTypeJobFacet": "_producer _schemaURL processingType integration"
    },
    "facets/1-1-0/SourceCodeLocationJobFacet.json": {
        "SourceCodeLocationJobFacet": "_producer _schemaURL type url"
    },
    "facets/1-0-0/TagsRunFacet.json": {
        "TagsRunFacet": "_producer _schemaURL",
        "TagsRunFacetFields": "key value",
    },
    "facets/1-2-0/ParentRunFacet.json": {
        "ParentRunFacet": "_producer _schemaURL run job",
        "Run": "runId",
        "Job": "namespace name",
    },
}
"""Schema → definition → required fields of all that our events contain.

Read in the specification's repository; of `DatasetVersion`, `Schema`, both `Tags` and
`OutputStatistics` in a neighbouring version, which says the same but that it requires a `rowCount`.
"""


def check(event: dict[str, Any]) -> None:
    """Raises jsonschema's ValidationError if an event is not as published."""
    _validate(event, RunEvent)
    known = facet_classes()
    for facet in facets_of(event):
        _validate(facet, known[facet["_schemaURL"]])


def facets_of(event: dict[str, Any]) -> list[dict[str, Any]]:
    """Those of its run, its job and its datasets."""
    groups = [event["run"].get("facets", {}), event["job"].get("facets", {})]
    for dataset in (*event.get("inputs", ()), *event.get("outputs", ())):
        groups += [dataset.get(key, {}) for key in ("facets", "inputFacets", "outputFacets")]
    return [facet for group in groups for facet in group.values()]


def definitions_of(schema: str) -> dict[str, Any]:
    """The definitions of one of `REQUIRED`, by name, as the classes have them."""
    name = next(iter(REQUIRED[schema]))
    url = f"{SPECIFICATION}{schema}#/$defs/{name}"
    found: dict[str, Any] = {}
    schema_of(RunEvent if name == "RunEvent" else facet_classes()[url], found)
    return {key.rpartition(".")[2]: definition for key, definition in found.items()}


def facet_classes() -> dict[str, type]:
    """Schema URL → class of every facet there is."""
    for module in pkgutil.iter_modules(generated.__path__):
        import_module(f"{generated.__name__}.{module.name}")
    found, waiting = {}, [BaseFacet]
    while waiting:
        kind = waiting.pop()
        waiting += kind.__subclasses__()
        found[kind._get_schema()] = kind
    return found


def _validate(value: Any, kind: type) -> None:
    definitions: dict[str, Any] = {}
    schema = schema_of(kind, definitions) | {"$defs": definitions}
    checker = jsonschema.FormatChecker()
    jsonschema.Draft202012Validator(schema, format_checker=checker).validate(value)


def schema_of(kind: Any, definitions: dict[str, Any]) -> dict[str, Any]:
    """JSON schema of a type; classes go into `definitions`, as they may hold themselves."""
    origin, inside = typing.get_origin(kind), typing.get_args(kind)
    if kind is Any:
        return {}
    if origin in (typing.Union, types.UnionType):
        known = (one for one in inside if one is not type(None))
        return {"anyOf": [schema_of(one, definitions) for one in known]}
    if origin is list:
        return {"type": "array", "items": schema_of(inside[0], definitions)}
    if origin is dict:
        return {"type": "object", "additionalProperties": schema_of(inside[1], definitions)}
    if isinstance(kind, type) and issubclass(kind, enum.Enum):
        return {"enum": [one.value for one in kind]}
    if not attr.has(kind):
        return {"type": {str: "string", int: "integer", float: "number", bool: "boolean"}[kind]}
    name = f"{kind.__module__}.{kind.__qualname__}"
    if name not in definitions:
        definitions[name] = {}
        definitions[name] = _object(kind, definitions)
    return {"$ref": f"#/$defs/{name}"}


def _object(kind: Any, definitions: dict[str, Any]) -> dict[str, Any]:
    hints = typing.get_type_hints(kind)
    properties, required = {}, []
    for field in attr.fields(kind):
        schema = schema_of(hints[field.name], definitions)
        if field.name in FORMATS:
            schema |= {"format": FORMATS[field.name]}
        properties[field.name] = schema
        if field.default is attr.NOTHING or field.name in FILLED:
            required.append(field.name)
    return {"type": "object", "properties": properties, "required": required}
