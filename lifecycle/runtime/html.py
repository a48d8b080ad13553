"""Templates and writing of HTML pages."""

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import jinja2
from markupsafe import Markup

from lifecycle.runtime.files import write_atomic

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def templates() -> jinja2.Environment:
    """The package's templates, named by their path in it; values are escaped, a missing one fails.

    `runtime/style.html.j2` is the style of every page.
    """
    return jinja2.Environment(
        loader=jinja2.PackageLoader("lifecycle", "."),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )


def write_page(html: str, path: Path) -> Path:
    """Write a page in one atomic step; the folder is made if needed.

    Raises:
        OSError: the place cannot be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(path, html)
    return path


# Self-contained HTML pages: text, tables and figures in one file that opens without a network.

Tone = Literal["good", "bad", "warn", "plain"]


@dataclass(frozen=True)
class Cell:
    """A table cell with a tone, for states such as `drifted`."""

    text: str
    tone: Tone = "plain"


@dataclass(frozen=True)
class Table:
    """A table; cells of numbers are set flush right."""

    header: tuple[str, ...]
    rows: tuple[tuple[str | Cell, ...], ...]


@dataclass(frozen=True)
class Picture:
    """A figure with the text that stands in for it and below it."""

    figure: "Figure | Path"
    """Drawn as SVG; or a PNG file that is there already."""
    caption: str


@dataclass(frozen=True)
class PageSection:
    """A part of a page; all text is escaped, `html` (from code, never from data) is not."""

    title: str
    text: tuple[str, ...] = ()
    points: tuple[str | Cell, ...] = ()
    brief: tuple[str, ...] | None = None
    """What a terminal shows instead of points and table, which it has shown before."""
    table: Table | None = None
    more: Table | None = None
    """A table that is opened on demand."""
    folded: bool = False
    """Whether all but the title is opened on demand."""
    pictures: tuple[Picture, ...] = ()
    code: str = ""
    html: str = ""


def page(
    title: str,
    sections: Sequence[PageSection],
    *,
    lead: str = "",
    verdict: Cell | None = None,
    scripts: Sequence[str] = (),
) -> str:
    """An HTML page.

    Args:
        lead: one sentence below the title.
        verdict: the result, set off.
        scripts: JavaScript to embed, in order; from code, never from data.
    """
    environment = templates()
    environment.filters["cell"] = lambda value: Cell(value) if isinstance(value, str) else value
    environment.filters["image"] = _data_uri
    environment.filters["number"] = _is_number
    return environment.get_template("runtime/report.html.j2").render(
        title=title,
        lead=lead,
        verdict=verdict,
        sections=[(section, Markup(section.html)) for section in sections],  # noqa: S704
        scripts=[Markup(script) for script in scripts],  # noqa: S704
    )


def _data_uri(figure: "Figure | Path") -> str:
    """A figure as an SVG data URI, or a PNG file as it is; the same figure gives the same bytes."""
    if isinstance(figure, Path):
        return "data:image/png;base64," + base64.b64encode(figure.read_bytes()).decode()
    import matplotlib as mpl  # takes a second, which a script without figures does without

    buffer = io.BytesIO()
    with mpl.rc_context({"svg.hashsalt": "lifecycle", "svg.fonttype": "none"}):
        figure.savefig(buffer, format="svg", metadata={"Date": None}, bbox_inches="tight")
    return "data:image/svg+xml;base64," + base64.b64encode(buffer.getvalue()).decode()


def _is_number(text: str) -> bool:
    try:
        float(text.replace(",", "").removesuffix("%").strip())
    except ValueError:
        return False
    return True
