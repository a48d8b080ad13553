"""Cells in the notation of their source: what is written in one is read back, or refused."""

from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lifecycle.data.sources.notation import Dates, Notation, Numbers
from lifecycle.errors import ProjectError
from lifecycle.project import ColumnSpec, SourceSpec
from lifecycle.project.loader import load_project

AMOUNTS = st.decimals(
    min_value=-(10**12), max_value=10**12, places=2, allow_nan=False, allow_infinity=False
)
PAIRS = [(".", ""), (",", ""), (".", ","), (",", "."), (",", " "), (".", " "), (".", "'")]


def written(amount: Any, decimal: str, thousands: str, negative: str, unit: str) -> str:
    text = f"{abs(amount):,.2f}".replace(",", "\0").replace(".", decimal).replace("\0", thousands)
    text = f"{text} {unit}".strip() if unit != "$" else f"${text}"
    if amount >= 0:
        return text
    return {"sign": f"-{text}", "parentheses": f"({text})", "trailing": f"{text}-"}[negative]


@given(
    AMOUNTS,
    st.sampled_from(PAIRS),
    st.sampled_from(["sign", "parentheses", "trailing"]),
    st.sampled_from(["", "€", "$", "%", "kg", "CHF"]),
)
def test_a_number_is_read_back_from_any_notation(
    amount: Any, pair: Any, negative: Any, unit: str
) -> None:
    numbers = Numbers(*pair, negative, unit)
    text = written(amount, *pair, negative, unit)
    plain = numbers.plain(pa.array([text]))
    assert plain.cast(pa.float64()).to_pylist() == [float(amount)]
    assert numbers.reads([text]).tolist() == [True]


@given(st.text(alphabet="0123456789.,' -+()e€%", max_size=12), st.sampled_from(PAIRS))
def test_both_ways_of_reading_agree(text: str, pair: Any) -> None:
    numbers = Numbers(*pair)
    cell = text.strip()
    assert numbers.reads([cell])[0] == numbers.plain(pa.array([cell]))[0].is_valid


@pytest.mark.parametrize(
    ("numbers", "cells", "plain"),
    [
        (
            Numbers(",", "."),
            ["1.234,50", "12", "-3,", ",5", "+1e3"],
            ["1234.50", "12", "-3", ".5", "+1e3"],
        ),
        (Numbers(",", "."), ["394.59", "1.23", "12.34.567", "1,2,3", "x", ""], [None] * 6),
        (
            Numbers(",", " ", unit="€"),
            ["1\u202f234,50\u00a0€", "€ 5", "−5 €", "7"],
            ["1234.50", "5", "-5", "7"],
        ),
        (Numbers(",", " ", unit="€"), ["5 $", "€"], [None, None]),
        (
            Numbers(".", ",", "parentheses", "$"),
            ["($1,234.50)", "$ (5.00)", "-$5"],
            ["-1234.50", "-5.00", "-5"],
        ),
        (Numbers(".", ",", "parentheses", "$"), ["(-5)", "-(5)", "(5"], [None] * 3),
        (Numbers(".", "'"), ["1'234.50", "1\u2019234"], ["1234.50", "1234"]),
        (Numbers(".", ","), ["12,34,567", "1,23,456"], ["1234567", "123456"]),  # India
        (Numbers(".", ","), ["1,234,56", "1,2"], [None, None]),
    ],
)
def test_numbers(numbers: Numbers, cells: list[str], plain: list[str | None]) -> None:
    assert numbers.plain(pa.array(cells, pa.string())).to_pylist() == plain


FORMATS = ["%d/%m/%Y", "%m/%d/%Y %I:%M %p", "%d.%m.%y", "%Y%m%d", "%d-%b-%Y %H:%M", "%B %d, %Y"]


@given(
    st.dates(date(1970, 1, 1), date(2068, 12, 31)), st.integers(0, 1439), st.sampled_from(FORMATS)
)
def test_a_time_is_read_back_from_any_format(day: date, minute: int, one: str) -> None:
    clock = time(minute // 60, minute % 60) if ":" in one else time()
    moment = datetime.combine(day, clock)
    assert Dates([one]).read(pa.array([moment.strftime(one)])).to_pylist() == [moment]


@given(st.integers(-(10**10), 10**11), st.sampled_from(["seconds", "milliseconds", "microseconds"]))
def test_a_count_since_1970_is_a_time_whatever_holds_it(seconds: int, unit: str) -> None:
    scale = {"seconds": 1, "milliseconds": 1_000, "microseconds": 1_000_000}[unit]
    moment = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=seconds)
    times = Dates([unit])
    for cells in (pa.array([str(seconds * scale)]), pa.array([seconds * scale])):
        assert times.read(cells).to_pylist() == [moment.replace(tzinfo=None)]


@pytest.mark.parametrize(
    ("formats", "cells", "read"),
    [
        (
            ["%d/%m/%Y"],
            ["31/12/2024", "31/12/9999"],
            [datetime(2024, 12, 31), datetime(9999, 12, 31)],
        ),
        (["%d/%m/%Y %H:%M %z"], ["31/12/2024 10:00 +0100"], [datetime(2024, 12, 31, 9)]),
        (["%Y-%m"], ["2024-05"], [datetime(2024, 5, 1)]),
        (["%Y%m%d"], ["2024123"], ["2024123 (source.dates: %Y%m%d)"]),
        (["%d/%m/%Y"], ["12/31/2024", "2024"], ["12/31/2024", "2024 (source.dates: %d/%m/%Y)"]),
        (["%d/%m/%Y"], ["31/12/2024", "2024-12-31"], ["2024-12-31 00:00:00.000000", "2024-12-31"]),
        (["nanoseconds"], ["1735430400123456789"], [datetime(2024, 12, 29, 0, 0, 0, 123456)]),
        (
            ["seconds"],
            ["1735430400.5", "99999999999999"],
            ["2024-12-29 00:00:00.500000", "99999999999999 (source.dates: seconds)"],
        ),
    ],
)
def test_dates(formats: list[str], cells: list[str], read: list[Any]) -> None:
    assert Dates(formats).read(pa.array(cells)).to_pylist() == read


def read_cells(source: dict[str, Any], cells: Any, **spec: Any) -> list[Any]:
    notation = Notation(SourceSpec.model_validate({"path": "x.csv", **source}))
    return list(notation.read(cells, "c", ColumnSpec.model_validate(spec)).to_pylist())


def test_what_is_no_number_here_does_not_pass_for_one() -> None:
    found = read_cells({"decimal": ","}, pa.array(["1,5", "394.59", "much"]), type="number")
    assert found == ["1.5", '394.59 (source: decimal ",")', "much"]
    plain = {"decimal": ",", "plain": ["c"]}
    assert read_cells(plain, pa.array(["394.59"]), type="number") == ["394.59"]


def test_missing_words_are_missing_in_every_type_but_where_they_are_a_category() -> None:
    source = {"missing": ["?", "inf", -999]}
    texts = pa.array(["1", " ? ", "inf", "-999", "-inf"])
    assert read_cells(source, texts, type="number") == ["1", None, None, None, "-inf"]
    floats = pa.array([1.5, float("inf"), -999.0, -float("inf")])
    assert read_cells(source, floats, type="number") == [1.5, None, None, -float("inf")]
    assert read_cells(source, pa.array([1, -999]), type="integer") == [1, None]
    assert read_cells(source, pa.array(["a", "?"]), type="string") == ["a", None]
    listed = {"type": "category", "categories": ["a", "?"]}
    assert read_cells(source, pa.array(["a", "?"]), **listed) == ["a", "?"]


def test_spellings_are_one_value() -> None:
    source = {"spellings": {"c": {"Yes": ["yes", "YES "]}}}
    assert read_cells(source, pa.array(["Yes", "yes", "YES ", "No", None]), type="category") == [
        "Yes",
        "Yes",
        "Yes",
        "No",
        None,
    ]


@pytest.mark.parametrize(
    ("source", "columns", "message"),
    [
        ("decimal: ;", "", "source.decimal"),
        ("thousands: .", "", "thousands: '.' stands before the decimals; set decimal as well"),
        ("missing: [null]", "", "put quotes around it"),
        ("missing: [' ']", "", "a blank word"),
        ("dates: {t: '%d/%m'}", "", "dates.t: '%d/%m' has no year"),
        ("dates: {t: '%d/%Y'}", "", "has no month"),
        ("dates: {t: '%d/%m/%Y %Q'}", "", "has %Q, which is unknown"),
        ("dates: {t: epoch}", "", "one of seconds, milliseconds"),
        ("dates: {x: '%d/%m/%Y'}", "", "source.dates: 'x' has contract type number"),
        ("dates: {z: '%d/%m/%Y'}", "", "source.dates names 'z'"),
        ("plain: [z]", "", "source.plain names 'z'"),
        ("spellings: {x: {a: [c], b: [c]}}", "", "'c' is read as 'a' and as 'b'"),
    ],
)
def test_what_cannot_be_read_with_is_refused(
    tmp_path: Path, source: str, columns: str, message: str
) -> None:
    file = tmp_path / "project.yaml"
    file.write_text(
        "name: shop\ntask: regression\ntarget: y\n"
        f"source:\n  path: x.csv\n  {source}\n"
        "contract:\n  columns:\n    x: {type: number}\n    y: {type: number}\n"
        "    t: {type: datetime}\n"
    )
    with pytest.raises(ProjectError) as caught:
        load_project(file)
    assert message in str(caught.value)
    assert f"{file}:" in str(caught.value)


@pytest.mark.parametrize("numbers", [Numbers(","), Numbers(",", "."), Numbers(",", "", "trailing")])
def test_plain_commas_are_read_as_beside_other_cells(numbers: Numbers) -> None:
    """A column of nothing else goes another way; one with a blank before the sign does not."""
    cells = ["1,5", "-0,25", "+7", "007", None, " 12,0 ", "1234,5"]
    fast = numbers.plain(pa.array(cells))
    slow = numbers.plain(pa.array([*cells, "- 1,5"]))
    assert fast.to_pylist() == slow.to_pylist()[:-1]
    assert fast.to_pylist() == ["1.5", "-0.25", "+7", "007", None, "12.0", "1234.5"]
