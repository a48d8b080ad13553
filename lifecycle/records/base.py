"""Base class of the records that move between stages, and windows of time."""

import re
from datetime import date
from typing import Annotated

from pydantic import BaseModel, BeforeValidator, ConfigDict

CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")


def counted(number: int, noun: str) -> str:
    """`1 row`, `1,200 rows`."""
    return f"{number:,} {noun}" + ("" if number == 1 else "s")


def one_line(text: str) -> str:
    """A name of the user's on one line: control characters and line breaks are written out.

    Marks that turn the direction of writing count as such.
    """
    return CONTROL.sub(lambda match: ascii(match[0])[1:-1], text)


def visible(text: str) -> str:
    """Text of several lines without other control characters: those are written out."""
    return "\n".join("\t".join(map(one_line, line.split("\t"))) for line in text.split("\n"))


class Record(BaseModel):
    """A frozen value without unknown fields."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


class Link(Record):
    """One line of a chain that only grows: who did something, when and why."""

    time: str
    """UTC, ISO 8601."""
    who: str
    reasons: tuple[str, ...]
    """What was done and why, in words."""
    previous: str = ""
    """SHA-256 of the line before; empty in the first."""
    hash: str = ""
    """SHA-256 of this line without this field."""


def _end(value: object) -> object:
    if isinstance(value, date):
        return value.isoformat()
    return int(value) if isinstance(value, str) and value.lstrip("-").isdigit() else value


WindowEnd = Annotated[int | str, BeforeValidator(_end)]
"""One spelling for one end, whether it comes from Python, JSON or a command line."""


class Window(Record):
    """A stretch of the time column, both ends included; an open end is None.

    Ends are whole numbers, or ISO 8601 text, where a date without a time means the whole day.
    """

    first: WindowEnd | None = None
    last: WindowEnd | None = None
    unplaced: bool = False
    """Whether rows are read with it that lie in no window, since their time is missing, no time or
    in the future: they go to quarantine. A window with an open start reads them always."""

    def __str__(self) -> str:
        if self.first == self.last:
            return "all rows" if self.first is None else str(self.first)
        first = "start" if self.first is None else self.first
        return f"{first} to {'end' if self.last is None else self.last}"
