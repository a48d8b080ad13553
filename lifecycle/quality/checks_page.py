"""A suite's results as one HTML file that opens without a network, with plotly.js in it once."""

import html
import re
from collections.abc import Sequence
from pathlib import Path

from lifecycle.project import ChecksSpec
from lifecycle.quality.findings import Result, check_name, verdict
from lifecycle.runtime.html import Cell, Section, Table, Tone, page, write_page

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


def write(
    title: str,
    results: Sequence[Result],
    notes: list[str],
    spec: ChecksSpec,
    plotly: str,
    path: Path,
) -> Path:
    """Write the page of a suite.

    Args:
        notes: how the suite was run, in words.
        spec: which checks block and which warn.
        plotly: the script of the plots.
    """
    ran = [result for result in results if result.error is None]
    judged = [
        (verdict(name, condition, spec)[0], name, condition.name, condition.details)
        for result in ran
        for name in [check_name(result.header)]
        for condition in result.conditions
    ]
    judged.sort(key=lambda row: list(STATES).index(row[0]))
    rows: list[tuple[str | Cell, ...]] = [(STATES[state], *row) for state, *row in judged]
    stopped = [
        (check_name(result.header), " ".join(re.sub(r"<[^>]+>", " ", result.error).split()))
        for result in results
        if result.error is not None
    ]
    sections = [
        Section("Conditions", table=Table(("state", "check", "expected", "found"), tuple(rows))),
        Section("What the checks show", html="".join(_shown(r) for r in ran if r.html)),
        Section("Did not run", table=Table(("check", "why"), tuple(stopped))),
        Section("How it was run", points=tuple(notes)),
    ]
    failed = sum(state == "failed" for state, *_ in judged)
    tone: Tone = "bad" if failed else "good"
    text = page(
        title,
        [s for s in sections if s.table is None or s.table.rows],
        lead="deepchecks on the train part (train) and the holdout (test in its own words).",
        verdict=Cell(f"{failed} of {len(rows)} conditions block the gate", tone),
        scripts=[plotly, RESIZE],
    )
    return write_page(text, path)


def _shown(result: Result) -> str:
    """One check: what it is about, and its tables and plots."""
    return (
        f"<h3>{html.escape(check_name(result.header))}</h3><p>{result.summary}</p>"
        f'<div class="wide">{result.html}</div>'
    )
