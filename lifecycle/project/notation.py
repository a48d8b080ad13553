"""How a source writes its cells: what the keys `decimal`, `missing`, `dates` and the like take."""

import re
from collections import Counter
from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, PlainSerializer, WithJsonSchema

Decimal = Literal[".", ","]
Thousands = Literal["", ",", ".", " ", "'"]
Negative = Literal["sign", "parentheses", "trailing"]
EPOCHS: dict[str, int] = {
    "seconds": 1,
    "milliseconds": 1_000,
    "microseconds": 1_000_000,
    "nanoseconds": 1_000_000_000,
}
"""What a column of times may count since 1970-01-01 in UTC, and how many of them make a second."""
DIRECTIVE = re.compile(r"%(.)", re.DOTALL)
KNOWN = set("aAbBdfHIjmMpSyYzZ%")
YEAR, MONTH = ("Y", "y"), ("m", "b", "B", "j")
SAMPLE = datetime(2024, 12, 31, 17, 5, 9)
QUOTES = 'put quotes around it, as in "null"'


def _words(value: Any) -> Any:
    """Numbers among words are words; what YAML made of `null`, `yes` or `no` is not known any more.

    Raises:
        ValueError: a word is no text, or blank.
    """
    if not isinstance(value, list | tuple):
        return value
    texts = []
    for word in value:
        if word is None or isinstance(word, bool):
            raise ValueError(f"YAML reads {word!r} for a word without quotes: {QUOTES}")
        text = str(word) if isinstance(word, int | float) else word
        if isinstance(text, str) and not text.strip():
            raise ValueError("a blank word: an empty cell is missing anyway; leave it out")
        texts.append(text)
    return texts


def _formats(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


def _shortest(formats: tuple[str, ...]) -> str | list[str]:
    return formats[0] if len(formats) == 1 else list(formats)


TEXT, NUMBER = {"type": "string"}, {"type": "number"}
Words = Annotated[
    tuple[str, ...],
    BeforeValidator(_words),
    WithJsonSchema({"type": "array", "items": {"anyOf": [TEXT, NUMBER]}}),
]
Formats = Annotated[
    tuple[str, ...],
    BeforeValidator(_formats),
    PlainSerializer(_shortest),
    WithJsonSchema({"anyOf": [TEXT, {"type": "array", "items": TEXT}]}),
]


def check_formats(dates: Mapping[str, tuple[str, ...]]) -> None:
    """See that every format can be read with.

    Raises:
        ValueError: a format has no year or month, or a directive that is unknown or comes twice.
    """
    for name, formats in dates.items():
        if not formats:
            raise ValueError(f"dates.{name}: name a format, such as '%d/%m/%Y'")
        for text in formats:
            if text not in EPOCHS and (why := _wrong(text)):
                units = ", ".join(EPOCHS)
                raise ValueError(
                    f"dates.{name}: {text!r} {why}; write a format such as '%d/%m/%Y' (Python's "
                    f"strptime), or one of {units}, counted since 1970"
                )


def _wrong(text: str) -> str:
    found = Counter(DIRECTIVE.findall(text))
    for letter, times in found.items():
        if letter not in KNOWN:
            return f"has %{letter}, which is unknown"
        if times > 1 and letter != "%":
            return f"has %{letter} twice"
    if not any(letter in found for letter in YEAR):
        return "has no year (%Y, or %y for two digits)"
    if not any(letter in found for letter in MONTH):
        return "has no month (%m, or %b for its name)"
    try:
        datetime.strptime(SAMPLE.strftime(text), text)
    except ValueError as error:
        return f"cannot be read with ({error})"
    return ""


def check_spellings(spellings: Mapping[str, Mapping[str, tuple[str, ...]]]) -> None:
    """See that every spelling of a column means one thing.

    Raises:
        ValueError: a spelling is that of two values.
    """
    for name, values in spellings.items():
        meant: dict[str, str] = {}
        for value, texts in values.items():
            for text in texts:
                if meant.setdefault(text, value) != value:
                    raise ValueError(
                        f"spellings.{name}: {text!r} is read as {meant[text]!r} and as {value!r}: "
                        "take it out of one"
                    )
