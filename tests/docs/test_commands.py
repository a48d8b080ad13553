"""Commands of README, tutorial and how-tos: verbs, options and targets are those that exist.

Those that cannot run in a test, too; `test_pages` runs the others.
"""

import re
import shlex
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.core import TyperGroup

from flows.command import Command
from lifecycle.cli.main import VERBS, LazyCommand, app
from tests.support.blocks import COMMANDS, PAGES, ROOT, blocks

TARGETS = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))


def commands() -> Iterator[tuple[str, list[str]]]:
    """The page and the words of each command of ours in its blocks."""
    for block in (block for page in PAGES for block in blocks(page)):
        if block.language != COMMANDS:
            continue
        for line in block.text.replace("\\\n", " ").splitlines():
            for part in re.split(r'&&|(?:\beval |\b[A-Z]+=)"?\$\(', line):
                words = re.sub(r"""\)"?$""", "", part.split(" #")[0].strip())
                if re.match(r"([A-Z_]+=\S+ )*(\.venv/bin/)?(lifecycle|python|make) ", words):
                    yield (
                        block.page.name,
                        [w for w in shlex.split(words) if not re.match("[A-Z_]+=", w)],
                    )


ALL = list(commands())


def test_there_are_commands() -> None:
    assert len(ALL) > 30


@pytest.mark.parametrize(("page", "words"), ALL, ids=lambda value: str(value)[:60])
def test_a_documented_command_exists(page: str, words: list[str]) -> None:
    program, arguments = Path(words[0]).name, words[1:]
    if program == "make":
        assert arguments[0] in TARGETS
    elif program == "lifecycle":
        _parse_verb(arguments)
    elif arguments[0].startswith("flows/"):
        _parse_flow(Path(arguments[0]).stem, arguments[1:])


@pytest.mark.parametrize("verb", VERBS)
def test_an_example_of_a_verb_can_be_typed(verb: str) -> None:
    words = shlex.split(VERBS[verb].example.removeprefix('eval "$(').removesuffix(')"'))
    assert words[:2] == ["lifecycle", verb]
    _parse_verb(words[1:])


def _parse_flow(name: str, arguments: list[str]) -> None:
    """Raise if a flow or an option does not exist."""
    command: Command = import_module(f"flows.{name}").command
    command.parse(arguments)


def _parse_verb(arguments: list[str]) -> None:
    """Raise if a verb or an option does not exist; `run` takes those of the flow."""
    if arguments[0] == "run" and arguments[1:] != ["--help"]:
        _parse_flow(arguments[1].replace("-", "_"), arguments[2:])
    elif not arguments[0].startswith("--"):
        _parse(typer.main.get_command(app), arguments)


def _parse(command: Any, arguments: list[str]) -> None:
    """Raise if a verb or an option does not exist."""
    context = typer.Context(command)
    while isinstance(command, TyperGroup):
        verb, *arguments = arguments
        found: Any = command.get_command(context, verb)
        assert found is not None, f"no verb {verb!r}"
        command = found.load() if isinstance(found, LazyCommand) else found
        context = typer.Context(command, parent=context)
    command.make_parser(context).parse_args(list(arguments))
