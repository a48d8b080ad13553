"""A project's data contract as a document of the Open Data Contract Standard, version 3.1.0.

The standard has no words for some promises: they are custom properties `lifecycle.<key>`, or
quality rules of the engine `lifecycle`, which other tools pass on and do not check. The standard:
https://bitol-io.github.io/open-data-contract-standard/v3.1.0/
"""

from collections.abc import Iterator
from decimal import Decimal
from typing import Any, NamedTuple

import yaml

from lifecycle.lake.column_types import constraints_of
from lifecycle.project import ColumnSpec, ColumnType, Project
from lifecycle.project.contract import Bounds

API_VERSION = "v3.1.0"
ENGINE = "lifecycle"
"""Engine of the quality rules that the library of the standard does not have."""
PREFIX = "lifecycle."
"""Custom properties begin with it; the rest is a key of the contract."""
LOGICAL_TYPES: dict[ColumnType, str] = {
    "integer": "integer",
    "number": "number",
    "boolean": "boolean",
    "string": "string",
    "datetime": "timestamp",
}
"""Type of a column's values → the type that the standard has for them."""
ONLY_OURS = ("unit", "pii")
"""Keys of a column that only a custom property can hold."""
TYPE_OPTIONS = ("minimum", "maximum", "pattern")
"""Keywords that are options of a type in the standard, too."""
EXACT = 2**53
"""Whole numbers up to it are the same as integers and as floats."""


class Document(NamedTuple):
    """A contract in the words of the standard."""

    content: dict[str, Any]
    custom: tuple[str, ...]
    """Keys of the contract that other tools pass on without checking them."""

    @property
    def text(self) -> str:
        """The document as YAML."""
        text: str = yaml.safe_dump(self.content, sort_keys=False, allow_unicode=True, width=100)
        return text


def odcs_document(project: Project) -> Document:
    """Say what a project's contract promises as the standard says it.

    The features of views are no part of it: their columns come from other sources.
    """
    spec = project.contract
    content: dict[str, Any] = {
        "apiVersion": API_VERSION,
        "kind": "DataContract",
        "id": project.name,
        "name": project.name,
        "version": spec.version,
        "status": status_of(spec.version),
    }
    texts = {"purpose": spec.description, "usage": project.description.strip()}
    if description := {name: text for name, text in texts.items() if text}:
        content["description"] = description
    if spec.owner:
        content["team"] = {"name": spec.owner}
    table: dict[str, Any] = {"name": project.name, "logicalType": "object"}
    table["properties"] = [
        _property(name, column, spec.key) for name, column in spec.columns.items()
    ]
    if quality := [*_table_quality(project)]:
        table["quality"] = quality
    if custom := _custom(_table_custom(project)):
        table["customProperties"] = custom
    content["schema"] = [table]
    if service_levels := [*_service_levels(project)]:
        content["slaProperties"] = service_levels
    return Document(content, tuple(dict.fromkeys(_custom_keys(table))))


def status_of(version: str) -> str:
    """Below 1.0.0 anything may change (Semantic Versioning, item 4): such a contract is a draft."""
    return "draft" if version.startswith("0.") else "active"


def inferred_type(logical: str, has_categories: bool) -> ColumnType | None:
    """Type that a column of a document has if nothing else says it; None: there is none."""
    types = {other: kind for kind, other in LOGICAL_TYPES.items()} | {"date": "datetime"}
    kind: ColumnType | None = types.get(logical)
    return "category" if kind == "string" and has_categories else kind


def plain(number: float) -> int | float:
    """A number as people write it: 1 rather than 1.0."""
    return int(number) if float(number).is_integer() and abs(number) <= EXACT else number


def percent_of(share: float) -> float:
    """A share in percent, without the error of a multiplication in binary."""
    return float(Decimal(repr(float(share))) * 100)


def share_of(percent: float) -> float:
    """A share that `percent_of` turned into percent."""
    return float(Decimal(repr(float(percent))) / 100)


def operator(low: float | None, high: float | None) -> dict[str, Any]:
    """Bounds, both included, as the standard's comparison; empty if both are open."""
    if low is None and high is None:
        return {}
    if high is None:
        return {"mustBeGreaterOrEqualTo": plain(low or 0)}
    if low is None:
        return {"mustBeLessOrEqualTo": plain(high)}
    if low == high:
        return {"mustBe": plain(low)}
    return {"mustBeBetween": [plain(low), plain(high)]}


def _property(name: str, spec: ColumnSpec, key: tuple[str, ...]) -> dict[str, Any]:
    """One column."""
    logical = LOGICAL_TYPES[spec.value_type]
    column: dict[str, Any] = {"name": name, "logicalType": logical}
    if spec.description:
        column["description"] = spec.description
    column["required"] = not spec.nullable
    if spec.unique:
        column["unique"] = True
    if name in key:
        column |= {"primaryKey": True, "primaryKeyPosition": key.index(name) + 1}
    if spec.pii_class:
        column["classification"] = spec.pii_class
    quality, options = [], {}
    custom = {key: getattr(spec, key) for key in ONLY_OURS if getattr(spec, key)}
    for constraint in constraints_of(spec):
        words = constraint.schema()
        if constraint.kind == "categories":
            quality.append(_valid_values(spec))
        elif constraint.kind in TYPE_OPTIONS and constraint.kind in words:
            word = words[constraint.kind]
            options[constraint.kind] = word if isinstance(word, str) else plain(word)
        else:
            custom[constraint.kind] = getattr(spec, constraint.kind)
    if options:
        column["logicalTypeOptions"] = options
    if spec.type != inferred_type(logical, spec.categories is not None):
        custom["type"] = spec.type
    if spec.severity == "warning":
        custom["severity"] = spec.severity
    if quality := [*quality, *_statistics(spec)]:
        column["quality"] = quality
    if custom:
        column["customProperties"] = _custom(custom)
    return column


def _valid_values(spec: ColumnSpec) -> dict[str, Any]:
    rule = {"metric": "invalidValues", "arguments": {"validValues": [*(spec.categories or ())]}}
    return rule | {"mustBe": 0} | _severity(spec.severity)


def _statistics(spec: ColumnSpec) -> Iterator[dict[str, Any]]:
    """Rules of what a column as a whole must look like."""
    for name, (low, high) in spec.expect.statistics() if spec.expect else ():
        severity = _severity(spec.expect.severity if spec.expect else "error")
        if name == "missing_share" and _exact_in_percent((low, high)):
            ends = (None if end is None else percent_of(end) for end in (low, high))
            yield {"metric": "nullValues", "unit": "percent"} | operator(*ends) | severity
        else:
            ends = (None if end is None else plain(end) for end in (low, high))
            yield _own_rule({"statistic": name, "bounds": [*ends]}) | severity


def _exact_in_percent(bounds: Bounds) -> bool:
    return all(end is None or share_of(percent_of(end)) == end for end in bounds)


def _table_quality(project: Project) -> Iterator[dict[str, Any]]:
    """Rules of the rows, and of the data as a whole."""
    spec = project.contract
    for group in spec.unique_together:
        arguments = {"properties": [*group]}
        yield {"metric": "duplicateValues", "arguments": arguments, "mustBe": 0}
    if spec.rows and (bounds := operator(spec.rows.minimum, spec.rows.maximum)):
        yield {"metric": "rowCount"} | bounds | _severity(spec.rows.severity)
    for rule in spec.rules:
        about = {"description": rule.description} if rule.description else {}
        own = _own_rule({"rule": rule.name, "expression": rule.expression})
        yield {"name": rule.name} | about | own | _severity(rule.severity)


def _table_custom(project: Project) -> dict[str, Any]:
    spec = project.contract
    custom: dict[str, Any] = {
        "max_rejected_share": spec.max_rejected_share,
        "extra_columns": spec.extra_columns,
    }
    if spec.freshness:
        service_levels = {"max_age_days"} if project.time else set()
        others = spec.freshness.model_dump(exclude_defaults=True, exclude=service_levels)
        custom |= {"freshness": others} if others else {}
    return custom


def _service_levels(project: Project) -> Iterator[dict[str, Any]]:
    """Age of the newest row, and how long rows are kept."""
    spec = project.contract
    element = {"element": f"{project.name}.{project.time.column}"} if project.time else {}
    if project.time and spec.freshness and spec.freshness.max_age_days is not None:
        days = plain(spec.freshness.max_age_days)
        yield {"property": "latency", "value": days, "unit": "d"} | element
    if spec.retention:
        yield {"property": "retention", "value": plain(spec.retention.days), "unit": "d"} | element


def _own_rule(implementation: dict[str, Any]) -> dict[str, Any]:
    return {"type": "custom", "engine": ENGINE, "implementation": implementation}


def _severity(severity: str) -> dict[str, str]:
    return {"severity": severity} if severity == "warning" else {}


def _custom(values: dict[str, Any]) -> list[dict[str, Any]]:
    return [{"property": f"{PREFIX}{key}", "value": value} for key, value in values.items()]


def _custom_keys(table: dict[str, Any]) -> Iterator[str]:
    """Keys of the contract that are in custom properties or in rules of the own engine."""
    for element in (table, *table["properties"]):
        where = "" if element is table else "columns."
        for custom in element.get("customProperties", ()):
            yield f"{where}{custom['property'].removeprefix(PREFIX)}"
        for rule in element.get("quality", ()):
            if rule.get("engine") == ENGINE:
                yield "rules" if element is table else f"columns.expect.{_statistic(rule)}"


def _statistic(rule: dict[str, Any]) -> str:
    return str(rule["implementation"]["statistic"])
