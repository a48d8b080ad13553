"""The pages of docs/reference made from the code: each command's help, each key of a project file.

`python -m tests.support.reference` writes them anew; a test holds them against the code.
"""

import json
import os
import re
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any
from unittest.mock import patch

from typer.testing import CliRunner

from lifecycle.cli.main import VERBS, app, flow_summaries
from lifecycle.project import Project

FOLDER = Path(__file__).parents[2] / "docs" / "reference"
SCREEN = {"COLUMNS": "100", "TERMINAL_WIDTH": "100", "NO_COLOR": "1", "TERM": "dumb"}
NOTE = "<!-- made by python -m tests.support.reference -->"
GROUP = "Commands:\n"
"""What begins the list of a verb's own verbs in its help."""


def commands() -> str:
    """The help of each verb and each flow, as the screen has it."""
    parts = [f"# Commands\n\n{NOTE}\n\nWhat `--help` prints.", "## Verbs"]
    for name in VERBS:
        parts += _verb([name])
    parts.append("## Flows")
    for name in flow_summaries():
        parser = import_module(f"flows.{name}").command.parser(f"lifecycle run {name}")
        parts += [f"### lifecycle run {name}", _block(parser.format_help())]
    return "\n\n".join(parts) + "\n"


def _verb(words: list[str]) -> Iterator[str]:
    """The help of a verb, and of the verbs that it has itself."""
    answer = CliRunner().invoke(app, [*words, "--help"], prog_name="lifecycle")
    yield f"### lifecycle {' '.join(words)}"
    yield _block(answer.output)
    _, _, names = answer.output.partition(GROUP)
    for name in re.findall(r"^  (\w[\w-]*)  ", names, re.MULTILINE):
        yield from _verb([*words, name])


def _block(screen: str) -> str:
    lines = "\n".join(line.rstrip() for line in screen.strip("\n").splitlines())
    return f"```text\n{lines}\n```"


def project_keys() -> str:
    """Each key of a project file: type, default and meaning, from the schema."""
    schema = Project.model_json_schema()
    text = (
        f"# Project file\n\n{NOTE}\n\nEach key, from the schema that `lifecycle schema` writes for "
        "editors. A key without a default has to be there; an `optional` one is absent by default, "
        "or a section with defaults of its own."
    )
    parts = [text, "## project.yaml", _table(schema)]
    for name, path in _paths(schema).items():
        section = schema["$defs"][name]
        description = " ".join(section.get("description", "").split())
        parts += [f"## {path} {{#{name.lower()}}}", description, _table(section)]
    return "\n\n".join(filter(None, parts)) + "\n"


def _paths(schema: dict[str, Any]) -> dict[str, str]:
    """Where a project file first has each section, in the order of the file."""
    paths: dict[str, str] = {}
    sections = [("", schema)]
    for prefix, section in sections:  # grows while it is walked: sections have sections
        for key, value in section.get("properties", {}).items():
            for name in re.findall(r"#/\$defs/(\w+)", str(value)):
                if name not in paths:
                    paths[name] = f"{prefix}{key}"
                    sections.append((f"{prefix}{key}.", schema["$defs"][name]))
    return paths


def _table(section: dict[str, Any]) -> str:
    lines = ["| key | type | default | meaning |", "|---|---|---|---|"]
    required = section.get("required", ())
    for key, value in section.get("properties", {}).items():
        default = "" if key in required else _code(value.get("default"))
        if "$ref" in value or default == _code(None):
            default = "" if key in required else "optional"
        meaning = " ".join(value.get("description", "").split()).replace("|", "\\|")
        lines.append(f"| `{key}` | {_type(value)} | {default} | {meaning} |")
    return "\n".join(lines)


def _code(value: object) -> str:
    if isinstance(value, str) and re.fullmatch(r"[\w.:-]+", value):
        text = value
    else:
        text = "none" if value in (None, "", [], {}) else json.dumps(value, ensure_ascii=False)
    return f"`{text}`".replace("|", "\\|")


def _type(value: dict[str, Any]) -> str:
    """A value's type in words; a section of its own as a link to its table."""
    if reference := value.get("$ref"):
        name = reference.rpartition("/")[2]
        return f"[{name}](#{name.lower()})"
    if "const" in value:
        return _code(value["const"])
    if "enum" in value:
        return " or ".join(map(_code, value["enum"]))
    for choice in ("anyOf", "oneOf"):
        if choice in value:
            types = [_type(one) for one in value[choice] if one.get("type") != "null"]
            return " or ".join(dict.fromkeys(types))
    if value.get("type") == "array":
        return f"list of {_type(value.get('items', {}))}"
    if value.get("type") == "object" and isinstance(value.get("additionalProperties"), dict):
        return f"mapping to {_type(value['additionalProperties'])}"
    return str(value.get("type", "any"))


PAGES = {"commands.md": commands, "project.md": project_keys}


def pages() -> dict[Path, str]:
    """The text that each page should have."""
    with patch.dict(os.environ, SCREEN):
        return {FOLDER / name: make() for name, make in PAGES.items()}


if __name__ == "__main__":
    for file, content in pages().items():
        file.write_text(content)
