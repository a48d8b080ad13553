"""Contract of a project from a document of the Open Data Contract Standard, version 3.

Keys that the standard has come from the document. Keys that only a custom property can hold stay
as the project has them, unless the document has that property. Whatever has no place in a
contract is named, never dropped in silence.
"""

import re
from collections.abc import Mapping
from typing import Any, NamedTuple, cast

import pyarrow as pa
import pyarrow.compute as pc

from lifecycle.errors import ContractError
from lifecycle.project import ColumnSpec, ContractSpec
from lifecycle.project.contract import Bounds, ExpectSpec
from lifecycle.scaffold.odcs_document import DocumentPart, Remainder, parsed_document
from lifecycle.scaffold.odcs_export import (
    ENGINE,
    LOGICAL_TYPES,
    inferred_type,
    share_of,
    status_of,
)

DAYS = {"h": 1 / 24, "d": 1.0, "w": 7.0, "y": 365.0}
"""Days of a unit, by its first letter; `m` may be minutes or months and is none of them."""
SOFT_SEVERITIES = ("warning", "warn", "info", "low", "minor")
FRESHNESS_KEYS = ("at_least", "severity")
"""Of `freshness`: what the standard's service levels cannot say."""
RULE_WORDS = ("id", "name", "description", "dimension", "type", "engine", "implementation")
"""Words of a rule that are not named one by one: with the rule they are taken or left out."""


class ContractImport(NamedTuple):
    """Contract section of a project file, and what of the document is not in it."""

    contract: ContractSpec
    notes: tuple[str, ...]


def read_document(
    text: str, declared: Mapping[str, Any], table: str | None = None
) -> ContractImport:
    """Read the contract of one table from a document.

    Args:
        text: YAML or JSON.
        declared: the project file's keys; it need not have a contract yet.
        table: name of the table, where the document has several; by default the project's.

    Raises:
        ContractError: it is no document of the standard's version 3, has no such table, or says
            what no contract can; one line each.
    """
    remainder = Remainder()
    document = DocumentPart(parsed_document(text), "", remainder)
    _check_version(document)
    present = _present(declared)
    old = present.model_dump(exclude_defaults=True) if present else {}
    new: dict[str, Any] = {
        key: old[key] for key in ("max_rejected_share", "extra_columns", "rules") if key in old
    }
    project_name = str(declared.get("name", ""))
    part = _table(document, table or project_name, is_chosen=table is not None)
    new |= _head(document, declared, present)
    names: dict[str, str] = {}
    new["columns"], new["key"] = _columns(part, present, names)
    _table_quality(part, new, names)
    custom = part.custom()
    freshness = custom.pop("freshness", None)
    new |= custom
    new |= _service_levels(document, part.place, declared, names)
    if not isinstance(freshness, dict):
        freshness = {
            key: value for key, value in old.get("freshness", {}).items() if key in FRESHNESS_KEYS
        }
        if "freshness" not in new and "at_least" not in freshness:
            freshness = {}  # it had an age, and the document has none
        elif "freshness" in new:
            freshness.pop("at_least", None)  # one of the two bounds, and the document has the other
    if freshness:
        new["freshness"] = new.get("freshness", {}) | freshness
    part.close("", "id", "logicalType")
    document.close()
    return ContractImport(_valid(new), tuple(remainder.lines()))


def _check_version(document: DocumentPart) -> None:
    kind, version = document.any("kind"), str(document.any("apiVersion"))
    if kind != "DataContract" or not version.startswith("v3."):
        raise ContractError(
            "not a document of the Open Data Contract Standard, version 3: it needs "
            f"kind: DataContract and apiVersion: v3.x: got kind: {kind}, apiVersion: {version}"
        )


def _present(declared: Mapping[str, Any]) -> ContractSpec | None:
    """Contract that the project has so far."""
    contract = declared.get("contract")
    return None if contract is None else _valid(contract)


def _valid(contract: Mapping[str, Any]) -> ContractSpec:
    from pydantic import ValidationError

    try:
        return ContractSpec.model_validate(contract)
    except ValidationError as error:
        lines = []
        for detail in error.errors():
            key = ".".join(str(part) for part in ("contract", *detail["loc"]))
            lines.append(f"{key}: {detail['msg'].removeprefix('Value error, ')}")
        raise ContractError("\n".join(lines)) from None


def _table(document: DocumentPart, name: str, *, is_chosen: bool) -> DocumentPart:
    """The table of that name, or the only one."""
    values = document.take("schema", list) or []
    tables = {str(value.get("name")): value for value in values if isinstance(value, dict)}
    if name not in tables and len(tables) == 1 and not is_chosen:
        name = next(iter(tables))
    if name not in tables:
        listing = ", ".join(tables) or "none"
        raise ContractError(
            f"schema: has no table {name!r}: name one with --schema; there are: {listing}"
        )
    for other in tables:
        if other != name:
            document.note(f"schema {other}")
    part = DocumentPart(tables[name], name, document._remainder)
    part.take("name", str)
    return part


def _head(
    document: DocumentPart, declared: Mapping[str, Any], present: ContractSpec | None
) -> dict[str, Any]:
    """Version, owner and description; what only repeats the project is taken."""
    head: dict[str, Any] = {}
    version = str(document.any("version") or "")
    if re.fullmatch(r"\d+(\.\d+){0,2}", version):
        head["version"] = ".".join([*version.split("."), "0", "0"][:3])
    else:
        head["version"] = present.version if present else "1.0.0"
        document.note(f"version {version!r}", f"not x.y.z: {head['version']} is kept")
    for key in ("id", "name"):
        if (name := document.any(key)) not in (None, declared.get("name")):
            document.note(f"{key} {name!r}")
    status = document.take("status", str)
    if status not in (None, "active", status_of(head["version"])):
        document.note(f"status {status!r}")
    description = document.part("description")
    head["description"] = description.take("purpose", str) or ""
    usage = description.take("usage", str)
    if usage and usage != str(declared.get("description", "")).strip():
        description.note("description.usage")
    description.close("description.")
    team = document.any("team")
    if isinstance(team, dict):
        part = DocumentPart(team, "team", document._remainder, "")
        head["owner"] = part.take("name", str) or ""
        part.close("team.")
    elif isinstance(team, list):
        owners = [member for member in team if isinstance(member, dict) and _is_owner(member)]
        head["owner"] = str(owners[0].get("username", "")) if owners else ""
        document.note("team", "left out but for the owner")
    return head


def _is_owner(member: Mapping[str, Any]) -> bool:
    return "owner" in str(member.get("role", "")).lower()


def _columns(
    table: DocumentPart, present: ContractSpec | None, names: dict[str, str]
) -> tuple[dict[str, Any], list[str]]:
    """Columns in the document's order, and the key; `names` gets name → name in the source."""
    columns: dict[str, Any] = {}
    key: list[tuple[int, str]] = []
    former = present.columns if present else {}
    for at, part in enumerate(table.parts("properties", "property")):
        logical_name = part.take("name", str)
        if not logical_name:
            raise ContractError(f"{part.place}: it has no name")
        name = part.take("physicalName", str) or logical_name
        part.place = part.owner = f"{table.place}.{logical_name}"
        if name != logical_name:
            part.note("name", f"the column is called by its physicalName, {name}")
        names[logical_name] = name
        position = part.take("primaryKeyPosition", int) or 0
        if part.take("primaryKey", bool):
            key.append((position if position > 0 else at, name))
        column = _column(part, former.get(name))
        if column is not None:
            columns[name] = column
    for _, name in key:
        if name in columns:
            columns[name]["nullable"] = False
    return columns, [name for _, name in sorted(key) if name in columns]


def _column(part: DocumentPart, former: ColumnSpec | None) -> dict[str, Any] | None:
    """One column, or None if a contract cannot have its type."""
    old = former.model_dump(exclude_defaults=True) if former else {}
    new: dict[str, Any] = {
        key: old[key] for key in ("unit", "pii", "pii_class", "severity") if key in old
    }
    new["nullable"] = not part.take("required", bool)
    new["unique"] = bool(part.take("unique", bool))
    new["description"] = part.take("description", str) or ""
    logical = part.take("logicalType", str)
    severities = _column_quality(part, new, former)
    options = part.part("logicalTypeOptions")
    _options(options, logical, new)
    custom = part.custom()
    if "warning" in severities and "severity" not in custom:
        if len(severities) == 1 and not {"minimum", "maximum", "pattern"} & set(new):
            new["severity"] = "warning"
        else:
            part.note("severity of the rules", "not the same for all: errors")
    classification = part.take("classification", str)
    if classification in ("direct", "indirect", "sensitive") and ("pii" in new or "pii" in custom):
        new["pii_class"] = classification
    elif classification:
        part.note("classification")
    kind = inferred_type(logical, "categories" in new) if logical else None
    if former and "type" not in custom and logical in (None, LOGICAL_TYPES[former.value_type]):
        kind = former.type
    if kind is None and "type" not in custom:
        part.note(f"logicalType {logical}", "the column is left out: no type of a contract")
        return None
    if logical == "date":
        part.note("logicalType date", "read as a datetime")
    part.close("", "id")
    return {"type": kind} | new | custom


def _options(part: DocumentPart, logical: str | None, column: dict[str, Any]) -> None:
    """Bounds and pattern of a column."""
    if logical in ("integer", "number"):
        for end in ("minimum", "maximum"):
            if (value := part.take(end, float)) is not None:
                column[end] = value
    if logical == "integer":
        for end, beyond, step in (
            ("minimum", "exclusiveMinimum", 1),
            ("maximum", "exclusiveMaximum", -1),
        ):
            if (value := part.take(beyond, int)) is not None:
                column[end] = value + step
    if logical == "string" and (pattern := part.take("pattern", str)) is not None:
        _take_pattern(part, pattern, column)
    part.close("logicalTypeOptions.")


def _take_pattern(part: DocumentPart, pattern: str, column: dict[str, Any]) -> None:
    """A regular expression that is looked for in a value becomes one for the whole value."""
    expression = _full_match(pattern)
    if expression is None:
        part.note(f"pattern {pattern}", "left out: not an expression of RE2")
    else:
        column["pattern"] = expression


def _full_match(pattern: str) -> str | None:
    """The same expression for the whole value, or None if RE2 cannot read it."""
    if not _compiles(pattern):
        return None
    anchored = re.fullmatch(r"\^\(\?:(.*)\)\$", pattern, re.DOTALL)
    if anchored and _compiles(anchored[1]):
        return anchored[1]
    if re.fullmatch(r"\^[^|]*[^|\\]\$", pattern) and _compiles(pattern[1:-1]):
        return pattern[1:-1]
    return f"(?s:.*)(?:{pattern})(?s:.*)"


def _compiles(pattern: str) -> bool:
    try:
        pc.match_substring_regex(pa.array([""]), pattern)
    except pa.ArrowInvalid:
        return False
    return True


def _column_quality(
    part: DocumentPart, column: dict[str, Any], former: ColumnSpec | None
) -> set[str]:
    """Take a column's rules; return the severities of those that judge single rows."""
    expect: dict[str, Any] = {}
    severities, soft = set[str](), set[str]()
    for rule in part.parts("quality", "rule"):
        severity = _severity(rule)
        metric, bounds = rule.take("metric", str), _bounds(rule)
        arguments, unit = rule.part("arguments"), rule.take("unit", str)
        counts_none = bounds == (0, 0) and unit in (None, "rows", "percent")
        statistic = _statistic(rule)
        if statistic:
            expect |= statistic
            soft.add(severity)
        elif metric == "nullValues" and bounds == (0, 0) and unit != "percent":
            column["nullable"] = False
        elif metric == "nullValues" and bounds and unit == "percent":
            expect["missing_share"] = [None if end is None else share_of(end) for end in bounds]
            soft.add(severity)
        elif metric == "duplicateValues" and counts_none:
            column["unique"] = True
            severities.add(severity)
        elif metric == "invalidValues" and counts_none:
            if values := arguments.take("validValues", list):
                column["categories"] = values
            if pattern := arguments.take("pattern", str):
                _take_pattern(part, pattern, column)
            severities.add(severity)
        else:
            _leave_rule(rule, metric)
            continue
        arguments.close("rule's argument ")
        rule.close("rule's ", *RULE_WORDS)
    if former and former.expect:
        statistics = former.expect.model_dump(
            exclude_none=True, exclude={"missing_share", "severity"}
        )
        expect = statistics | expect
    if expect:
        column["expect"] = expect
        if len(soft) > 1:
            part.note("severity of statistics", "not the same for all: errors")
        elif soft or (former and former.expect):
            severity = former.expect.severity if former and former.expect else "error"
            column["expect"]["severity"] = next(iter(soft), severity)
    return severities


def _statistic(rule: DocumentPart) -> dict[str, Any]:
    """Bounds on a statistic that an export wrote as a rule of its own engine."""
    own = _own_implementation(rule)
    name, bounds = own.get("statistic"), own.get("bounds")
    return {str(name): bounds} if name in ExpectSpec.model_fields else {}


def _own_implementation(rule: DocumentPart) -> dict[str, Any]:
    implementation = rule._values.get("implementation")
    is_ours = rule._values.get("engine") == ENGINE and isinstance(implementation, dict)
    return cast(dict[str, Any], implementation) if is_ours else {}


def _leave_rule(rule: DocumentPart, metric: str | None) -> None:
    values = rule._values
    name = values.get("name") or values.get("description") or ""
    subject = f"rule {metric or values.get('type', 'library')}"
    rule.note(f"{subject} {name!r}" if name else subject)


def _severity(rule: DocumentPart) -> str:
    severity = rule.take("severity", str)
    return "warning" if severity and severity.lower() in SOFT_SEVERITIES else "error"


def _bounds(rule: DocumentPart) -> Bounds | None:
    """Bounds of a comparison, both included; None if it is none or has other ends."""
    low, high = rule._values.get("mustBeGreaterOrEqualTo"), rule._values.get("mustBeLessOrEqualTo")
    between, exact = rule._values.get("mustBeBetween"), rule._values.get("mustBe")
    if isinstance(between, list) and len(between) == 2:
        low, high = between
    elif exact is not None:
        low = high = exact
    ends = (low, high)
    if ends == (None, None) or not all(_is_number(end) for end in ends if end is not None):
        return None
    for word in ("mustBeGreaterOrEqualTo", "mustBeLessOrEqualTo", "mustBeBetween", "mustBe"):
        rule.any(word)
    return ends


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _table_quality(table: DocumentPart, new: dict[str, Any], names: Mapping[str, str]) -> None:
    """Take the rules of the rows and of the data as a whole."""
    groups: list[list[str]] = []
    rules: list[dict[str, Any]] = []
    for rule in table.parts("quality", "rule"):
        severity = _severity(rule)
        metric, bounds = rule.take("metric", str), _bounds(rule)
        arguments, own = rule.part("arguments"), _own_implementation(rule)
        if metric == "duplicateValues" and bounds == (0, 0):
            columns = arguments.take("properties", list) or []
            groups.append([names.get(str(name), str(name)) for name in columns])
        elif metric == "rowCount" and (bounds := bounds or _open_ends(rule)):
            ends = dict(zip(("minimum", "maximum"), bounds, strict=True))
            new["rows"] = ends | {"severity": severity}
        elif "rule" in own:
            about = rule.take("description", str) or ""
            rules.append(
                {"name": own["rule"], "expression": own.get("expression"), "severity": severity}
                | ({"description": about} if about else {})
            )
        else:
            _leave_rule(rule, metric)
            continue
        arguments.close("rule's argument ")
        rule.close("rule's ", *RULE_WORDS)
    new["unique_together"] = groups
    if rules:
        new["rules"] = rules


def _open_ends(rule: DocumentPart) -> tuple[int | None, int | None] | None:
    """Bounds of a count whose ends are not included."""
    low, high = rule.take("mustBeGreaterThan", int), rule.take("mustBeLessThan", int)
    if low is None and high is None:
        return None
    return (None if low is None else low + 1, None if high is None else high - 1)


def _service_levels(
    document: DocumentPart, table: str, declared: Mapping[str, Any], names: Mapping[str, str]
) -> dict[str, Any]:
    """Freshness and retention, in days."""
    levels: dict[str, Any] = {}
    time = declared.get("time")
    time_column = time.get("column") if isinstance(time, dict) else None
    for level in document.parts("slaProperties", "service level"):
        name, days = str(level.any("property")), _days(level)
        element = level.take("element", str) or ""
        of_table, _, column = element.rpartition(".")
        is_ours = of_table in ("", table)
        if name == "retention" and days and is_ours:
            levels["retention"] = {"days": days}
        elif (
            name in ("latency", "freshness")
            and days
            and is_ours
            and names.get(column, column) in ("", time_column)
        ):
            levels["freshness"] = {"max_age_days": days}
        else:
            level.note(f"service level {name} {element}".strip())
        level.close("service level's ", "id", "description")
    return levels


def _days(level: DocumentPart) -> float | None:
    value, unit = level.any("value"), str(level.any("unit") or "")
    days = DAYS.get(unit[:1].lower())
    return float(value) * days if days and _is_number(value) else None
