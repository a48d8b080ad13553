"""A person is found and taken out however a writer spells them."""

import html
import json
from urllib.parse import quote_plus

import markupsafe
import pyarrow as pa
import pytest

from lifecycle.governance.subject import ERASED_MARK, Subject

PERSON = """<Zoë/"Z" O'Hara>"""
SUBJECT = Subject(frozenset({"customer"}), frozenset({PERSON, "-17"}))


@pytest.mark.parametrize(
    "written",
    [
        PERSON,
        json.dumps(PERSON),
        json.dumps(PERSON, ensure_ascii=False),
        json.dumps(json.dumps({"customer": PERSON}, ensure_ascii=False)),
        json.dumps(PERSON, ensure_ascii=False).replace("/", "\\/"),
        html.escape(PERSON),
        str(markupsafe.escape(json.dumps(PERSON))),
        quote_plus(PERSON),
        "customer: -17",
        "input_customer=-17;",
    ],
)
def test_spellings(written: str) -> None:
    for text in (written, f"row of {written} is bad"):
        assert SUBJECT.holds(text.encode())
        assert SUBJECT.cells(pa.array(["", text, None])).to_pylist() == [False, True, False]
        redacted = SUBJECT.redact(text)
        assert not SUBJECT.holds(redacted.encode()), redacted
        assert ERASED_MARK in redacted or "null" in redacted


@pytest.mark.parametrize("text", ["customer: 170", "visits: -17", f"x{PERSON}x", "customers -17"])
def test_others(text: str) -> None:
    assert not SUBJECT.holds(text.encode())
    assert SUBJECT.cells(pa.array([text])).to_pylist() == [False]
    assert SUBJECT.redact(text) == text
