"""Changing keys of a project file that people wrote: comments and the other lines stay."""

from collections.abc import Iterator, Mapping
from typing import Any

import yaml

from lifecycle.errors import ProjectError
from lifecycle.project import ContractSpec
from lifecycle.scaffold.odcs_export import plain
from lifecycle.scaffold.project_text import block_lines, flow_text

SECTION = "contract"


def with_contract(text: str, contract: ContractSpec) -> str:
    """The text of a project file with another contract.

    What is the same stays as it is written. Columns keep the file's order, and new ones come last.

    Raises:
        ProjectError: the file is written in a way that cannot be edited, such as with aliases.
    """
    target = _declared(contract)
    declared = yaml.safe_load(text) or {}
    if not isinstance(declared.get(SECTION), dict):
        changed = _set(text, (), {SECTION: target})
    else:
        present = declared[SECTION]
        former = _declared(ContractSpec.model_validate(present))
        old, new = former.pop("columns"), target["columns"]
        changed = _set(text, (SECTION,), _changes(former, {**target, "columns": None}))
        for name, column in new.items():
            if name in old:
                place = (SECTION, "columns", name)
                changed = _set(changed, place, _changes(old[name], column))
        names = [name for name in (*old, *new) if (name in old) != (name in new)]
        columns = {name: new.get(name) for name in names}
        changed = _set(changed, (SECTION, "columns"), columns)
    if _contract(changed) != contract or _others(changed) != _others(text):
        lines = "\n".join(block_lines({SECTION: target}))
        raise ProjectError(
            f"the file cannot be edited as it is written; put this into it:\n{lines}"
        )
    return changed


def _changes(former: Mapping[str, Any], present: Mapping[str, Any]) -> dict[str, Any]:
    """Keys that differ, with their present value; None for those that are gone."""
    keys = dict.fromkeys((*former, *present))
    return {key: present.get(key) for key in keys if former.get(key) != present.get(key)}


def _declared(contract: ContractSpec) -> dict[str, Any]:
    """The section as people write it: the version, and what is not the default."""
    values = contract.model_dump(mode="json", exclude_defaults=True)
    written: dict[str, Any] = _plain({"version": contract.version} | values)
    return written


def _plain(value: Any) -> Any:
    """Whole numbers without a point, but for allowed values, whose type is that of the column."""
    if isinstance(value, dict):
        return {
            key: inner if key == "categories" else _plain(inner) for key, inner in value.items()
        }
    if isinstance(value, list):
        return [_plain(inner) for inner in value]
    return plain(value) if isinstance(value, float) else value


def _contract(text: str) -> ContractSpec | None:
    try:
        contract = ContractSpec.model_validate(yaml.safe_load(text)[SECTION])
    except (yaml.YAMLError, ValueError, LookupError, TypeError):
        return None
    return contract


def _others(text: str) -> dict[str, Any]:
    declared = yaml.safe_load(text) or {}
    return {key: value for key, value in declared.items() if key != SECTION}


def _set(text: str, path: tuple[str, ...], values: Mapping[str, Any]) -> str:
    """Set keys of the mapping at a path; None removes a key."""
    if not values:
        return text
    node = _at(yaml.compose(text), path)
    if node is None or node.flow_style:
        return _set_flow(text, path, node, values)
    keys = {str(key.value): (key, value) for key, value in node.value}
    edits, last = [], 0
    for name, (key, value) in keys.items():
        end = _end(text, value)
        last = max(last, end)
        if name not in values:
            continue
        if values[name] is None:
            start, stop = text.rfind("\n", 0, key.start_mark.index) + 1, text.find("\n", end)
            edits.append((start, len(text) if stop < 0 else stop + 1, ""))
        else:
            lines = block_lines({name: values[name]}, " " * key.start_mark.column)
            edits.append((key.start_mark.index, end, "\n".join(lines).lstrip()))
    indent = " " * (node.start_mark.column if node.value else 0)
    added = {key: value for key, value in values.items() if key not in keys and value is not None}
    if added:
        stop = text.find("\n", last)
        stop = len(text) if stop < 0 else stop
        lines = block_lines(added, indent)
        edits.append((stop, stop, "".join(f"\n{line}" for line in lines)))
    for start, stop, replacement in sorted(edits, reverse=True):
        text = text[:start] + replacement + text[stop:]
    return text


def _set_flow(
    text: str, path: tuple[str, ...], node: yaml.MappingNode | None, values: Mapping[str, Any]
) -> str:
    """The same for a mapping in braces, which is written anew, or for an empty file."""
    if node is None:
        return text + "\n".join(block_lines(values)) + "\n"
    content: Any = yaml.safe_load(text)
    for key in path:
        content = content[key]
    content = {key: value for key, value in (content | values).items() if value is not None}
    return text[: node.start_mark.index] + flow_text(content) + text[node.end_mark.index :]


def _at(node: yaml.Node | None, path: tuple[str, ...]) -> yaml.MappingNode | None:
    for name in path:
        values = node.value if isinstance(node, yaml.MappingNode) else ()
        node = next((value for key, value in values if key.value == name), None)
    return node if isinstance(node, yaml.MappingNode) else None


def _end(text: str, node: yaml.Node) -> int:
    """Where a value ends; PyYAML lets one in a block end where the next thing begins."""
    ends = [_end(text, child) for child in _children(node)] if not _is_flow(node) else []
    return max(ends, default=len(text[: node.end_mark.index].rstrip()))


def _is_flow(node: yaml.Node) -> bool:
    return bool(getattr(node, "flow_style", True)) or not node.value


def _children(node: yaml.Node) -> Iterator[yaml.Node]:
    for child in node.value:
        yield child[1] if isinstance(child, tuple) else child
