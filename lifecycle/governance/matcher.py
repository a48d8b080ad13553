"""Many texts found in bytes at once, in time that grows with the bytes and not with the texts.

A text counts where no ASCII letter or digit stands next to it. So each run of letters and digits in
a text is a whole word of the bytes it stands in: the words of the bytes are looked up in a table of
one such run per text, the one that the fewest texts share, and the text around it is looked up in
the set of all. Texts without such a run are looked up by the first bytes of their longest run of
other letters.
"""

import re
from collections import Counter
from collections.abc import Collection, Iterator
from itertools import chain

SIGN = r"[A-Za-z0-9]"
NEAR = 12
"""A short value counts where at most so many other signs lie between it and its column's name."""
FEW = 32
"""Up to so many texts are looked for one by one, which is faster for these."""
WORD = re.compile(rb"[A-Za-z0-9]+")
FOREIGN = re.compile(rb"[\x80-\xff]+")
KEY = 6
"""Bytes that stand for a run of letters outside ASCII: two or three letters."""
SHORT = 3
"""A run of so few letters is in too many texts to be looked up by."""

Span = tuple[int, int]
"""Where a text begins, and the byte after its last."""
Around = dict[bytes, set[tuple[int, int]]]
"""Run → where texts begin before it and how long they are, in bytes."""


class TextMatcher:
    """Texts that count wherever they stand alone."""

    def __init__(self, texts: Collection[str]) -> None:
        self._texts = frozenset(text.encode(errors="surrogateescape") for text in texts if text)
        self._single = self._texts if len(self._texts) <= FEW else frozenset[bytes]()
        self._words: Around = {}
        self._foreign: Around = {}
        if not self._single:
            self._index()

    def spans(self, data: bytes) -> Iterator[Span]:
        """Where texts stand, in no order; one may lie in another."""
        for text in self._single:
            at = data.find(text)
            while at >= 0:
                if _alone(data, at, at + len(text)):
                    yield at, at + len(text)
                at = data.find(text, at + 1)
        if self._words:
            for word in self._word.finditer(data):
                for offset, size in self._words.get(word[0], ()):
                    yield from self._there(data, word.start() - offset, size)
        if self._foreign:
            for run in FOREIGN.finditer(data):
                for at in range(run.start(), run.end() - KEY + 1):
                    for offset, size in self._foreign.get(data[at : at + KEY], ()):
                        yield from self._there(data, at - offset, size)

    def _there(self, data: bytes, start: int, size: int) -> Iterator[Span]:
        end = start + size
        if start >= 0 and data[start:end] in self._texts and _alone(data, start, end):
            yield start, end

    def _index(self) -> None:
        runs = {text: set(WORD.findall(text)) for text in self._texts}
        shared = Counter(chain.from_iterable(runs.values()))
        single = set()
        for text, found in runs.items():
            best = min(found, key=lambda run: (shared[run], -len(run)), default=b"")
            foreign = b""
            if len(best) <= SHORT and not text.isascii():
                foreign = max(FOREIGN.findall(text), key=len)
            if len(foreign) >= KEY:
                place = (text.index(foreign), len(text))
                self._foreign.setdefault(foreign[:KEY], set()).add(place)
            elif best:
                start = next(run.start() for run in WORD.finditer(text) if run[0] == best)
                self._words.setdefault(best, set()).add((start, len(text)))
            else:  # nothing in it to be looked up by, such as signs alone
                single.add(text)
        self._single = frozenset(single)
        sizes = sorted(map(len, self._words)) or [1]
        bounds = rb"{%d,%d}" % (sizes[0], sizes[-1])
        sign = SIGN.encode()
        self._word = re.compile(rb"(?<!%s)%s%s(?!%s)" % (sign, sign, bounds, sign))


class NamedMatcher:
    """Short texts that count only where the name of their column stands before them."""

    def __init__(self, names: Collection[str], values: Collection[str]) -> None:
        self._values = frozenset(value.encode(errors="surrogateescape") for value in values)
        self._sizes = sorted({len(value) for value in self._values})
        self._inside = any(not value[:1].isalnum() for value in self._values)
        spelled = "|".join(re.escape(name) for name in sorted(names, key=len, reverse=True))
        self._name = re.compile(rf"(?<!{SIGN})(?:{spelled})([^A-Za-z0-9]{{1,{NEAR}}})".encode())

    def spans(self, data: bytes) -> Iterator[Span]:
        """Where values stand after a name."""
        for found in self._name.finditer(data) if self._values else ():
            first, last = found.span(1)
            for start in range(first + 1, last + 1) if self._inside else (last,):
                for size in self._sizes:
                    end = start + size
                    if data[start:end] in self._values and not data[end : end + 1].isalnum():
                        yield start, end


def merged(spans: Iterator[Span]) -> list[Span]:
    """Spans in order, without those that another one covers or overlaps from before."""
    kept: list[Span] = []
    for start, end in sorted(spans, key=lambda span: (span[0], -span[1])):
        if not kept or start >= kept[-1][1]:
            kept.append((start, end))
    return kept


def _alone(data: bytes, start: int, end: int) -> bool:
    """Whether no letter or digit stands next to a stretch of bytes."""
    before = data[start - 1 : start] if start else b""
    return not (before.isalnum() or data[end : end + 1].isalnum())
