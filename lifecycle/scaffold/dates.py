"""Guesses of a column's date format; if the order of day and month is open, the user is asked."""

import re
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray

from lifecycle.data.sources.notation import Dates
from lifecycle.project.data import EPOCHS
from lifecycle.scaffold.columns import LEAST_LOOK, MOST_MISFITS

FIRST_LOOK, SAMPLE = 20, 2_000
"""Different cells that are looked at one by one: to see whether it is worth it, and then."""
MOST_TRIED = 50_000
"""Different cells that orders of day and month are tried on; all, if these do not tell."""
SEED = 17
MOST_FORMATS = 4
MOST_OTHERS = 0.05
"""Of the cells that show an order of day and month, the share that may show another."""
ENOUGH = 20
YEARS = (1850, 2150)
FIRST_COUNTED = datetime(2000, 1, 1, tzinfo=UTC)
YEARS_AHEAD = 2
ISO = re.compile(r"\d{4}-\d{2}-\d{2}([T ]\d{2}:\d{2}(:\d{2}([.,]\d+)?)?( ?(Z|[+-]\d{2}:?\d{2}))?)?")
MARK = r"(\. |[./ -])"
CLOCK = re.compile(
    r"(?P<gap>, |[T ])(?P<hour>\d{1,2})(?P<minute>:\d{2})?(?P<second>:\d{2})?(?P<part>\.\d{1,6})?"
    r"(?P<half> ?[AaPp][Mm])?(?P<zone> ?(?:Z|[+-]\d{2}:?\d{2}))?$"
)
SHAPES = (
    (re.compile(rf"(\d{{1,2}}){MARK}(\d{{1,2}})\2(\d{{4}})"), "A{1}B{1}%Y"),
    (re.compile(rf"(\d{{1,2}}){MARK}(\d{{1,2}})\2(\d{{2}})"), "A{1}B{1}C"),
    (re.compile(rf"(\d{{4}}){MARK}(\d{{1,2}})\2(\d{{1,2}})"), "%Y{1}%m{1}%d"),
    (re.compile(r"(\d{4})([./-])(\d{1,2})"), "%Y{1}%m"),
    (re.compile(r"(\d{1,2})([./-])(\d{4})"), "%m{1}%Y"),
    (re.compile(r"(\d{1,2})(\. |[ ./-]?)([A-Za-z]{3,9})([., /-]{0,2})(\d{4})"), "%d{1}M{3}%Y"),
    (re.compile(r"(\d{1,2})(\. |[ ./-])([A-Za-z]{3,9})([., /-]{0,2})(\d{2})"), "%d{1}M{3}%y"),
    (re.compile(r"([A-Za-z]{3,9})([ .]{1,2})(\d{1,2})(,? )(\d{4})"), "M{1}%d{3}%Y"),
    (re.compile(r"([A-Za-z]{3,9})([ ./-])(\d{4})"), "M{1}%Y"),
    (re.compile(r"(\d{8})"), "%Y%m%d"),
    (re.compile(r"(\d{6})"), "%Y%m"),
)
MONTHS = frozenset(
    ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"]
)
ORDERS = {"day/month": ("%d", "%m", "%y"), "month/day": ("%m", "%d", "%y")}
YEAR_FIRST = {"year/month/day": ("%y", "%m", "%d")}
"""What stands for A, B and C: the parts of a date that do not say which they are."""
ABOUT_TIME = re.compile(
    r"(?:^|[\W_])(?:dates?|day|dt|time|timestamp|ts|t|created|updated|modified|changed|since|until|"
    r"epoch|unix|at|on|start|end|begin|when|seen|logged|recorded|registered|joined|opened|closed|"
    r"expires|birth|dob|month|period|datum|zeit|fecha|data)(?:[\W_]|$)",
    re.IGNORECASE,
)


class DateGuess(NamedTuple):
    """Guess about a column that looks like dates."""

    formats: tuple[str, ...] = ()
    """Formats that read it; empty if it is ambiguous or none does."""
    reason: str = ""
    """Why not, and what to write."""
    is_question: bool = False
    """Whether `why` is a question: the column is dates, and nobody knows which."""
    iso: float = 0.0
    """Share of the cells that are written as ISO 8601 has it, besides."""


def guess_formats(counts: "pd.Series[int]", name: str) -> DateGuess | None:
    """The formats of a text column; None if its cells do not look like dates in another notation
    than ISO 8601.

    Args:
        counts: how often each cell is there, by its text without blanks around it; none of them is
            missing.
    """
    if sum(bool(_template(cell)) for cell in counts.index[:FIRST_LOOK]) == 0:
        return None
    few = counts if len(counts) <= SAMPLE else counts.sample(SAMPLE, random_state=SEED)
    templates: Counter[str] = Counter()
    for cell, times in few.items():
        templates[_template(str(cell))] += times
    plain = templates.pop("", 0)
    iso = templates.pop("ISO", 0)
    total = sum(templates.values()) + plain + iso
    if not templates or (total - plain) < LEAST_LOOK * total:
        return None
    frequent = [
        shape
        for shape, times in templates.most_common(MOST_FORMATS)
        if times > MOST_MISFITS * total / MOST_FORMATS
    ]
    sample = counts.sample(min(len(counts), MOST_TRIED), random_state=SEED)
    guess = _ordered(sample, frequent, name)
    return _ordered(counts, frequent, name) if guess and guess.is_question else guess


def _ordered(counts: "pd.Series[int]", shapes: Sequence[str], name: str) -> DateGuess | None:
    """The order of day, month and year that reads the cells, if it is one only."""
    cells = np.asarray(counts.index, dtype=object)
    weights = np.asarray(counts, dtype=np.int64)
    iso = np.array([bool(ISO.fullmatch(cell)) for cell in cells], dtype=bool)
    orders = dict(ORDERS)
    if any("C" in shape for shape in shapes):
        orders |= YEAR_FIRST
    times = {}
    for order, parts in orders.items():
        formats = tuple(dict.fromkeys(_format(shape, parts) for shape in shapes))
        times[order] = (formats, Dates(formats).times(pa.array(cells, pa.string())))
    fits = {order: _sensible(item) for order, (_, item) in times.items()}
    best = max(fits, key=lambda order: int(weights[fits[order]].sum()))
    read = fits[best] | iso
    unread = weights[~read].sum() / weights.sum()
    others = [order for order in orders if order != best and _as_good(order, best, fits, weights)]
    others = [order for order in others if times[order][0] != times[best][0]]
    if any("C" in shape for shape in shapes):
        likely = [order for order in (best, *others) if _likely(times[order][1])]
        if likely and len(likely) <= len(others):
            best, others = likely[0], likely[1:]
            read = fits[best] | iso
            unread = weights[~read].sum() / weights.sum()
    formats = times[best][0]
    only = weights[read & ~np.logical_or.reduce([fits[o] for o in orders if o != best])].sum()
    strange = weights[~read & np.logical_or.reduce([fits[o] for o in orders])].sum()
    if strange > MOST_OTHERS * (strange + only) and strange > MOST_MISFITS * weights.sum():
        share, other_share = (
            f"{part / weights.sum():.0%}" for part in (weights[read].sum(), strange)
        )
        return DateGuess(
            (),
            f"mixes orders of day and month: {share} of its cells can be {best}, {other_share} "
            "cannot: correct the file, since nobody can tell the others apart",
            is_question=True,
        )
    if unread > MOST_MISFITS:
        if unread > 1 - LEAST_LOOK:
            return None
        return DateGuess(
            (),
            f"looks like dates ({', '.join(formats)}), but {unread:.1%} of its cells are none; "
            f"correct them, or name what means missing under source.missing; then source.dates: "
            f"{{{name}: {_examples_of(formats)}}} reads it",
        )
    if others:
        ways = " or ".join(
            f"{_examples_of(times[order][0])} ({order})" for order in (best, *others)
        )
        first = formats[0]
        return DateGuess(
            (),
            "is a date whose order of day and month does not show, since both are 12 or less in "
            f"every cell. Is it {ways}? Run init again with --dates '{name}={first}', or write "
            f"source.dates: {{{name}: {_examples_of(formats)}}} and type: datetime",
            is_question=True,
        )
    return DateGuess(formats, iso=float(weights[iso].sum() / weights.sum()))


def _as_good(
    order: str,
    best: str,
    fits: dict[str, NDArray[np.bool_]],
    weights: NDArray[np.int64],
) -> bool:
    """Whether an order reads every cell that the best one reads."""
    return not weights[fits[best] & ~fits[order]].any()


def _likely(times: pa.TimestampArray) -> bool:
    """Whether there are no more years than days of the month, as in dates with two-digit years."""
    values = times.drop_null().to_pandas()
    return bool(values.dt.year.nunique() <= values.dt.day.nunique())


def _sensible(times: pa.TimestampArray) -> NDArray[np.bool_]:
    """Which cells are read, as a year that people write about (cells,)."""
    stamps = times.to_numpy(zero_copy_only=False)
    with np.errstate(invalid="ignore"):
        years = stamps.astype("datetime64[Y]").astype(np.int64) + 1970
    inside = (years >= YEARS[0]) & (years <= YEARS[1]) | (years == 9999)
    result: NDArray[np.bool_] = ~np.isnat(stamps) & inside
    return result


def _template(cell: str) -> str:
    """The form of a cell, such as `A/B/%Y %H:%M`; `ISO`; empty if it is no date."""
    if ISO.fullmatch(cell):
        return "ISO"
    for pattern, shape in SHAPES:
        if (match := pattern.match(cell)) is None:
            continue
        tail = cell[match.end() :]
        clock = CLOCK.fullmatch(tail)
        if tail and clock is None:
            continue
        if "M" in shape:
            word = match[3 if shape.startswith("%d") else 1].lower()
            if word[:3] not in MONTHS:
                continue
            shape = shape.replace("M", "%b" if len(word) == 3 else "%B")
        day = shape.format("", *match.groups()[1:])
        return day + (_clock(clock) if clock else "")
    return ""


def _clock(match: re.Match[str]) -> str:
    half, zone = match["half"] or "", match["zone"] or ""
    template = match["gap"] + ("%I" if half else "%H")
    template += ":%M" * bool(match["minute"]) + ":%S" * bool(match["second"])
    template += ".%f" * bool(match["part"])
    template += (" " * half.startswith(" ") + "%p") if half else ""
    return template + ((" " * zone.startswith(" ") + "%z") if zone else "")


def _format(shape: str, parts: tuple[str, str, str]) -> str:
    for letter, part in zip("ABC", parts, strict=True):
        shape = re.sub(rf"(?<!%){letter}", part, shape, count=1)
    return shape


def _examples_of(formats: Sequence[str]) -> str:
    return f"'{formats[0]}'" if len(formats) == 1 else f"{list(formats)}"


def guess_counted(numbers: NDArray[np.float64], name: str) -> DateGuess | None:
    """Guess whether numbers are times: 20241231, 202412, or counted since 1970.

    Args:
        numbers: the numbers that are present (cells,).
    """
    if len(numbers) < ENOUGH or numbers.min() < 190_001 or numbers.min() == numbers.max():
        return None
    if not np.isfinite(numbers).all():
        return None
    if (numbers % 1 == 0).all():
        low, high = numbers.min(), numbers.max()
        for date_format, least, most in (
            ("%Y%m%d", 19_000_101, 21_001_231),
            ("%Y%m", 190_001, 210_012),
        ):
            if low >= least and high <= most and _all_read(numbers, date_format):
                return DateGuess((date_format,))
    elif numbers.max() < 2101 and (np.round(numbers * 100) == numbers * 100).all():
        return None
    now = datetime.now(UTC)
    first = FIRST_COUNTED.timestamp()
    last = now.replace(year=now.year + YEARS_AHEAD, day=1).timestamp()
    for unit, a_second in EPOCHS.items():
        seconds = numbers / a_second
        if seconds.min() < first or seconds.max() > last:
            continue
        spread = seconds.max() - seconds.min()
        minutes = np.mean(np.round(seconds, 6) % 60 == 0)
        if spread < 60:
            return None
        if ABOUT_TIME.search(name) or minutes > 0.9:
            return DateGuess((unit,))
        ends = (pd.Timestamp(end, unit="s").date() for end in (seconds.min(), seconds.max()))
        return DateGuess(
            (),
            f"may be {unit} since 1970 ({' to '.join(map(str, ends))}): if so, write source.dates: "
            f"{{{name}: {unit}}} and type: datetime",
        )
    return None


def _all_read(numbers: NDArray[np.float64], date_format: str) -> bool:
    texts: Any = pa.array(np.unique(numbers).astype(np.int64)).cast(pa.string())
    return bool(Dates((date_format,)).times(texts).null_count == 0)
