"""Pages: nothing from outside, nothing unescaped, written in one step."""

import re
from pathlib import Path

from matplotlib.figure import Figure

from lifecycle.runtime.html import Cell, PageSection, Picture, Table, page, write_page


def figure() -> Figure:
    made = Figure(figsize=(2, 1))
    made.subplots().plot([1, 2], [3, 4])
    return made


def test_a_page_needs_no_network_and_escapes_its_data() -> None:
    evil = "<script>alert(1)</script>"
    html = page(
        evil,
        [
            PageSection(
                evil,
                text=(evil,),
                points=(Cell(evil, "bad"), evil),
                table=Table((evil,), ((Cell(evil, "good"),), ("1,234",))),
                pictures=(Picture(figure(), evil),),
                code=evil,
            )
        ],
        lead=evil,
        verdict=Cell(evil, "warn"),
    )
    assert evil not in html
    assert "&lt;script&gt;" in html
    assert not re.findall(r'(?:src|href)="(?!data:)', html)


def test_numbers_are_set_right_and_tones_shown() -> None:
    html = page("t", [PageSection("s", table=Table(("n", "w"), (("1,234", Cell("bad", "bad")),)))])
    assert '<td class="plain number">1,234</td>' in html
    assert '<td class="bad">bad</td>' in html


def test_the_same_page_has_the_same_bytes() -> None:
    pages = [page("t", [PageSection("s", pictures=(Picture(figure(), "c"),))]) for _ in range(2)]
    assert pages[0] == pages[1]


def test_writing_replaces_and_leaves_nothing_aside(tmp_path: Path) -> None:
    path = tmp_path / "new" / "page.html"
    write_page("one", path)
    assert write_page("two", path).read_text() == "two"
    assert list(path.parent.iterdir()) == [path]
