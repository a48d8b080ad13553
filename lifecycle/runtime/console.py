"""The terminal: the one place that makes consoles, so that no text of the user's is taken for more.

Column names, classes and paths may hold `[red]`, `:smile:` or escape sequences. Nothing printed
here is markup; what should be bold or red is a `styled` text. Control characters are shown, never
sent: a file cannot move a terminal's cursor.
"""

import sys
from typing import Any

from rich.console import Console
from rich.text import Text

from lifecycle.records import visible


class PlainConsole(Console):
    """A console that takes text as it is."""

    def render_str(self, text: str, **options: Any) -> Text:
        """Text without markup, emoji codes or control characters."""
        options |= {"markup": False, "emoji": False}
        return super().render_str(visible(text), **options)


TABLE_WIDTH = 140
"""Columns for tables where the output is no terminal."""


def open_console(*, width: int | None = None, stderr: bool = False) -> PlainConsole:
    """A console of standard output or error.

    Args:
        width: columns where the output is no terminal, for tables; without it lines are as long as
            they are.
    """
    stream = sys.stderr if stderr else sys.stdout
    return PlainConsole(
        highlight=False,
        markup=False,
        emoji=False,
        soft_wrap=width is None,
        width=None if width is None or stream.isatty() else width,
        stderr=stderr,
    )


def styled(*parts: str | tuple[str, str]) -> Text:
    """Text with styles: each part is a text, or one and its style such as `bold`."""
    return Text.assemble(
        *(visible(part) if isinstance(part, str) else (visible(part[0]), part[1]) for part in parts)
    )


def progress_line(seconds: float, stage: str, text: str, ended: bool) -> Text:
    """A line of a script's progress.

    Args:
        seconds: since the script began.
        ended: whether the text is a result, or says what runs now.
    """
    line = styled((f"{seconds:7.1f} s  ", "dim"), (f"{stage:<9} ", "bold cyan"))
    rest = text.replace("\n", "\n" + " " * len(line.plain))
    return line + (styled(rest) if ended else styled((f"{rest} …", "dim")))


def write_error(text: str) -> None:
    """A message on standard error, as it is."""
    sys.stderr.write(f"{visible(text)}\n")
