"""Guesses of a column's number notation: decimals, thousands, signs, units."""

import re
import unicodedata
from collections import Counter
from typing import NamedTuple

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from lifecycle.data.sources.notation import BLANKS, Numbers
from lifecycle.project.data import Decimal, Negative, Thousands
from lifecycle.scaffold.columns import ENOUGH, LEAST_LOOK, MOST_MISFITS

Pair = tuple[Decimal, Thousands]
PLAIN: Pair = (".", "")
PAIRS: tuple[Pair, ...] = (
    PLAIN,
    (",", ""),
    (".", ","),
    (",", "."),
    (",", " "),
    (".", " "),
    (".", "'"),
    (",", "'"),
)
SAMPLE = 300
SEED = 17
LEAST_PERCENT = 0.9
"""Share of the cells that must have a percent sign: without it, 0.12 may mean the same as 12 %."""
GROUPED = 30
"""Cells with three digits behind a mark, from which on it hardly stands before decimals."""
CELL = re.compile(
    rf"(?P<open>\(?)[{BLANKS}]*(?P<sign>[-+\u2212]?)[{BLANKS}]*"
    rf"(?P<before>[^\d\s.,'\u2019()+\-\u2212]{{0,4}}(?:Fr\.)?)[{BLANKS}]*\(?[-+\u2212]?"
    rf"(?P<body>\d[\d.,'\u2019{BLANKS}]*?|[.,]\d+)(?:[eE][+-]?\d+)?"
    rf"(?P<gap>[{BLANKS}]*)(?P<after>[^\d\s()+\-\u2212.,'][^\d()\s]{{0,7}}|)[{BLANKS}]*"
    r"(?P<trail>[-\u2212]?)(?P<close>\)?)"
)
CURRENCIES = """
    USD EUR GBP CHF JPY SEK NOK DKK PLN CZK HUF RON BGN TRY INR CNY RMB AUD NZD CAD HKD SGD BRL MXN
    ARS CLP ZAR ILS KRW THB IDR MYR PHP VND UAH RUB AED SAR EGP NGN KES Fr. Fr SFr kr Kč zł Ft lei
    Rs R"""
CODES = frozenset(CURRENCIES.split())
PERCENT = ("%", "‰")
PLAIN_COMMA = r"^[+-]?([0-9]{1,5}|[0-9]+,[0-9]+)$"
"""A number with a decimal comma; without one it has fewer digits than a date."""
COMMA_OR_GROUP = r"^[+-]?([0-9]{1,3},[0-9]{3}|[0-9]+)$"
"""Of those, one that is a number, too, if the comma stands between thousands."""
MARKS = re.compile(rf"(?<=\d)[{BLANKS}](?=\d)|[.,'\u2019]")


class NumberGuess(NamedTuple):
    """Guess about a column that looks like numbers."""

    pairs: tuple[Pair, ...] = ()
    """Decimal and thousands that read nearly all cells."""
    unit: str = ""
    negative: Negative = "sign"
    reason: str = ""
    """Why nothing reads it, and what to write."""

    @property
    def is_certain(self) -> bool:
        """Return whether only one decimal mark is possible."""
        return len(self.decimals) == 1

    @property
    def comma_is_open(self) -> bool:
        """Return whether a comma may be the decimal mark or separate thousands."""
        return {(",", ""), (".", ",")} <= set(self.pairs)

    @property
    def decimals(self) -> set[Decimal]:
        return {decimal for decimal, _ in self.pairs}


def plain_commas(text: pa.StringArray) -> NumberGuess | None:
    """The notation of a column of nothing but plain decimal commas; None for any other.

    The answer is that of `guess_numbers`, in a tenth of the time.

    Args:
        text: the cells, without blanks around them.
    """
    cells = text.filter(pc.not_equal(text, ""))
    if not pc.all(pc.match_substring_regex(cells, PLAIN_COMMA), min_count=1).as_py():
        return None
    unambiguous = pc.invert(pc.match_substring_regex(cells, COMMA_OR_GROUP))
    return NumberGuess(((",", ""),)) if pc.any(unambiguous).as_py() else None


def guess_numbers(counts: "pd.Series[int]") -> NumberGuess | None:
    """Guess the number notation of a column; None if its cells do not look like numbers.

    Args:
        counts: occurrences of each cell, by its text without blanks around it, without missing
            ones.
    """
    few = counts if len(counts) <= SAMPLE else counts.sample(SAMPLE, random_state=SEED)
    cell_matches = [(CELL.fullmatch(str(cell)), int(times)) for cell, times in few.items()]
    matches = [(match, times) for match, times in cell_matches if match]
    total, like = int(few.sum()), sum(times for _, times in matches)
    if like < LEAST_LOOK * total:
        return None
    units: Counter[str] = Counter()
    for match, times in matches:
        units[_unit(match)] += times
    bare = units.pop("", 0)
    unit = max(units, key=lambda name: units[name], default="")
    with_unit = sum(units.values())
    if with_unit <= MOST_MISFITS * like:
        unit = ""
    elif units[unit] < (1 - MOST_MISFITS) * with_unit:
        shares = ", ".join(f"{name!r} in {n / like:.0%}" for name, n in units.most_common(3))
        if not all(_is_unit(name) for name, _ in units.most_common(2)):
            return None
        return NumberGuess(
            reason=f"has numbers in several units ({shares} of the cells): make them one in the "
            "file"
        )
    elif not _is_unit(unit) and not _apart(matches):
        return None
    elif unit in PERCENT and bare > (1 - LEAST_PERCENT) * like:
        return NumberGuess(
            reason=f"has {unit} in {with_unit / like:.0%} of its cells, and numbers without it in "
            f"the others: make them one in the file; then unit: '{unit}' in its contract reads it"
        )
    negative = _negative(matches)
    return _fitting(counts, unit, negative)


def _fitting(counts: "pd.Series[int]", unit: str, negative: Negative) -> NumberGuess | None:
    cells: list[str] = counts.index.tolist()
    weights = np.asarray(counts, dtype=np.int64)
    marks = _marks(cells)
    pairs = [
        pair
        for pair in PAIRS
        if pair == PLAIN or pair[1] in marks or (pair == (",", "") and "," in marks)
    ]
    reads = {pair: Numbers(*pair, negative, unit).reads(cells) for pair in pairs}
    shares = {pair: int(weights[read].sum()) for pair, read in reads.items()}
    total = int(weights.sum())
    allowed = MOST_MISFITS * total if total >= ENOUGH else 0
    good = tuple(pair for pair in pairs if total - shares[pair] <= allowed)
    if good:
        most = max(shares[pair] for pair in good)
        good = tuple(pair for pair in good if shares[pair] == most)
        if all(pair[1] in (" ", "'") for pair in good) and _are_codes(cells):
            return None
        return NumberGuess(good, unit, negative)
    best = max(pairs, key=lambda pair: shares[pair])
    if shares[best] < LEAST_LOOK * total:
        return None
    both = np.logical_or.reduce(list(reads.values()))
    if total - int(weights[both].sum()) <= allowed:
        return NumberGuess(
            reason="has numbers in several notations, such as 1.5 and 1,5: make them one in the "
            "file"
        )
    return NumberGuess(reason=_misfits(counts[~reads[best]], shares[best] / total, total))


def _misfits(others: "pd.Series[int]", share: float, total: int) -> str:
    """What keeps a column from being numbers; cells are named only where they repeat."""
    repeated = others[(others > 2) & (others.index.str.len() <= 20)].nlargest(3)
    message = f"looks like numbers in {share:.0%} of its cells, and the others are none"
    if repeated.empty or repeated.sum() < LEAST_LOOK * others.sum():
        return f"{message}: correct them in the file"
    words = ", ".join(f"{word!r} ({times:,})" for word, times in repeated.items())
    listed = ", ".join(f"'{word}'" for word in repeated.index)
    return f"{message}: {words}; if that means missing, write source.missing: [{listed}]"


def comma_means(counts: "pd.Series[int]") -> Decimal | None:
    """Guess the decimal mark where commas before three digits are ambiguous.

    They may be decimal marks or separate thousands; None if the cells cannot tell.
    """
    cells = pa.array(counts.index, pa.string())
    if pc.any(pc.match_substring_regex(cells, r"(^|[^0-9])0,")).as_py():
        return ","  # 0,123 is no thousands
    marked = pc.match_substring_regex(cells, ",").to_numpy(zero_copy_only=False)
    # who writes three decimals everywhere writes them for whole numbers, too
    return "." if not marked.all() and int(counts[marked].sum()) >= GROUPED else None


def _unit(match: re.Match[str]) -> str:
    before, after = match["before"], match["after"]
    return f"{before}{after}" if not (before and after) else f"{before} {after}"


def _is_unit(text: str) -> bool:
    """Whether it is a currency or a percent sign, with a blank before it or without."""
    return text in CODES or text in PERCENT or any(unicodedata.category(c) == "Sc" for c in text)


def _apart(matches: list[tuple[re.Match[str], int]]) -> bool:
    """Whether a blank is before each unit: `12 kg` has one, while `12B` is a name."""
    with_unit = [match for match, _ in matches if match["before"] or match["after"]]
    return all(match["gap"] and match["after"] and not match["before"] for match in with_unit)


def _negative(matches: list[tuple[re.Match[str], int]]) -> Negative:
    if any(match[0].rstrip().endswith(")") for match, _ in matches):
        return "parentheses"
    return "trailing" if any(match["trail"] for match, _ in matches) else "sign"


def _marks(cells: list[str]) -> set[str]:
    """Which of the marks between digits are there."""
    characters = set().union(*(MARKS.findall(cell) for cell in cells))
    marks = {"'" if mark == "\u2019" else " " if mark in BLANKS else mark for mark in characters}
    return marks


def _are_codes(cells: list[str]) -> bool:
    """Whether every cell has as many digits as the others, as telephone numbers and codes have."""
    return len(cells) > 1 and len({sum(map(str.isdigit, cell)) for cell in cells}) == 1
