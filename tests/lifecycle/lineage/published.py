"""JSON schemas of OpenLineage's events and facets, as openlineage-python publishes them.

Its classes are generated from the published specification (`spec/OpenLineage.json` 2-0-2 and
`spec/facets/*.json`); what is required, of which type and which enumeration is read off them. The
facet of an event is held against the class that its own `_schemaURL` names.
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

FORMATS = {
    "runId": "uuid",
    "eventTime": "date-time",
    "producer": "uri",
    "schemaURL": "uri",
    "_producer": "uri",
    "_schemaURL": "uri",
}


def check(event: dict[str, Any]) -> None:
    """Raises jsonschema's ValidationError if an event is not as published."""
    _validate(event, RunEvent)
    facets = [event["run"].get("facets", {}), event["job"].get("facets", {})]
    for dataset in (*event.get("inputs", ()), *event.get("outputs", ())):
        facets += [dataset.get(key, {}) for key in ("facets", "inputFacets", "outputFacets")]
    known = facet_classes()
    for facet in (one for group in facets for one in group.values()):
        _validate(facet, known[facet["_schemaURL"]])


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
        if field.default is attr.NOTHING or field.name in FORMATS:
            required.append(field.name)
    return {"type": "object", "properties": properties, "required": required}
