"""Commands of README, tutorial and how-tos: verbs, options and targets are those that exist.

Those that cannot run in a test, too; `test_pages` runs the others.
"""

import re
import shlex
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import click
import pytest
import typer

from flows.command import _parser
from lifecycle.cli.main import app
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
        _parse(typer.main.get_command(app), arguments)
    elif arguments[0].startswith("flows/"):
        name = Path(arguments[0]).stem
        _parser(getattr(import_module(f"flows.{name}"), name)).parse_args(arguments[1:])


def _parse(command: click.Command, arguments: list[str]) -> None:
    """Raise if a verb or an option does not exist."""
    context = click.Context(command)
    while isinstance(command, click.Group):
        verb, *arguments = arguments
        found = command.get_command(context, verb)
        assert found is not None, f"no verb {verb!r}"
        command, context = found, click.Context(found, parent=context)
    command.make_parser(context).parse_args(list(arguments))
