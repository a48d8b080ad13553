"""Texts in bytes: as a regular expression per text finds them, and 100,000 persons in seconds."""

import random
import re
import time

import pytest

from lifecycle.governance import subject as matcher
from lifecycle.governance.subject import SIGN, NamedMatcher, Subject, TextMatcher

NAMES = [
    "Zoë O'Hara",
    "Иванов Пётр",
    "山田太郎と花子",
    "anna.berg@x.org",
    "customer-1000",
    "a-b.c d",
]
NAMES += ["€€€€€€", "O'Neil & Sons", "7.25000000001", "Ж7Ж", "Ärztin"]


def plainly(texts: list[str], data: bytes) -> set[tuple[int, int]]:
    """One regular expression per text: slow, and plainly right."""
    found = set()
    for text in map(str.encode, texts):
        alone = b"(?<!%s)(?=(%s)(?!%s))" % (SIGN.encode(), re.escape(text), SIGN.encode())
        found |= {one.span(1) for one in re.finditer(alone, data)}
    return found


@pytest.mark.parametrize("few", [0, matcher.FEW])
@pytest.mark.parametrize("seed", range(20))
def test_spans_are_those_of_a_plain_search(
    seed: int, few: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(matcher, "FEW", few)
    draw = random.Random(seed)  # noqa: S311 - nothing secret
    pieces = [*NAMES, *(name[1:] for name in NAMES), *" .-_x7'\n\"", "ИВ", "é", "\x00", "Иван"]
    data = "".join(draw.choices(pieces, k=400)).encode()
    found = list(TextMatcher(NAMES).spans(data))
    assert set(found) == plainly(NAMES, data)
    assert found, "some stand alone"


@pytest.mark.parametrize("seed", range(10))
def test_short_values_count_after_the_name_of_their_column(seed: int) -> None:
    names, values = ["customer", "input_customer"], ["17", "-4", "a b", "x"]
    draw = random.Random(seed)  # noqa: S311 - nothing secret
    pieces = [*names, *values, *" :='\"{}\n-_", "customers", "170", "entity"]
    data = "".join(draw.choices(pieces, k=600)).encode()
    spelled = "|".join(map(re.escape, values))
    plain = rf"(?<!{SIGN})(?:{'|'.join(names)})[^A-Za-z0-9]{{1,12}}(?:{spelled})(?!{SIGN})"
    ends = {one.end() for one in re.finditer(plain.encode(), data)}
    assert ends <= {end for _, end in NamedMatcher(names, values).spans(data)}


@pytest.mark.system
def test_a_hundred_thousand_persons_take_seconds() -> None:
    """Time grows with the bytes: 50 times the persons take no 10 times as long."""
    persons = [f"Anna {n:06d} Berg" for n in range(100_000)]
    lines = (f'{{"id": {n}, "note": "row {n} of nobody", "x": {n / 7}}}\n' for n in range(20_000))
    clean = "".join(lines).encode()
    taken = {}
    for many in (2_000, 100_000):
        subject = Subject(frozenset({"customer"}), frozenset(persons[:many]))
        assert not subject.holds(b"")  # the tables are built
        started = time.perf_counter()
        assert not subject.holds(clean)
        taken[many] = time.perf_counter() - started
    assert taken[100_000] < 10 * taken[2_000] + 1
    assert subject.holds(clean + f" {persons[99_999]} ".encode())
    redacted = subject.redact(f"{persons[3]}, {persons[77_777]}; and nobody")
    assert redacted == "[erased], [erased]; and nobody"
