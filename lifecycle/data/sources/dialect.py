"""Detection of a text file's encoding, its separator, and the line that names the columns.

The result becomes part of the project file; nothing is guessed when data are ingested.
"""

import codecs
import csv
import io
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from lifecycle.data.sources.delimited import separator_line
from lifecycle.errors import SourceError

SEPARATORS = (",", ";", "\t", "|", "^", "~")
SIGNS = "€£°§µ²³½¼±×·«»“”„‘’‚–—…©®™\xa0ºª¿¡¢¥"
WESTERN_LETTERS = "äöüÄÖÜßéèêëÉÈÊàâáãåÀÂÁÃÅçÇîïíìÎÍôóòõøÔÓÒÕØñÑúùûÚæÆœŒý"
CENTRAL_LETTERS = "ąćęłńóśźżĄĆĘŁŃÓŚŹŻáčďéěíňřšťúůýžÁČĎÉĚÍŇŘŠŤÚŮÝŽäôľĺŕőűöüßÄÖÜŐŰ"
WESTERN, CENTRAL = frozenset(WESTERN_LETTERS + SIGNS), frozenset(CENTRAL_LETTERS + SIGNS)
EUROPEAN: tuple[tuple[str, frozenset[str], int], ...] = (
    ("cp1252", WESTERN, 2),
    ("iso8859-15", WESTERN, 2),
    ("cp850", WESTERN, 2),
    ("mac-roman", WESTERN, 2),
    ("cp1250", CENTRAL, 3),
)
"""Encodings of Western and Central European languages, tried in this order, the signs that their
texts have, and how many of them a word has in a row at most; in a few words they look alike to a
statistical detector."""
BEYOND_ASCII = re.compile(r"[^\x00-\x7f\W\d_]+")
INSIDE_WORDS = re.compile(r"(?<=[^\W\d_])[^\w\s](?=[^\W\d_])")
MARKS = (
    (b"\xef\xbb\xbf", "utf-8"),
    (b"\xff\xfe\x00\x00", "utf-32"),
    (b"\x00\x00\xfe\xff", "utf-32"),
    (b"\xff\xfe", "utf-16"),
    (b"\xfe\xff", "utf-16"),
)
"""Byte order marks; the reader leaves that of UTF-8 out by itself."""
MOST_SAMPLE = 1 << 16
"""Bytes of the lines that are not ASCII that a detector looks at."""
LEAST_NULS = 0.2
"""Share of the bytes that are NUL in UTF-16 text without a mark."""
RECORDS = 500
"""Looked at for the separator."""
MOST_ABOVE = 30
"""Lines or rows above the one that names the columns."""
REGULAR = 0.9
"""Share of the records that have as many fields as the most, with the right separator."""
NUMBER = re.compile(r"\s*[+-]?[\d.,' ]*\d[\d.,]*\s*%?\s*")
YEAR = re.compile(r"\s*(19|20)\d\d\s*")


class Layout(NamedTuple):
    """Layout of a delimited text file."""

    separator: str
    above: int
    """Lines above the one that names the columns."""


def detect_encoding(blocks: Iterable[bytes], place: str) -> str:
    """The encoding of a text, as Python calls it.

    A byte order mark decides, then whether all is UTF-8; else what looks like words of a European
    language of Latin script, and else charset-normalizer's statistics.

    Args:
        blocks: of the text, from its first byte.
        place: the file, for messages.

    Raises:
        SourceError: no encoding fits.
    """
    decoder = codecs.getincrementaldecoder("utf-8")()
    lines: list[bytes] = []
    first, sound, size, incomplete = True, True, 0, b""
    for block in blocks:
        if first:
            first = False
            for mark, encoding in MARKS:
                if block.startswith(mark):
                    return encoding
            if (wide := _wide(block)) is not None:
                return wide
        if sound:
            try:
                decoder.decode(block)
                continue
            except UnicodeDecodeError:
                sound = False
        *complete, incomplete = (incomplete + block).split(b"\n")
        for line in complete:
            if not line.isascii():
                lines.append(line)
                size += len(line) + 1
        if size > MOST_SAMPLE:
            break
    if sound:
        return "utf-8"
    return _eight_bit(b"\n".join([*lines, incomplete])[:MOST_SAMPLE], place)


def detect_layout(text: str, separator: str | None = None) -> Layout:
    """Separator and header of a CSV file: with the right separator, most records have the same
    number of fields, and the first of them names the columns.

    Args:
        text: the beginning of the file; the last line may be cut off.
        separator: where it is known.
    """
    hint = separator_line(text[:64].encode())
    if hint is not None:
        text = text.partition("\n")[2]
    lines = io.StringIO(text, newline="").readlines()
    lines = lines[:-1] if len(lines) > 1 and not lines[-1].endswith(("\n", "\r")) else lines
    separators = separator or hint
    best, rank = Layout(separators or ",", 0), (False, False, 0, 0)
    for sign in (separators,) if separators else SEPARATORS:
        records = _records(lines, sign)
        width, share = _usual([len(record) for _, record in records])
        if width < 2:
            continue
        header = header_place([record for _, record in records], width)
        above, names = records[header]
        better = (share >= REGULAR, len(names) == width, -header, width)
        if better > rank:
            best, rank = Layout(sign, above if header else 0), better
    return best


def header_place(records: Sequence[Sequence[Any]], width: int) -> int:
    """Return the index of the record that names the columns.

    It is the first record that is not a title, a comment or blank.

    Args:
        records: the first records; cells may be of any type.
        width: the usual number of cells of a record.
    """
    for at, record in enumerate(records[:MOST_ABOVE]):
        cells = ["" if cell is None else str(cell).strip() for cell in record]
        if _is_title(cells, width, at + 1 < len(records) and _comment(records[at + 1])):
            continue
        if at and any(NUMBER.fullmatch(cell) and not YEAR.fullmatch(cell) for cell in cells):
            return 0  # a row, not a header
        return at if len([cell for cell in cells if cell]) > 1 else 0
    return 0


def usual_width(records: Sequence[Sequence[Any]]) -> int:
    """Return the number of cells, up to the last that is not blank, of most records."""
    return _usual([_extent(record) for record in records])[0]


def _is_title(cells: Sequence[str], width: int, comment_follows: bool) -> bool:
    count = sum(bool(cell) for cell in cells)
    if _comment(cells):
        return len(cells) != width or count < width or comment_follows
    if width == 2:
        return count == 0 or (count == 1 and bool(cells[0]))
    return 2 * count <= width


def _comment(record: Sequence[Any]) -> bool:
    return bool(record) and str(record[0] or "").lstrip().startswith("#")


def _extent(record: Sequence[Any]) -> int:
    filled = [at for at, cell in enumerate(record, 1) if cell is not None and str(cell).strip()]
    return max(filled, default=0)


def _usual(widths: Sequence[int]) -> tuple[int, float]:
    """The most frequent width, and the share of the records that have it."""
    counts = Counter(width for width in widths if width)
    if not counts:
        return 0, 0.0
    width = max(counts, key=lambda width: (counts[width], width))
    return width, counts[width] / sum(counts.values())


def _records(lines: Sequence[str], separator: str) -> list[tuple[int, list[str]]]:
    """The first records that are not blank, each with the number of lines above it."""
    reader = csv.reader(iter(lines), delimiter=separator)
    records: list[tuple[int, list[str]]] = []
    above = 0
    try:
        for record in reader:
            if record and len(records) < RECORDS:
                records.append((above, record))
            above = reader.line_num
    except csv.Error:  # such as a quote that never ends
        pass
    return records


def _wide(start: bytes) -> str | None:
    """UTF-16 without a mark: of ASCII, every second byte is NUL."""
    for offset, encoding in ((1, "utf-16-le"), (0, "utf-16-be")):
        half = start[offset::2]
        if len(start) > 3 and half.count(0) > 2 * LEAST_NULS * len(half):
            return encoding if not start[1 - offset :: 2].count(0) else None
    return None


def _eight_bit(sample: bytes, place: str) -> str:
    for encoding, signs, in_a_row in EUROPEAN:
        try:
            text = sample.decode(encoding)
        except UnicodeDecodeError:
            continue
        if _has_words(text, signs, in_a_row):
            return encoding
    from charset_normalizer import from_bytes

    best = from_bytes(sample, cp_exclusion=["latin-1", *(name for name, *_ in EUROPEAN)]).best()
    if best is None or b"\0" in sample:
        if b"\0" in sample:
            raise SourceError(f"{place}: cannot read it: it is binary, not text")
        raise SourceError(
            f"{place}: cannot read it: it is no UTF-8, and no other encoding fits; if it is text, "
            "name its encoding: source.encoding, or init --encoding"
        )
    return str(best.encoding).replace("_", "-")


def _has_words(text: str, signs: frozenset[str], in_a_row: int) -> bool:
    """Whether a text has no other signs beyond ASCII than these, and no symbol within a word."""
    if not {sign for sign in text if sign > "\x7f"} <= signs:
        return False
    if any(len(match[0]) > in_a_row for match in BEYOND_ASCII.finditer(text)):
        return False
    return all(match[0] <= "\x7f" or match[0] in "’‘·" for match in INSIDE_WORDS.finditer(text))
