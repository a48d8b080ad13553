"""The code blocks of README, tutorial and how-tos, and how what a page shows is held to the screen.

Blocks of commands are `bash`, what they print is `text` and follows them; `python` runs, too. One
line before a block, which no reader sees, says where that does not hold:

    <!-- not run: why --> before what cannot run in a test
    <!-- not held: why --> before a shown output that is not that of the commands above it
"""

import re
from collections.abc import Iterator
from pathlib import Path
from textwrap import dedent
from typing import Any, NamedTuple

ROOT = Path(__file__).parents[2]
PAGES = [
    ROOT / "README.md",
    ROOT / "docs" / "tutorial.md",
    ROOT / "docs" / "runbooks.md",
    *sorted((ROOT / "docs" / "how-to").glob("*.md")),
]
COMMANDS, OUTPUT, PYTHON = "bash", "text", "python"
LANGUAGES = {COMMANDS, OUTPUT, PYTHON, "yaml", "json", "ini"}

BLOCK = re.compile(
    r"(?:^ *<!-- (?P<note>[^\n]*?) -->\n)?^(?P<fence> *```)(?P<language>\w*)\n(?P<text>.*?)^ *```$",
    re.DOTALL | re.MULTILINE,
)
FRAMES = re.compile("[\u2500-\u257f]")
VARYING = (
    (r"\b[0-9a-f]{7,}\b", r"[0-9a-f]+"),  # digests and ids
    (r"\b\d{4}-\d\d-\d\d[ T]\d\d:\d\d(?::\d\d)?", r"[\d: T-]+"),  # times
    (r"\b\d+\.\d s\b", r"[\d.,]+ s"),  # durations
    (r"…", r".*"),  # what the page leaves out
)
"""What may differ between a page and the screen: (how the page writes it, what the screen has)."""


class Block(NamedTuple):
    """One fenced block.

    Attributes:
        line: where its text begins, from 1.
        note: the comment before it, such as `not run: why`; empty without one.
    """

    page: Path
    line: int
    language: str
    text: str
    note: str

    @property
    def place(self) -> str:
        return f"{self.page.name}:{self.line}"


def blocks(page: Path) -> Iterator[Block]:
    """The blocks of a page, in order."""
    text = page.read_text()
    for match in BLOCK.finditer(text):
        line = text.count("\n", 0, match.start("text")) + 1
        block = dedent(match["text"])
        yield Block(page, line, match["language"], block, match["note"] or "")


def run_on(page: str, table: str, uri: str) -> dict[str, Any]:
    """Run a page's block of Python that reads a table; return the names that it defines.

    Args:
        table: name of the table, as the path in the block ends.
        uri: a table of the caller's own, read in its place.
    """
    place = re.compile(rf'"\.lifecycle/lake/\w+/{table}"')
    [file] = [file for file in PAGES if file.name == page]
    [block] = [one for one in blocks(file) if one.language == PYTHON and place.search(one.text)]
    names: dict[str, Any] = {}
    exec(place.sub(lambda _: repr(uri), block.text), names)  # noqa: S102 - a page of ours
    return names


def missing_lines(shown: str, screen: str) -> list[str]:
    """Lines that a page shows and the screen did not have, in this order.

    A line may differ by what VARYING names, by frames and by blanks; a line that is `…` alone
    stands for any number of lines.
    """
    missing, rest = [], [_plain(line) for line in screen.splitlines()]
    for line in filter(None, map(_plain, shown.splitlines())):
        if line == "…":
            continue  # the next line is looked for in all that follows anyway
        pattern = re.compile(_pattern(line))
        at = next((i for i, real in enumerate(rest) if pattern.fullmatch(real)), None)
        if at is None:
            missing.append(line)
        else:
            rest = rest[at + 1 :]
    return missing


def _plain(line: str) -> str:
    return " ".join(FRAMES.sub(" ", line).split())


def _pattern(line: str) -> str:
    """A regular expression for one line of a page."""
    parts = re.split("|".join(f"({varying})" for varying, _ in VARYING), line)
    step = len(VARYING) + 1
    pattern = ""
    for at in range(0, len(parts), step):
        pattern += re.escape(parts[at])
        for varied, (_, real) in zip(parts[at + 1 : at + step], VARYING, strict=False):
            pattern += real if varied is not None else ""
    return pattern
