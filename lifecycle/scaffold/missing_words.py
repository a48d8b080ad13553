"""Words that mean missing, and spellings of one value: what can be known of them."""

import re
from collections import defaultdict
from typing import NamedTuple

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from lifecycle.lake.column_types import MISSING

NEVER_VALUES = r"""
    ? ?? #n/a #na #n/a! #null! #div/0! #value! #ref! #name? #num! \n <na> (null) [null] (blank)
    (leer) -nan -1.#ind 1.#qnan -1.#qnan 1.#ind"""
CERTAIN = frozenset(NEVER_VALUES.split())
"""Words that no column has as a value, in lower case."""
PERHAPS_VALUES = """
    - -- --- – — . .. ... * / n/a na n.a. n.a null none nil nan nat unknown unk missing undefined
    n/d nd s/d k.a. unbekannt inconnu desconocido sconosciuto onbekend tbd void"""
POSSIBLE = frozenset(PERHAPS_VALUES.split()) | {
    "not available",
    "not applicable",
    "not known",
    "not reported",
    "no data",
    "no answer",
    "keine angabe",
}
"""Words that mean missing among numbers and times; among texts they may be a value."""
WORDS = pa.array(sorted(CERTAIN | POSSIBLE), pa.string())
KNOWN_WORDS = pa.array(MISSING, pa.string())
INFINITE = re.compile(r"[-+]?(inf|infinity|∞)|-?1\.#inf", re.IGNORECASE)
PAIRS = (
    {"yes", "no"},
    {"y", "n"},
    {"true", "false"},
    {"t", "f"},
    {"1", "0"},
    {"positive", "negative"},
    {"pos", "neg"},
    {"ja", "nein"},
    {"oui", "non"},
    {"si", "no"},
    {"sí", "no"},
)
"""Two classes beside which a third, such as `unknown`, is none."""
MAX_WORDS_SHOWN = 4


class Spellings(NamedTuple):
    """Texts that differ in case and blanks only."""

    values: dict[str, tuple[str, ...]]
    """By what is meant: the text that most cells have, without blanks around it."""
    doubtful: dict[str, tuple[str, ...]]
    """Of a single letter, which may mean another thing than its capital."""


def which_missing(cells: pa.StringArray) -> NDArray[np.bool_]:
    """Return a mask of the cells that mean missing among numbers, or are infinite (cells,).

    Cells must have no blanks around them.
    """
    lower = pc.utf8_lower(cells)
    missing = pc.or_(pc.is_in(lower, WORDS), pc.is_in(cells, KNOWN_WORDS))
    missing = pc.or_(missing, pc.match_substring_regex(lower, f"^({INFINITE.pattern})$"))
    result: NDArray[np.bool_] = missing.to_numpy(zero_copy_only=False)
    return result


def is_missing(cell: str) -> bool:
    """Return whether a cell without blanks around it means missing among numbers or times."""
    word = cell.lower()
    return word in CERTAIN or word in POSSIBLE or cell in MISSING


def is_certain(cell: str) -> bool:
    """Return whether a cell means missing among texts as well."""
    return cell.lower() in CERTAIN


def missing_labels(counts: "pd.Series[int]") -> tuple[list[str], list[str]]:
    """Classes that mean missing: those that can mean nothing else, and those that may.

    Args:
        counts: rows of each class.
    """
    words = [str(text).strip() for text in counts.index]
    texts = {word.lower() for word in words if not is_missing(word)}
    labels = list(dict.fromkeys(word for word in words if is_missing(word)))
    if len(texts) < 2:
        return [], labels
    certain = [word for word in labels if is_certain(word) or texts in PAIRS]
    return certain, [word for word in labels if word not in certain]


def spellings_of(counts: "pd.Series[int]") -> Spellings:
    """Texts that differ in case and blanks only.

    Args:
        counts: rows of each text.
    """
    groups: defaultdict[str, list[str]] = defaultdict(list)
    for text in counts.index:  # the most frequent first
        groups[" ".join(str(text).split()).casefold()].append(str(text))
    values: dict[str, tuple[str, ...]] = {}
    doubtful: dict[str, tuple[str, ...]] = {}
    for meant, texts in groups.items():
        value = " ".join(texts[0].split())
        others = tuple(text for text in texts if text != value)
        if len(texts) < 2:
            continue
        single = len(meant) == 1 and len({text.strip() for text in texts}) > 1
        (doubtful if single else values)[value] = others
    return Spellings(values, doubtful)


def listed(words: "list[str] | tuple[str, ...]") -> str:
    """Words in quotes, the first few of many."""
    more = f" and {len(words) - MAX_WORDS_SHOWN} more" if len(words) > MAX_WORDS_SHOWN else ""
    return ", ".join(map(repr, words[:MAX_WORDS_SHOWN])) + more


def as_numbers(text: pa.StringArray) -> NDArray[np.float64] | None:
    """The cells as numbers, if all that are there read as such; words for missing are none."""
    try:
        numbers = text.cast(pa.float64())
    except pa.ArrowInvalid:
        text = pc.utf8_trim_whitespace(text)
        words = pc.is_in(text, pa.array(MISSING, pa.string()))
        try:
            numbers = pc.if_else(words, pa.scalar(None, pa.string()), text).cast(pa.float64())
        except pa.ArrowInvalid:
            return None
    values: NDArray[np.float64] = numbers.drop_null().to_numpy(zero_copy_only=False)
    return values if len(values) else None


def declarable(words: list[str]) -> list[str]:
    """Words that the contract's types do not take for missing by themselves."""
    return [word for word in words if word not in MISSING]


def cell_counts(text: pa.StringArray) -> "pd.Series[int]":
    """Count the occurrences of each cell that is not blank, the most frequent first."""
    counts = text.filter(pc.not_equal(text, "")).value_counts()
    times = counts.field(1).to_numpy()
    order = np.argsort(-times, kind="stable")
    return pd.Series(times[order], index=counts.field(0).to_numpy(zero_copy_only=False)[order])
