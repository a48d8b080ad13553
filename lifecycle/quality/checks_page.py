"""A suite's results as one HTML file that opens without a network.

deepchecks' own export either fetches its widgets from unpkg.com (blank without a network) or puts
plotly.js into the file once a plot (97 MB for model_evaluation); here it is in there once.
"""

import html
import re
from pathlib import Path
from typing import Any

from deepchecks.core import CheckFailure
from deepchecks.core.serialization.check_result.html import DisplayItemsHandler
from plotly.offline import get_plotlyjs

from lifecycle.page import write_page
from lifecycle.quality.findings import check_name, verdict
from lifecycle.quality.report import Cell, Section, Table, Tone, page
from lifecycle.specs import ChecksSpec

STATES: dict[str, Cell] = {
    "failed": Cell("failed", "bad"),
    "warned": Cell("warning", "warn"),
    "not_run": Cell("did not run", "warn"),
    "passed": Cell("passed", "good"),
}
RESIZE = """
document.addEventListener("toggle", (event) => {
  if (event.target.open) {
    event.target.querySelectorAll(".js-plotly-plot").forEach((plot) => Plotly.Plots.resize(plot));
  }
}, true);
"""  # a plot inside a closed <details> has no width until it is opened


class _Displays(DisplayItemsHandler):  # type: ignore[misc]  # deepchecks ships no types
    """deepchecks' displays, except that a plot uses the page's one plotly.js."""

    @classmethod
    def handle_figure(cls, item: Any, index: int, **kwargs: Any) -> str:
        plot: str = item.to_html(
            include_plotlyjs=False,
            full_html=False,
            default_width="100%",
            default_height=420,
            validate=False,
            config={"responsive": True, "displayModeBar": False},
        )
        return f'<div class="plot">{plot}</div>'


def write(result: Any, notes: list[str], spec: ChecksSpec, path: Path) -> Path:
    """Write the page of a `SuiteResult`.

    Args:
        notes: how the suite was run, in words.
        spec: which checks block and which warn.
    """
    ran = [r for r in result.results if not isinstance(r, CheckFailure)]
    judged = [
        (verdict(name, condition, spec)[0], name, condition.name, condition.details)
        for r in ran
        for name in [check_name(r.get_header())]
        for condition in r.conditions_results
    ]
    judged.sort(key=lambda row: list(STATES).index(row[0]))
    rows = [(STATES[state], *row) for state, *row in judged]
    stopped = [
        (check_name(r.header), " ".join(re.sub(r"<[^>]+>", " ", str(r.exception)).split()))
        for r in result.results
        if isinstance(r, CheckFailure)
    ]
    sections = [
        Section("Conditions", table=Table(("state", "check", "expected", "found"), tuple(rows))),
        Section("What the checks show", html="".join(_shown(r) for r in ran if r.have_display())),
        Section("Did not run", table=Table(("check", "why"), tuple(stopped))),
        Section("How it was run", points=tuple(notes)),
    ]
    failed = sum(row[0].text == "failed" for row in rows)
    tone: Tone = "bad" if failed else "good"
    text = page(
        result.name.replace("Suite", "").strip(),
        [s for s in sections if s.table is None or s.table.rows],
        lead="deepchecks on the train part (train) and the holdout (test in its own words).",
        verdict=Cell(f"{failed} of {len(rows)} conditions block the gate", tone),
        scripts=[get_plotlyjs(), RESIZE],
    )
    return write_page(text, path)


def _shown(result: Any) -> str:
    """One check: what it is about, and its tables and plots."""
    displays = _Displays.handle_display(result.display, include_header=False)
    summary = re.sub(r"<a [^>]*>.*?</a>", "", result.get_metadata()["summary"])
    return (
        f"<h3>{html.escape(check_name(result.get_header()))}</h3><p>{summary}</p>"
        f'<div class="wide">{"".join(displays)}</div>'
    )
