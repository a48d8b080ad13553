"""How a text may be written where it stands, and whether it is told apart there."""

import html
import json
import re
from urllib.parse import quote, quote_plus

import markupsafe

PLAIN = re.compile(r"[A-Za-z0-9_.-]+")
"""Texts that every writer leaves as they are."""
LONG = 6
"""Characters from which a text with a letter in it is told apart wherever it stands."""
DIGITS = 9
"""Digits from which a number is."""


def distinctive(text: str) -> bool:
    """Whether a text is told apart from others wherever it stands."""
    if any(map(str.isalpha, text)):
        return len(text) >= LONG
    return len(text) >= DIGITS and sum(map(str.isdigit, text)) >= DIGITS


def spellings(text: str) -> set[str]:
    """A text as JSON (once or twice inside another), HTML and URLs write it."""
    if PLAIN.fullmatch(text):  # most are, and there may be many
        return {text}
    once = _as_json(text)
    told = {text, *once, *(two for one in once for two in _as_json(one))}
    pages = {html.escape(text, quote=False)}
    for one in (text, *once):
        pages |= {html.escape(one), str(markupsafe.escape(one))}  # each has quotes of its own
    return told | pages | {quote(text), quote(text, safe=""), quote_plus(text)}


def _as_json(text: str) -> set[str]:
    """All signs as they are, or only ASCII; some writers escape the slash as well."""
    told = {json.dumps(text, ensure_ascii=only)[1:-1] for only in (True, False)}
    return told | {one.replace("/", "\\/") for one in told}
