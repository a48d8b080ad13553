"""Reading a project file: every problem is reported with file, line and key."""

import difflib
from pathlib import Path
from typing import Annotated, Any, get_args

import yaml
from pydantic import BeforeValidator, ValidationError, WithJsonSchema
from pydantic_core import ErrorDetails

from lifecycle.errors import ProjectError
from lifecycle.project.project import Project

KeyPath = tuple[int | str, ...]
KEYS_SHOWN = 12
PROJECT_FILE = Path("project.yaml")
"""The project where a command names none."""


def load_project(path: str | Path, env: str | None = None) -> Project:
    """Read a project file.

    Args:
        env: the environment whose sources the project shall have; without it all are kept.

    Raises:
        ProjectError: the file is missing or no YAML, or a key is unknown, missing or wrong, or the
            environment has no source; the message has one line a problem, each with file, line and
            key.

    >>> load_project("examples/health_visits/project.yaml").task
    'binary'
    """
    file = Path(path)
    try:
        text = file.read_text(encoding="utf-8")
    except OSError as error:
        raise ProjectError(
            f"{file}: cannot read the project file ({error.strerror}); "
            "name another one, or write one with `lifecycle init data.csv --target COLUMN`"
        ) from None
    except UnicodeDecodeError as error:
        raise ProjectError(f"{file}: the project file is not UTF-8 text ({error.reason})") from None
    try:
        root, declared = _parsed(text)
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise ProjectError(f"{file}:{line}: not valid YAML: {error.problem}") from None
    if root is None or not isinstance(declared, dict):
        raise ProjectError(f"{file}:1: a project file is a mapping of keys, starting with `name:`")
    lines = _lines(root, file)
    try:
        project = Project.model_validate(declared)
    except ValidationError as error:
        problems = (_problem(file, lines, detail) for detail in error.errors())
        raise ProjectError("\n".join(problems)) from None
    project._file = file.resolve()
    return project if env is None else in_environment(project, env)


def in_environment(project: Project, env: str) -> Project:
    """The project with the sources that it names for an environment, and no others.

    So what is declared for another environment shapes nothing here: no digest and no cache key.

    Raises:
        ProjectError: a source is declared for other environments only.
    """
    if not project.environments:
        return project
    key = "source"
    try:
        source = project.source.in_environment(env)
        views = {}
        for name, view in project.feature_views.items():
            key = f"feature_views.{name}.source"
            view_source = view.source.in_environment(env)
            views[name] = view.model_copy(update={"source": view_source})
        key, monitoring = "monitoring.labels", project.monitoring
        if monitoring.labels is not None:
            labels = monitoring.labels.in_environment(env)
            monitoring = monitoring.model_copy(update={"labels": labels})
    except ValidationError:
        raise error_at(
            project,
            f"{key}.environments",
            f"has no entry {env!r}, and {key} names no place for the others: add one",
        ) from None
    sources = {"source": source, "feature_views": views, "monitoring": monitoring}
    return project.model_copy(update=sources)


def error_at(project: Project, key: str, message: str) -> ProjectError:
    """An error about a key of a project that was read, with its file and line.

    Args:
        key: such as `training.parameters.eta`; where it has no line, that of its section counts.
        message: what is wrong, and what to do.
    """
    place, path = "", _key_of(f"{key}:")
    try:
        root, _ = _parsed(project.file.read_text(encoding="utf-8"))
        lines = _lines(root, project.file) if root is not None else {}
        while path and path not in lines:
            path = path[:-1]
        place = f"{project.file}:{lines[path]}: "
    except (OSError, ValueError, LookupError, yaml.YAMLError, ProjectError):
        pass  # made in code, or changed meanwhile: the key has to do
    return ProjectError(f"{place}{key}: {message}")


def _parsed(text: str) -> tuple[yaml.Node | None, Any]:
    """The nodes, which know their lines, and the values; by libyaml where it is there."""
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)(text)
    try:
        root = loader.get_single_node()
        return root, None if root is None else loader.construct_document(root)
    finally:
        loader.dispose()


def _lines(node: yaml.Node, file: Path, at: KeyPath = ()) -> dict[KeyPath, int]:
    """Line (from 1) of every key path; a key given twice is an error, where YAML keeps the last."""
    lines = {at: node.start_mark.line + 1}
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            path = (*at, str(key.value))
            if path in lines:
                where = f"{file}:{key.start_mark.line + 1}"
                raise ProjectError(
                    f"{where}: {_dotted(path)}: set twice, first in line {lines[path]}"
                )
            lines |= _lines(value, file, path) | {path: key.start_mark.line + 1}
    elif isinstance(node, yaml.SequenceNode):
        for index, value in enumerate(node.value):
            lines |= _lines(value, file, (*at, index))
    return lines


def _problem(file: Path, lines: dict[KeyPath, int], detail: ErrorDetails) -> str:
    """One problem as `file:line: key: what is wrong (got …)`."""
    key = tuple(part for part in detail["loc"])
    message = detail["msg"].removeprefix("Value error, ")
    location = key
    while location not in lines:  # pydantic adds union tags that the file does not have
        location = location[:-1]
    line = lines[location]
    if detail["type"] == "value_error":  # a section's validator starts with the key it is about
        named_key = _key_of(message)
        while named_key and location + named_key not in lines:
            named_key = named_key[:-1]
        line = lines[location + named_key]
        if named_key and key and message.startswith(f"{_dotted(named_key)}"):
            message = f"{_dotted(location)}.{message}"
        if not key:
            key = named_key
    where = f"{file}:{line}: "
    if detail["type"] == "extra_forbidden":
        return f"{where}{_dotted(key)}: unknown key; {_instead(key)}"
    if detail["type"] == "missing":
        return f"{where}{_dotted(key)}: this key is missing"
    if not key or message.startswith(_dotted(location or key)):
        return where + message
    value_text = (
        ""
        if "got " in message or isinstance(detail["input"], dict)
        else f" (got {detail['input']!r})"
    )
    return f"{where}{_dotted(location)}: {message}{value_text}"


def _instead(key: KeyPath) -> str:
    """Suggest a known key for an unknown one, and list the keys of its section."""
    names = _keys_beside(key)
    close = difflib.get_close_matches(str(key[-1]), names, n=1)
    more = ", …" if len(names) > KEYS_SHOWN else ""
    message = f"nown here: {', '.join(names[:KEYS_SHOWN])}{more}"
    return f"did you mean {close[0]!r}? K{message}" if close else f"k{message}"


def _key_of(message: str) -> KeyPath:
    """The key path a message starts with, if it does."""
    parts = message.split(" ")[0].rstrip(":").split(".")
    return tuple(int(part) if part.isdigit() else part for part in parts)


def _keys_beside(key: KeyPath) -> list[str]:
    """Known keys of the section that `key` stands in."""
    section: Any = Project
    for part in key[:-1]:
        field = getattr(section, "model_fields", {}).get(part)
        if field is None:  # inside a mapping such as contract.columns: its values' sections
            values = [kind for kind in get_args(section) if hasattr(kind, "model_fields")]
            section = values[-1] if values else section
            continue
        section = field.annotation
        options = [kind for kind in get_args(section) if hasattr(kind, "model_fields")]
        section = options[0] if options and not str(section).startswith("dict") else section
    return list(getattr(section, "model_fields", {}))


def _dotted(key: KeyPath) -> str:
    return ".".join(str(part) for part in key)


def _from_file(value: object) -> object:
    return load_project(value) if isinstance(value, str | Path) else value


ProjectFile = Annotated[
    Project,
    BeforeValidator(_from_file),
    WithJsonSchema({"type": "string", "description": "Path of a project file"}),
]
"""A flow's parameter: a path where people and schedules call it, a `Project` where flows do."""
